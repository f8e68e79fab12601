// SPDX-License-Identifier: GPL-3.0-or-later
// Pages and gathers; attention over a gathered cache equals attention over the kept slots.
#include <array>
#include <random>

#include "engine/cache/evictor.h"
#include "engine/core/dtype.h"
#include "engine/cpu/kv_cache.h"
#include "engine/knobs/knobs.h"
#include "engine/share/methods.h"
#include "tests/support/check.h"

using namespace winnow;

namespace {

constexpr int kHeads = 2, kDim = 8, kLayers = 2;

ModelConfig smallModel() {
  ModelConfig model;
  model.layers = kLayers;
  model.heads = 4;
  model.kvHeads = kHeads;
  model.headDim = kDim;
  return model;
}

struct Filled {
  Ledger ledger;
  ThreadPool pool{2};
  cpu::HostKvCache cache{ledger, smallModel(), 256};
  std::vector<float> k, v;  // [tokens, heads, dim], as f16 holds them
  explicit Filled(int tokens, int atOnce = 5) {
    std::mt19937 random(11);
    std::normal_distribution<float> normal;
    for (std::vector<float>* side : {&k, &v})
      for (int i = 0; i < tokens * kHeads * kDim; ++i) side->push_back(f16ToFloat(floatToF16(normal(random))));
    for (int first = 0; first < tokens; first += atOnce) {
      const int count = std::min(atOnce, tokens - first);
      cache.reserve(count);
      for (int layer = 0; layer < kLayers; ++layer)
        cache.append(layer, k.data() + first * kHeads * kDim, v.data() + first * kHeads * kDim, kHeads * kDim, count, first, pool);
    }
  }
};

}  // namespace

TEST(pages_hold_what_was_appended) {
  Filled f(37);
  EXPECT_EQ(f.cache.pageTokens(), 16);
  EXPECT_EQ(f.cache.slots(1, 1), 37);
  EXPECT_EQ(f.cache.allocatedBytes(), int64_t{kLayers * kHeads * 2 * 3 * 16 * kDim * 2});
  EXPECT_EQ(f.cache.liveBytes(), int64_t{kLayers * kHeads * 2 * 37 * kDim * 2});
  EXPECT_EQ(f.ledger.bytes(MemoryTag::kv), f.cache.allocatedBytes());
  const auto view = f.cache.view(1, 1);
  for (int head = 0; head < kHeads; ++head)
    for (int slot = 0; slot < 37; ++slot)
      for (int c = 0; c < kDim; ++c) {
        const auto at = static_cast<size_t>((slot * kHeads + head) * kDim + c);
        const int in = slot % 16 * kDim + c;
        EXPECT_EQ(f16ToFloat(view[static_cast<size_t>(head)].keys[slot / 16][in]), f.k[at]);
        EXPECT_EQ(f16ToFloat(view[static_cast<size_t>(head)].values[slot / 16][in]), f.v[at]);
      }
}

TEST(eviction_equals_masking_and_frees_pages) {
  const int tokens = 90;
  Filled f(tokens);
  cpu::Context context(f.pool, cpu::bestIsa());
  std::mt19937 random(5);
  const int64_t before = f.ledger.bytes(MemoryTag::kv);
  // Every head keeps another choice, each with the newest token.
  std::vector<std::vector<int32_t>> kept;
  for (int head = 0; head < kHeads; ++head) {
    std::vector<int32_t> slots;
    for (int slot = 0; slot < tokens - 1; ++slot)
      if (random() % 3 == 0) slots.push_back(slot);
    slots.push_back(tokens - 1);
    f.cache.keep(0, head, slots);
    kept.push_back(slots);
    EXPECT(std::equal(slots.begin(), slots.end(), f.cache.positions(0, head).begin()));
  }
  EXPECT(f.ledger.bytes(MemoryTag::kv) < before - before / 4, f.ledger.bytes(MemoryTag::kv), before);
  EXPECT_EQ(f.ledger.bytes(MemoryTag::kv), f.cache.allocatedBytes());

  std::vector<float> q(4 * kDim), out(4 * kDim);
  std::normal_distribution<float> normal;
  for (float& x : q) x = normal(random);
  cpu::AttendArgs args;
  args.heads = 4;
  args.kvHeads = kHeads;
  args.headDim = kDim;
  args.queries = 1;
  args.pageTokens = f.cache.pageTokens();
  args.q = q.data();
  args.qStride = args.outStride = 4 * kDim;
  args.kv = f.cache.view(0, 0).data();
  args.scale = 0.35f;
  args.out = out.data();
  cpu::attend(context, args);
  for (int h = 0; h < 4; ++h) {  // full attention with -infinity on what was evicted
    const int kvHead = h / 2;
    std::vector<double> score(tokens, -INFINITY);
    double sum = 0, expected[kDim] = {};
    for (const int32_t slot : kept[static_cast<size_t>(kvHead)]) {
      double dot = 0;
      for (int c = 0; c < kDim; ++c) dot += double{q[static_cast<size_t>(h * kDim + c)]} * f.k[static_cast<size_t>((slot * kHeads + kvHead) * kDim + c)];
      score[static_cast<size_t>(slot)] = dot * 0.35;
    }
    for (int slot = 0; slot < tokens; ++slot) {
      const double e = std::exp(score[static_cast<size_t>(slot)]);
      sum += e;
      for (int c = 0; c < kDim; ++c) expected[c] += e * f.v[static_cast<size_t>((slot * kHeads + kvHead) * kDim + c)];
    }
    for (int c = 0; c < kDim; ++c) EXPECT_NEAR(out[static_cast<size_t>(h * kDim + c)], expected[c] / sum, 1e-5);
  }
}

TEST(the_evictor_fires_at_its_interval_and_groups_keep_the_same_slots) {
  Filled f(64);
  Evictor evictor;
  EvictionSettings settings;
  settings.policy = "random";
  settings.budget = 20;
  settings.interval = 16;
  evictor.configure(settings, f.cache);
  EXPECT(!evictor.due(15) && evictor.due(16) && evictor.due(64));
  const auto sharing = uniformBlocks(kLayers, 0, 0, 2);
  unifyGroups(f.cache, sharing);
  EXPECT(f.cache.ownsKeys(0) && !f.cache.ownsKeys(1));
  const int64_t evicted = evictor.apply(f.cache, sharing, 64, f.pool);
  EXPECT_EQ(evicted, int64_t{kLayers * kHeads * 44});
  EXPECT(!evictor.due(79) && evictor.due(80));
  for (int head = 0; head < kHeads; ++head) {
    EXPECT_EQ(f.cache.slots(0, head), 20);
    const auto a = f.cache.positions(0, head), b = f.cache.positions(1, head);
    EXPECT(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  }
}

TEST(groups_meet_in_what_all_layers_still_hold) {
  Filled f(10);
  const std::vector<int32_t> leader = {0, 1, 4, 7, 9}, follower = {1, 2, 4, 8, 9};
  f.cache.keep(0, 0, leader);
  f.cache.keep(1, 0, follower);
  unifyGroups(f.cache, uniformBlocks(kLayers, 0, 0, 2));
  for (int layer = 0; layer < kLayers; ++layer) {
    const auto held = f.cache.positions(layer, 0);
    EXPECT((std::vector<int32_t>(held.begin(), held.end()) == std::vector<int32_t>{1, 4, 9}));
    EXPECT_EQ(f.cache.slots(layer, 1), 10);
  }
}

TEST(column_sums_move_with_their_slots) {
  Filled f(40);
  f.cache.observe(kEverybody);
  for (int slot = 0; slot < 40; ++slot) f.cache.columnSums(0)[f.cache.columnStride() + slot] = static_cast<float>(slot);
  const std::vector<int32_t> kept = {3, 5, 20, 39};
  f.cache.keep(0, 1, kept);
  f.cache.reserve(400);  // grows
  const auto sums = f.cache.columnSums(0, 1);
  EXPECT(std::ranges::equal(sums, std::array{3.0f, 5.0f, 20.0f, 39.0f}));
  EXPECT_EQ(f.cache.columnSums(0)[f.cache.columnStride() + 4], 0.0f);  // the next token starts at nothing
  f.cache.observe(kNobody);
  EXPECT(f.cache.columnSums(0, 1).empty());
}

TEST(a_failed_step_is_undone) {
  Filled f(20);
  f.cache.mark();
  f.cache.reserve(3);
  f.cache.append(0, f.k.data(), f.v.data(), kHeads * kDim, 3, 20, f.pool);
  f.cache.rollback();
  EXPECT_EQ(f.cache.slots(0, 0), 20);
  EXPECT_EQ(f.cache.slots(1, 0), 20);
}
