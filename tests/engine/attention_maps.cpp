// SPDX-License-Identifier: GPL-3.0-or-later
// Maps of attention: shares of one at every size of cell, figures that follow from them, and what can't be read.
#include "engine/run/attention_maps.h"

#include <cmath>

#include "tests/support/engine.h"
#include "tests/support/random_model.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr int kTokens = 45;

std::shared_ptr<Engine> randomEngine() {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 1;
  return value(Engine::create(randomModel(familyConfig("llama3"), DType::f32), options));
}

AttentionMaps mapsOf(const std::shared_ptr<Engine>& engine, int cells, int batch) {
  SessionOptions options;
  options.context = 64;
  options.maxBatch = batch;
  const auto session = makeSession(engine, Config(), options);
  auto maps = value(measureAttentionMaps(*session, someTokens(kTokens, engine->model().config().vocab), cells, {}));
  EXPECT_EQ(session->position(), int64_t{0});
  return maps;
}

}  // namespace

TEST(every_query_pays_one_in_all) {
  const auto engine = randomEngine();
  for (const int cells : {64, 45, 20, 1}) {
    const AttentionMaps maps = mapsOf(engine, cells, 16);
    EXPECT(maps.cells() <= cells, maps.cells(), cells);
    EXPECT(maps.layers == 3 && maps.heads == 6, maps.layers, maps.heads);
    for (const HeadAttention& head : maps.of)
      for (int query = 0; query < maps.cells(); ++query) {
        double sum = 0;
        for (int key = 0; key < maps.cells(); ++key) {
          const auto share = static_cast<double>(head.cells[static_cast<size_t>(query * maps.cells() + key)]);
          EXPECT(share >= 0 && (key <= query || share == 0), query, key, share);
          sum += share;
        }
        EXPECT(std::fabs(sum - 1) < 1e-5, sum);
      }
  }
}

TEST(figures_follow_from_the_map_of_single_tokens) {
  const AttentionMaps maps = mapsOf(randomEngine(), 64, 16);
  EXPECT_EQ(maps.perCell, 1);
  for (int layer = 0; layer < maps.layers; ++layer)
    for (int head = 0; head < maps.heads; ++head) {
      double first = 0, own = 0, previous = 0, entropy = 0;
      for (int query = 1; query < kTokens; ++query) {
        first += static_cast<double>(maps.share(layer, head, query, 0)) / (kTokens - 1);
        own += static_cast<double>(maps.share(layer, head, query, query)) / (kTokens - 1);
        previous += static_cast<double>(maps.share(layer, head, query, query - 1)) / (kTokens - 1);
        for (int key = 0; key <= query; ++key)
          if (const auto p = static_cast<double>(maps.share(layer, head, query, key)); p > 0) entropy -= p * std::log2(p) / (kTokens - 1);
      }
      const HeadAttention& of = maps.at(layer, head);
      EXPECT(std::fabs(of.first - first) < 1e-6 && std::fabs(of.own - own) < 1e-6 && std::fabs(of.previous - previous) < 1e-6, of.first, first);
      EXPECT(std::fabs(of.entropy - entropy) < 1e-5, of.entropy, entropy);
    }
}

TEST(wider_cells_are_sums_of_narrow_ones_and_batches_change_nothing) {
  const auto engine = randomEngine();
  const AttentionMaps fine = mapsOf(engine, 64, 16), coarse = mapsOf(engine, 12, 7);
  EXPECT_EQ(coarse.perCell, 4);
  for (int query = 0; query < coarse.cells(); ++query)
    for (int key = 0; key <= query; ++key) {
      double sum = 0;
      for (int64_t q = coarse.firstOf(query); q <= coarse.lastOf(query); ++q)
        for (int64_t k = coarse.firstOf(key); k <= coarse.lastOf(key); ++k) sum += static_cast<double>(fine.share(1, 2, static_cast<int>(q), static_cast<int>(k)));
      sum /= static_cast<double>(coarse.lastOf(query) - coarse.firstOf(query) + 1);
      EXPECT(std::fabs(sum - static_cast<double>(coarse.share(1, 2, query, key))) < 1e-5, sum, query, key);
    }
}

TEST(what_can_not_be_read_says_so) {
  const auto engine = randomEngine();
  const auto session = makeSession(engine, configure({{"kv.policy", "streaming"}, {"kv.budget", "8"}}));
  const auto tokens = someTokens(kTokens, engine->model().config().vocab);
  EXPECT(measureAttentionMaps(*session, tokens, 64, {}).error().message.find("evicts") != std::string::npos);
  EXPECT(measureAttentionMaps(*makeSession(engine), std::span(tokens).first(1), 64, {}).error().message.find("at least 2") != std::string::npos);
}
