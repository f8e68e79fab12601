// SPDX-License-Identifier: GPL-3.0-or-later
// A session with a quantized cache: nothing changes at 16 bits, narrowing acts at the next token, widening waits for the cache to be
// recomputed, memory is what was planned and stays flat; and what the paper says of keys holds on the starter model.
#include "engine/cache/kv_format.h"
#include "engine/evaluate/perplexity.h"
#include "engine/run/branches.h"
#include "tests/support/engine.h"
#include "tests/support/planned.h"

using namespace winnow;
using namespace winnow::test;

namespace {

const std::string kResources = WINNOW_TESTS_DIR "/../resources/";

uint64_t hashOf(int threads, const Settings& settings, int context = 256) {
  const auto engine = openEngine(kRandom, threads);
  const auto session = makeSession(engine, configure(settings), {.context = context, .maxBatch = 32});
  ok(session->prefill(someTokens(90, session->vocab()), {}));
  generate(*session, 40);
  return session->logitsHash();
}

const Adjustment* adjustment(const Effective& effective, std::string_view knob) {
  for (const Adjustment& a : effective.adjustments)
    if (a.knob == knob) return &a;
  return nullptr;
}

bool told(const std::vector<EngineEvent>& events, std::string_view code) {
  return std::ranges::any_of(events, [&](const EngineEvent& event) { return event.code == code; });
}

// KLD of the starter with some cache against the same with a cache of 16 bits, stepped over held-out text in pages of 64.
double divergence(const std::shared_ptr<Engine>& engine, const Settings& settings) {
  PerplexityRequest asked;
  asked.context = 400;
  asked.chunks = 1;
  const SessionOptions options{.context = 2048};
  const auto session = makeSession(engine, configure(settings), options), baseline = makeSession(engine, Config(), options);
  asked.stepwise = true;
  const auto result = value(measurePerplexity(*session, baseline.get(), *engine->tokenizer(), readFile(kResources + "texts/sample.txt"), asked, {}));
  return result.kld->mean;
}

}  // namespace

TEST(sixteen_bits_are_the_plain_cache_bit_for_bit) {
  const uint64_t plain = hashOf(2, {});
  EXPECT_EQ(hashOf(2, {{"kv.k_bits", "16"}, {"kv.v_bits", "16"}, {"kv.quantizer", "kivi"}, {"kv.rotate", "true"}}), plain);
  EXPECT(hashOf(2, {{"kv.k_bits", "8"}}) != plain);
  EXPECT(hashOf(2, {{"kv.v_bits", "8"}}) != plain);
}

TEST(layers_have_bits_of_their_own) {
  EXPECT_EQ(hashOf(2, {{"kv.layers", "*.k:4, *.v:2"}}), hashOf(2, {{"kv.k_bits", "4"}, {"kv.v_bits", "2"}}));
  EXPECT_EQ(hashOf(2, {{"kv.layers", "*:8"}, {"kv.k_bits", "2"}, {"kv.v_bits", "2"}, {"kv.quantizer", "kivi"}}), hashOf(2, {{"kv.k_bits", "8"}, {"kv.v_bits", "8"}, {"kv.quantizer", "kivi"}}));
  EXPECT(hashOf(2, {{"kv.layers", "0:4"}}) != hashOf(2, {{"kv.layers", "1:4"}}));
  EXPECT_EQ(hashOf(2, {{"kv.outliers", "0.05"}, {"kv.layers", "*:16"}}), hashOf(2, {}));
  ModelConfig model;
  model.layers = 4;
  model.heads = model.kvHeads = 2;
  model.headDim = 32;
  const KvFormat format = KvFormat::of(resolve(configure({{"kv.layers", "0-1:8, 3.v:2"}, {"kv.k_bits", "4"}, {"kv.outliers", "0.01"}}), model).config, 4);
  EXPECT(format.layers == std::vector<KvBits>({{8, 8}, {8, 8}, {4, 16}, {4, 2}}));
  EXPECT_EQ(format.outliers, 0.01);
  for (const auto& [rules, mentions] : {std::pair{"0:5", "expected 16, 8, 4, 3 or 2"}, std::pair{"0.down:4", "expected k or v"}, std::pair{"head:4", "expected k or v"}, std::pair{"0", "colon"}}) {
    const auto refused = Config().parsed("kv.layers", rules);
    EXPECT(!refused.ok() && refused.error().message.find(mentions) != std::string::npos, rules);
  }
  const Effective outside = resolve(configure({{"kv.layers", "2-4:8"}}), model);
  EXPECT(outside.config.text("kv.layers").empty() && adjustment(outside, "kv.layers"));
}

// No more tokens than the newest page holds: nothing is sealed.
TEST(short_prompts_are_untouched) {
  const auto engine = openEngine(kRandom);
  const auto ids = someTokens(60, engine->model().config().vocab);
  const auto plain = makeSession(engine, Config(), {.context = 2048});
  const auto narrow = makeSession(engine, configure({{"kv.k_bits", "2"}, {"kv.v_bits", "2"}, {"kv.quantizer", "kivi"}}), {.context = 2048});
  EXPECT(logitsAfter(*plain, ids) == logitsAfter(*narrow, ids));
  EXPECT(generate(*plain, 5) == generate(*narrow, 5) && plain->logitsHash() == narrow->logitsHash());
}

TEST(logits_do_not_depend_on_threads) {
  for (const Settings& settings : {Settings{{"kv.k_bits", "4"}, {"kv.v_bits", "3"}, {"kv.rotate", "true"}},
                                   Settings{{"kv.k_bits", "2"}, {"kv.v_bits", "2"}, {"kv.quantizer", "kivi"}, {"kv.policy", "h2o"}, {"kv.budget", "0.4"}},
                                   Settings{{"kv.layers", "0:8, 1.k:2, *.v:3"}, {"kv.outliers", "0.02"}, {"kv.quantizer", "kivi"}, {"kv.policy", "adakv"}, {"kv.budget", "0.5"}},
                                   Settings{{"kv.k_bits", "4"}, {"kv.v_bits", "4"}, {"share.block", "2"}, {"share.first", "0"}, {"kv.budget", "40"}}}) {
    const uint64_t one = hashOf(1, settings);
    for (const int threads : {2, 3}) EXPECT_EQ(hashOf(threads, settings), one);
  }
}

TEST(narrowing_acts_at_the_next_token_and_widening_offers_to_recompute) {
  const auto engine = openEngine(kRandom);
  const auto session = makeSession(engine);
  const auto ids = someTokens(100, engine->model().config().vocab);
  ok(session->prefill(ids, {}));
  const CacheStats wide = session->cache();
  EXPECT_EQ(wide.unsealedBytes, int64_t{0});
  session->takeEvents();
  session->request(configure({{"kv.k_bits", "4"}, {"kv.v_bits", "2"}}), "user");
  ok(session->step(5));
  const CacheStats narrow = session->cache();
  EXPECT(narrow.allocatedBytes < wide.allocatedBytes / 2, narrow.allocatedBytes, wide.allocatedBytes);
  EXPECT_EQ(bytes(session->memory(), MemoryTag::kv), narrow.allocatedBytes);
  EXPECT(narrow.unsealedBytes > 0 && narrow.unsealedBytes < narrow.allocatedBytes);
  EXPECT_EQ(session->effective()->config.integer("kv.k_bits"), int64_t{4});
  const auto events = session->takeEvents();
  EXPECT(told(events, "kv.reformatted") && told(events, "kv.k_bits"));
  EXPECT(!session->cacheMixed());
  session->request(configure({{"kv.k_bits", "4"}, {"kv.v_bits", "2"}, {"kv.outliers", "0.02"}, {"kv.layers", "0:2"}}), "user");  // more outliers are too late for what is rounded
  ok(session->step(7));
  EXPECT(session->cacheMixed());
  ok(session->rebuildCache({}));
  EXPECT(!session->cacheMixed());
  EXPECT(session->cache().allocatedBytes != narrow.allocatedBytes);
  EXPECT_EQ(bytes(session->memory(), MemoryTag::kv), session->cache().allocatedBytes);
  session->takeEvents();

  session->request(Config(), "undo");
  ok(session->step(6));
  EXPECT(session->cacheMixed());
  EXPECT(told(session->takeEvents(), "cache.mixed"));
  EXPECT(session->cache().allocatedBytes < wide.allocatedBytes * 6 / 10);  // what is lost is not stored in more bytes
  ok(session->rebuildCache({}));
  EXPECT(!session->cacheMixed());
  const auto fresh = makeSession(engine);
  ok(fresh->prefill(session->tokens(), {}));
  EXPECT(std::ranges::equal(session->logits(), fresh->logits()));
  EXPECT_EQ(session->cache().allocatedBytes, fresh->cache().allocatedBytes);
}

TEST(what_can_not_be_quantized_is_refused_with_the_reason) {
  ModelConfig model;
  model.layers = 4;
  model.heads = model.kvHeads = 2;
  for (const auto& [dim, reason] : {std::pair{48, "groups of 32"}, std::pair{80, "groups of 32"}, std::pair{12, "multiple of 8"}}) {
    model.headDim = dim;
    const Effective effective = resolve(configure({{"kv.k_bits", "4"}, {"kv.v_bits", "8"}, {"kv.layers", "0:4"}}), model);
    EXPECT(effective.config.text("kv.layers").empty() && adjustment(effective, "kv.layers"));
    EXPECT_EQ(effective.config.integer("kv.k_bits"), int64_t{16});
    EXPECT_EQ(effective.config.integer("kv.v_bits"), int64_t{16});
    const Adjustment* why = adjustment(effective, "kv.v_bits");
    EXPECT(why && why->reason.find(reason) != std::string::npos, dim);
    EXPECT(resolve(Config(), model).asRequested());
  }
  model.headDim = 96;
  const Effective turned = resolve(configure({{"kv.k_bits", "4"}, {"kv.rotate", "true"}}), model);
  EXPECT_EQ(turned.config.integer("kv.k_bits"), int64_t{4});
  EXPECT(!turned.config.boolean("kv.rotate") && adjustment(turned, "kv.rotate"));
  const Effective often = resolve(configure({{"kv.k_bits", "2"}, {"kv.quantizer", "kivi"}, {"kv.budget", "64"}, {"kv.interval", "1"}}), model);
  EXPECT_EQ(often.config.integer("kv.interval"), int64_t{16});
}

TEST(the_plan_is_what_a_run_uses) {
  const auto engine = openEngine(kRandom);
  for (const Settings& settings : {Settings{{"kv.k_bits", "4"}, {"kv.v_bits", "2"}}, Settings{{"kv.k_bits", "2"}, {"kv.quantizer", "kivi"}},
                                   Settings{{"kv.k_bits", "8"}, {"kv.v_bits", "8"}, {"kv.policy", "h2o"}, {"kv.budget", "300"}},
                                   Settings{{"kv.layers", "0:8, 1.k:4"}, {"kv.v_bits", "2"}, {"kv.outliers", "0.05"}},
                                   Settings{{"kv.v_bits", "4"}, {"share.block", "2"}, {"share.first", "0"}}}) {
    const SessionOptions options{.context = 2048};
    const Config config = configure(settings);
    const MemoryByTag planned = value(engine->plan(config, options, 1000));
    const auto session = makeSession(engine, config, options);
    ok(session->prefill(someTokens(996, session->vocab()), {}));
    generate(*session, 4);
    expectAsPlanned(planned, session->memory(), settings.front().first);
    EXPECT_EQ(bytes(session->memory(), MemoryTag::kv), session->cache().allocatedBytes);
  }
}

TEST(streaming_runs_in_flat_memory) {
  const auto engine = openEngine(kRandom);
  for (const char* quantizer : {"per_token", "kivi"}) {
    const auto session = makeSession(
        engine, configure({{"kv.k_bits", "2"}, {"kv.v_bits", "4"}, {"kv.quantizer", quantizer}, {"kv.policy", "streaming"}, {"kv.budget", "256"}}), {.context = 4096});
    ok(session->prefill(someTokens(512, session->vocab()), {}));
    generate(*session, 64);
    int64_t most = 0, later = 0;
    for (int i = 0; i < 320; ++i) {
      generate(*session, 1);
      (i < 64 ? most : later) = std::max(i < 64 ? most : later, bytes(session->memory(), MemoryTag::kv));
    }
    EXPECT(later <= most, quantizer, most, later);
    EXPECT(!told(session->takeEvents(), "kv.regrouped"), quantizer);
  }
}

TEST(rewinding_and_branching_keep_quantized_pages) {
  const auto engine = openEngine(kRandom);
  const auto session = makeSession(engine, configure({{"kv.k_bits", "8"}, {"kv.v_bits", "8"}}));
  const auto ids = someTokens(100, session->vocab());
  const auto all = logitsAfter(*session, ids);
  EXPECT_EQ(session->rewind(50), int64_t{50});
  ok(session->prefill(std::span(ids).subspan(50), {}));
  EXPECT(relativeError(all, session->logits()) < 0.05, relativeError(all, session->logits()));
  EXPECT(canBranch(*session));
  const Branch branch{50, std::span(ids).subspan(50), 0};
  std::vector<float> last;
  ok(prefillBranches(*session, {&branch, 1}, {}, [&](size_t, int, int count, const float* logits) -> Status {
    const auto vocab = static_cast<size_t>(session->vocab());
    last.assign(logits + static_cast<size_t>(count - 1) * vocab, logits + static_cast<size_t>(count) * vocab);
    return Done{};
  }));
  EXPECT(relativeError(all, last) < 0.05, relativeError(all, last));
}

// Large values of keys stay in their channels, so scales per channel fit them; fewer bits cost more; a rotation spreads them.
TEST(keys_want_scales_per_channel_and_more_bits_are_better) {
  const auto engine = value(Engine::create(value(Model::open(kResources + "starter/starter.gguf")), {}));
  const auto keys = [&](const char* bits, const char* quantizer) { return divergence(engine, {{"kv.k_bits", bits}, {"kv.quantizer", quantizer}}); };
  const double token2 = keys("2", "per_token"), channel2 = keys("2", "kivi"), token4 = keys("4", "per_token"), token8 = keys("8", "per_token");
  const double rotated2 = divergence(engine, {{"kv.k_bits", "2"}, {"kv.rotate", "true"}});
  const double values2 = divergence(engine, {{"kv.v_bits", "2"}});
  std::printf("  KLD, 2-bit keys per token %.5f, per channel %.5f, rotated %.5f; 4 bits %.6f, 8 bits %.7f; 2-bit values %.5f\n", token2, channel2, rotated2, token4,
              token8, values2);
  EXPECT(channel2 < token2, channel2, token2);
  EXPECT(token8 < token4 && token4 < token2, token8, token4, token2);
  EXPECT(values2 < token2, values2, token2);
}

// What KVQuant says of outliers holds at few bits, whichever way keys are scaled; bits that differ by layer lie between those of all of them.
TEST(outliers_and_more_bits_in_some_layers_cost_less) {
  const auto engine = value(Engine::create(value(Model::open(kResources + "starter/starter.gguf")), {}));
  const Settings two = {{"kv.k_bits", "2"}, {"kv.v_bits", "2"}}, three = {{"kv.k_bits", "3"}, {"kv.v_bits", "3"}};
  for (const char* quantizer : {"per_token", "kivi"})
    for (const Settings& bits : {three, two}) {
      Settings dense = bits;
      dense.emplace_back("kv.quantizer", quantizer);
      Settings sparse = dense;
      sparse.emplace_back("kv.outliers", "0.03");
      const double without = divergence(engine, dense), with = divergence(engine, sparse);
      std::printf("  KLD, %s bits %s: %.5f, with outliers %.5f\n", bits.front().second, quantizer, without, with);
      EXPECT(with < without, quantizer, bits.front().second, with, without);
    }
  const double all2 = divergence(engine, {{"kv.layers", "*:2"}}), all8 = divergence(engine, {{"kv.layers", "*:8"}}), mixed = divergence(engine, {{"kv.layers", "*:8, 0.v:2"}});
  std::printf("  KLD, every layer 2 bits %.5f, 8 bits %.7f, values of layer 0 alone 2 bits %.5f\n", all2, all8, mixed);
  EXPECT(all8 < mixed && mixed < all2, all8, mixed, all2);
}
