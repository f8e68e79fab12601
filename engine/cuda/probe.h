// SPDX-License-Identifier: GPL-3.0-or-later
// Which CUDA devices this machine has for this build, and if none, which step failed and what to do about it. The driver's library is
// loaded at run time: the program starts on machines that have none. Plain C++, part of the engine in every build.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/result.h"

namespace winnow::cuda {

// What this build brings: the runtime it was compiled against and the architectures it has code for.
struct BuildInfo {
  bool built = false;            // the engine has the CUDA backend
  int runtimeVersion = 0;        // as CUDART_VERSION: 13000 is 13.0
  std::string architectures;     // as CMake lists them, with commas: "80-real,90-real,90-virtual"
  bool runs(int major, int minor) const;  // has code that a device of this compute capability runs
};
BuildInfo buildInfo();

enum class DeviceStatus : uint8_t { ready, notBuilt, noDriver, driverFailed, driverTooOld, noDevice, deviceTooOld, notEnoughMemory };
std::string_view deviceStatusName(DeviceStatus status);  // "ready", "not_built", "no_driver" ...

struct DeviceInfo {
  int index = 0;
  std::string name;              // "NVIDIA H200"
  std::string busId;             // "0000:3b:00.0": what NVML knows the device by
  int major = 0, minor = 0;      // compute capability
  int multiprocessors = 0;
  int64_t totalBytes = 0;
  std::optional<int64_t> freeBytes;  // when it was asked for
  bool mig = false;              // a slice of a device
  bool supported = false;        // this build has code for it
};

struct DeviceReport {
  DeviceStatus status = DeviceStatus::notBuilt;
  std::string sentence;          // ready: the device; else what failed and what to do
  int driverVersion = 0;         // the newest CUDA the driver knows, as 13000; 0 = no driver
  std::string driverRelease;     // "580.159.03", empty when the system does not tell
  std::vector<DeviceInfo> devices;
  int chosen = -1;               // index in devices: the first, which every thread of the runtime uses unless told otherwise

  bool ready() const { return status == DeviceStatus::ready; }
  // For somebody who asked for the device: its sentence, and the CPU as the way out.
  Error error() const;
};

struct ProbeOptions {
  std::string library = "libcuda.so.1";
  std::string releaseFile = "/proc/driver/nvidia/version";
  bool measureFree = false;      // opens a context on each device: some hundred milliseconds
  int64_t neededBytes = 0;       // > 0: the device must have them free
};
DeviceReport probeDevices(const BuildInfo& build, const ProbeOptions& options = {});

std::string cudaVersionText(int version);  // 12040 -> "12.4"

}  // namespace winnow::cuda
