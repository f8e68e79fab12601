// SPDX-License-Identifier: GPL-3.0-or-later
// Scores, divergence and sampling on the (emulated) device: the bounds of tests/engine/ops_rows.cpp, and the CPU's very tokens.
#include "engine/cuda/ops.h"
#include "engine/run/sampler.h"
#include "tests/cuda_emulation/harness.h"
#include "tests/engine/ops/logits_oracle.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr double u = 0x1p-24;

std::vector<float> normal(int n, uint32_t seed, float sigma) {
  std::vector<float> v(static_cast<size_t>(n));
  fillNormal(v.data(), v.size(), seed, sigma);
  return v;
}

int32_t sampleOnDevice(const std::vector<float>& logits, const std::vector<int32_t>& history, const SamplerSettings& s, uint64_t position) {
  const size_t window = std::min(history.size(), static_cast<size_t>(s.repetitionWindow));
  const DeviceArray<float> dl(logits);
  const DeviceArray<int32_t> dh(window ? std::vector<int32_t>(history.end() - static_cast<long>(window), history.end())
                                       : std::vector<int32_t>(1));
  const DeviceArray<uint64_t> dp(std::vector<uint64_t>{position});
  DeviceArray<uint64_t> scratch(cuda::sampleScratchBytes(static_cast<int>(logits.size())) / 8 + 1);
  DeviceArray<int32_t> token(1);
  cuda::SampleArgs args;
  args.logits = dl.data();
  args.vocab = static_cast<int>(logits.size());
  args.history = dh.data();
  args.historyCount = static_cast<int>(window);
  args.temperature = s.temperature;
  args.topP = s.topP;
  args.minP = s.minP;
  args.topK = s.topK;
  args.repetitionPenalty = s.repetitionPenalty;
  args.seed = s.seed;
  args.position = dp.data();
  args.scratch = scratch.data();
  args.token = token.data();
  cuda::sample(nullptr, args);
  return token.at(0);
}

}  // namespace

TEST(logits_are_scored) {
  for (int vocab : {1, 5, 512, 3001}) {
    const int tokens = 4, stride = vocab + 2;
    auto x = normal(tokens * stride, 6, 3);
    if (vocab > 5) x[3] = x[5] = 70;  // a tie for the first place
    const std::vector<int32_t> targets = {0, vocab - 1, vocab / 2, 0};
    const DeviceArray<float> dx(x);
    const DeviceArray<int32_t> dt(targets);
    DeviceArray<TokenScore> scores(tokens);
    underEverySchedule([&] {
      cuda::scoreLogits(nullptr, dx.data(), stride, vocab, dt.data(), tokens, scores.data());
      const auto found = scores.host();
      for (size_t t = 0; t < targets.size(); ++t) expectScore(found[t], x.data() + t * static_cast<size_t>(stride), vocab, targets[t]);
    });
  }
}

TEST(divergence_is_zero_only_for_equal_rows) {
  for (int vocab : {5, 512, 3001}) {
    const int tokens = 3;
    const auto p = normal(tokens * vocab, 6, 2);
    auto q = p;
    for (int i = 0; i < vocab; ++i) q[static_cast<size_t>(vocab + i)] += 0.1f * static_cast<float>(i % 3);  // the second row differs
    const DeviceArray<float> dp(p), dq(q);
    const DeviceArray<int32_t> targets(std::vector<int32_t>{1, 2, 3});
    DeviceArray<Divergence> out(tokens);
    cuda::compareLogits(nullptr, dp.data(), dq.data(), vocab, vocab, targets.data(), tokens, out.data());
    const auto d = out.host();
    EXPECT(d[0].kld == 0 && d[2].kld == 0, d[0].kld, d[2].kld);
    EXPECT(d[0].sameTop && d[2].sameTop);
    expectDivergence(d[1], p.data() + vocab, q.data() + vocab, vocab, 2);
  }
}

// Every filter alone and together, ties, and a history: the tokens the CPU draws.
TEST(the_device_draws_the_tokens_of_the_cpu) {
  std::vector<SamplerSettings> all;
  for (float temperature : {0.0f, 0.7f, 1.5f})
    for (int topK : {0, 1, 7, 40})
      for (float topP : {1.0f, 0.9f, 0.3f})
        for (float minP : {0.0f, 0.05f, 0.4f}) all.push_back({temperature, topK, topP, minP, 1.0f, 64, 42});
  std::mt19937 rng(3);
  int draws = 0;
  for (int vocab : {1, 33, 1500}) {
    auto coarse = normal(vocab, 8, 2);
    for (float& x : coarse) x = std::nearbyint(x);  // many ties, both zeros
    for (const std::vector<float>& logits : {normal(vocab, 7, 2), coarse}) {
      std::vector<int32_t> history;
      for (int i = 0; i < 100; ++i) history.push_back(static_cast<int32_t>(rng() % static_cast<uint32_t>(vocab)));
      for (SamplerSettings s : all) {
        s.repetitionPenalty = draws % 3 == 0 ? 1.3f : 1.0f;
        const uint64_t position = rng();
        emulator::setSeed(static_cast<uint32_t>(draws % 4));
        EXPECT_EQ(sampleOnDevice(logits, history, s, position), sample(logits, history, s, position));
        ++draws;
      }
    }
  }
  emulator::setSeed(0);
  EXPECT(draws > 500, draws);
}
