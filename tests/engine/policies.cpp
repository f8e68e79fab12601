// SPDX-License-Identifier: GPL-3.0-or-later
// Eviction policies: who stays by their scores, how budgets are dealt, and what the newest queries attend to.
#include <numeric>
#include <random>
#include <set>

#include "engine/cache/allocation.h"
#include "engine/cache/evictor.h"
#include "engine/cache/policies.h"
#include "engine/core/dtype.h"
#include "engine/cpu/backend.h"
#include "engine/cpu/kv_cache.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::vector<int32_t> kept(const KvPolicy& policy, const KvSlots& slots, const KvRequest& request) {
  std::vector<float> scores(slots.positions.size());
  policy.score(slots, request, scores);
  std::vector<int32_t> out;
  keepBest(scores, request.keep, out);
  return out;
}

std::vector<int32_t> selected(std::unique_ptr<KvPolicy> policy, int slots, int keep, int sinks, std::vector<float> sums = {}, int layer = 0, int head = 0,
                              int window = 1) {
  std::vector<int32_t> positions(static_cast<size_t>(slots));
  std::iota(positions.begin(), positions.end(), 0);
  return kept(*policy, {layer, head, positions, sums}, {keep, sinks, window});
}

}  // namespace

TEST(budgets_are_shares_or_tokens) {
  EXPECT_EQ(keptTokens(1.0, 100, 4), int64_t{100});
  EXPECT_EQ(keptTokens(0.5, 101, 4), int64_t{50});
  EXPECT_EQ(keptTokens(0.01, 100, 4), int64_t{5});   // the sinks and one
  EXPECT_EQ(keptTokens(0.01, 100, 0), int64_t{1});
  EXPECT_EQ(keptTokens(32, 100, 4), int64_t{32});
  EXPECT_EQ(keptTokens(32, 20, 4), int64_t{20});
  EXPECT_EQ(keptTokens(2, 3, 4), int64_t{3});
}

TEST(window_keeps_sinks_and_the_newest) {
  EXPECT(selected(makeWindow(), 10, 5, 2) == (std::vector<int32_t>{0, 1, 7, 8, 9}));
  EXPECT(selected(makeWindow(), 10, 3, 0) == (std::vector<int32_t>{7, 8, 9}));
  EXPECT(selected(makeWindow(), 10, 1, 4) == (std::vector<int32_t>{9}));  // the newest comes before sinks
}

TEST(a_sink_is_a_position_not_a_slot) {
  EXPECT(kept(*makeWindow(), {0, 0, std::vector<int32_t>{0, 30, 31, 32, 33}, {}}, {3, 2}) == (std::vector<int32_t>{0, 3, 4}));
}

TEST(h2o_keeps_half_heavy_half_recent) {
  EXPECT(selected(makeH2o(), 8, 4, 0, {1, 9, 2, 8, 3, 0, 0, 0}) == (std::vector<int32_t>{1, 3, 6, 7}));
  EXPECT(selected(makeH2o(), 6, 3, 0, {5, 5, 5, 5, 5, 5}) == (std::vector<int32_t>{0, 4, 5}));  // ties: the earlier
  EXPECT(selected(makeH2o(), 6, 1, 0, {5, 5, 5, 5, 5, 5}) == (std::vector<int32_t>{5}));
}

TEST(random_is_uniform_and_repeats) {
  EXPECT(selected(makeRandom(), 50, 10, 0) == selected(makeRandom(), 50, 10, 0));
  EXPECT(selected(makeRandom(), 50, 10, 0) != selected(makeRandom(), 50, 10, 0, {}, 1, 0));
  // 16 of 65, over 400 heads: the 64 others stay with probability 15 / 64 each; six standard deviations.
  std::vector<int> count(65);
  for (int head = 0; head < 400; ++head)
    for (const int32_t slot : selected(makeRandom(), 65, 16, 0, {}, 0, head)) ++count[static_cast<size_t>(slot)];
  EXPECT_EQ(count[64], 400);
  const double p = 15.0 / 64;
  for (int slot = 0; slot < 64; ++slot) EXPECT_NEAR(count[static_cast<size_t>(slot)], 400 * p, 6 * std::sqrt(400 * p * (1 - p)));
}

TEST(every_policy_keeps_the_asked_number_and_the_newest) {
  for (const KvPolicyInfo& info : kvPolicies()) {
    if (info.name == "full" || info.selects) continue;
    for (int slots : {2, 3, 17, 64})
      for (int keep = 1; keep < slots; ++keep) {
        std::vector<float> sums;
        for (int i = 0; i < slots; ++i) sums.push_back(static_cast<float>(i * 7 % 5));
        std::vector<float> carried(sums.size());
        std::vector<float> rows;  // [slots, 2]
        for (int i = 0; i < 2 * slots; ++i) rows.push_back(static_cast<float>(i * 5 % 7) - 3);
        std::vector<int32_t> positions(static_cast<size_t>(slots));
        std::iota(positions.begin(), positions.end(), 0);
        KvSlots all{0, 0, positions, sums};
        all.geometry.headDim = 2;
        all.keys = all.values = rows;
        all.queries = {rows.data(), 2, 0, slots, slots};
        all.carried = carried;
        const auto kept = ::kept(*info.make(), all, {keep, 4, 1});
        EXPECT_EQ(kept.size(), static_cast<size_t>(keep));
        EXPECT_EQ(kept.back(), slots - 1);
        EXPECT(std::is_sorted(kept.begin(), kept.end()) && std::set<int32_t>(kept.begin(), kept.end()).size() == kept.size(), info.name);
      }
  }
}

TEST(intervals_grow_with_what_an_eviction_moves) {
  Ledger ledger;
  ModelConfig model;
  model.layers = model.heads = model.kvHeads = 1;
  model.headDim = 8;
  cpu::HostKvCache cache(ledger, model, 64);
  const auto interval = [&](const char* policy, const char* budget, const char* asked) {
    Evictor evictor;
    evictor.configure(EvictionSettings::of(configure({{"kv.policy", policy}, {"kv.budget", budget}, {"kv.interval", asked}})), cache);
    return evictor.interval(100000);
  };
  for (const char* policy : {"window", "h2o", "snapkv", "expected"}) {
    EXPECT_EQ(interval(policy, "512", "0"), 16);
    EXPECT_EQ(interval(policy, "8192", "0"), 256);
    EXPECT_EQ(interval(policy, "65536", "0"), 1024);
    EXPECT_EQ(interval(policy, "8192", "4"), 4);
  }
  EXPECT_EQ(interval("keyformer", "8192", "0"), 128);  // it remembers so many queries
}

TEST(tova_keeps_what_the_newest_query_attends_to) {
  EXPECT(selected(makeTova(), 6, 3, 0, {0.3f, 0.1f, 0.05f, 0.4f, 0.1f, 0.05f}) == (std::vector<int32_t>{0, 3, 5}));
}

// Votes 0 0 10 0 0 0 1 | window of 2. Pooled over 5: 2 2 2 2 2.2 0.2 0.2: the neighbours of the heavy one come before the light one.
TEST(snapkv_keeps_clusters_and_its_window) {
  EXPECT(selected(makeSnapKv(), 9, 7, 0, {0, 0, 10, 0, 0, 0, 1, 0, 0}, 0, 0, 2) == (std::vector<int32_t>{0, 1, 2, 3, 4, 7, 8}));
  EXPECT(selected(makeSnapKv(), 9, 3, 0, {0, 0, 10, 0, 0, 0, 1, 0, 0}, 0, 0, 2) == (std::vector<int32_t>{4, 7, 8}));
  EXPECT(selected(makeSnapKv(), 4, 2, 0, {5, 1, 1, 1}, 0, 0, 9) == (std::vector<int32_t>{0, 3}));  // a window wider than the cache
}

// The reference's example: 4096 tokens, half, 32 layers, window 64 within the budget of 2048: 1984 older ones on average, from 3868.8 to 99.2.
TEST(pyramid_budgets_fall_with_depth_and_keep_their_mean) {
  const std::vector<int> budgets = pyramidBudgets(32, 2048, 64, 4096);
  EXPECT_EQ(std::accumulate(budgets.begin(), budgets.end(), 0), 32 * 2048);
  EXPECT(std::is_sorted(budgets.rbegin(), budgets.rend()));
  EXPECT_EQ(budgets.front(), 64 + 3869);
  EXPECT_NEAR(budgets.back(), 64 + 99.2, 1.0);
  // No layer keeps more than there is: what the first can't take the last ones get.
  const std::vector<int> capped = pyramidBudgets(4, 90, 10, 100);
  EXPECT_EQ(std::accumulate(capped.begin(), capped.end(), 0), 360);
  EXPECT_EQ(capped.front(), 100);
  EXPECT_EQ(capped.back(), 80);
  EXPECT(pyramidBudgets(1, 7, 2, 20) == std::vector<int>{7});
  for (int keep = 1; keep <= 20; ++keep)
    for (const int budget : pyramidBudgets(5, keep, keep / 2, 20)) EXPECT(budget >= 1 && budget <= 20, keep, budget);
}

TEST(heads_share_a_layers_budget_by_their_scores) {
  std::vector<float> flat(20, 0.01f), sharp(20, 0.001f);
  for (size_t i = 3; i < 12; ++i) sharp[i] = 0.5f;
  const std::vector<std::vector<float>> uneven = {sharp, flat};
  const std::vector<int> budgets = adaptiveBudgets(uneven, 10);
  EXPECT_EQ(budgets[0] + budgets[1], 20);
  EXPECT_EQ(budgets[0], 10);  // nine sharp ones and the newest; the flat head is better than the rest of it
  const std::vector<std::vector<float>> poor = {std::vector<float>(20, 1.0f), std::vector<float>(20, 0.0f)};
  EXPECT(adaptiveBudgets(poor, 10) == (std::vector<int>{18, 2}));  // a fifth of ten is a head's own
  const std::vector<std::vector<float>> equal(3, sharp);
  EXPECT(adaptiveBudgets(equal, 7) == (std::vector<int>{7, 7, 7}));
  const std::vector<std::vector<float>> uneven_lengths = {std::vector<float>(4, 1.0f), std::vector<float>(30, 0.0f)};
  EXPECT(adaptiveBudgets(uneven_lengths, 10) == (std::vector<int>{4, 16}));  // the room a short head leaves is the other's
}

// Attention of the newest queries against a double softmax, over a cache that lost slots, from a model whose layers differ.
TEST(the_newest_queries_are_observed) {
  ModelConfig model;
  model.layers = 2;
  model.heads = 4;
  model.kvHeads = 2;
  model.headDim = 8;
  model.hidden = 32;
  model.ffn = 32;
  model.vocab = 16;
  Ledger ledger;
  ThreadPool pool(2);
  cpu::CpuBackend backend(ledger, model, pool, cpu::bestIsa(), {16, 128, 0});
  const auto kv = backend.makeCache(128);
  auto& cache = static_cast<cpu::HostKvCache&>(*kv);
  cache.observe(newestQueries(5));
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  const int tokens = 40;
  std::vector<float> k, v, q;
  for (int i = 0; i < tokens * 16; ++i) k.push_back(f16ToFloat(floatToF16(normal(random)))), v.push_back(normal(random));
  for (int i = 0; i < tokens * 32; ++i) q.push_back(normal(random));
  for (int first = 0; first < tokens; first += 8) {
    cache.reserve(8);
    for (int layer = 0; layer < 2; ++layer) {
      cache.append(layer, k.data() + first * 16, v.data() + first * 16, 16, 8, first, pool);
      cache.keepQueries(layer, q.data() + first * 32, 32, 8, first);
    }
  }
  EXPECT_EQ(cache.queriesKept(), 5);
  std::vector<int32_t> some;
  for (int slot = 0; slot < tokens; ++slot)
    if (slot % 3 == 0 || slot >= tokens - 5) some.push_back(slot);
  cache.keep(1, 1, some);
  for (const int window : {1, 3, 5}) {
    backend.observe(cache, window);
    for (int layer = 0; layer < 2; ++layer)
      for (int head = 0; head < 2; ++head) {
        const auto positions = cache.positions(layer, head);
        std::vector<double> expected(positions.size());
        for (int query = tokens - window; query < tokens; ++query)
          for (int h = 2 * head; h < 2 * head + 2; ++h) {
            std::vector<double> p(positions.size());
            double sum = 0;
            for (size_t s = 0; s < p.size() && positions[s] <= query; ++s) {
              double dot = 0;
              for (int c = 0; c < 8; ++c)
                dot += double{q[static_cast<size_t>(query * 32 + h * 8 + c)]} * k[static_cast<size_t>(positions[s] * 16 + head * 8 + c)];
              sum += p[s] = std::exp(dot / std::sqrt(8.0));
            }
            for (size_t s = 0; s < p.size(); ++s) expected[s] += p[s] / sum;
          }
        const auto sums = cache.columnSums(layer, head);
        EXPECT_EQ(sums.size(), expected.size());
        for (size_t s = 0; s < expected.size(); ++s) EXPECT_NEAR(sums[s], expected[s], 2e-6);
      }
  }
  cache.clear();
  EXPECT_EQ(cache.queriesKept(), 0);
}

// Whole sessions: what each policy leaves in the cache.
TEST(every_policy_keeps_its_budget_in_a_session) {
  const auto model = value(Model::open(std::string(WINNOW_TESTS_DIR) + "/../resources/starter/starter.gguf"));
  const auto engine = value(Engine::create(model, {}));
  for (const KvPolicyInfo& info : kvPolicies()) {
    if (info.name == "full" || info.selects || info.once) continue;
    for (const char* allocation : {"auto", "even", "pyramid", "adaptive"}) {
      const bool all = info.name == "h2o" || info.name == "snapkv" || info.name == "knorm" || info.name == "expected";
      if (!all && std::string_view(allocation) != "auto") continue;
      SessionOptions options;
      options.context = 64;
      options.maxBatch = 12;
      const auto session = value(engine->createSession(
          configure({{"kv.policy", info.name.c_str()}, {"kv.budget", "12"}, {"kv.interval", "3"}, {"kv.allocation", allocation}}), options, {}));
      ok(session->prefill(someTokens(30, 8000), {}));
      for (int32_t i = 0; i < 9; ++i) ok(session->step(i));
      int64_t slots = 0, layers = 0, heads = 0;
      for (const auto& held : session->occupancy()) {
        slots += static_cast<int64_t>(held.positions.size());
        EXPECT_EQ(held.positions.back(), 38);
        layers = std::max<int64_t>(layers, held.layer + 1), heads = std::max<int64_t>(heads, held.kvHead + 1);
      }
      EXPECT_EQ(slots, layers * heads * 12);  // 39 tokens: the interval has just passed
      EXPECT_EQ(bytes(session->memory(), MemoryTag::kv), session->cache().allocatedBytes);
      // Pages of 16 slots: 39 tokens would fill three of a head's keys and of its values.
      EXPECT(session->cache().allocatedBytes < layers * heads * 2 * 3 * 16 * engine->model().config().headDim * 2, info.name, allocation);
      EXPECT(!session->cacheMixed());
    }
  }
}

// Whatever a policy thinks of them; it may keep less of what lies between.
TEST(the_first_and_the_newest_tokens_can_be_protected) {
  constexpr int kFed = 45, kKept = 16;
  const auto model = value(Model::open(std::string(WINNOW_TESTS_DIR) + "/../resources/starter/starter.gguf"));
  const auto engine = value(Engine::create(model, {}));
  struct Ends {
    int first = kFed, newest = kFed;  // the least of all heads
  };
  for (const KvPolicyInfo& info : kvPolicies()) {
    if (info.name == "full" || info.selects || info.once) continue;
    const auto held = [&](const char* knob, const char* tokens) {
      const auto session = makeSession(engine, configure({{"kv.policy", info.name.c_str()}, {"kv.budget", "16"}, {"kv.interval", "1"}, {"kv.allocation", "even"}, {knob, tokens}}), {.context = 64});
      ok(session->prefill(someTokens(40, 8000), {}));
      for (int32_t i = 0; i < kFed - 40; ++i) ok(session->step(i));
      Ends ends;
      for (const HeadPositions& head : session->occupancy()) {
        EXPECT_EQ(head.positions.size(), size_t{kKept});
        int first = 0, newest = 0;
        while (first < kKept && head.positions[static_cast<size_t>(first)] == first) ++first;
        while (newest < kKept && head.positions[static_cast<size_t>(kKept - 1 - newest)] == kFed - 1 - newest) ++newest;
        ends = {std::min(ends.first, first), std::min(ends.newest, newest)};
      }
      return ends;
    };
    EXPECT(held("kv.recent", "12").newest >= 12, info.name);
    EXPECT(held(info.protectedFirst(), "12").first >= 12, info.name);
    const Ends free = held(info.protectedFirst(), "0");
    if (info.name == "random") EXPECT(free.first < 12 && free.newest < 12, free.first, free.newest);
    if (info.name == "window" || info.name == "h2o") EXPECT(free.first < 12, info.name, free.first);
  }
  const auto clamped = [&](const Settings& settings, const char* knob, int64_t room) {
    const Effective effective = resolve(configure(settings), model->config());
    EXPECT(effective.config.integer(knob) == room && effective.adjustments.size() == 1 && effective.adjustments[0].knob == knob, knob, effective.config.integer(knob));
  };
  clamped({{"kv.budget", "16"}, {"kv.recent", "64"}}, "kv.recent", 12);
  clamped({{"kv.policy", "h2o"}, {"kv.budget", "16"}, {"kv.oldest", "64"}}, "kv.oldest", 15);
  clamped({{"kv.policy", "h2o"}, {"kv.budget", "16"}, {"kv.oldest", "10"}, {"kv.recent", "64"}}, "kv.recent", 6);
}

// Read whole, a prompt attends to all of itself whatever its batches; at its end it is as long as the budget.
TEST(prompts_can_be_cut_at_their_end) {
  const auto model = value(Model::open(std::string(WINNOW_TESTS_DIR) + "/../resources/starter/starter.gguf"));
  const auto engine = value(Engine::create(model, {}));
  const SessionOptions options = {.context = 128, .maxBatch = 12};
  const auto tokens = someTokens(57, 8000);
  const auto whole = makeSession(engine, Config(), options);
  const auto dense = logitsAfter(*whole, tokens);
  for (const KvPolicyInfo& info : kvPolicies()) {
    if (info.name == "full" || info.selects || info.once || info.reads.carries) continue;
    const auto logits = [&](const char* when) {
      const Config config = configure({{"kv.policy", info.name.c_str()}, {"kv.budget", "16"}, {"kv.interval", "4"}, {"kv.when", when}});
      const auto session = makeSession(engine, config, options);
      auto out = logitsAfter(*session, tokens);
      if (std::string_view(when) == "interval") return out;
      EXPECT(session->cache().liveTokens == 16 && !session->cacheMixed(), info.name, session->cache().liveTokens);
      ok(session->step(1));
      const MemoryByTag planned = value(engine->plan(config, options, 58)), used = session->memory();
      for (size_t tag = 0; tag < used.size(); ++tag) EXPECT(std::abs(planned[tag] - used[tag]) <= std::max<int64_t>(used[tag] / 50, 65536), info.name, planned[tag], used[tag]);
      for (int32_t i = 0; i < 8; ++i) ok(session->step(i));
      EXPECT(session->cache().liveTokens < 16 + 4, info.name, session->cache().liveTokens);
      return out;
    };
    EXPECT(logits("prompt_end") == dense, info.name);
    EXPECT(logits("interval") != dense, info.name);
  }
  const Effective refused = resolve(configure({{"kv.policy", "keyformer"}, {"kv.budget", "16"}, {"kv.when", "prompt_end"}}), model->config());
  EXPECT(refused.config.text("kv.when") == "interval" && refused.adjustments.size() == 1 && refused.adjustments[0].reason.find("keyformer") == 0);
}
