// SPDX-License-Identifier: GPL-3.0-or-later
// Device and shared memory: who owns an address, and who touched it since which barrier.
#include <sys/mman.h>

#include <cstring>
#include <map>
#include <new>
#include <sstream>

#include "tests/cuda_emulation/machine.h"

namespace emulator {
namespace {

constexpr size_t kPage = 4096;

struct Mapping {  // [guard][data ... up to the guard][guard]
  std::unique_ptr<Region> region;
  char* base;
  size_t size;
};
std::map<const char*, Mapping>& allocations() {  // by first byte
  static std::map<const char*, Mapping> all;
  return all;
}
std::map<const char*, Region*>& sharedRegions() {
  static std::map<const char*, Region*> all;
  return all;
}

Region* within(Region* region, const char* p) {
  return p >= region->data && p <= region->data + region->bytes ? region : nullptr;
}

// One past the end of an allocation belongs to it, so that a pointer may stand there.
template <class Map, class RegionOf>
Region* find(const Map& all, const char* p, RegionOf of) {
  auto next = all.upper_bound(p);
  return next == all.begin() ? nullptr : within(of(std::prev(next)->second), p);
}

std::string placeOf(const Region& r, const void* at, size_t bytes) {
  std::ostringstream out;
  out << bytes << " bytes at byte " << static_cast<const char*>(at) - r.data << " of " << (r.shared ? "shared memory" : "an allocation")
      << " of " << r.bytes << " bytes";
  return out.str();
}

[[noreturn]] void race(const char* what, const Region& r, const void* at, size_t bytes, uint32_t block, unsigned thread) {
  const Machine& m = machine();
  fault(std::string("no barrier between ") + what + ": " + placeOf(r, at, bytes) + ", the other by thread " + std::to_string(thread) +
        (block == m.blockSerial ? " of this block" : " of another block"));
}

// Whether something done in `block` at these epochs by `thread` is ordered before the current thread's present.
bool ordered(uint32_t block, uint32_t epoch, uint32_t warpEpoch, unsigned thread) {
  const Machine& m = machine();
  const Thread& t = *m.current;
  if (block < m.launchFirstBlock) return true;  // an earlier launch
  if (block != m.blockSerial) {
    const auto found = m.acquired.find(block);
    return found != m.acquired.end() && epoch < found->second && (t.linear == m.acquiredBy || t.blockEpoch > m.acquiredEpoch);
  }
  if (thread == t.linear || epoch < t.blockEpoch) return true;
  return thread / 32 == t.linear / 32 && warpEpoch < t.warpEpoch;
}

void checkReaders(const Region& region, const Cell& c, const void* at, size_t bytes) {
  const Machine& m = machine();
  const Thread& t = *m.current;
  if (c.readBlock < m.launchFirstBlock || (region.shared && c.readBlock != m.blockSerial)) return;
  const bool same = c.readBlock == m.blockSerial;
  if (same && c.readEpoch < t.blockEpoch) return;
  if (same && !c.manyReaders && c.readThread / 32 == t.linear / 32) {
    if (c.readWarpEpoch < t.warpEpoch || (c.readThread == t.linear && !c.manyLanes)) return;
  }
  race("a read and a write", region, at, bytes, c.readBlock, c.readThread);
}

void noteRead(const Region& region, Cell& c) {
  const Machine& m = machine();
  const Thread& t = *m.current;
  const bool current = c.readBlock == m.blockSerial && c.readEpoch == t.blockEpoch;
  const bool sameWarp = current && c.readThread / 32 == t.linear / 32;
  const bool otherBlock = !region.shared && c.readBlock >= m.launchFirstBlock && c.readBlock != m.blockSerial;
  c.manyReaders = (current && (c.manyReaders || !sameWarp)) || otherBlock;
  c.manyLanes = sameWarp && c.readWarpEpoch == t.warpEpoch && (c.manyLanes || c.readThread != t.linear);
  c.readBlock = m.blockSerial;
  c.readEpoch = t.blockEpoch;
  c.readWarpEpoch = t.warpEpoch;
  c.readThread = static_cast<uint16_t>(t.linear);
}

void check(const Region& region, const Cell& c, const void* at, size_t bytes, Access kind) {
  const bool known = c.written && (!region.shared || c.writeBlock == machine().blockSerial);
  if (kind == Access::read && !known) fault("reads what nobody wrote: " + placeOf(region, at, bytes));
  const bool bothAtomic = kind == Access::atomic && c.writeAtomic;
  if (known && !bothAtomic && !ordered(c.writeBlock, c.writeEpoch, c.writeWarpEpoch, c.writeThread))
    race(kind == Access::read ? "a write and a read" : "two writes", region, at, bytes, c.writeBlock, c.writeThread);
  if (kind != Access::read) checkReaders(region, c, at, bytes);
}

void touch(Region& region, Cell& c, const void* at, size_t bytes, Access kind) {
  const Machine& m = machine();
  const Thread& t = *m.current;
  check(region, c, at, bytes, kind);
  if (kind == Access::read) return noteRead(region, c);
  c.written = true;
  c.writeAtomic = kind == Access::atomic;
  c.writeBlock = m.blockSerial;
  c.writeEpoch = t.blockEpoch;
  c.writeWarpEpoch = t.warpEpoch;
  c.writeThread = static_cast<uint16_t>(t.linear);
}

}  // namespace

void* allocate(size_t bytes) {
  const Alone alone;
  if (machine().allocated + bytes > memoryLimit()) return nullptr;
  const size_t data = (bytes + kPage - 1) / kPage * kPage, size = data + 2 * kPage;
  void* base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  Mapping mapping{std::make_unique<Region>(), static_cast<char*>(base), size};
  // Aligned as cudaMalloc aligns; what is left before the guard page is caught by the bounds.
  Region& region = *mapping.region;
  region.data = mapping.base + kPage + (data - (bytes + 255) / 256 * 256);
  region.bytes = bytes;
  region.cells = Cells(bytes);
  std::memset(region.data, 0xcd, bytes);
  mprotect(mapping.base, kPage, PROT_NONE);
  mprotect(mapping.base + size - kPage, kPage, PROT_NONE);
  char* const at = region.data;
  allocations().emplace(at, std::move(mapping));
  machine().allocated += bytes;
  return at;
}

void release(void* data) {
  if (!data) return;
  const Alone alone;
  const auto it = allocations().find(static_cast<const char*>(data));
  if (it == allocations().end()) fault("frees what was not allocated");
  machine().allocated -= it->second.region->bytes;
  munmap(it->second.base, it->second.size);
  allocations().erase(it);
}

size_t allocatedBytes() {
  const Alone alone;
  return machine().allocated;
}

Region* regionOf(const void* p) {
  const Alone alone;
  const auto* at = static_cast<const char*>(p);
  if (Region* r = find(allocations(), at, [](const Mapping& m) { return m.region.get(); })) return r;
  if (Region* r = find(sharedRegions(), at, [](Region* region) { return region; })) return r;
  return within(&machine().dynamic, at);
}

void hostWrote(const void* p, size_t bytes) {
  Region* r = regionOf(p);
  const auto* at = static_cast<const char*>(p);
  if (!r || at + bytes > r->data + r->bytes) fault("a copy to the device passes the end of the allocation");
  for (size_t i = static_cast<size_t>(at - r->data) / kCellBytes; i * kCellBytes < static_cast<size_t>(at - r->data) + bytes; ++i) {
    r->cells[i] = Cell();
    r->cells[i].written = true;
  }
}

void hostReads(const void* p, size_t bytes) {
  Region* r = regionOf(p);
  const auto* at = static_cast<const char*>(p);
  if (!r || at + bytes > r->data + r->bytes) fault("a copy from the device passes the end of the allocation");
  for (size_t i = static_cast<size_t>(at - r->data) / kCellBytes; i * kCellBytes < static_cast<size_t>(at - r->data) + bytes; ++i)
    if (!r->cells[i].written) fault("the host copies what nobody wrote: " + placeOf(*r, r->data + i * kCellBytes, kCellBytes));
}

void registerShared(Region& region) {
  region.cells = Cells(region.bytes);
  sharedRegions()[region.data] = &region;
}
void unregisterShared(Region& region) { sharedRegions().erase(region.data); }

void Machine::setDynamicShared(size_t bytes) {
  constexpr size_t kMost = 227 << 10;  // what a block of sm_90 may have
  if (bytes > kMost) fault("a block wants " + std::to_string(bytes) + " bytes of shared memory");
  if (!dynamic.data) {
    dynamic.data = static_cast<char*>(mmap(nullptr, kMost + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    dynamic.shared = true;
    dynamic.cells = Cells(kMost);
  }
  dynamic.bytes = bytes;
}
Region& dynamicShared() { return machine().dynamic; }

namespace {
size_t firstCell(const Region& r, const void* at) { return static_cast<size_t>(static_cast<const char*>(at) - r.data) / kCellBytes; }
size_t lastCell(const Region& r, const void* at, size_t bytes) { return firstCell(r, static_cast<const char*>(at) + bytes - 1); }

void bounds(const Region* region, const void* at, size_t bytes, Access kind) {
  const auto* p = static_cast<const char*>(at);
  if (!region) fault("follows a pointer that is not of the device");
  if (p < region->data || p + bytes > region->data + region->bytes)
    fault(std::string(kind == Access::read ? "reads" : "writes") + " out of bounds: " + placeOf(*region, at, bytes));
}
}  // namespace

void mayWrite(Region* region, const void* at, size_t bytes) {
  bounds(region, at, bytes, Access::write);
  for (size_t i = firstCell(*region, at); i <= lastCell(*region, at, bytes); ++i)
    check(*region, region->cells[i], at, bytes, Access::write);
}

void access(Region* region, const void* at, size_t bytes, Access kind) {
  bounds(region, at, bytes, kind);
  if (!machine().running) {  // the host looks at its own device's memory
    if (kind != Access::read) hostWrote(at, bytes);
    return;
  }
  for (size_t i = firstCell(*region, at); i <= lastCell(*region, at, bytes); ++i) touch(*region, region->cells[i], at, bytes, kind);
}

}  // namespace emulator
