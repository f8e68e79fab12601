// SPDX-License-Identifier: GPL-3.0-or-later
// Layers that are left out: how their influence is measured, which ones go, and that they cost nothing (pruning_sharing_attribution.md, D1).
#include "engine/prune/layer_drop.h"

#include <numeric>

#include "engine/core/check.h"
#include "engine/share/methods.h"
#include "tests/support/engine.h"
#include "tests/support/planned.h"

using namespace winnow;
using namespace winnow::test;

namespace {

// Two-dimensional streams, one token: directions given in quarter turns at each point.
ResidualCosines turned(Ledger& ledger, const std::vector<double>& angles) {
  ResidualCosines out(ledger, static_cast<int>(angles.size() - 1) / 2, 2);
  for (size_t point = 0; point < angles.size(); ++point) {
    const float x[] = {3 * static_cast<float>(std::cos(angles[point])), 3 * static_cast<float>(std::sin(angles[point]))};
    out.take(static_cast<int>(point), x, 2, 1);
  }
  out.finish();
  return out;
}

std::string left(const std::vector<LayerParts>& parts) {
  std::string out;
  for (const LayerParts& each : parts) out += each.attention && each.ffn ? 'x' : each.attention ? 'a' : each.ffn ? 'f' : '-';
  return out;
}

Config calibrated(const Settings& settings) {
  const std::string text = sharedData("corpora/tinystories_60k.txt");
  return configure(settings, value(Config().parsed("calibration.text", text)));
}

int64_t bytes(const Session& session, MemoryTag tag) { return session.memory()[static_cast<size_t>(tag)]; }
int64_t weightBytes(const Session& session) { return bytes(session, MemoryTag::weights) + bytes(session, MemoryTag::weightsMapped); }

}  // namespace

TEST(influence_of_a_worked_turn) {
  Ledger ledger;
  ResidualCosines stream(ledger, 1, 2);
  const float in[] = {1, 0}, out[] = {1, 1};
  stream.take(0, in, 2, 1);
  stream.take(1, in, 2, 1);
  stream.take(2, out, 2, 1);
  const LayerInfluence one = stream.influence(0);
  EXPECT_NEAR(one.layer, 0.292893, 1e-6);
  EXPECT_NEAR(one.attention, 0, 1e-6);
  EXPECT_NEAR(one.ffn, 0.292893, 1e-6);
  EXPECT_NEAR(one.angle, 0.25, 1e-6);
}

TEST(all_tokens_of_a_batch_count_alike) {
  Ledger ledger;
  ResidualCosines stream(ledger, 1, 2);
  const float in[] = {1, 0, 1, 0, 9, 9, 9, 9}, out[] = {0, 1, 1, 0, 0, 0, 0, 0};
  stream.take(0, in, 2, 2);
  stream.take(1, in, 2, 2);
  stream.take(2, out, 2, 2);
  EXPECT_NEAR(stream.cosine(0, 2), 0.5, 1e-6);
  stream.finish();
  EXPECT_EQ(ledger.bytes(MemoryTag::calibration), 0);
}

TEST(methods_choose_by_what_turns_least) {
  Ledger ledger;
  // Layers turn by .5, .1, .3, .05 (attention, then feed-forward: .2+.3, .09+.01, .1+.2, .02+.03); those at the ends are protected.
  const ResidualCosines stream = turned(ledger, {0, .2, .5, .59, .6, .7, .9, .92, .95, 1.2, 1.5});
  EXPECT_EQ(left(partsLeft({"shortgpt", 2, 1}, stream)), std::string("x-x-x"));
  EXPECT_EQ(left(partsLeft({"shortgpt", 1, 0}, stream)), std::string("xxx-x"));
  EXPECT_EQ(left(partsLeft({"contiguous", 2, 1}, stream)), std::string("xx--x"));
  EXPECT_EQ(left(partsLeft({"attention", 1, 1}, stream)), std::string("xxxfx"));
  EXPECT_EQ(left(partsLeft({"ffn", 2, 1}, stream)), std::string("xaxax"));
  EXPECT_EQ(left(partsLeft({"", 2, 1}, stream)), std::string("xxxxx"));
  EXPECT_EQ(left(partsLeft({"shortgpt", 1, 0}, ResidualCosines(ledger, 3, 0))), std::string("xx-"));  // nothing measured: the last
}

TEST(a_dropped_leader_is_followed_by_its_first_follower) {
  auto parts = allParts(8);
  parts[2] = {false, false};
  parts[5].attention = false;
  const auto map = sharingWithout(uniformBlocks(8, 2, 0, 3), parts);  // 2-4, 5-7
  EXPECT_EQ(map[3].attnSource, 3);
  EXPECT_EQ(map[4].attnSource, 3);
  EXPECT_EQ(map[5].attnSource, 5);
  EXPECT_EQ(map[7].attnSource, 6);
  ModelConfig model;
  model.layers = 8;
  const Plan plan = buildPlan(model, map, parts);
  EXPECT_EQ(plan.ops.size(), size_t{2 + 5 * 8 - 5 - 3});
  for (const Op& op : plan.ops) EXPECT(op.layer != 2 && !(op.layer == 5 && op.kind != OpKind::gateUp && !op.down));
}

TEST(a_dropped_layer_costs_no_weights_no_cache_and_no_time) {
  const auto engine = openEngine(kStories, 1);
  const auto dense = makeSession(engine, calibrated({}));
  const auto tokens = someTokens(100, dense->vocab());
  const auto whole = logitsAfter(*dense, tokens);
  for (const char* method : {"shortgpt", "contiguous", "attention", "ffn"}) {
    const Config config = calibrated({{"prune.layers", "2"}, {"prune.layers_method", method}});
    const auto session = makeSession(engine, config);
    const auto prefilled = logitsAfter(*session, tokens);
    const int attending = static_cast<int>(std::count_if(session->plan().parts.begin(), session->plan().parts.end(), [](const LayerParts& p) { return p.attention; }));
    const bool keepsAttention = std::string_view(method) == "ffn";
    EXPECT_EQ(attending, keepsAttention ? 5 : 3);
    EXPECT_EQ(5 * bytes(*session, MemoryTag::kv), attending * bytes(*dense, MemoryTag::kv));
    EXPECT(weightBytes(*session) < weightBytes(*dense), method);
    EXPECT_EQ(session->plan().ops.size(), dense->plan().ops.size() - (std::string_view(method) == "attention" ? 6u : keepsAttention ? 4u : 10u));
    EXPECT(session->effective()->asRequested(), method);
    EXPECT(relativeError(prefilled, whole) > 0.01, method);
    session->reset();
    for (const int32_t id : tokens) ok(session->step(id));
    EXPECT(relativeError(session->logits(), prefilled) < 1e-3, method);

    const MemoryByTag planned = value(engine->plan(config, {.context = 256}, 100)), used = session->memory();
    for (const MemoryTag tag : {MemoryTag::weights, MemoryTag::weightsMapped, MemoryTag::kv, MemoryTag::activations})
      expectAsPlanned(bytes(planned, tag), bytes(used, tag), method, memoryTagName(tag));
  }
}

TEST(layers_leave_at_once_and_come_back_with_the_cache) {
  const auto engine = openEngine(kStories, 1);
  const auto session = makeSession(engine, calibrated({}));
  const auto tokens = someTokens(60, session->vocab());
  const auto whole = logitsAfter(*session, tokens);

  session->request(calibrated({{"prune.layers", "2"}}));
  ok(session->finishPending({}));
  EXPECT_EQ(session->effective()->config.integer("prune.layers"), 2);
  ok(session->step(5));
  EXPECT(session->cacheMixed());
  EXPECT_EQ(session->plan().ops.size(), size_t{17});

  session->request(calibrated({}));
  ok(session->finishPending({}));
  EXPECT_EQ(session->effective()->config.integer("prune.layers"), 2);  // they kept no keys
  EXPECT(!session->effective()->asRequested());
  ok(session->step(6));
  ok(session->rebuildCache({}));
  EXPECT(session->effective()->asRequested());
  EXPECT_EQ(session->plan().ops.size(), size_t{27});
  ok(session->step(7));
  const auto rebuilt = std::vector<float>(session->logits().begin(), session->logits().end());
  auto all = tokens;
  all.insert(all.end(), {5, 6, 7});
  EXPECT(relativeError(rebuilt, logitsAfter(*session, all)) < 1e-3);
  EXPECT(logitsAfter(*session, tokens) == whole);  // bit for bit
}

TEST(layers_that_wait_come_back_with_a_reset) {
  const auto engine = openEngine(kStories, 1);
  const auto session = makeSession(engine, calibrated({{"prune.layers", "1"}, {"prune.layers_method", "attention"}}));
  const auto tokens = someTokens(30, session->vocab());
  logitsAfter(*session, tokens);
  session->request(calibrated({}));
  ok(session->finishPending({}));
  EXPECT(!session->effective()->asRequested());
  const auto back = logitsAfter(*session, tokens);  // resets
  EXPECT(session->effective()->asRequested());
  EXPECT(back == logitsAfter(*makeSession(engine), tokens));
}

TEST(too_many_layers_are_refused_with_the_reason) {
  ModelConfig model;
  model.layers = 5;
  const Effective effective = resolve(configure({{"prune.layers", "4"}}), model);
  EXPECT_EQ(effective.config.integer("prune.layers"), 3);
  EXPECT(!effective.asRequested());
  EXPECT_EQ(effective.config.text("prune.layers_method"), std::string("shortgpt"));
}

TEST(layer_influence_is_measured_for_views) {
  const auto engine = openEngine(kStories, 1);
  const auto influence = value(engine->layerInfluence(calibrated({}), {}));
  EXPECT_EQ(influence.size(), size_t{5});
  for (const LayerInfluence& one : influence) EXPECT(one.layer > 0.001 && one.layer < 1.5 && one.angle > 0, one.layer, one.attention, one.ffn);
}

TEST(another_ratio_needs_no_measuring) {
  const auto engine = openEngine(kStories, 1);
  const auto session = makeSession(engine, calibrated({{"prune.method", "wanda"}, {"prune.ratio", "0.5"}}));
  const auto tokens = someTokens(30, session->vocab());
  const int64_t kept = bytes(*session, MemoryTag::calibration);
  session->request(calibrated({{"prune.method", "wanda"}, {"prune.ratio", "0.3"}}));
  ok(session->finishPending({}));
  EXPECT_EQ(bytes(*session, MemoryTag::calibration), kept);
  EXPECT(logitsAfter(*session, tokens) == logitsAfter(*makeSession(openEngine(kStories, 1), calibrated({{"prune.method", "wanda"}, {"prune.ratio", "0.3"}})), tokens));
}
