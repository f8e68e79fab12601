// SPDX-License-Identifier: GPL-3.0-or-later
// A cache of the CPU and one of the (emulated) device that hold the same.
#pragma once
#include "engine/cpu/kv_cache.h"
#include "engine/cuda/kv_cache.h"
#include "tests/cuda_emulation/harness.h"

namespace winnow::test {

constexpr int kHeads = 2;

inline ModelConfig modelOf(int headDim) {
  ModelConfig model;
  model.layers = 2;
  model.heads = 4;
  model.kvHeads = kHeads;
  model.headDim = headDim;
  return model;
}

template <class T>
std::vector<T> fromDevice(const T* data, size_t count) {
  std::vector<T> out(count);
  mustSucceed(cudaMemcpy(out.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost));
  return out;
}

inline std::vector<int32_t> range(int begin, int end) {
  std::vector<int32_t> out;
  for (int i = begin; i < end; ++i) out.push_back(i);
  return out;
}

inline KvFormat formatOf(int keyBits, int valueBits, bool perChannel = false, bool rotate = false, double outliers = 0) {
  return {keyBits, valueBits, perChannel, rotate, outliers};
}
inline KvFormat formatOf(const std::vector<KvBits>& layers, bool perChannel, double outliers) {
  KvFormat format = formatOf(4, 4, perChannel, false, outliers);
  format.layers = layers;
  return format;
}

// Both caches, fed the same keys and values.
struct Caches {
  Ledger host, device, cpuLedger;
  ThreadPool pool{1};
  int dim, fed = 0;
  cpu::HostKvCache cpu;
  cuda::DeviceKvCache gpu;
  Caches(int context, int headDim, const KvFormat& format) : Caches(context, modelOf(headDim), format) {}
  Caches(int context, const ModelConfig& model, const KvFormat& format)
      : dim(model.headDim), cpu(cpuLedger, model, context), gpu(host, device, model, context, nullptr) {
    setFormat(format);
  }
  PageShape shape() const { return {gpu.pageTokens(), dim}; }
  void setFormat(const KvFormat& format) {
    cpu.setFormat(format, pool);
    gpu.setFormat(format, pool);
  }
  void select(double budget) {
    cpu.select(budget);
    gpu.select(budget);
  }
  void feed(int tokens, int atOnce = 23) {
    std::mt19937 random(static_cast<uint32_t>(5 + fed));
    std::normal_distribution<float> normal;
    for (const int end = fed + tokens; fed < end;) {
      const int count = std::min(atOnce, end - fed);
      std::vector<float> k, v;
      std::vector<int32_t> ids = range(fed, fed + count);
      for (int i = 0; i < count * kHeads * dim; ++i) {
        k.push_back(normal(random) + (i % dim % 11 == 3 ? 9.0f : 0.0f));
        v.push_back(i % (5 * dim) < dim ? 0.0f * normal(random) : normal(random));  // some rows are zeros of either sign
      }
      const DeviceArray<float> dk(k), dv(v);
      const DeviceArray<int32_t> positions(ids);
      cpu.reserve(count);
      gpu.reserve(count);
      gpu.prepare();
      for (int layer = 0; layer < gpu.layers(); ++layer) {
        cpu.append(layer, cpu.ownsKeys(layer) ? k.data() : nullptr, v.data(), kHeads * dim, count, fed, pool);
        DeviceArray<float> q(static_cast<size_t>(count * 4 * dim));
        q.set(std::vector<float>(q.size()));
        cuda::StoreArgs args;
        if (gpu.ownsKeys(layer)) args.q = q.data(), args.k = dk.data();
        args.v = dv.data();
        args.tokens = count;
        args.heads = 4;
        args.kvHeads = kHeads;
        args.headDim = dim;
        args.positionIds = positions.data();
        args.kv = gpu.tables(layer, gpu.ownsKeys(layer) ? layer : -1);
        cuda::rotateAndStore(nullptr, args);
      }
      cuda::advance(nullptr, gpu.lengths(), gpu.heads(), count);
      gpu.appended(fed, count);
      fed += count;
      cpu.seal(pool);
      gpu.seal(pool);
    }
  }
  void keep(int layer, int head, const std::vector<int32_t>& slots) {
    cpu.keep(layer, head, slots);
    gpu.keep(layer, head, slots);
  }
  void settle() {
    cpu.settle();
    gpu.settle();
  }
};

}  // namespace winnow::test
