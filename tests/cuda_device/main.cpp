// SPDX-License-Identifier: GPL-3.0-or-later
// device_run [--quick] [--only SECTION[,SECTION...]] [--out FILE] [--seconds N] [--commit ID]: checks the CUDA engine on the GPU of this
// machine and measures it. Ends with 0 when every correctness row is green, 1 when one is not, 77 without a device.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/cuda/nvml.h"
#include "engine/cuda/probe.h"
#include "tests/cuda_device/report.h"
#include "winnow_build_info.h"

namespace winnow::device_run {

const std::vector<Section>& sections() {
  static const std::vector<Section> all = {
      {"ops", 150, true, runOps},           {"logits", 90, true, runLogits},     {"swaps", 40, true, runSwaps},
      {"memory", 40, true, runMemory},      {"roofline", 30, false, runRoofline}, {"decode", 120, false, runDecode},
      {"prefill", 75, false, runPrefill},   {"knobs", 30, false, runKnobs},      {"observation", 40, false, runObservation},
      {"peer", 60, false, runPeer}};
  return all;
}

namespace {

struct Arguments {
  bool quick = false, inSection = false;
  double seconds = 540;
  std::string only, out, commit = WINNOW_SOURCE_REVISION, rowsFile;
};

[[noreturn]] void usage(const std::string& what) {
  std::fprintf(stderr, "device_run: %s\nusage: run [--quick] [--only SECTION[,SECTION...]] [--out FILE] [--seconds N] [--commit ID]\nsections:", what.c_str());
  for (const Section& s : sections()) std::fprintf(stderr, " %s", s.name);
  std::fprintf(stderr, "\n");
  std::exit(2);
}

Arguments parse(int argc, char** argv) {
  Arguments a;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&]() -> std::string {
      if (++i >= argc) usage(word + " needs a value");
      return argv[i];
    };
    if (word == "--quick") a.quick = true;
    else if (word == "--only") a.only = value();
    else if (word == "--out") a.out = value();
    else if (word == "--seconds") a.seconds = std::strtod(value().c_str(), nullptr);
    else if (word == "--commit") a.commit = value();
    else if (word == "--section") a.only = value(), a.inSection = true;
    else if (word == "--rows") a.rowsFile = value();
    else usage("unknown argument " + word);
  }
  std::istringstream names(a.only);
  for (std::string name; std::getline(names, name, ',');)
    if (std::none_of(sections().begin(), sections().end(), [&](const Section& s) { return name == s.name; })) usage("no section " + name);
  return a;
}

bool chosen(const std::string& only, const std::string& name) { return only.empty() || ("," + only + ",").find("," + name + ",") != std::string::npos; }

int runSection(const Arguments& a) {
  for (const Section& s : sections())
    if (a.only == s.name) {
      Recorder recorder({a.quick, a.rowsFile, a.seconds});
      recorder.run(s.name, 0, [&] { s.run(recorder); });
    }
  return 0;
}

std::string utcNow() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

std::string processorName() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.rfind("model name", 0) == 0) return line.substr(std::min(line.size(), line.find(':') + 2));
  return "unknown";
}

ReportHead headOf(const Arguments& a, const cuda::DeviceReport& report) {
  const cuda::DeviceInfo& device = report.devices[static_cast<size_t>(report.chosen)];
  ReportHead head;
  head.date = utcNow();
  head.commit = a.commit;
  head.device = device.name;
  head.memoryBytes = device.totalBytes;
  const auto nvml = cuda::Nvml::load();
  head.driver = nvml && !nvml->driverRelease().empty() ? nvml->driverRelease() : report.driverRelease;
  head.runtime = cuda::cudaVersionText(cuda::buildInfo().runtimeVersion);
  head.architectures = cuda::buildInfo().architectures;
  head.processor = processorName();
  head.quick = a.quick;
  return head;
}

// Starts a section as a process and takes over its rows; a section that ends badly has a row that says so.
void collect(const Arguments& a, const Section& section, double seconds, const std::string& folder, std::vector<Row>& rows) {
  const std::string rowsFile = folder + "/" + section.name + ".rows", log = folder + "/" + section.name + ".log";
  std::filesystem::remove(rowsFile);
  if (seconds < 5) return rows.push_back({section.name, "all", Status::skip, "skipped: time", {}});
  std::vector<std::string> command = {ownFolder() + "/device_run", "--section", section.name, "--rows", rowsFile, "--seconds", std::to_string(seconds)};
  if (a.quick) command.push_back("--quick");
  std::fprintf(stderr, "%s ...\n", section.name);
  const int code = runProgram(command, log, seconds + 15);
  std::ifstream in(rowsFile);
  int count = 0;
  for (std::string line; std::getline(in, line); ++count) {
    Row row;
    row.section = section.name;
    if (decodeRow(line, row)) rows.push_back(row);
  }
  if (code == -1) rows.push_back({section.name, "all", Status::fail, "was ended after " + std::to_string(static_cast<int>(seconds)) + " s; last: " + lastLines(log, 2), {}});
  else if (code != 0) rows.push_back({section.name, "all", Status::fail, "ended with " + std::to_string(code) + "; last: " + lastLines(log, 3), {}});
  else if (count == 0) rows.push_back({section.name, "all", Status::fail, "told nothing", {}});
}

}  // namespace

int mainOf(int argc, char** argv) {
  const Arguments a = parse(argc, argv);
  const auto start = std::chrono::steady_clock::now();
  const cuda::DeviceReport report = cuda::probeDevices(cuda::buildInfo());
  if (!report.ready()) {
    std::printf("skip: %s\n", report.sentence.c_str());
    return 77;
  }
  if (a.inSection) return runSection(a);
  ReportHead head = headOf(a, report);
  const std::string folder = (std::filesystem::temp_directory_path() / ("winnow-device-run-" + std::to_string(getpid()))).string();
  std::filesystem::create_directories(folder);
  std::vector<Row> rows;
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  const auto save = [&] {
    head.seconds = elapsed();
    if (!a.out.empty()) std::ofstream(a.out) << jsonOf(head, rows);
  };
  for (const Section& section : sections()) {
    if (!chosen(a.only, section.name)) continue;
    collect(a, section, std::min(section.seconds, a.seconds - elapsed()), folder, rows);
    save();  // what was found so far survives whatever comes
  }
  std::filesystem::remove_all(folder);
  std::printf("%s", tableOf(head, rows).c_str());
  if (!a.out.empty()) std::printf("%s\n", a.out.c_str());
  return allGreen(rows) ? 0 : 1;
}

}  // namespace winnow::device_run

int main(int argc, char** argv) { return winnow::device_run::mainOf(argc, argv); }
