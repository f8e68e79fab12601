// SPDX-License-Identifier: GPL-3.0-or-later
// Two sessions of one model and configuration, on the CPU and on the (emulated) device, fed the same tokens.
// The top token is the same wherever the gap is larger than the bound of tests/support/device_bounds.h.
#pragma once
#ifdef WINNOW_ON_DEVICE
#include "tests/cuda_device/stand_in.h"
#else
#include "tests/cuda_emulation/emulator.h"
#endif
#include "tests/support/device_bounds.h"
#include "tests/support/engine.h"

namespace winnow::test {

inline std::shared_ptr<const Model> openFamily([[maybe_unused]] const std::string& family) {
#ifdef WINNOW_HAS_HUGGINGFACE
  return value(Model::open(std::string(WINNOW_TESTS_DIR) + "/golden/hf/" + family));
#else
  SKIP("built without the Hugging Face reader");
#endif
}

inline std::shared_ptr<Engine> engineOn(const std::string& device, std::shared_ptr<const Model> model) {
  EngineOptions options;
  options.device = device;
  options.threads = 1;
  return value(Engine::create(std::move(model), options));
}

// Distance of two rows of logits in units of their norm; where the gap of the top two is larger than their difference, one top token.
inline double distance(std::span<const float> expected, std::span<const float> found) {
  double difference = 0, norm = 0, largest = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double d = static_cast<double>(found[i]) - expected[i];
    difference += d * d;
    largest = std::max(largest, std::fabs(d));
    norm += static_cast<double>(expected[i]) * expected[i];
  }
  const auto top = static_cast<size_t>(best(expected));
  for (size_t i = 0; i < found.size(); ++i)
    if (static_cast<double>(expected[top]) - expected[i] > 2 * largest) EXPECT(found[top] > found[i], "another top token", top, i);
  return std::sqrt(difference / norm);
}

struct Both {
  std::shared_ptr<Engine> cpuEngine, gpuEngine;
  std::unique_ptr<Session> cpu, gpu;
  int fed = 0;
  double firstRow = 0;  // distance of the first row of the last prompt

  explicit Both(const std::shared_ptr<const Model>& model, const Settings& settings = {}, SessionOptions options = {})
      : cpuEngine(engineOn("cpu", model)), gpuEngine(engineOn("cuda", model)) {
    if (options.context == 0) options.context = 64;
    if (options.maxBatch == 512) options.maxBatch = 12;
    cpu = value(cpuEngine->createSession(configure(settings), options, {}));
    gpu = value(gpuEngine->createSession(configure(settings), options, {}));
  }
  explicit Both(const std::string& family, const Settings& settings = {}, const SessionOptions& options = {}) : Both(openFamily(family), settings, options) {}

  std::vector<int32_t> next(int count) {
    std::vector<int32_t> ids;
    for (int i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>((fed++ * 37 + 11) % cpu->vocab()));
    return ids;
  }
  // The worst distance over all rows of a prompt.
  double prompt(int count) {
    const std::vector<int32_t> ids = next(count);
    std::vector<std::vector<float>> rows;
    const size_t vocab = static_cast<size_t>(cpu->vocab());
    ok(cpu->prefill(ids, {}, [&](int, int n, const float* logits) {
      for (int i = 0; i < n; ++i) rows.emplace_back(logits + static_cast<size_t>(i) * vocab, logits + (static_cast<size_t>(i) + 1) * vocab);
    }));
    double worst = 0;
    size_t seen = 0;
    ok(gpu->prefill(ids, {}, [&](int, int n, const float* logits) {
      for (int i = 0; i < n; ++i) {
        const double d = distance(rows[seen], {logits + static_cast<size_t>(i) * vocab, vocab});
        if (seen++ == 0) firstRow = d;
        worst = std::max(worst, d);
      }
    }));
    EXPECT_EQ(seen, ids.size());
    return std::max(worst, distance(cpu->logits(), gpu->logits()));
  }
  double steps(int count) {
    double worst = 0;
    for (const int32_t id : next(count)) {
      ok(cpu->step(id));
      ok(gpu->step(id));
      worst = std::max(worst, distance(cpu->logits(), gpu->logits()));
    }
    return worst;
  }
  double promptThenSteps(int promptTokens, int stepTokens) {
    const double first = prompt(promptTokens);
    return std::max(first, steps(stepTokens));
  }
  double stepsThenPrompt(int stepTokens, int promptTokens) {
    const double first = steps(stepTokens);
    return std::max(first, prompt(promptTokens));
  }
  void request(const Settings& settings) {
    for (Session* session : {cpu.get(), gpu.get()}) {
      session->request(configure(settings));
      ok(session->finishPending({}));
    }
  }
  void expectSameCache() const {
    const auto a = cpu->occupancy(), b = gpu->occupancy();
    EXPECT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) EXPECT(a[i].positions == b[i].positions && a[i].ownsKeys == b[i].ownsKeys, a[i].layer, a[i].kvHead);
    EXPECT_EQ(cpu->cache().allocatedBytes, gpu->cache().allocatedBytes);
    EXPECT_EQ(cpu->cache().liveBytes, gpu->cache().liveBytes);
  }
};

// A plan made beforehand on the device is what a session of 41 tokens then takes, to the byte.
inline void expectPlanHolds(const Settings& settings) {
  const auto engine = engineOn("cuda", openFamily("llama3"));
  SessionOptions options;
  options.context = 96;
  options.maxBatch = 8;
  const Config config = configure(settings);
  const MemoryByTag planned = value(engine->plan(config, options, 41));
  const auto session = value(engine->createSession(config, options, {}));
  EXPECT(session->effective()->asRequested(), settings[0].first, settings[0].second);
  ok(session->prefill(someTokens(40, 64), {}));
  ok(session->step(1));
  for (const MemoryTag tag : {MemoryTag::weights, MemoryTag::kv, MemoryTag::activations})
    EXPECT(session->memory()[static_cast<size_t>(tag)] == planned[static_cast<size_t>(tag)], settings[0].first, settings[0].second, static_cast<int>(tag));
}

}  // namespace winnow::test
