// SPDX-License-Identifier: GPL-3.0-or-later
// A device made of this process: kernels written for CUDA run here as plain C++, one block at a time, every CUDA thread a fiber of
// the OS thread that launches. What it is for is logic: indices, barriers, the order of sums.
//
// * The order in which warps, lanes and blocks run is drawn from a seed, so a test sees many schedules.
// * Every byte of device and shared memory remembers who wrote and read it last and since which barrier. Two accesses of which one
//   writes, by threads that no barrier orders, are a fault under any schedule; so is reading what nobody wrote.
// * Blocks of a launch are ordered by nothing but an atomic between two fences.
// * Pointers know their allocation: an index outside of it is a fault, and so is a host pointer that reaches a kernel.
// * A warp operation or barrier that part of the threads named by it cannot reach is a fault.
//
// It cannot show speed, the rounding of real tensor cores, or the memory model between kernels in different streams.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

namespace emulator {

using Where = std::source_location;

// What a kernel did wrong, with kernel, block and thread.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Index3 {
  unsigned x = 0, y = 0, z = 0;
};

// Who touched two neighbouring bytes last. Blocks are numbered through all launches, from 1.
struct Cell {
  uint32_t writeBlock = 0, writeEpoch = 0, writeWarpEpoch = 0;
  uint32_t readBlock = 0, readEpoch = 0, readWarpEpoch = 0;
  uint16_t writeThread = 0, readThread = 0;
  bool written = false;      // ever (device memory) or in this block (shared memory)
  bool writeAtomic = false;
  bool manyReaders = false;  // of several warps since the barrier
  bool manyLanes = false;    // of one warp since its barrier
};
constexpr size_t kCellBytes = 2;

// All as if new, without touching memory: most of a large scratch is never used.
class Cells {
 public:
  Cells() = default;
  explicit Cells(size_t bytes) : cells_(static_cast<Cell*>(std::calloc((bytes + kCellBytes - 1) / kCellBytes, sizeof(Cell)))) {
    if (!cells_) throw std::bad_alloc();
  }
  Cell& operator[](size_t i) { return cells_.get()[i]; }

 private:
  struct Free {
    void operator()(Cell* cells) const { std::free(cells); }
  };
  std::unique_ptr<Cell, Free> cells_;
};

struct Region {
  char* data = nullptr;
  size_t bytes = 0;
  bool shared = false;
  uint32_t block = 0;  // shared: the block whose contents these are
  std::string name;
  Cells cells;
};

enum class Access : uint8_t { read, write, atomic };

// Device memory ends, and begins, at pages nobody may touch.
void* allocate(size_t bytes);  // null beyond the limit
void release(void* data);
size_t allocatedBytes();
void limitMemory(size_t bytes);  // what the device has in all
size_t memoryLimit();
void failFromNow(bool on);       // launches, copies and waits answer with an error
bool failing();
void haveLibrary(bool there);      // cuBLASLt, for what is made from now on; at first it is not there
void haveCapability(int tenfold);  // compute capability; 90 (9.0) at first
int capability();
void haveBusId(const std::string& id);  // of devices opened from now on, by which NVML knows them; at first none does
const std::string& busId();

// The device does one thing at a time: several threads of the host take turns, whole launches at once.
class Alone {
 public:
  Alone();
  ~Alone();
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;
};
Region* regionOf(const void* p);                     // null when p is not in (or one past) device or shared memory
void hostWrote(const void* p, size_t bytes);         // of a copy to the device
void hostReads(const void* p, size_t bytes);         // of a copy from the device: faults on what nobody wrote
void registerShared(Region& region);                 // a __shared__ array, once
void unregisterShared(Region& region);
Region& dynamicShared();

void access(Region* region, const void* at, size_t bytes, Access kind);
void fence();                      // what came before it is seen by blocks that find a later atomic of this thread, and then fence
void cameBy(const void* atomic);   // an atomic operation was done
void mayWrite(Region* region, const void* at, size_t bytes);  // faults as a write would, and notes nothing
[[noreturn]] void fault(const std::string& what);

// Runs body once for each thread of each block. Not reentrant.
void launch(const char* name, Index3 grid, Index3 block, size_t sharedBytes, const std::function<void()>& body);
void nameNextLaunch(const char* name);
const char* takeLaunchName();
void setSeed(uint32_t seed);  // 0: in order
// Between these, launches by this thread of the host are handed over instead of run.
void beginRecording();
bool record(const std::function<void()>& launch);  // false: not recording
bool recording();
std::vector<std::function<void()>> endRecording();
uint64_t launches();

void syncBlock(Where where);
void syncWarp(uint32_t mask, Where where);

// The words a lane gives to a warp operation; every lane of the mask reads those of any other until its own next operation.
constexpr int kSlotWords = 16;
struct Slot {
  uint32_t words[kSlotWords] = {};
};
enum class WarpOp : uint8_t { sync, shuffle, vote, matrix };
Slot& mySlot();                                      // of the operation to come
void exchange(WarpOp op, uint32_t mask, Where where);
const Slot& slotOf(unsigned lane);                   // of the operation that came last
unsigned lane();

// cp.async: the copy happens when the thread waits for its group, not before. What is not given is filled with zeros.
void copyAsync(Region* to, void* dst, Region* from, const void* src, size_t bytes, size_t given);
void commitAsync();
void waitAsync(unsigned newestPending);

}  // namespace emulator
