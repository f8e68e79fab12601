// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/cuda_device/report.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>
#include <exception>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

namespace winnow::device_run {
namespace {

constexpr std::array<const char*, 4> kStatusNames = {"pass", "FAIL", "skip", "-"};

std::string oneLine(std::string text) {
  std::replace_if(text.begin(), text.end(), [](char c) { return c == '\t' || c == '\n' || c == '\r'; }, ' ');
  return text;
}

std::string numberText(double value, const char* format = "%.9g") {
  char text[48];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\', out += c;
    else if (static_cast<unsigned char>(c) < 0x20) out += ' ';
    else out += c;
  }
  return out + '"';
}

std::string jsonNumber(double value) { return std::isfinite(value) ? numberText(value) : "null"; }

bool checks(const std::string& section) {
  for (const Section& s : sections())
    if (section == s.name) return s.correctness;
  return true;
}

}  // namespace

const char* statusName(Status status) { return kStatusNames[static_cast<size_t>(status)]; }

std::string encodeRow(const Row& row) {
  std::string out = std::string(statusName(row.status)) + '\t' + oneLine(row.name) + '\t' + oneLine(row.text);
  for (const auto& [name, value] : row.figures) out += '\t' + oneLine(name) + '=' + numberText(value);
  return out;
}

bool decodeRow(const std::string& line, Row& row) {
  std::vector<std::string> parts;
  std::istringstream in(line);
  for (std::string part; std::getline(in, part, '\t');) parts.push_back(part);
  if (parts.size() < 2) return false;
  const auto status = std::find_if(kStatusNames.begin(), kStatusNames.end(), [&](const char* name) { return parts[0] == name; });
  if (status == kStatusNames.end()) return false;
  row.status = static_cast<Status>(status - kStatusNames.begin());
  row.name = parts[1];
  row.text = parts.size() > 2 ? parts[2] : "";
  for (size_t i = 3; i < parts.size(); ++i) {
    const size_t at = parts[i].rfind('=');
    if (at == std::string::npos) return false;
    row.figures.emplace_back(parts[i].substr(0, at), std::strtod(parts[i].c_str() + at + 1, nullptr));
  }
  return true;
}

Recorder::Recorder(const RunOptions& options) : options_(options) {}

double Recorder::secondsLeft() const {
  return options_.seconds - std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void Recorder::add(Status status, const std::string& name, const std::string& text, const Figures& figures) {
  const std::string line = encodeRow({"", name, status, text, figures});
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
  std::ofstream(options_.rowsFile, std::ios::app) << line << '\n';
}

void Recorder::run(const std::string& name, double estimatedSeconds, const std::function<void()>& body) {
  if (secondsLeft() < estimatedSeconds) return add(Status::skip, name, "skipped: time");
  try {
    body();
  } catch (const std::exception& e) {
    add(Status::fail, name, std::string("threw: ") + e.what());
  } catch (...) {
    add(Status::fail, name, "threw something unknown");
  }
}

// --- the parent ----------------------------------------------------------------------------------------------------------

// Green: every row of a section that checks has passed; what was left out for another reason than time does not count.
bool allGreen(const std::vector<Row>& rows) {
  return std::none_of(rows.begin(), rows.end(), [](const Row& row) {
    return row.status == Status::fail || (row.status == Status::skip && checks(row.section) && row.text == "skipped: time");
  });
}

std::string jsonOf(const ReportHead& head, const std::vector<Row>& rows) {
  std::ostringstream out;
  out << "{\"winnow_device_run\":1,\"date\":" << quoted(head.date) << ",\"commit\":" << quoted(head.commit) << ",\"quick\":" << (head.quick ? "true" : "false")
      << ",\"seconds\":" << jsonNumber(head.seconds) << ",\n \"device\":{\"name\":" << quoted(head.device) << ",\"memory_bytes\":" << head.memoryBytes
      << ",\"driver\":" << quoted(head.driver) << ",\"runtime\":" << quoted(head.runtime) << ",\"architectures\":" << quoted(head.architectures)
      << "},\"processor\":" << quoted(head.processor) << ",\"green\":" << (allGreen(rows) ? "true" : "false") << ",\n \"rows\":[";
  const char* separator = "\n";
  for (const Row& row : rows) {
    out << separator << "  {\"section\":" << quoted(row.section) << ",\"name\":" << quoted(row.name) << ",\"status\":"
        << quoted(row.status == Status::measured ? "measured" : row.status == Status::fail ? "fail" : statusName(row.status)) << ",\"text\":" << quoted(row.text);
    for (const auto& [name, value] : row.figures) out << ',' << quoted(name) << ':' << jsonNumber(value);
    out << '}';
    separator = ",\n";
  }
  out << "\n]}\n";
  return out.str();
}

std::string tableOf(const ReportHead& head, const std::vector<Row>& rows) {
  std::ostringstream out;
  out << head.device << ", " << numberText(static_cast<double>(head.memoryBytes) / (1 << 30), "%.1f") << " GiB, driver " << head.driver << ", CUDA "
      << head.runtime << ", code for " << head.architectures << "; commit " << head.commit << "; " << head.date << (head.quick ? "; quick" : "") << "\n\n";
  size_t width = 0;
  for (const Row& row : rows) width = std::max(width, row.name.size());
  std::string section;
  for (const Row& row : rows) {
    if (row.section != section) out << (section.empty() ? "" : "\n") << row.section << '\n';
    section = row.section;
    out << "  " << row.name << std::string(width - row.name.size() + 2, ' ') << statusName(row.status) << "  ";
    for (const auto& [name, value] : row.figures) out << name << ' ' << numberText(value, "%.4g") << "  ";
    out << row.text << '\n';
  }
  std::map<Status, int> counts;
  for (const Row& row : rows) ++counts[row.status];
  out << '\n' << counts[Status::pass] << " passed, " << counts[Status::fail] << " failed, " << counts[Status::skip] << " skipped, "
      << counts[Status::measured] << " measured in " << numberText(head.seconds, "%.0f") << " s: "
      << (allGreen(rows) ? "every correctness row is green" : "NOT every correctness row is green") << '\n';
  return out.str();
}

int runProgram(const std::vector<std::string>& command, const std::string& log, double seconds) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t child = fork();
  if (child < 0) return 127;
  if (child == 0) {
    setpgid(0, 0);
    const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (out >= 0) {
      dup2(out, 1);
      dup2(out, 2);
    }
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  for (;;) {
    int status = 0;
    if (waitpid(child, &status, WNOHANG) == child) return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    if (std::chrono::steady_clock::now() > deadline) {
      kill(-child, SIGKILL);
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      return -1;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

std::string lastLines(const std::string& file, int count) {
  std::ifstream in(file);
  std::deque<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    if (line.empty()) continue;
    lines.push_back(line);
    if (static_cast<int>(lines.size()) > count) lines.pop_front();
  }
  std::string out;
  for (const std::string& line : lines) out += (out.empty() ? "" : " | ") + line;
  return out;
}

std::string ownFolder() {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  const std::string whole(path, length > 0 ? static_cast<size_t>(length) : 0);
  return whole.substr(0, whole.rfind('/'));
}

}  // namespace winnow::device_run
