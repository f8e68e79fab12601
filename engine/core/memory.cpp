// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/core/memory.h"

#include <sys/mman.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <new>
#include <string>
#include <utility>

#include "engine/core/check.h"
#include "engine/core/recycled_memory.h"

namespace winnow {

std::string_view memoryTagName(MemoryTag tag) {
  constexpr std::array<std::string_view, static_cast<size_t>(MemoryTag::count)> names = {
      "weights", "weights_mapped", "prefill_twin", "kv", "activations", "probabilities", "calibration", "metadata"};
  return names[static_cast<size_t>(tag)];
}

void Ledger::post(MemoryTag tag, int64_t bytes) {
  if (parent_) parent_->post(tag, bytes);
  now_[static_cast<size_t>(tag)].fetch_add(bytes, std::memory_order_relaxed);
  const int64_t total = total_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  int64_t peak = peak_.load(std::memory_order_relaxed);
  while (total > peak && !peak_.compare_exchange_weak(peak, total, std::memory_order_relaxed)) {
  }
}

MemoryByTag Ledger::snapshot() const {
  MemoryByTag out{};
  for (size_t i = 0; i < out.size(); ++i) out[i] = now_[i].load(std::memory_order_relaxed);
  return out;
}

namespace {
// From this size on memory comes from mmap: zeroed lazily, and back with the system at once when it is freed. On the heap the matrices
// of a small model stayed resident after a change of bits (0.1b from 8 to 3 bits: 99 MiB in use, 209 MiB resident).
constexpr size_t kMapBytes = size_t{64} << 10;
constexpr size_t kHugePageBytes = size_t{2} << 20;  // huge pages are worth 3-15 % on mat-vec
constexpr size_t kAlign = 64;
constexpr size_t kPageBytes = 4096;
size_t rounded(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// From the system, zeroed. Where huge pages fit the address is a multiple of theirs: otherwise up to one of them at each end is made of
// small pages, and a fault costs more than clearing one.
void* map(size_t bytes) {
  const bool huge = bytes >= kHugePageBytes;
  const size_t length = rounded(bytes, kPageBytes), spare = huge ? kHugePageBytes - kPageBytes : 0;
  void* const start = mmap(nullptr, length + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) throw std::bad_alloc();
  if (!huge) return start;
  const size_t skipped = rounded(reinterpret_cast<uintptr_t>(start), kHugePageBytes) - reinterpret_cast<uintptr_t>(start);
  std::byte* const aligned = static_cast<std::byte*>(start) + skipped;
  if (skipped > 0) munmap(start, skipped);
  if (spare > skipped) munmap(aligned + length, spare - skipped);
  madvise(aligned, length, MADV_HUGEPAGE);
  return aligned;
}
}  // namespace

Buffer::Buffer(Ledger& ledger, MemoryTag tag, size_t bytes) : bytes_(bytes), ledger_(&ledger), tag_(tag) {
  if (!ledger.planning() && bytes > 0) {
    if (bytes >= kMapBytes) {
      data_ = RecycledMemory::take(ledger, tag, bytes);
      if (data_) return;
      data_ = map(bytes);
    } else {
      data_ = std::aligned_alloc(kAlign, rounded(bytes, kAlign));
      if (!data_) throw std::bad_alloc();
      std::memset(data_, 0, rounded(bytes, kAlign));
    }
  }
  ledger_->post(tag_, static_cast<int64_t>(bytes_));
}

Buffer::~Buffer() {
  if (data_) {
    if (bytes_ >= kMapBytes && RecycledMemory::leave(*ledger_, tag_, bytes_, data_)) return;
    if (bytes_ >= kMapBytes)
      munmap(data_, rounded(bytes_, kPageBytes));
    else
      std::free(data_);
  }
  if (ledger_) ledger_->post(tag_, -static_cast<int64_t>(bytes_));
}

void returnFreedMemory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

int64_t availableMemory() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  while (file >> word)
    if (int64_t kib = 0; word == "MemAvailable:" && file >> kib) return kib << 10;
  return std::numeric_limits<int64_t>::max();  // nobody says
}

void Buffer::swap(Buffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(ledger_, other.ledger_);
  std::swap(tag_, other.tag_);
}

}  // namespace winnow
