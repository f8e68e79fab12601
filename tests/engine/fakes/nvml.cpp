// SPDX-License-Identifier: GPL-3.0-or-later
// Stands in for the driver's libnvidia-ml.so.1.
#include <atomic>
#include <cstdio>
#include <cstring>

#include "tests/engine/fakes/settings.h"

namespace {
constexpr int kNotSupported = 3, kNotFound = 6;

template <class T>
int give(long long figure, T* out) {
  if (figure < 0) return kNotSupported;
  *out = static_cast<T>(figure);
  return 0;
}
}  // namespace

extern "C" {

winnow::test::FakeNvml fakeNvml;

int nvmlInit_v2() {
  if (fakeNvml.initResult == 0) ++fakeNvml.started;
  return fakeNvml.initResult;
}
int nvmlShutdown() {
  --fakeNvml.started;
  return 0;
}
int nvmlSystemGetDriverVersion(char* text, unsigned length) {
  std::snprintf(text, length, "580.00.1");
  return 0;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char* id, void** device) {
  *device = &fakeNvml;
  return std::strcmp(id, fakeNvml.busId) == 0 ? 0 : kNotFound;
}
int nvmlDeviceGetClockInfo(void*, int type, unsigned* mhz) { return give(type == 1 ? fakeNvml.smMhz : fakeNvml.memoryMhz, mhz); }
int nvmlDeviceGetPowerUsage(void*, unsigned* milliwatts) { return give(fakeNvml.milliwatts, milliwatts); }
int nvmlDeviceGetEnforcedPowerLimit(void*, unsigned* milliwatts) { return give(700000, milliwatts); }
int nvmlDeviceGetTemperature(void*, int, unsigned* celsius) { return give(fakeNvml.celsius, celsius); }
int nvmlDeviceGetCurrentClocksThrottleReasons(void*, unsigned long long* bits) { return give(fakeNvml.reasons, bits); }
int nvmlDeviceGetTotalEnergyConsumption(void*, unsigned long long* millijoules) {
  return give(std::atomic_ref(fakeNvml.millijoules).load(), millijoules);  // a test changes it while a thread reads
}

}  // extern "C"
