// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/cuda_emulation/emulator.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <sstream>

#include "tests/cuda_emulation/fiber.h"
#include "tests/cuda_emulation/machine.h"

namespace emulator {

namespace {

void finish() {
  machine().current->state = State::done;
  Fiber::suspend();
}

void threadBody() {
  for (;;) {
    Machine& m = machine();
    try {
      m.body();
    } catch (...) {
      m.failure = std::current_exception();
    }
    finish();
  }
}

std::string describe(const Thread& t) {
  std::ostringstream out;
  const char* doing[] = {"runs", "waits in a warp operation", "waits at the block's barrier", "has left"};
  out << "thread " << t.linear << " " << doing[static_cast<int>(t.state)];
  if (t.state == State::atWarp || t.state == State::atBlock) out << " at " << t.where.file_name() << ":" << t.where.line();
  return out.str();
}

void runThread(Thread& t) {
  Machine& m = machine();
  m.current = &t;
  threadIdx_ = t.index;
  t.fiber->resume();
  m.current = nullptr;
  if (m.failure) std::rethrow_exception(std::exchange(m.failure, nullptr));
}

Thread& at(size_t i) { return *machine().threads[i]; }

// Lets a warp operation happen for every group of lanes that has arrived in full.
bool releaseWarp(size_t begin, size_t end) {
  bool released = false;
  uint32_t looked = 0;  // lanes whose group is dealt with
  for (size_t i = begin; i < end; ++i) {
    Thread& t = at(i);
    if (t.state != State::atWarp || looked >> (i - begin) & 1) continue;
    looked |= t.mask;
    bool complete = true;
    for (size_t j = 0; j < 32 && complete; ++j) {
      if (!(t.mask >> j & 1)) continue;
      if (begin + j >= end || at(begin + j).state == State::done)
        fault("lane " + std::to_string(j) + " is named by the mask of a warp operation and has left: " + describe(t));
      const Thread& other = at(begin + j);
      complete = other.state == State::atWarp;
      if (complete && (other.op != t.op || other.mask != t.mask || other.where.line() != t.where.line()))
        fault("lanes of one mask are at different warp operations: " + describe(t) + ", " + describe(other));
    }
    if (!complete) continue;
    for (size_t j = 0; j < 32; ++j)
      if (t.mask >> j & 1) {
        Thread& other = at(begin + j);
        other.state = State::ready;
        other.parity ^= 1;
        if (other.op == WarpOp::sync) ++other.warpEpoch;
      }
    released = true;
  }
  return released;
}

// The barrier of the block, once every thread that has not left is there.
bool releaseBlock(size_t count) {
  const Thread* first = nullptr;
  for (size_t i = 0; i < count; ++i) {
    const Thread& t = at(i);
    if (t.state == State::done) continue;
    if (t.state != State::atBlock) return false;
    if (!first) first = &t;
    if (t.where.line() != first->where.line())
      fault("threads of a block are at different barriers: " + describe(*first) + ", " + describe(t));
  }
  if (!first) return false;
  for (size_t i = 0; i < count; ++i)
    if (at(i).state == State::atBlock) {
      at(i).state = State::ready;
      ++at(i).blockEpoch;
    }
  return true;
}

void runWarp(size_t begin, size_t end) {
  Machine& m = machine();
  std::array<size_t, 32> all;
  std::iota(all.begin(), all.end(), begin);
  const std::span<size_t> lanes(all.data(), end - begin);
  // A warp runs until it needs the others, or, at random, for a while only.
  int rounds = m.seed && m.random() % 2 ? 1 + static_cast<int>(m.random() % 4) : -1;
  do {
    if (m.seed) std::shuffle(lanes.begin(), lanes.end(), m.random);
    for (size_t i : lanes)
      if (at(i).state == State::ready) runThread(at(i));
  } while (releaseWarp(begin, end) && --rounds != 0);
}

void runBlock(size_t count) {
  Machine& m = machine();
  std::vector<size_t> warps((count + 31) / 32);
  std::iota(warps.begin(), warps.end(), size_t{0});
  for (;;) {
    if (m.seed) std::shuffle(warps.begin(), warps.end(), m.random);
    for (size_t w : warps) runWarp(w * 32, std::min(count, w * 32 + 32));
    const auto is = [](State s) { return [s](const auto& t) { return t->state == s; }; };
    const auto begin = m.threads.begin(), end = begin + static_cast<std::ptrdiff_t>(count);
    if (std::all_of(begin, end, is(State::done))) return;
    if (std::any_of(begin, end, is(State::ready)) || releaseBlock(count)) continue;
    const auto warp = std::find_if(begin, end, is(State::atWarp)), block = std::find_if(begin, end, is(State::atBlock));
    std::string all = "threads wait for one another for ever";
    if (warp != end) all += ": " + describe(**warp);
    if (block != end) all += ", " + describe(**block);
    fault(all);
  }
}

}  // namespace

void fault(const std::string& what) {
  Machine& m = machine();
  std::ostringstream text;
  text << (m.kernel ? m.kernel : "kernel") << ": " << what;
  if (m.running) text << " [block " << blockIdx_.x << "," << blockIdx_.y << "," << blockIdx_.z;
  if (m.running && m.current) text << " thread " << m.current->linear;
  if (m.running) text << "]";
  throw Fault(text.str());
}

void launch(const char* name, Index3 grid, Index3 block, size_t sharedBytes, const std::function<void()>& body) {
  const Alone alone;
  Machine& m = machine();
  const size_t count = size_t{block.x} * block.y * block.z;
  m.kernel = name;
  if (m.running) fault("a kernel launched a kernel");
  if (count == 0 || count > 1024) fault("a block of " + std::to_string(count) + " threads");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535) fault("a grid the device refuses");
  while (m.threads.size() < count) {
    m.threads.push_back(std::make_unique<Thread>());
    m.threads.back()->fiber = std::make_unique<Fiber>(&threadBody);
  }
  m.body = body;
  m.random.seed(m.seed + static_cast<uint32_t>(m.launches));
  ++m.launches;
  m.launchFirstBlock = m.blockSerial + 1;
  m.arrived.clear();
  blockDim_ = block;
  gridDim_ = grid;
  m.setDynamicShared(sharedBytes);
  std::vector<size_t> blocks(size_t{grid.x} * grid.y * grid.z);
  std::iota(blocks.begin(), blocks.end(), size_t{0});
  if (m.seed) std::shuffle(blocks.begin(), blocks.end(), m.random);
  const struct Running {
    Running() { machine().running = true; }
    ~Running() { machine().running = false, machine().current = nullptr; }
  } running;
  for (size_t b : blocks) {
    ++m.blockSerial;
    m.acquired.clear();
    blockIdx_ = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y), static_cast<unsigned>(b / grid.x / grid.y)};
    for (size_t i = 0; i < count; ++i) {
      Thread& t = at(i);
      t.fiber->restart();
      t.reset(static_cast<unsigned>(i), {static_cast<unsigned>(i % block.x), static_cast<unsigned>(i / block.x % block.y),
                                         static_cast<unsigned>(i / block.x / block.y)});
    }
    runBlock(count);
  }
}

Alone::Alone() { machine().mutex.lock(); }
Alone::~Alone() { machine().mutex.unlock(); }
void limitMemory(size_t bytes) { machine().memoryLimit = bytes; }
size_t memoryLimit() { return machine().memoryLimit; }
void failFromNow(bool on) { machine().failing = on; }
bool failing() { return machine().failing; }

namespace {
thread_local const char* nextName = "kernel";
thread_local std::optional<std::vector<std::function<void()>>> recorded;
}  // namespace
void nameNextLaunch(const char* name) { nextName = name; }
const char* takeLaunchName() { return std::exchange(nextName, "kernel"); }
void beginRecording() { recorded.emplace(); }
bool recording() { return recorded.has_value(); }
bool record(const std::function<void()>& launch) {
  if (recording()) recorded->push_back(launch);
  return recording();
}
std::vector<std::function<void()>> endRecording() {
  std::vector<std::function<void()>> launches = std::move(recorded.value());
  recorded.reset();
  return launches;
}
void setSeed(uint32_t seed) { machine().seed = seed; }
uint64_t launches() { return machine().launches; }

void syncBlock(Where where) {
  Thread& t = *machine().current;
  t.state = State::atBlock;
  t.where = where;
  Fiber::suspend();
}

void exchange(WarpOp op, uint32_t mask, Where where) {
  Thread& t = *machine().current;
  if (!(mask >> (t.linear & 31) & 1)) fault("a lane takes part in a warp operation whose mask leaves it out");
  t.state = State::atWarp;
  t.op = op;
  t.mask = mask;
  t.where = where;
  Fiber::suspend();
}

void fence() {
  Machine& m = machine();
  Thread& t = *m.current;
  t.fenced = t.blockEpoch;
  if (!t.lastAtomic) return;
  m.acquired = m.arrived[t.lastAtomic];
  m.acquiredEpoch = t.blockEpoch;
  m.acquiredBy = t.linear;
}
void cameBy(const void* atomic) {
  Machine& m = machine();
  if (!m.running) return;
  Thread& t = *m.current;
  if (t.fenced) m.arrived[atomic][m.blockSerial] = *t.fenced;
  t.lastAtomic = atomic;
}

void syncWarp(uint32_t mask, Where where) { exchange(WarpOp::sync, mask, where); }
unsigned lane() { return machine().current->linear & 31; }
// A lane is at most one operation ahead of what another still reads, so two slots are enough.
Slot& mySlot() {
  Thread& t = *machine().current;
  return t.slots[t.parity];
}
const Slot& slotOf(unsigned lane) {
  const Thread& me = *machine().current;
  return at((me.linear & ~31u) + (lane & 31)).slots[me.parity ^ 1];
}

void copyAsync(Region* to, void* dst, Region* from, const void* src, size_t bytes, size_t given) {
  if (reinterpret_cast<uintptr_t>(dst) % bytes || reinterpret_cast<uintptr_t>(src) % bytes) fault("an asynchronous copy is not aligned");
  mayWrite(to, dst, bytes);  // from here on the destination may change at any time
  machine().current->copies.push_back({to, dst, from, src, bytes, given});
}
void commitAsync() {
  Thread& t = *machine().current;
  t.groups.push_back(std::exchange(t.copies, {}));
}
void waitAsync(unsigned newestPending) {
  Thread& t = *machine().current;
  while (t.groups.size() > newestPending) {
    for (const AsyncCopy& c : t.groups.front()) {
      if (c.given > 0) access(c.from, c.src, c.given, Access::read);
      access(c.to, c.dst, c.bytes, Access::write);
      if (c.given > 0) std::memcpy(c.dst, c.src, c.given);
      std::memset(static_cast<char*>(c.dst) + c.given, 0, c.bytes - c.given);
    }
    t.groups.pop_front();
  }
}

}  // namespace emulator
