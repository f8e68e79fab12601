// SPDX-License-Identifier: GPL-3.0-or-later
// A cache of the CPU filled with keys and values of which some channels stand out, and what was put in.
#pragma once
#include <random>

#include "engine/cache/seal.h"
#include "engine/core/dtype.h"
#include "engine/cpu/kv_cache.h"
#include "tests/engine/ops/attend_oracle.h"

namespace winnow::test {

constexpr int kHeads = 2;

struct Shape {
  int context, headDim;
};

inline ModelConfig modelOf(int headDim) {
  ModelConfig model;
  model.layers = 1;
  model.heads = 4;
  model.kvHeads = kHeads;
  model.headDim = headDim;
  return model;
}

inline KvFormat formatOf(int keyBits, int valueBits, bool perChannel = false) { return {keyBits, valueBits, perChannel, false}; }

struct Filled {
  Ledger ledger;
  ThreadPool pool{2};
  int dim;
  cpu::HostKvCache cache;
  std::vector<float> k, v;  // [tokens, heads, dim], as f16 holds them
  int fed = 0;
  Filled(const Shape& shape, const KvFormat& format) : dim(shape.headDim), cache(ledger, modelOf(shape.headDim), shape.context) {
    cache.setFormat(format, pool);
  }
  void feed(int tokens, int atOnce = 7) {
    std::mt19937 random(static_cast<uint32_t>(11 + fed));
    std::normal_distribution<float> normal;
    for (int i = 0; i < tokens * kHeads * dim; ++i) {
      // Some channels of keys stand out, as those of language models do.
      k.push_back(f16ToFloat(floatToF16(normal(random) + (i % dim % 11 == 3 ? 9.0f : 0.0f))));
      v.push_back(f16ToFloat(floatToF16(normal(random))));
    }
    for (const int end = fed + tokens; fed < end;) {
      const int count = std::min(atOnce, end - fed);
      cache.reserve(count);
      cache.append(0, k.data() + fed * kHeads * dim, v.data() + fed * kHeads * dim, kHeads * dim, count, fed, pool);
      fed += count;
      cache.seal(pool);
    }
  }
  void keep(std::vector<int32_t> slots) {
    for (int head = 0; head < kHeads; ++head) cache.keep(0, head, slots);
  }
  const cpu::KvHead& head(int h) { return cache.view(0, 0)[static_cast<size_t>(h)]; }
  PageShape shape() const { return {cache.pageTokens(), dim}; }
  std::vector<float> row(int h, int slot, bool keys) {
    const cpu::KvHead& kv = head(h);
    const auto page = static_cast<size_t>(slot / cache.pageTokens());
    const PageForm f16, &form = (keys ? kv.keyForms : kv.valueForms) ? (keys ? kv.keyForms : kv.valueForms)[page] : f16;
    std::vector<uint16_t> halves(static_cast<size_t>(dim));
    readSlot(shape(), {(keys ? kv.keys : kv.values)[page], &form, slot % cache.pageTokens()}, halves.data());
    std::vector<float> out;
    for (const uint16_t x : halves) out.push_back(f16ToFloat(x));
    return out;
  }
  float given(int h, int position, int c, bool keys) const { return (keys ? k : v)[static_cast<size_t>((position * kHeads + h) * dim + c)]; }
};

inline std::vector<int32_t> range(int begin, int end) {
  std::vector<int32_t> out;
  for (int i = begin; i < end; ++i) out.push_back(i);
  return out;
}

}  // namespace winnow::test
