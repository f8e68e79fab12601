// SPDX-License-Identifier: GPL-3.0-or-later
// What a map of the cache says, against what the cache says slot by slot.
#include "engine/run/cache_map.h"

#include "tests/support/engine.h"
#include "tests/support/random_model.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::shared_ptr<Engine> randomEngine() {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 1;
  return value(Engine::create(randomModel(familyConfig("llama3"), DType::f32), options));
}

std::unique_ptr<Session> fed(const std::shared_ptr<Engine>& engine, const Settings& settings, int tokens) {
  auto session = makeSession(engine, configure(settings));
  for (const int32_t token : someTokens(tokens, engine->model().config().vocab)) ok(session->step(token));
  return session;
}

}  // namespace

TEST(an_empty_cache_has_no_columns) {
  const auto session = makeSession(randomEngine());
  const CacheMap map = cacheMapOf(*session, 16);
  EXPECT_EQ(map.columns(), 0);
  for (const CacheMapRow& row : map.rows) EXPECT(row.kept == 0 && row.held.empty());
}

TEST(columns_gather_the_positions_that_are_held) {
  const auto session = fed(randomEngine(), {{"kv.policy", "streaming"}, {"kv.sinks", "4"}, {"kv.budget", "24"}, {"kv.interval", "1"}}, 75);
  const auto heads = session->occupancy();
  for (const int most : {1000, 75, 40, 10, 1}) {
    const CacheMap map = cacheMapOf(*session, most);
    EXPECT(map.columns() <= most, map.columns(), most);
    EXPECT_EQ(map.rows.size(), heads.size());
    for (size_t h = 0; h < heads.size(); ++h) {
      std::vector<uint32_t> held(static_cast<size_t>(map.columns()));
      for (const int32_t position : heads[h].positions) ++held[static_cast<size_t>(position / map.perColumn)];
      EXPECT((held == map.rows[h].held), h, most);
      EXPECT_EQ(map.rows[h].kept, static_cast<int64_t>(heads[h].positions.size()));
      for (size_t c = 0; c < held.size(); ++c) EXPECT_EQ(static_cast<int>(map.rows[h].valueBits[c]), held[c] > 0 ? 16 : 0);
    }
    int64_t widths = 0;
    for (int c = 0; c < map.columns(); ++c) widths += map.widthOf(c);
    EXPECT_EQ(widths, int64_t{75});
  }
}

TEST(full_pages_but_the_newest_have_the_bits_asked_for) {
  const auto session = fed(randomEngine(), {{"kv.k_bits", "4"}, {"kv.v_bits", "2"}}, 75);  // pages of 16
  const CacheMap map = cacheMapOf(*session, 1000);
  for (const CacheMapRow& row : map.rows)
    for (size_t position = 0; position < 75; ++position) {
      EXPECT_EQ(static_cast<int>(row.keyBits[position]), position < 64 ? 4 : 16);
      EXPECT_EQ(static_cast<int>(row.valueBits[position]), position < 64 ? 2 : 16);
    }
}

TEST(followers_name_the_layer_whose_keys_they_read) {
  const auto session = fed(randomEngine(), {{"share.method", "echoatt"}, {"share.block", "3"}, {"share.first", "0"}, {"share.last", "0"}}, 20);
  for (const CacheMapRow& row : cacheMapOf(*session, 1000).rows) {
    EXPECT_EQ(row.keysOf, 0);
    for (size_t position = 0; position < 20; ++position) {
      EXPECT_EQ(static_cast<int>(row.keyBits[position]), row.layer == 0 ? 16 : 0);
      EXPECT_EQ(static_cast<int>(row.valueBits[position]), 16);
    }
  }
}
