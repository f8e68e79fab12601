// SPDX-License-Identifier: GPL-3.0-or-later
// Buffers that show reads and writes out of bounds, and random inputs.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "engine/core/threads.h"
#include "engine/cpu/ops.h"
#include "tests/support/check.h"

namespace winnow::test {

// Memory that ends at a page nobody may touch: one element too far is a fault.
template <class T>
class Guarded {
 public:
  explicit Guarded(size_t count) : count_(count) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), bytes = count * sizeof(T);
    size_ = (bytes + page - 1) / page * page + page;
    base_ = static_cast<char*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + size_ - page, page, PROT_NONE);
    data_ = reinterpret_cast<T*>(base_ + size_ - page - bytes);
  }
  ~Guarded() { munmap(base_, size_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  T* data() const { return data_; }
  size_t size() const { return count_; }
  T& operator[](size_t i) const { return data_[i]; }
  T* begin() const { return data_; }
  T* end() const { return data_ + count_; }

 private:
  size_t count_, size_;
  char* base_;
  T* data_;
};

// Rows of `width` floats, `gap` sentinels after each, and before and after all.
class Output {
 public:
  static constexpr float kSentinel = -7.0e33f;
  Output(int rows, int width, int gap, float fill = 0)
      : rows_(rows), width_(width), stride_(width + gap), all_(static_cast<size_t>(16 + rows * stride_ + 16), kSentinel) {
    for (int r = 0; r < rows; ++r) std::fill_n(row(r), width, fill);
  }
  float* data() { return all_.data() + 16; }
  float* row(int r) { return data() + static_cast<int64_t>(r) * stride_; }
  int64_t stride() const { return stride_; }
  bool intact() {
    for (size_t i = 0; i < all_.size(); ++i) {
      const int64_t at = static_cast<int64_t>(i) - 16;
      const bool inside = at >= 0 && at < int64_t{rows_} * stride_ && at % stride_ < width_;
      if (!inside && all_[i] != kSentinel) return false;
    }
    return true;
  }
  bool operator==(const Output& other) const { return std::memcmp(all_.data(), other.all_.data(), all_.size() * 4) == 0; }

 private:
  int rows_, width_, stride_;
  std::vector<float> all_;
};

// Normal values of very different sizes per block of 32, some zero.
inline void fillNormal(float* p, size_t n, uint32_t seed, float sigma = 1) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  float scale = 1;
  for (size_t i = 0; i < n; ++i) {
    if (i % 32 == 0) scale = sigma * std::exp2(static_cast<float>(static_cast<int>(rng() % 7)) - 3);
    p[i] = rng() % 50 == 0 ? 0.0f : normal(rng) * scale;
  }
}

struct Machine {  // a context of an instruction set and a number of threads
  ThreadPool pool;
  cpu::Context context;
  Machine(cpu::Isa isa, int threads) : pool(threads), context(pool, isa) {}
};
inline std::vector<std::unique_ptr<Machine>> machines(int threads) {
  std::vector<std::unique_ptr<Machine>> all;
  for (cpu::Isa isa : cpu::availableIsas()) all.push_back(std::make_unique<Machine>(isa, threads));
  return all;
}

}  // namespace winnow::test
