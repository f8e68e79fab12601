// SPDX-License-Identifier: GPL-3.0-or-later
// MiniKV: what of a prompt stays, against the attention sums of a session that keeps everything; nothing leaves while text is generated;
// the prompt is read unquantized, and its codes are made of what stays.
#include <numeric>

#include "engine/cache/allocation.h"
#include "engine/cache/policies.h"
#include "engine/evaluate/perplexity.h"
#include "engine/run/session_impl.h"
#include "tests/support/engine.h"
#include "tests/support/planned.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr SessionOptions kSmallBatches{.context = 256, .maxBatch = 32};

Settings miniKv(Settings more = {}) {
  more.emplace_back("kv.policy", "minikv");
  return more;
}

std::vector<int32_t> positionsOf(const Session& session, int layer, int head) {
  const auto held = EngineCore::inside(session).cache->positions(layer, head);
  return {held.begin(), held.end()};
}

std::vector<int32_t> heldBy(const Session& session, const ModelConfig& model) {
  std::vector<int32_t> all;
  for (int layer = 0; layer < model.layers; ++layer)
    for (int head = 0; head < model.kvHeads; ++head)
      for (const int32_t position : positionsOf(session, layer, head)) all.push_back(position);
  return all;
}

}  // namespace

// The reference's example: a quarter heavy, a quarter recent, 32 layers: heavy shares from 0.464 to 0.036 of the text.
TEST(heavy_hitters_fall_seven_to_one_with_depth) {
  const int n = 4096, keep = n / 2, recent = keep / 2;
  const std::vector<int> budgets = pyramidBudgets(32, keep, recent, n, 7);
  EXPECT_EQ(std::accumulate(budgets.begin(), budgets.end(), 0), 32 * keep);
  EXPECT_NEAR((budgets.front() - recent) / double{n}, 0.464, 1e-3);
  EXPECT_NEAR((budgets.back() - recent) / double{n}, 0.036, 1e-3);
}

TEST(the_newest_and_the_heaviest_stay) {
  const std::vector<int32_t> positions = {0, 1, 2, 3, 4, 5, 6, 7};
  const std::vector<float> sums = {1, 9, 2, 8, 3, 0, 0, 0};
  std::vector<float> scores(8);
  std::vector<int32_t> kept;
  makeMiniKv()->score({0, 0, positions, sums}, {.keep = 5, .window = 2}, scores);
  keepBest(scores, 5, kept);
  EXPECT(kept == (std::vector<int32_t>{1, 3, 4, 6, 7}));
}

// With a budget of everything the session holds every slot and its sum of attention: who should stay follows from them.
TEST(what_stays_has_the_largest_sums_of_the_prompt) {
  const auto engine = openEngine(kStories);
  const ModelConfig& model = engine->model().config();
  const auto ids = someTokens(90, model.vocab);
  const auto all = makeSession(engine, configure(miniKv()), kSmallBatches);
  const auto half = makeSession(engine, configure(miniKv({{"kv.budget", "0.5"}})), kSmallBatches);
  for (Session* session : {all.get(), half.get()}) ok(session->prefill(ids, {}));
  EXPECT_EQ(all->cache().evictedTokens, int64_t{0});
  const std::vector<int> budgets = pyramidBudgets(model.layers, 45, 22, 90, 7);
  for (int layer = 0; layer < model.layers; ++layer)
    for (int head = 0; head < model.kvHeads; ++head) {
      const auto sums = EngineCore::inside(*all).cache->columnSums(layer, head);
      EXPECT_NEAR(std::accumulate(sums.begin(), sums.end(), 0.0), 90.0 * model.groupSize(), 0.01);  // every row of attention sums to 1
      const int budget = budgets[static_cast<size_t>(layer)], heavy = budget - 22;
      std::vector<int32_t> order(68), expected;
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return sums[static_cast<size_t>(a)] > sums[static_cast<size_t>(b)]; });
      expected.assign(order.begin(), order.begin() + heavy);
      for (int32_t newest = 68; newest < 90; ++newest) expected.push_back(newest);
      std::ranges::sort(expected);
      EXPECT(positionsOf(*half, layer, head) == expected, layer, head);
    }
}

TEST(nothing_leaves_while_text_is_generated_and_the_next_prompt_chooses_anew) {
  const auto engine = openEngine(kStories);
  const ModelConfig& model = engine->model().config();
  const auto session = makeSession(engine, configure(miniKv({{"kv.budget", "40"}, {"kv.interval", "1"}})), kSmallBatches);
  ok(session->prefill(someTokens(90, model.vocab), {}));
  const int64_t heads = int64_t{model.layers} * model.kvHeads;
  const std::vector<int32_t> before = heldBy(*session, model);
  EXPECT_EQ(static_cast<int64_t>(before.size()), 40 * heads);
  generate(*session, 30);
  EXPECT_EQ(static_cast<int64_t>(heldBy(*session, model).size()), 70 * heads);
  for (int layer = 0; layer < model.layers; ++layer) {
    const auto held = positionsOf(*session, layer, 0);
    for (int32_t position = 90; position < 120; ++position) EXPECT(std::ranges::binary_search(held, position), layer, position);
  }
  EXPECT(!session->cacheMixed());
  ok(session->prefill(someTokens(20, model.vocab, 3), {}));
  EXPECT_EQ(static_cast<int64_t>(heldBy(*session, model).size()), 40 * heads);
}

// Chosen in the middle of a text it acts at once, on what there is.
TEST(it_can_be_switched_on_in_mid_generation) {
  const auto engine = openEngine(kStories);
  const auto session = makeSession(engine, Config(), kSmallBatches);
  ok(session->prefill(someTokens(60, session->vocab()), {}));
  generate(*session, 10);
  session->request(configure(miniKv({{"kv.budget", "32"}, {"kv.k_bits", "2"}, {"kv.v_bits", "2"}, {"kv.quantizer", "kivi"}})), "user");
  generate(*session, 1);
  EXPECT_EQ(session->cache().liveTokens, int64_t{32});
  generate(*session, 20);
  EXPECT_EQ(session->cache().liveTokens, int64_t{52});
}

// A prompt of three batches: each reads what came before as it was, and what stays is rounded once.
TEST(a_prompt_is_read_unquantized) {
  const auto engine = openEngine(kStories);
  const ModelConfig& model = engine->model().config();
  const auto ids = someTokens(90, model.vocab);
  const auto plain = makeSession(engine, Config(), kSmallBatches);
  const auto expected = logitsAfter(*plain, ids);
  const Settings two = {{"kv.budget", "0.5"}, {"kv.k_bits", "2"}, {"kv.v_bits", "2"}, {"kv.quantizer", "kivi"}, {"kv.outliers", "0.02"}};
  const auto narrow = makeSession(engine, configure(miniKv(two)), kSmallBatches), wide = makeSession(engine, configure(miniKv({{"kv.budget", "0.5"}})), kSmallBatches);
  EXPECT(logitsAfter(*narrow, ids) == expected);
  ok(wide->prefill(ids, {}));
  EXPECT(heldBy(*narrow, model) == heldBy(*wide, model));
  EXPECT(narrow->cache().allocatedBytes < wide->cache().allocatedBytes * 3 / 4, narrow->cache().allocatedBytes, wide->cache().allocatedBytes);
  EXPECT_EQ(bytes(narrow->memory(), MemoryTag::kv), narrow->cache().allocatedBytes);
  bool regrouped = false;
  for (const EngineEvent& event : narrow->takeEvents()) regrouped = regrouped || event.code == "kv.regrouped";
  EXPECT(!regrouped);
}

TEST(the_plan_is_what_a_run_uses) {
  const auto engine = openEngine(kRandom);
  const Config config = configure(miniKv({{"kv.budget", "0.5"}, {"kv.k_bits", "2"}, {"kv.v_bits", "2"}, {"kv.quantizer", "kivi"}, {"kv.allocation", "even"}}));
  const SessionOptions options{.context = 2048};
  const MemoryByTag planned = value(engine->plan(config, options, 1000));
  const auto session = makeSession(engine, config, options);
  ok(session->prefill(someTokens(999, session->vocab()), {}));
  generate(*session, 1);
  expectAsPlanned(planned, session->memory());
}

// On the starter, half a prompt kept: better than the same budget of random tokens, and than of the newest alone.
TEST(heavy_hitters_are_worth_more_than_others) {
  const std::string resources = WINNOW_TESTS_DIR "/../resources/";
  const auto engine = value(Engine::create(value(Model::open(resources + "starter/starter.gguf")), {}));
  const auto divergence = [&](const char* policy) {
    PerplexityRequest asked;
    asked.context = 256;
    asked.chunks = 2;
    asked.stepwise = true;
    const auto session = makeSession(engine, configure({{"kv.policy", policy}, {"kv.budget", "0.5"}})), baseline = makeSession(engine);
    return value(measurePerplexity(*session, baseline.get(), *engine->tokenizer(), readFile(resources + "texts/sample.txt"), asked, {})).kld->mean;
  };
  const double mini = divergence("minikv"), streaming = divergence("streaming"), random = divergence("random");
  std::printf("  KLD at half: minikv %.4f, streaming %.4f, random %.4f\n", mini, streaming, random);
  EXPECT(mini > 0 && mini < streaming && mini < random, mini, streaming, random);
}
