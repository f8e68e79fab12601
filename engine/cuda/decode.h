// SPDX-License-Identifier: GPL-3.0-or-later
// Executes a plan on the device for one token at a time, as engine/run/forward.h does on the CPU. The step is captured once into a
// graph and replayed: what changes from token to token is in device memory. A graph belongs to an epoch (plan, weights,
// activations), to whether column sums are kept, and to a bound on the lengths that grows by powers of two.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "engine/cuda/kv_cache.h"
#include "engine/cuda/products.h"
#include "engine/cuda/weights.h"
#include "engine/plan/plan.h"
#include "engine/run/forward.h"

namespace winnow::cuda {

struct DecodeInput {
  const Plan& plan;
  const DeviceWeights& weights;
  DeviceKvCache& cache;
  uint64_t epoch = 0;  // another whenever plan, weights, cache or activations are others
  int32_t token = 0;
  int32_t position = 0;
  Activations activations{};
};

class Decoder {
 public:
  Decoder(Ledger& ledger, const ModelConfig& model, int context, Stream stream);
  ~Decoder();

  void step(const DecodeInput& input);
  std::vector<float> logits() const;  // copied to the host
  const float* deviceLogits() const { return logits_.as<float>(); }
  int captures() const { return captures_; }  // graphs made so far

 private:
  struct Graph;
  struct Key {
    uint64_t epoch = 0;
    int bound = 0;
    const float* sums = nullptr;
    bool operator==(const Key&) const = default;
  };
  int boundOf(int tokens) const;
  void makeRoom(int bound);
  std::unique_ptr<Graph> capture(const DecodeInput& input);
  void run(const DecodeInput& input);
  void project(const DecodeInput& input, const Op& op);
  void attend(const DecodeInput& input, const Op& op);
  void output(const DecodeInput& input, const Op& op);
  void gateUp(const DecodeInput& input, const Op& op);
  void head(const DecodeInput& input);
  Source normed(const DecodeInput& input, const float* weight, const float* bias) const;  // the residual's norm, made where it is read

  Ledger& ledger_;
  const ModelConfig& model_;
  int context_;
  Stream stream_;
  DeviceBuffer residual_, q_, k_, v_, attended_, gate_, up_, logits_;  // f32 rows
  Products products_;
  DeviceBuffer partial_, probabilities_, tapped_;  // tapped: probabilities that only column sums want
  DeviceBuffer frequencies_, cosines_, sines_;
  DeviceBuffer token_, position_;             // int32
  int bound_ = 0;
  Key key_;
  std::unique_ptr<Graph> graph_;
  int captures_ = 0;
};

}  // namespace winnow::cuda
