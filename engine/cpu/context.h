// SPDX-License-Identifier: GPL-3.0-or-later
// What a Context owns: scratch that grows to the largest call and stays.
#pragma once
#include <cstdlib>
#include <new>
#include <vector>

#include "engine/cpu/isa.h"
#include "engine/cpu/ops.h"

namespace winnow::cpu {

// Up to this many multiply-adds a fork-join (about a microsecond) costs more than it saves; results are the same either way.
constexpr int64_t kAloneWork = 32768;

// 64-byte aligned bytes that only grow; contents are lost when they do.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(data_); }
  template <class T>
  T* need(size_t count) {
    const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
    if (bytes > bytes_) {
      std::free(data_);
      bytes_ = 0;
      data_ = std::aligned_alloc(64, bytes);
      if (!data_) throw std::bad_alloc();
      bytes_ = bytes;
    }
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

struct Context::Impl {
  KernelTable kernels;
  Scratch rows, blocked, bf16, pairs, sums, int8, scales, corrections, rowScales, rowSums;  // forms of x in a matmul
  Scratch scores, partial, states, threads;  // attention
  // Rotations of the last call of rope: every layer and both q and k ask for the same ones.
  std::vector<float> ropeFrequencies;
  std::vector<int32_t> ropePositions;
  std::vector<float> ropeCos, ropeSin;  // [tokens, dims / 2]
};

}  // namespace winnow::cpu
