// SPDX-License-Identifier: GPL-3.0-or-later
// kv.positions=cache: what is left of a text counts as if nothing had been there (StreamingLLM).
#include <cmath>

#include "tests/support/engine.h"
#include "tests/support/shapes.h"

using namespace winnow;
using namespace winnow::test;

namespace {

// Keys and values of the first layer are those of single tokens at single positions: a model of one layer that streams within the cache
// knows no more than one that was given the tokens that are left.
std::shared_ptr<Engine> oneLayer() {
  const std::string path = (scratch() / "one-layer.gguf").string();
  NamedShape shape = tinyShape("1b");  // with Llama 3's scaling of frequencies
  shape.config.layers = 1;
  if (!std::filesystem::exists(path)) ok(synthesize(shape, "f32", 3, path, {}));
  return value(Engine::create(value(Model::open(path)), {.device = "cpu", .threads = 2}));
}

Settings streaming(const char* positions, Settings more = {}) {
  Settings settings = {{"kv.policy", "streaming"}, {"kv.budget", "24"}, {"kv.interval", "4"}, {"kv.positions", positions}};
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

// What is in the cache before the last token, and that token.
std::vector<float> asIfAlone(const std::shared_ptr<Engine>& engine, Session& session, int32_t next, const Settings& settings = {}) {
  std::vector<int32_t> left;
  const HeadPositions head = session.occupancy().front();
  for (const int32_t position : head.positions) left.push_back(session.tokens()[static_cast<size_t>(position)]);
  left.push_back(next);
  return logitsAfter(*makeSession(engine, configure(settings)), left);
}

}  // namespace

TEST(a_layer_sees_what_is_left_and_no_gaps) {
  const auto engine = oneLayer();
  for (const char* positions : {"cache", "original"}) {
    const auto session = makeSession(engine, configure(streaming(positions)), {.context = 4000, .maxBatch = 16});
    ok(session->prefill(someTokens(2001, 512), {}));
    for (int i = 0; i < 9; ++i) ok(session->step(i));
    const std::vector<float> alone = asIfAlone(engine, *session, 77);
    ok(session->step(77));
    const double error = relativeError(alone, session->logits());
    // Keys are rounded to f16 at other angles: 2^-11 of each.
    if (std::string_view(positions) == "cache")
      EXPECT(error < 1.5e-3, error);
    else
      EXPECT(error > 5e-3, error);
  }
}

TEST(a_prompt_in_batches_counts_as_its_tokens_do) {
  const auto engine = oneLayer();
  const auto session = makeSession(engine, configure(streaming("cache")), {.context = 4000, .maxBatch = 16});
  const auto text = someTokens(400, 512);
  ok(session->prefill(std::span(text).first(368), {}));  // an eviction has just been
  const auto left = session->occupancy().front().positions;
  EXPECT_EQ(left.size(), size_t{24});
  std::vector<int32_t> ids;
  for (const int32_t position : left) ids.push_back(text[static_cast<size_t>(position)]);
  ids.insert(ids.end(), text.begin() + 368, text.begin() + 384);
  const std::vector<float> alone = logitsAfter(*makeSession(engine, Config(), {.context = 256, .maxBatch = 64}), ids);
  ok(session->prefill(std::span(text).subspan(368, 16), {}));
  EXPECT(relativeError(alone, session->logits()) < 1.5e-3, relativeError(alone, session->logits()));
}

// Sealed keys keep the angle they were rounded at, so the same cache at other positions is off by its rounding, not by its turning.
TEST(quantized_and_rotated_keys_are_turned_too) {
  const auto engine = oneLayer();
  for (const Settings& more : {Settings{{"kv.k_bits", "8"}}, Settings{{"kv.k_bits", "8"}, {"kv.rotate", "true"}}, Settings{{"kv.k_bits", "8"}, {"kv.quantizer", "kivi"}, {"kv.interval", "16"}}}) {
    const auto session = makeSession(engine, configure(streaming("cache", more)), {.context = 4000, .maxBatch = 16});
    ok(session->prefill(someTokens(2001, 512), {}));
    const std::vector<float> alone = asIfAlone(engine, *session, 9, more);
    ok(session->step(9));
    EXPECT(relativeError(alone, session->logits()) < 1.5e-2, more.back().first, relativeError(alone, session->logits()));
    EXPECT(session->effective()->asRequested());
  }
}

TEST(nothing_evicted_is_nothing_moved) {
  const auto engine = openEngine(kRandom);
  std::vector<uint64_t> hashes;
  for (const char* positions : {"original", "cache"}) {
    const auto session = makeSession(engine, configure({{"kv.budget", "200"}, {"kv.positions", positions}, {"share.block", "2"}, {"share.first", "0"}}));
    ok(session->prefill(someTokens(45, session->vocab()), {}));
    generate(*session, 20);
    hashes.push_back(session->logitsHash());
  }
  EXPECT_EQ(hashes[0], hashes[1]);
}

TEST(followers_read_what_their_leader_turned) {
  const auto engine = openEngine(kRandom);
  const Config config = configure(streaming("cache", {{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}));
  SessionOptions recompute;
  recompute.probabilityBytes = 0;
  const auto kept = makeSession(engine, config), again = makeSession(engine, config, recompute);
  for (Session* session : {kept.get(), again.get()}) {
    ok(session->prefill(someTokens(90, session->vocab()), {}));
    for (int i = 0; i < 6; ++i) ok(session->step(i));
  }
  EXPECT(relativeError(kept->logits(), again->logits()) < 1e-5, relativeError(kept->logits(), again->logits()));
}

TEST(results_do_not_depend_on_threads) {
  std::vector<uint64_t> hashes;
  for (const int threads : {1, 2, 3}) {
    const auto session = makeSession(openEngine(kRandom, threads), configure(streaming("cache", {{"kv.k_bits", "4"}})));
    ok(session->prefill(someTokens(70, session->vocab()), {}));
    generate(*session, 30);
    hashes.push_back(session->logitsHash());
  }
  EXPECT(hashes[1] == hashes[0] && hashes[2] == hashes[0]);
}

// Stored keys are the same either way, so the change acts at the next token; what lies deeper was computed under the other one.
TEST(positions_change_in_mid_generation) {
  const auto engine = openEngine(kStories);
  const auto text = someTokens(120, 512);
  const auto session = makeSession(engine, configure(streaming("original")), {.context = 256, .maxBatch = 16}), fresh = makeSession(engine, configure(streaming("cache")), {.context = 256, .maxBatch = 16});
  ok(session->prefill(text, {}));
  EXPECT(!session->cacheMixed());
  session->request(configure(streaming("cache")));
  session->adopt();
  EXPECT(session->cacheMixed());
  ok(session->rebuildCache({}));
  EXPECT(!session->cacheMixed());
  EXPECT(relativeError(logitsAfter(*fresh, text), session->logits()) == 0);
  for (int i = 0; i < 8; ++i) {
    ok(session->step(i));
    ok(fresh->step(i));
  }
  EXPECT(relativeError(fresh->logits(), session->logits()) == 0);
  session->request(configure({{"kv.positions", "cache"}}));  // nothing is evicted any more, and the gaps stay closed to nobody
  ok(session->step(1));
  EXPECT(session->cacheMixed());
}

TEST(who_cannot_is_told_why) {
  const auto reason = [](const Effective& effective) {
    for (const Adjustment& a : effective.adjustments)
      if (a.knob == "kv.positions") return a.reason;
    return std::string();
  };
  ModelConfig learned;
  learned.layers = 4;
  learned.heads = learned.kvHeads = 2;
  learned.headDim = 16;
  learned.position = PositionKind::learned;
  EXPECT(reason(resolve(configure(streaming("cache")), learned)).find("learned") != std::string::npos);
  const auto rotary = oneLayer();
  EXPECT(reason(rotary->resolved(configure(streaming("cache")))).empty());
  const Effective h2o = rotary->resolved(configure({{"kv.policy", "h2o"}, {"kv.budget", "20"}, {"kv.positions", "cache"}}));
  EXPECT(reason(h2o).find("window and streaming") != std::string::npos);
  EXPECT_EQ(h2o.config.text("kv.positions"), std::string("original"));
}

TEST(a_stream_within_the_cache_is_not_beyond_what_was_trained) {
  const auto engine = oneLayer();  // 128 tokens
  const auto warned = [&](const char* positions, int batch) {
    const auto session = makeSession(engine, configure(streaming(positions)), {.context = 4000, .maxBatch = batch});
    const auto events = session->takeEvents();
    return std::ranges::any_of(events, [](const EngineEvent& event) { return event.code == "context.beyond_trained"; });
  };
  EXPECT(warned("original", 64));
  EXPECT(!warned("cache", 64));
  EXPECT(warned("cache", 200), "a batch of a prompt is longer than that");
}
