// SPDX-License-Identifier: GPL-3.0-or-later
// What must hold for any model and any knob (pruning_sharing_attribution.md, U1-U9).
#include <cstring>

#include "engine/cache/registry.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

const char* const kModels[] = {kStories, kChat, "models/random-llama-256-Q4_0.gguf", "models/random-llama-256-F16.gguf"};

// f32 files agree to rounding, which may tip a cached key or value to its neighbour in f16 (2^-11 = 4.9e-4 of it); the others
// round activations to f16 first, where more last bits may tip over.
double bound(const std::string& file) { return file.find("f32") != std::string::npos ? 4.9e-4 : 2e-3; }

// Hash of a prompt and some decoding under a configuration.
uint64_t hashOf(const char* file, int threads, const Config& config = Config(), bool observed = false) {
  const auto engine = openEngine(file, threads);
  const auto session = makeSession(engine, config);
  session->observeOps(observed);
  ok(session->prefill(someTokens(45, engine->model().config().vocab), {}));
  generate(*session, 24);
  return session->logitsHash();
}

struct Rows {
  std::vector<float> all;  // [tokens, vocab]
  int vocab = 0;
  std::span<const float> at(size_t i) const { return {all.data() + i * static_cast<size_t>(vocab), static_cast<size_t>(vocab)}; }
};

Rows everyRow(Session& session, int vocab, std::span<const int32_t> tokens) {
  Rows rows{{}, vocab};
  session.reset();
  ok(session.prefill(tokens, {}, [&](int first, int count, const float* logits) {
    EXPECT_EQ(static_cast<size_t>(first) * static_cast<size_t>(vocab), rows.all.size());
    rows.all.insert(rows.all.end(), logits, logits + int64_t{count} * vocab);
  }));
  return rows;
}

}  // namespace

TEST(logits_do_not_depend_on_threads) {
  for (const char* file : kModels) {
    const uint64_t one = hashOf(file, 1);
    for (int threads : {2, 3, 4}) EXPECT_EQ(hashOf(file, threads), one);
  }
  const Config busy = configure({{"weights.bits", "4"}, {"kv.policy", "h2o"}, {"kv.budget", "0.5"}, {"share.block", "2"}, {"share.first", "1"}});
  EXPECT_EQ(hashOf(kRandom, 3, busy), hashOf(kRandom, 1, busy));
  EXPECT(hashOf(kRandom, 1, busy) != hashOf(kRandom, 1));
}

TEST(observers_do_not_change_logits) {
  for (const char* file : kModels) EXPECT_EQ(hashOf(file, 2, Config(), true), hashOf(file, 2));
}

TEST(u1_strength_zero_is_the_baseline_bit_for_bit) {
  const uint64_t plain = hashOf(kStories, 2);
  for (const KvPolicyInfo& info : kvPolicies()) {
    EXPECT_EQ(hashOf(kStories, 2, configure({{"kv.policy", info.name.c_str()}})), plain);
    EXPECT_EQ(hashOf(kStories, 2, configure({{"kv.policy", info.name.c_str()}, {"kv.budget", "4096"}, {"kv.interval", "1"}})), plain);
  }
  EXPECT_EQ(hashOf(kStories, 2, configure({{"share.method", "echoatt"}, {"share.block", "1"}})), plain);
  EXPECT_EQ(hashOf(kStories, 2, configure({{"prune.method", "magnitude"}, {"prune.ratio", "0"}})), plain);
  EXPECT_EQ(hashOf(kStories, 2, configure({{"weights.bits", "16"}})), plain);
}

TEST(u2_there_and_back_restores_logits_bit_for_bit) {
  const std::vector<Settings> detours = {{{"weights.bits", "2"}}, {{"prune.ratio", "0.6"}}, {{"kv.policy", "h2o"}, {"kv.budget", "0.3"}, {"kv.interval", "1"}},
                                         {{"share.block", "2"}, {"share.first", "1"}}, {{"compute.activations", "16bit"}}};
  for (const char* file : {kStories, "models/random-llama-256-Q8_0.gguf"}) {
    const auto engine = openEngine(file);
    const auto session = makeSession(engine);
    const auto tokens = someTokens(60, engine->model().config().vocab);
    const auto before = logitsAfter(*session, tokens);
    for (const Settings& detour : detours) {
      session->request(configure(detour));
      ok(session->finishPending({}));
      session->reset();
      ok(session->prefill(tokens, {}));
      const auto changed = generate(*session, 20);
      session->request(Config());
      ok(session->finishPending({}));
      const auto after = logitsAfter(*session, tokens);
      EXPECT(std::memcmp(before.data(), after.data(), before.size() * sizeof(float)) == 0, file, detour.front().first);
    }
  }
}

TEST(u5_a_prompt_equals_token_by_token) {
  for (const char* file : kModels) {
    const auto engine = openEngine(file);
    const auto session = makeSession(engine);
    const auto tokens = someTokens(40, engine->model().config().vocab);
    const auto together = logitsAfter(*session, tokens);
    session->reset();
    for (const int32_t token : tokens) ok(session->step(token));
    EXPECT(relativeError(together, session->logits()) < bound(file), file, relativeError(together, session->logits()));
  }
}

TEST(u5_holds_with_sharing) {
  const auto engine = openEngine(kRandom);
  const auto session = makeSession(engine, configure({{"share.block", "2"}, {"share.first", "1"}, {"share.last", "1"}}));
  const auto tokens = someTokens(40, engine->model().config().vocab);
  const auto together = logitsAfter(*session, tokens);
  session->reset();
  for (const int32_t token : tokens) ok(session->step(token));
  EXPECT(relativeError(together, session->logits()) < 1e-4, relativeError(together, session->logits()));
}

TEST(u6_batches_of_any_size_agree) {
  for (const char* file : kModels) {
    const auto engine = openEngine(file);
    const auto tokens = someTokens(70, engine->model().config().vocab);
    const auto whole = logitsAfter(*makeSession(engine), tokens);
    for (int batch : {1, 7, 64}) {
      SessionOptions options;
      options.maxBatch = batch;
      const auto session = makeSession(engine, Config(), options);
      const double error = relativeError(whole, logitsAfter(*session, tokens));
      EXPECT(error < bound(file), file, batch, error);
    }
  }
}

TEST(u7_a_later_token_never_changes_earlier_logits) {
  for (const char* settings : {"1", "2"}) {
    const auto engine = openEngine(kRandom);
    const int vocab = engine->model().config().vocab;
    const auto session = makeSession(engine, configure({{"share.block", settings}, {"share.first", "1"}}));
    auto tokens = someTokens(30, vocab);
    const Rows before = everyRow(*session, vocab, tokens);
    tokens[20] = (tokens[20] + 1) % vocab;
    const Rows after = everyRow(*session, vocab, tokens);
    for (size_t i = 0; i < 20; ++i) EXPECT(std::memcmp(before.at(i).data(), after.at(i).data(), before.at(i).size_bytes()) == 0, i);
    EXPECT(relativeError(before.at(20), after.at(20)) > 0);
  }
}

TEST(the_last_row_of_a_scored_prompt_is_its_logits) {
  const auto engine = openEngine(kChat);
  const int vocab = engine->model().config().vocab;
  const auto session = makeSession(engine);
  const auto tokens = someTokens(50, vocab);
  const Rows rows = everyRow(*session, vocab, tokens);
  EXPECT_EQ(rows.all.size(), tokens.size() * static_cast<size_t>(vocab));
  EXPECT(relativeError(rows.at(49), session->logits()) == 0);
  EXPECT(relativeError(rows.at(49), logitsAfter(*session, tokens)) < 1e-5);
}

TEST(u8_divergence_grows_as_bits_shrink) {
  const auto engine = openEngine(kStories);
  const auto tokens = someTokens(60, engine->model().config().vocab);
  const auto exact = logitsAfter(*makeSession(engine), tokens);
  double before = 0;
  for (const char* bits : {"8", "6", "5", "4", "3", "2"}) {
    const double error = relativeError(exact, logitsAfter(*makeSession(engine, configure({{"weights.bits", bits}, {"weights.symmetric", "true"}})), tokens));
    EXPECT(error > 0.98 * before, bits, error, before);
    before = error;
  }
}

TEST(u9_one_token_and_a_cut_context_are_finite) {
  const auto engine = openEngine(kStories);
  for (const KvPolicyInfo& info : kvPolicies()) {
    const auto session = makeSession(engine, configure({{"kv.policy", info.name.c_str()}, {"kv.budget", "2"}, {"kv.interval", "1"}, {"kv.sinks", "0"}}));
    ok(session->prefill(std::vector<int32_t>{1}, {}));
    generate(*session, 12);
    if (info.name != "full") EXPECT_EQ(session->cache().liveTokens, int64_t{info.selects || info.once ? 13 : 2});
  }
}

TEST(recomputed_and_kept_probabilities_agree) {
  const auto engine = openEngine(kRandom);
  const auto tokens = someTokens(120, engine->model().config().vocab);
  const Config config = configure({{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}});
  SessionOptions recompute;
  recompute.probabilityBytes = 0;
  const auto kept = makeSession(engine, config), again = makeSession(engine, config, recompute);
  const double error = relativeError(logitsAfter(*kept, tokens), logitsAfter(*again, tokens));
  EXPECT(error < 1e-5, error);
  EXPECT(relativeError(logitsAfter(*makeSession(engine), tokens), logitsAfter(*again, tokens)) > 1e-3);
}

TEST(a_window_holds_the_newest_positions) {
  const auto engine = openEngine(kStories);
  const auto session = makeSession(engine, configure({{"kv.policy", "window"}, {"kv.sinks", "0"}, {"kv.budget", "16"}, {"kv.interval", "1"}}));
  const auto tokens = someTokens(90, engine->model().config().vocab);
  for (const int32_t token : tokens) ok(session->step(token));
  for (const HeadPositions& head : session->occupancy()) {
    EXPECT_EQ(head.positions.size(), size_t{16});
    EXPECT_EQ(head.positions.front(), 74);
    EXPECT_EQ(head.positions.back(), 89);
  }
}

TEST(h2o_without_eviction_changes_nothing_then_keeps_the_recent_half) {
  const auto engine = openEngine(kRandom);
  const auto session = makeSession(engine, configure({{"kv.policy", "h2o"}, {"kv.budget", "0.5"}, {"kv.interval", "1024"}}));
  const auto plain = makeSession(engine);
  const auto tokens = someTokens(80, engine->model().config().vocab);
  EXPECT(relativeError(logitsAfter(*plain, tokens), logitsAfter(*session, tokens)) == 0);
  session->applyPolicyNow();
  EXPECT_EQ(session->cache().liveTokens, int64_t{40});
  for (const HeadPositions& head : session->occupancy())  // the recent half
    for (int i = 0; i < 20; ++i) EXPECT_EQ(head.positions[static_cast<size_t>(20 + i)], 60 + i);
}
