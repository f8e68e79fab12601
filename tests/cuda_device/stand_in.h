// SPDX-License-Identifier: GPL-3.0-or-later
// What tests ask of the emulation, on a real device. A program ends with 77 (skipped) where there is none, and says why.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "engine/cuda/probe.h"
#include "tests/support/check.h"

namespace emulator {

inline void setSeed(uint32_t) {}  // the device orders its blocks itself
inline size_t memoryLimit() { throw winnow::test::Skipped{"a real device does not shrink"}; }
inline void limitMemory(size_t) {}
inline void haveLibrary(bool) {}  // the toolkit's is there
inline void haveCapability(int) { throw winnow::test::Skipped{"a real device has one compute capability"}; }
inline void failFromNow(bool) { throw winnow::test::Skipped{"a real device does not fail when it is told to"}; }
inline size_t allocatedBytes() { throw winnow::test::Skipped{"the driver rounds allocations up: section plan of run compares the ledger"}; }
inline uint64_t launches() { throw winnow::test::Skipped{"a real device does not count launches"}; }

}  // namespace emulator

namespace winnow::test {

inline const bool deviceIsHere = [] {
  const cuda::DeviceReport report = cuda::probeDevices(cuda::buildInfo());
  if (!report.ready()) {
    std::printf("skip: %s\n", report.sentence.c_str());
    std::fflush(stdout);
    std::_Exit(77);
  }
  return true;
}();

}  // namespace winnow::test
