// SPDX-License-Identifier: GPL-3.0-or-later
// What a Context owns: scratch that grows to the largest call and stays.
#pragma once
#include <array>

#include "engine/core/memory.h"
#include "engine/cpu/channel_kernels.h"
#include "engine/cpu/code_kernels.h"
#include "engine/cpu/expand_kernels.h"
#include "engine/cpu/isa.h"
#include "engine/cpu/ops.h"

namespace winnow::cpu {

// Up to this many multiply-adds a fork-join (about a microsecond) costs more than it saves; results are the same either way.
constexpr int64_t kAloneWork = 32768;

// Bytes that only grow; contents are lost when they do. Null under a planning ledger.
class Scratch {
 public:
  explicit Scratch(Ledger& ledger) : ledger_(ledger) {}
  template <class T>
  T* need(size_t count) {
    const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
    if (bytes > buffer_.bytes()) {
      buffer_ = Buffer();
      buffer_ = Buffer(ledger_, MemoryTag::activations, bytes);
    }
    return buffer_.as<T>();
  }
  size_t bytes() const { return buffer_.bytes(); }

 private:
  Ledger& ledger_;
  Buffer buffer_;
};

struct Context::Impl {
  explicit Impl(Ledger* shared) : ledger(shared ? *shared : own) {}
  Ledger own;
  Ledger& ledger;
  KernelTable kernels;
  // Forms of x in a matmul, and what factors make of it.
  Scratch rows{ledger}, blocked{ledger}, bf16{ledger}, pairs{ledger}, sums{ledger}, int8{ledger}, scales{ledger}, corrections{ledger}, rowScales{ledger},
      rowSums{ledger}, ranks{ledger}, expanded{ledger};
  Scratch channelInputs{ledger}, channelSums{ledger}, channelTotals{ledger};  // products with some channels
  Scratch scores{ledger}, partial{ledger}, states{ledger}, threads{ledger}, tiles{ledger}, turns{ledger}, selected{ledger}, aligned{ledger}, unread{ledger};  // attention
  // Rotations of the last call of rope: every layer and both q and k ask for the same ones.
  Scratch ropeFrequencies{ledger}, ropePositions{ledger};
  Scratch ropeCos{ledger}, ropeSin{ledger};  // [tokens, dims / 2]
  size_t ropePairs = 0, ropeTokens = 0;      // of what they hold
  CodeKernels codes;
  ChannelKernels channels;
  ExpandKernels expand;

  auto scratch() {
    return std::array{&rows,    &blocked, &bf16,   &pairs,   &sums,            &int8,          &scales,  &corrections, &rowScales,
                      &rowSums, &ranks, &expanded, &scores,  &partial, &states, &threads, &tiles, &turns, &selected, &aligned, &unread, &ropeFrequencies, &ropePositions, &ropeCos, &ropeSin};
  }
};

}  // namespace winnow::cpu
