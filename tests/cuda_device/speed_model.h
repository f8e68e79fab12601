// SPDX-License-Identifier: GPL-3.0-or-later
// A model of a real shape on the GPU whose weights are random bits made there: no file, no transfer. What is measured is the very path of
// a session: the plan, the backend's graphs, its cache.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "engine/cuda/kv_cache.h"
#include "engine/cuda/roofline.h"
#include "engine/cuda/weights.h"
#include "engine/run/devices.h"
#include "engine/weights/store.h"
#include "tests/support/engine.h"
#include "tests/support/random_model.h"
#include "tests/support/shapes.h"

namespace winnow::device_run {

inline double millisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}
inline double medianOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

// Versions of random values in device memory, in whatever format the recipe asks for.
class RandomPlace final : public WeightPlace {
 public:
  RandomPlace(Ledger& ledger, cuda::Stream stream) : ledger_(ledger), stream_(stream) {}
  bool planning() const override { return false; }
  Converted make(const WeightWork& work, WeightVersion& out) override;
  int64_t bytes(const MasterTensor& tensor, const Recipe& recipe) const override {
    return static_cast<int64_t>(recipe.format.bytes(static_cast<int>(tensor.rows), static_cast<int>(tensor.cols)));
  }
  std::shared_ptr<const ChannelMajor> makeChannels(const Matrix& matrix, bool columns, ThreadPool& pool, const Progress& progress) override {
    return cuda::channelsOnDevice(ledger_, matrix, columns, pool, progress);
  }
  const Matrix& onHost(const Matrix& matrix, Matrix& copy) const override {
    cuda::fetchMatrix(matrix, copy);
    return copy;
  }

 private:
  Ledger& ledger_;
  cuda::Stream stream_;
  uint32_t seed_ = 1;
};

struct SpeedModel {
  std::shared_ptr<const Model> model;
  Ledger ledger;
  cuda::OwnStream stream;
  ThreadPool pool{1};
  std::unique_ptr<Device> device;
  WeightStore store;
  Config config;
  std::shared_ptr<const WeightSet> weights;
  Plan plan;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<KvCache> cache;
  int64_t fed = 0;
  Activations activations{};  // of prompts

  // shape: "1b", "8b"; format: "bf16", "q8", "q4", "nf4".
  SpeedModel(const std::string& shape, const std::string& format, int context, int batch, PrefillTwin twin = PrefillTwin::off);

  void fillCache(int tokens);  // random keys and values, as after a prompt
  double step(std::vector<OpTime>* times = nullptr);              // one token; wall milliseconds, logits on the host
  double prefill(int count, int depth = 0);  // behind so many tokens of random keys and values; wall milliseconds of these `count`
  void useWeights(std::shared_ptr<const WeightSet> other) { weights = std::move(other); }
  std::shared_ptr<const WeightSet> build(const std::string& format);
  int64_t weightBytes() const;  // a step reads
  int64_t kvBytes() const;
};

std::string formatBits(const std::string& format);  // weights.bits, "" for bf16

}  // namespace winnow::device_run
