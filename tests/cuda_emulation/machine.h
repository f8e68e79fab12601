// SPDX-License-Identifier: GPL-3.0-or-later
// The state behind emulator.h: threads, the block that runs, the schedule.
#pragma once
#include <atomic>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "tests/cuda_emulation/emulator.h"
#include "tests/cuda_emulation/fiber.h"

namespace emulator {

enum class State : uint8_t { ready, atWarp, atBlock, done };

struct AsyncCopy {
  Region* to;
  void* dst;
  Region* from;
  const void* src;
  size_t bytes, given;
};

struct Thread {
  std::unique_ptr<Fiber> fiber;
  unsigned linear = 0;
  Index3 index;
  State state = State::done;
  WarpOp op{};
  uint32_t mask = 0;
  Where where;
  Slot slots[2];
  unsigned parity = 0;
  uint32_t blockEpoch = 0, warpEpoch = 0;  // barriers passed
  std::optional<uint32_t> fenced;          // barriers passed when the last fence came
  const void* lastAtomic = nullptr;
  std::vector<AsyncCopy> copies;
  std::deque<std::vector<AsyncCopy>> groups;

  void reset(unsigned number, Index3 at) {
    linear = number;
    index = at;
    state = State::ready;
    parity = 0;
    blockEpoch = warpEpoch = 0;
    fenced.reset();
    lastAtomic = nullptr;
    copies.clear();
    groups.clear();
  }
};

struct Machine {
  std::vector<std::unique_ptr<Thread>> threads;
  Thread* current = nullptr;
  bool running = false;
  std::function<void()> body;
  std::exception_ptr failure;
  uint32_t seed = 0;
  std::mt19937 random;
  uint64_t launches = 0;
  uint32_t blockSerial = 0, launchFirstBlock = 1;
  const char* kernel = nullptr;
  // Blocks that came by an atomic behind a fence, with the barriers passed before that, by its address; and those that the present block has
  // found there and then fenced: what they wrote before is seen by the thread that did, and by all behind its next barrier.
  std::map<const void*, std::map<uint32_t, uint32_t>> arrived;
  std::map<uint32_t, uint32_t> acquired;
  uint32_t acquiredEpoch = 0;
  unsigned acquiredBy = 0;
  size_t allocated = 0, memoryLimit = size_t{1} << 40;
  std::atomic<bool> failing{false};
  std::recursive_mutex mutex;  // Alone
  Region dynamic;

  void setDynamicShared(size_t bytes);
};
inline Machine theMachine;
inline Machine& machine() { return theMachine; }

// The built-in variables of the thread that runs.
inline Index3 threadIdx_, blockIdx_, blockDim_, gridDim_;

}  // namespace emulator
