// SPDX-License-Identifier: GPL-3.0-or-later
// The search for a CUDA device against a stand-in of the driver's library: every step that can fail says which it was and what to do.
#include "engine/cuda/probe.h"

#include "tests/engine/fakes/settings.h"
#include "tests/support/check.h"

using namespace winnow;
using namespace winnow::cuda;
using namespace winnow::test;

namespace {

FakeCuda& driver() { return settingsOf<FakeCuda>(WINNOW_FAKE_CUDA, "fakeCuda"); }
const BuildInfo kBuild{true, 13000, "80-real,90-real,90-virtual"};

DeviceReport probe(const BuildInfo& build = kBuild, int64_t needed = 0, bool measure = false) {
  ProbeOptions options;
  options.library = WINNOW_FAKE_CUDA;
  options.releaseFile = (scratch() / "none").string();
  options.neededBytes = needed;
  options.measureFree = measure;
  return probeDevices(build, options);
}
bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }
// One sentence: what failed, and after a colon what to do.
void expectSentence(const DeviceReport& report, DeviceStatus status, std::initializer_list<const char*> parts) {
  EXPECT(report.status == status, deviceStatusName(report.status), report.sentence);
  for (const char* part : parts) EXPECT(has(report.sentence, part), part, "is not in:", report.sentence);
  EXPECT(!report.sentence.empty() && report.sentence.back() == '.' && has(report.sentence, ": "), report.sentence);
}

}  // namespace

TEST(a_device_is_found_and_described) {
  driver();
  const DeviceReport report = probe();
  EXPECT(report.ready(), report.sentence);
  EXPECT_EQ(report.driverVersion, 13000);
  EXPECT_EQ(report.devices.size(), size_t{1});
  EXPECT_EQ(report.devices[0].name, std::string("NVIDIA Test 1"));
  EXPECT_EQ(report.devices[0].busId, std::string("0000:3B:00.0"));
  EXPECT_EQ(report.devices[0].multiprocessors, 132);
  EXPECT(report.devices[0].supported && !report.devices[0].mig && !report.devices[0].freeBytes);
  EXPECT_EQ(report.sentence, std::string("NVIDIA Test 1, compute capability 9.0, 16.0 GiB"));
}

TEST(the_first_device_is_used_and_all_are_told) {
  FakeCuda& fake = driver();
  fake.devices = 3;
  fake.total[2] = size_t{32} << 30;
  fake.name[1] = "NVIDIA Test 2 MIG 1g.18gb";
  const DeviceReport report = probe();
  EXPECT_EQ(report.chosen, 0);
  EXPECT(!report.devices[0].mig && report.devices[1].mig && !report.devices[2].mig);
  EXPECT_EQ(report.devices[2].totalBytes, int64_t{32} << 30);
  fake.major[0] = 6;
  fake.major[1] = 7;
  const DeviceReport other = probe();
  EXPECT(!other.devices[0].supported && other.devices[2].supported);
  expectSentence(other, DeviceStatus::deviceTooOld, {"NVIDIA Test 1 has compute capability 6.0", "NVIDIA Test 3", "CUDA_VISIBLE_DEVICES=2"});
}

TEST(free_memory_is_measured_in_a_context_that_is_given_back) {
  FakeCuda& fake = driver();
  const DeviceReport report = probe(kBuild, 0, true);
  EXPECT(report.devices[0].freeBytes.value_or(0) == int64_t{15} << 30);
  EXPECT(has(report.sentence, "15.0 GiB of 16.0 GiB free"), report.sentence);
  EXPECT_EQ(fake.contexts, 0);
  EXPECT_EQ(fake.pushed, -1);
}

TEST(no_driver) {
  ProbeOptions options;
  options.library = (scratch() / "libcuda.so.1").string();
  options.releaseFile = (scratch() / "none").string();
  expectSentence(probeDevices(kBuild, options), DeviceStatus::noDriver, {"No NVIDIA driver was found", "install the driver", "13.0"});
  // The kernel's half is there and the library is not: a container without access.
  options.releaseFile = (scratch() / "version").string();
  std::ofstream(options.releaseFile) << "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23\nGCC version: 12.2.0\n";
  const DeviceReport container = probeDevices(kBuild, options);
  expectSentence(container, DeviceStatus::noDriver, {"580.95.05", "container", "--gpus all"});
  EXPECT_EQ(container.driverRelease, std::string("580.95.05"));
  // Text in place of a library.
  options.library = options.releaseFile;
  EXPECT(probeDevices(kBuild, options).status == DeviceStatus::noDriver);
}

TEST(each_step_that_fails_is_named) {
  FakeCuda& fake = driver();
  fake.version = 12080;
  fake.initResult = 999;  // what an old driver may answer besides
  expectSentence(probe(), DeviceStatus::driverTooOld, {"CUDA 12.8", "needs 13.0", "update the driver"});
  fake = {};
  fake.version = 13000;
  BuildInfo newer = kBuild;
  newer.runtimeVersion = 13010;  // one major version runs on any driver of it
  EXPECT(probe(newer).ready());
  fake.initResult = 999;
  expectSentence(probe(), DeviceStatus::driverFailed, {"CUDA_ERROR_UNKNOWN, error 999", "restart"});
  fake.initResult = 100;
  expectSentence(probe(), DeviceStatus::noDevice, {"finds no GPU", "CUDA_VISIBLE_DEVICES"});
  fake.initResult = 34;
  expectSentence(probe(), DeviceStatus::noDriver, {"stub"});
  fake = {};
  fake.devices = 0;
  expectSentence(probe(), DeviceStatus::noDevice, {"finds no GPU"});
  fake = {};
  fake.countResult = 3;
  expectSentence(probe(), DeviceStatus::driverFailed, {"error 3"});
  fake = {};
  fake.major[0] = 7;
  fake.minor[0] = 5;
  expectSentence(probe(), DeviceStatus::deviceTooOld, {"compute capability 7.5", "80-real,90-real,90-virtual", "CMAKE_CUDA_ARCHITECTURES"});
}

TEST(too_little_memory_is_told_in_figures) {
  driver();
  expectSentence(probe(kBuild, int64_t{20} << 30), DeviceStatus::notEnoughMemory, {"20.0 GiB", "15.0 GiB of 16.0 GiB free", "fewer bits"});
  EXPECT(probe(kBuild, int64_t{14} << 30).ready());
}

TEST(the_error_offers_the_cpu) {
  FakeCuda& fake = driver();
  fake.devices = 0;
  const Error error = probe().error();
  EXPECT(error.code == ErrorCode::resources);
  EXPECT(has(error.message, "cuda was asked for") && has(error.message, "finds no GPU"), error.message);
  EXPECT(has(error.hint, "--device cpu"), error.hint);
}

TEST(a_build_without_the_backend_says_so_and_what_is_here) {
  driver();
  const DeviceReport report = probe(BuildInfo());
  expectSentence(report, DeviceStatus::notBuilt, {"no CUDA backend", "NVIDIA Test 1"});
  EXPECT_EQ(report.chosen, -1);
  EXPECT_EQ(report.devices.size(), size_t{1});
  ProbeOptions options;
  options.library = (scratch() / "libcuda.so.1").string();
  expectSentence(probeDevices(BuildInfo(), options), DeviceStatus::notBuilt, {"no CUDA backend", "no NVIDIA driver"});
}

TEST(architectures_as_cmake_lists_them) {
  const auto runs = [](const char* list, int major, int minor) { return BuildInfo{true, 13000, list}.runs(major, minor); };
  EXPECT(runs("80-real", 8, 0) && runs("80-real", 8, 9) && !runs("80-real", 9, 0) && !runs("86-real", 8, 0));
  EXPECT(runs("80-virtual", 9, 0) && runs("90-virtual", 12, 0) && !runs("90-virtual", 8, 9));
  EXPECT(runs("80", 8, 6) && runs("80", 12, 0) && !runs("80", 7, 5));
  EXPECT(runs("90a-real", 9, 0) && !runs("90a-real", 10, 0) && !runs("90a", 9, 1));
  EXPECT(runs("100f-real", 10, 3) && !runs("100f-real", 12, 0));
  EXPECT(runs("80-real,90-real,90-virtual", 10, 0) && runs("native", 7, 0));
  EXPECT(!runs("", 9, 0));
}

TEST(this_machine_is_probed_without_harm) {
  const DeviceReport report = probeDevices(buildInfo());
  EXPECT(!report.sentence.empty());
  EXPECT(report.ready() == (report.chosen >= 0), report.sentence);
}
