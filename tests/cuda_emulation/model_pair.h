// SPDX-License-Identifier: GPL-3.0-or-later
// Small models of every family on the (emulated) device and on the CPU, with the same weights.
//
// The bound. Between roundings both compute in f32 and differ by some 1e-6 of the norm. Keys, values and 16-bit or 8-bit activations are
// rounded, and a value that lies next to the middle between two neighbours may go apart: by one step, 2^-10 of it for f16 and 1/127 of
// the largest of its group for int8. About one in 1e6 * 2^-11, that is a few in a thousand, lies so. A difference of norm
// 2^-10 |logits| (1/127 with int8) would need a step in all of them. The top token is the same wherever the gap is larger.
#pragma once
#include "engine/cuda/kv_cache.h"
#include "engine/cuda/weights.h"
#include "engine/run/forward.h"
#include "engine/share/methods.h"
#include "tests/cuda_emulation/harness.h"

namespace winnow::test {

inline constexpr const char* kFamilies[] = {"llama3", "llama-linear", "mistral", "qwen2", "qwen3", "gpt2"};
inline constexpr double kLogitsBound = 0x1p-10;

template <class T>
T value(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return *result;
}

inline std::shared_ptr<const Model> openModel([[maybe_unused]] const std::string& family) {
#ifdef WINNOW_HAS_HUGGINGFACE
  return value(Model::open(std::string(WINNOW_TESTS_DIR) + "/golden/hf/" + family));
#else
  SKIP("built without the Hugging Face reader");
#endif
}

inline Config configure(const std::vector<std::pair<std::string, std::string>>& settings) {
  Config config;
  for (const auto& [knob, text] : settings) config = value(config.parsed(knob, text));
  return config;
}

inline constexpr int kContext = 600;

// The distance of two rows of logits in units of their norm. The top token must be the same wherever the gap is larger than what they differ.
inline double distance(std::span<const float> found, std::span<const float> expected) {
  double difference = 0, norm = 0, largest = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double d = static_cast<double>(found[i]) - expected[i];
    difference += d * d;
    largest = std::max(largest, std::fabs(d));
    norm += static_cast<double>(expected[i]) * expected[i];
  }
  const auto best = std::max_element(expected.begin(), expected.end()) - expected.begin();
  for (size_t i = 0; i < found.size(); ++i)
    if (static_cast<double>(expected[static_cast<size_t>(best)]) - expected[i] > 2 * largest)
      EXPECT(found[static_cast<size_t>(best)] > found[i], "another top token", best, i);
  const double ratio = std::sqrt(difference / norm);
  return std::isnan(ratio) ? 1e9 : ratio;
}

// One model with one configuration on both backends.
struct ModelPair {
  std::shared_ptr<const Model> model;
  Config config;
  Ledger host, device;
  ThreadPool pool{1};
  cpu::Context context{pool, cpu::bestIsa()};
  WeightStore store;
  std::shared_ptr<const WeightSet> weights;
  Plan plan;
  Activations activations;
  Forward forward;
  KvCache cache;
  cuda::DeviceWeights deviceWeights;
  cuda::DeviceKvCache deviceCache;
  int32_t fed = 0;  // tokens

  ModelPair(const std::string& family, const std::vector<std::pair<std::string, std::string>>& settings, int batch, int64_t probabilityBytes)
      : model(openModel(family)),
        config(resolve(configure(settings), model->config()).config),
        store(model, host),
        weights(value(store.build(weightTarget(*model, config, ""), pool, {}, {}))),
        plan(buildPlan(model->config(), config.text("share.method") == "echoatt" ? echoAttSharing(model->config(), config)
                                                                                 : noSharing(model->config().layers))),
        activations(activationsOf(config.text("compute.activations"))),
        forward(host, model->config(), context, batch, probabilityBytes),
        cache(host, model->config(), kContext),
        deviceWeights(device, weights, nullptr),
        deviceCache(device, model->config(), kContext, nullptr) {
    dropKeysOfFollowers(cache, deviceCache);
  }
  void dropKeysOfFollowers(KvCache& host_, cuda::DeviceKvCache& device_) const {
    for (int layer = 0; layer < model->config().layers; ++layer)
      if (plan.follower(layer)) host_.dropKeys(layer), device_.dropKeys(layer);
  }
};

}  // namespace winnow::test
