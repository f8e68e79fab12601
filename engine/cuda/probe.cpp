// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/probe.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "engine/cuda/library.h"

namespace winnow::cuda {
namespace {

// The driver's interface, as its manual gives it: results and attributes are ints, a device is an int, a context a pointer.
constexpr int kSuccess = 0, kErrorStub = 34, kErrorNoDevice = 100;
constexpr int kMultiprocessors = 16, kMajor = 75, kMinor = 76;

struct Driver {
  Library library;
  int (*init)(unsigned) = nullptr;
  int (*version)(int*) = nullptr;
  int (*count)(int*) = nullptr;
  int (*device)(int*, int) = nullptr;
  int (*name)(char*, int, int) = nullptr;
  int (*totalMemory)(size_t*, int) = nullptr;
  int (*attribute)(int*, int, int) = nullptr;
  int (*busId)(char*, int, int) = nullptr;
  int (*errorName)(int, const char**) = nullptr;
  int (*retain)(void**, int) = nullptr;
  int (*release)(int) = nullptr;
  int (*push)(void*) = nullptr;
  int (*pop)(void**) = nullptr;
  int (*memory)(size_t*, size_t*) = nullptr;

  explicit Driver(const std::string& path) : library(path) {
    library.find("cuInit", init);
    library.find("cuDriverGetVersion", version);
    library.find("cuDeviceGetCount", count);
    library.find("cuDeviceGet", device);
    library.find("cuDeviceGetName", name);
    library.find("cuDeviceTotalMem_v2", totalMemory);
    library.find("cuDeviceGetAttribute", attribute);
    library.find("cuDeviceGetPCIBusId", busId);
    library.find("cuGetErrorName", errorName);
    library.find("cuDevicePrimaryCtxRetain", retain);
    library.find("cuDevicePrimaryCtxRelease_v2", release);
    library.find("cuCtxPushCurrent_v2", push);
    library.find("cuCtxPopCurrent_v2", pop);
    library.find("cuMemGetInfo_v2", memory);
  }
  bool complete() const { return init && version && count && device && name && totalMemory && attribute; }
  std::string describe(int code) const {
    const char* text = nullptr;
    if (errorName && errorName(code, &text) == kSuccess && text) return std::string(text) + ", error " + std::to_string(code);
    return "error " + std::to_string(code);
  }
};

std::string bytesText(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

std::string capability(int major, int minor) { return std::to_string(major) + "." + std::to_string(minor); }

// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue ..." -> "580.95.05": the first word of digits and dots.
std::string releaseOf(const std::string& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  std::istringstream words(line);
  for (std::string word; words >> word;)
    if (word.find('.') != std::string::npos && word.find_first_not_of("0123456789.") == std::string::npos) return word;
  return {};
}

// Memory that nobody uses, seen from a context of our own, which takes some hundred MiB itself.
std::optional<int64_t> freeOn(const Driver& driver, int device) {
  if (!driver.retain || !driver.release || !driver.push || !driver.pop || !driver.memory) return std::nullopt;
  void* context = nullptr;
  if (driver.retain(&context, device) != kSuccess) return std::nullopt;
  std::optional<int64_t> found;
  if (driver.push(context) == kSuccess) {
    size_t free = 0, total = 0;
    if (driver.memory(&free, &total) == kSuccess) found = static_cast<int64_t>(free);
    driver.pop(&context);
  }
  driver.release(device);
  return found;
}

std::optional<DeviceInfo> deviceAt(const Driver& driver, int index, const BuildInfo& build, bool measureFree) {
  DeviceInfo info;
  info.index = index;
  int device = 0;
  std::array<char, 256> text{};
  size_t total = 0;
  if (driver.device(&device, index) != kSuccess || driver.name(text.data(), static_cast<int>(text.size()) - 1, device) != kSuccess ||
      driver.totalMemory(&total, device) != kSuccess || driver.attribute(&info.major, kMajor, device) != kSuccess ||
      driver.attribute(&info.minor, kMinor, device) != kSuccess)
    return std::nullopt;
  info.name = text.data();
  info.totalBytes = static_cast<int64_t>(total);
  driver.attribute(&info.multiprocessors, kMultiprocessors, device);
  text.fill('\0');
  if (driver.busId && driver.busId(text.data(), static_cast<int>(text.size()) - 1, device) == kSuccess) info.busId = text.data();
  info.mig = info.name.find(" MIG ") != std::string::npos;  // so the driver names a slice: "NVIDIA H200 MIG 1g.18gb"
  info.supported = build.runs(info.major, info.minor);
  if (measureFree) info.freeBytes = freeOn(driver, device);
  return info;
}

std::string describe(const DeviceInfo& d) {
  std::string out = d.name + (d.mig ? " (a MIG slice)" : "") + ", compute capability " + capability(d.major, d.minor) + ", ";
  if (d.freeBytes) return out + bytesText(*d.freeBytes) + " of " + bytesText(d.totalBytes) + " free";
  return out + bytesText(d.totalBytes);
}

DeviceReport& failed(DeviceReport& report, DeviceStatus status, std::string sentence) {
  report.status = status;
  report.sentence = std::move(sentence);
  return report;
}

// The first device has no code here. Another may.
std::string tooOld(const DeviceReport& report, const BuildInfo& build) {
  const DeviceInfo& first = report.devices.front();
  const std::string what = first.name + " has compute capability " + capability(first.major, first.minor) + ", and this build has code for " + build.architectures;
  for (const DeviceInfo& d : report.devices)
    if (d.supported) return what + ": make " + d.name + " the first GPU with CUDA_VISIBLE_DEVICES=" + std::to_string(d.index) + ".";
  return what + ": build with -DCMAKE_CUDA_ARCHITECTURES=native, or use a newer GPU.";
}

// The steps after the library was loaded.
DeviceReport& examine(DeviceReport& report, const Driver& driver, const BuildInfo& build, const ProbeOptions& options) {
  if (!driver.complete())
    return failed(report, DeviceStatus::driverFailed, "The NVIDIA driver's " + options.library + " lacks functions of CUDA: install the driver again.");
  driver.version(&report.driverVersion);
  const int started = driver.init(0);
  if (started == kErrorNoDevice)
    return failed(report, DeviceStatus::noDevice, "The NVIDIA driver is installed but finds no GPU: check that one is fitted, and visible to this process (CUDA_VISIBLE_DEVICES, or the container's --gpus).");
  if (started == kErrorStub)
    return failed(report, DeviceStatus::noDriver, "No NVIDIA driver was found (" + options.library + " is the toolkit's stub, which only links): install the driver.");
  // Libraries of one major version run on any driver of that major version.
  const int needed = build.runtimeVersion / 1000 * 1000;
  if (report.driverVersion > 0 && report.driverVersion < needed)
    return failed(report, DeviceStatus::driverTooOld,
                  "The NVIDIA driver" + (report.driverRelease.empty() ? "" : " " + report.driverRelease) + " knows CUDA " +
                      cudaVersionText(report.driverVersion) + ", and this build needs " + cudaVersionText(needed) + ": update the driver.");
  if (started != kSuccess)
    return failed(report, DeviceStatus::driverFailed, "The NVIDIA driver did not start (cuInit: " + driver.describe(started) + "): restart the machine, or install the driver again.");
  int count = 0;
  if (const int counted = driver.count(&count); counted != kSuccess)
    return failed(report, DeviceStatus::driverFailed, "The NVIDIA driver does not list its GPUs (cuDeviceGetCount: " + driver.describe(counted) + "): restart the machine.");
  for (int i = 0; i < std::min(count, 64); ++i)
    if (auto info = deviceAt(driver, i, build, options.measureFree || options.neededBytes > 0)) report.devices.push_back(std::move(*info));
  if (report.devices.empty())
    return failed(report, DeviceStatus::noDevice, "The NVIDIA driver is installed but finds no GPU: check that one is fitted, and visible to this process (CUDA_VISIBLE_DEVICES, or the container's --gpus).");
  if (!report.devices.front().supported) return failed(report, DeviceStatus::deviceTooOld, tooOld(report, build));
  report.chosen = 0;
  const DeviceInfo& d = report.devices.front();
  if (options.neededBytes > 0 && d.freeBytes && *d.freeBytes < options.neededBytes)
    return failed(report, DeviceStatus::notEnoughMemory,
                  "This needs " + bytesText(options.neededBytes) + " on " + d.name + ", which has " + bytesText(*d.freeBytes) + " of " +
                      bytesText(d.totalBytes) + " free: choose fewer bits or a shorter context, or end what else uses the GPU.");
  return failed(report, DeviceStatus::ready, describe(d));
}

}  // namespace

// "90" stands for both kinds of code. Machine code runs on its major version from its minor version up, PTX on all that is newer; an
// architecture with a letter runs on itself alone.
bool BuildInfo::runs(int major, int minor) const {
  const int device = major * 10 + minor;
  std::istringstream entries(architectures);
  for (std::string entry; std::getline(entries, entry, ',');) {
    const size_t digits = entry.find_first_not_of("0123456789");
    if (digits == 0) return true;  // "native", "all": made for what is here
    const int arch = std::stoi(entry.substr(0, std::min(digits, size_t{4})));
    const std::string kind = digits == std::string::npos ? "" : entry.substr(digits);
    if (!kind.empty() && kind[0] != '-') {
      if (kind[0] == 'f' ? arch / 10 == major && arch <= device : arch == device) return true;
      continue;
    }
    if (kind != "-virtual" && arch / 10 == major && arch <= device) return true;
    if (kind != "-real" && arch <= device) return true;
  }
  return false;
}

std::string_view deviceStatusName(DeviceStatus status) {
  switch (status) {
    case DeviceStatus::ready: return "ready";
    case DeviceStatus::notBuilt: return "not_built";
    case DeviceStatus::noDriver: return "no_driver";
    case DeviceStatus::driverFailed: return "driver_failed";
    case DeviceStatus::driverTooOld: return "driver_too_old";
    case DeviceStatus::noDevice: return "no_device";
    case DeviceStatus::deviceTooOld: return "device_too_old";
    case DeviceStatus::notEnoughMemory: break;
  }
  return "not_enough_memory";
}

std::string cudaVersionText(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

Error DeviceReport::error() const {
  return {ErrorCode::resources, "Device cuda was asked for. " + sentence, "Or run on the CPU: --device cpu."};
}

DeviceReport probeDevices(const BuildInfo& build, const ProbeOptions& options) {
  DeviceReport report;
  report.driverRelease = releaseOf(options.releaseFile);
  const Driver driver(options.library);
  if (driver.library.loaded()) {
    // A build without the backend still says what the machine has.
    BuildInfo asked = build;
    if (!build.built) asked.architectures = "native", asked.runtimeVersion = 0;
    examine(report, driver, asked, options);
    if (!build.built) {
      const std::string found = report.ready() ? "It would run on " + report.sentence + "." : report.sentence;
      report.chosen = -1;
      for (DeviceInfo& d : report.devices) d.supported = false;
      failed(report, DeviceStatus::notBuilt, "This build has no CUDA backend: build it with nvcc 12.4 or newer. " + found);
    }
    return report;
  }
  if (!build.built)
    return failed(report, DeviceStatus::notBuilt, "This build has no CUDA backend, and no NVIDIA driver was found: build it with nvcc 12.4 or newer on a machine with an NVIDIA GPU.");
  if (!report.driverRelease.empty())
    return failed(report, DeviceStatus::noDriver, "The NVIDIA kernel driver " + report.driverRelease + " runs, but " + options.library + " can't be loaded: install the driver's libraries; in a container, start it with access to the GPU (--gpus all).");
  return failed(report, DeviceStatus::noDriver, "No NVIDIA driver was found (" + options.library + " can't be loaded): install the driver of your GPU, for CUDA " + cudaVersionText(build.runtimeVersion / 1000 * 1000) + " or newer.");
}

}  // namespace winnow::cuda
