// SPDX-License-Identifier: GPL-3.0-or-later
// Predictions by depth of the context: the same targets at every depth, the same numbers as windows scored alone, and what a small cache costs
// the deeper the context is.
#include <cmath>

#include "engine/evaluate/perplexity.h"
#include "engine/evaluate/windows.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

PerplexityRequest byDepth(std::vector<int> depths, int scored, int places) {
  PerplexityRequest out;
  out.depths = std::move(depths);
  out.scored = scored;
  out.chunks = places;
  return out;
}

PerplexityResult measure(const std::shared_ptr<Engine>& engine, const PerplexityRequest& asked, const Config& config, Session* baseline = nullptr) {
  auto session = makeSession(engine, config, {.context = windowTokens(asked)});
  return value(measurePerplexity(*session, baseline, *engine->tokenizer(), readFile(sharedData("corpora/tinystories_val.txt")), asked, {}));
}

}  // namespace

TEST(every_depth_has_the_same_targets) {
  const auto asked = byDepth({3, 10, 40}, 5, 0);
  EXPECT_EQ(windowTokens(asked), 46);
  const auto windows = value(evaluationWindows(asked, 46 * 3 + 7, true));
  EXPECT_EQ(windows.size(), 9u);
  for (size_t i = 0; i < windows.size(); ++i) {
    const EvaluationWindow& window = windows[i];
    EXPECT_EQ(window.depth, asked.depths[i % 3]);
    EXPECT_EQ(window.firstScored, window.depth);
    EXPECT_EQ(window.scored(), 5);
    EXPECT_EQ(window.begin + window.depth, static_cast<int64_t>(i / 3) * 46 + 40);
    EXPECT(window.begin >= 0 && window.begin + window.length <= 46 * 3 + 7);
  }
}

TEST(depths_that_cannot_be_scored_are_refused) {
  for (const auto& depths : {std::vector<int>{10, 3}, {3, 3}, {0, 3}, {-1}}) {
    const auto windows = evaluationWindows(byDepth(depths, 5, 0), 1000, false);
    EXPECT(!windows && windows.error().code == ErrorCode::usage);
  }
  EXPECT(!evaluationWindows(byDepth({4}, 0, 0), 1000, false));
  const auto tooShort = evaluationWindows(byDepth({3, 400}, 5, 0), 405, false);
  EXPECT(!tooShort && tooShort.error().message.find("406") != std::string::npos);
}

// With the cache whole a depth is a window like any other: fed whole or one by one, the sums agree within what the order of sums in batches
// makes of f32 logits (some 1e-5 of a nat each).
TEST(whole_and_stepwise_agree_and_deeper_predicts_better) {
  const auto engine = openEngine("models/stories260K-f32.gguf");
  auto asked = byDepth({4, 32, 192}, 48, 6);
  const auto steps = measure(engine, asked, Config());
  EXPECT_EQ(steps.protocol, std::string("depths 4,32,192 n=48 chunks=6 stepwise"));
  EXPECT_EQ(steps.depths.size(), 3u);
  EXPECT_EQ(steps.count, int64_t{3} * 6 * 48);
  asked.stepwise = false;
  const auto whole = measure(engine, asked, Config());
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(steps.depths[i].depth, asked.depths[i]);
    EXPECT_EQ(steps.depths[i].sums.count, int64_t{6} * 48);
    EXPECT_NEAR(steps.depths[i].sums.perplexity() / whole.depths[i].sums.perplexity(), 1.0, 1e-4);
    EXPECT(steps.depths[i].cost.stepMs > 0 && whole.depths[i].cost.stepMs == 0);
    if (i > 0) EXPECT(steps.depths[i].sums.perplexity() < steps.depths[i - 1].sums.perplexity());
    if (i > 0) EXPECT(steps.depths[i].cost.kvBytes >= steps.depths[i - 1].cost.kvBytes);
  }
}

// A window of 32 tokens sees all of 16 before it has to forget, and ever less of what is deeper.
TEST(a_small_cache_loses_more_the_deeper_it_is) {
  const auto engine = openEngine("models/stories260K-f32.gguf");
  const auto asked = byDepth({8, 64, 192}, 16, 6);
  auto baseline = makeSession(engine, Config(), {.context = windowTokens(asked)});
  const auto result = measure(engine, asked, configure({{"kv.policy", "window"}, {"kv.budget", "32"}, {"kv.interval", "1"}}), baseline.get());
  EXPECT(result.kld.has_value());
  EXPECT_EQ(result.depths[0].sums.kld, 0.0);  // 8 + 16 tokens fit
  EXPECT_EQ(result.depths[0].sums.nll, result.depths[0].baseSums.nll);
  EXPECT(result.depths[1].sums.kld > 0 && result.depths[2].sums.kld > result.depths[1].sums.kld);
  EXPECT(result.depths[2].cost.kvBytes < result.depths[2].baseCost.kvBytes);
  EXPECT(result.depths[2].baseCost.stepMs > 0);
  double kld = 0;
  for (const DepthSummary& depth : result.depths) kld += depth.sums.kld;
  EXPECT_NEAR(kld / static_cast<double>(result.count), result.kld->mean, 1e-6);
}
