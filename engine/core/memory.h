// SPDX-License-Identifier: GPL-3.0-or-later
// Ledger: bytes by tag, posted by the only owner of memory, Buffer. A planning ledger counts and allocates nothing, so
// the memory plan shown before loading is made by the very code that allocates (engine/run, engine/weights, engine/cache).
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace winnow {

enum class MemoryTag : uint8_t {
  weights,        // anonymous memory that a forward pass reads
  weightsMapped,  // file-backed weights that a forward pass reads: page cache, not RSS
  prefillTwin,    // copies of weights for long prompts, in 16 bits or FP8, on a GPU
  kv,             // cache pages
  activations,    // residual, q/k/v, ffn rows, logits
  probabilities,  // attention probabilities kept for followers and taps
  calibration,    // statistics of a calibration text
  metadata,       // page tables, positions, scores
  count
};
std::string_view memoryTagName(MemoryTag tag);

using MemoryByTag = std::array<int64_t, static_cast<size_t>(MemoryTag::count)>;

class Ledger {
 public:
  // What is posted here is posted to the parent as well, which must live longer.
  explicit Ledger(bool planning = false, Ledger* parent = nullptr) : planning_(planning), parent_(parent) {}
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  bool planning() const { return planning_; }
  void post(MemoryTag tag, int64_t bytes);  // negative to release
  int64_t bytes(MemoryTag tag) const { return now_[static_cast<size_t>(tag)].load(std::memory_order_relaxed); }
  int64_t total() const { return total_.load(std::memory_order_relaxed); }
  int64_t peak() const { return peak_.load(std::memory_order_relaxed); }
  MemoryByTag snapshot() const;

 private:
  bool planning_;
  Ledger* parent_;
  std::array<std::atomic<int64_t>, static_cast<size_t>(MemoryTag::count)> now_{};
  std::atomic<int64_t> total_{0}, peak_{0};
};

// 64-byte aligned, zeroed, move-only. data() is null under a planning ledger. Throws std::bad_alloc when memory is out.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Ledger& ledger, MemoryTag tag, size_t bytes);
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer(static_cast<Buffer&&>(other)).swap(*this);
    return *this;
  }
  ~Buffer();

  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }  // as asked for; the ledger is posted the same number

 private:
  void swap(Buffer& other) noexcept;
  void* data_ = nullptr;
  size_t bytes_ = 0;
  Ledger* ledger_ = nullptr;
  MemoryTag tag_ = MemoryTag::weights;
};

// Small buffers come from the heap, which keeps what is freed between what is not. Gives it back; milliseconds.
void returnFreedMemory();

// Bytes the host has left for programs, as the kernel estimates it (MemAvailable).
int64_t availableMemory();

}  // namespace winnow
