// SPDX-License-Identifier: GPL-3.0-or-later
// Outliers beside codes: which values they are, against trying every one in double; that the rest is stepped through a narrower range; bytes
// by formula; that they move with their rows and change with the format.
#include <set>

#include "tests/engine/filled_cache.h"

using namespace winnow;
using namespace winnow::test;

namespace {

using Picked = std::vector<std::set<int>>;      // components, of each row
using Rows = std::vector<std::vector<double>>;  // [slots][headDim]

KvFormat formatWith(int bits, double outliers, bool perChannel) {
  KvFormat format = formatOf(bits, bits, perChannel);
  format.outliers = outliers;
  return format;
}

// Square of the range of those of `at` that are not picked.
struct Member {
  int slot, component;
};
double squaredRange(const Rows& rows, const std::vector<Member>& members, const Picked& picked, int withoutSlot = -1, int withoutComponent = -1) {
  double low = INFINITY, high = -INFINITY;
  for (const Member& m : members) {
    if (picked[static_cast<size_t>(m.slot)].contains(m.component) || (m.slot == withoutSlot && m.component == withoutComponent)) continue;
    const double x = rows[static_cast<size_t>(m.slot)][static_cast<size_t>(m.component)];
    low = std::min(low, x);
    high = std::max(high, x);
  }
  return high < low ? 0 : (high - low) * (high - low);
}

// The values that share a scale with a component of a slot, among slots sealed together.
std::vector<Member> membersOf(int slot, int component, int first, int end, int dim, bool perChannel) {
  std::vector<Member> members;
  const int group = std::min(32, dim), begin = component / group * group;
  if (perChannel)
    for (int s = first; s < end; ++s) members.push_back({s, component});
  else
    for (int c = begin; c < begin + group; ++c) members.push_back({slot, c});
  return members;
}

// Every row of [first, end) picks one by trying each, on what the round before left; then the next.
void pick(const Rows& rows, int first, int end, int each, bool perChannel, Picked& picked) {
  const int dim = static_cast<int>(rows.front().size());
  for (int round = 0; round < each; ++round) {
    const Picked before = picked;
    for (int slot = first; slot < end; ++slot) {
      int best = -1;
      double most = 0;
      for (int c = 0; c < dim; ++c) {
        if (before[static_cast<size_t>(slot)].contains(c)) continue;
        const auto members = membersOf(slot, c, first, end, dim, perChannel);
        const double gain = squaredRange(rows, members, before) - squaredRange(rows, members, before, slot, c);
        if (best >= 0 && !(gain > most)) continue;
        best = c;
        most = std::max(gain, 0.0);
      }
      picked[static_cast<size_t>(slot)].insert(best);
    }
  }
}

double squaredError(const Filled& filled, Filled& read, bool keys, int sealed) {
  double sum = 0;
  for (int h = 0; h < kHeads; ++h)
    for (int slot = 0; slot < sealed; ++slot) {
      const std::vector<float> row = read.row(h, slot, keys);
      for (int c = 0; c < read.dim; ++c) {
        const double off = double{row[static_cast<size_t>(c)]} - filled.given(h, slot, c, keys);
        sum += off * off;
      }
    }
  return sum;
}

}  // namespace

TEST(a_share_is_a_number_of_values_of_every_row) {
  EXPECT_EQ(outliersOf(0, 64), 0);
  EXPECT_EQ(outliersOf(0.01, 64), 1);  // 0.64
  EXPECT_EQ(outliersOf(0.001, 8), 1);
  EXPECT_EQ(outliersOf(0.01, 128), 1);
  EXPECT_EQ(outliersOf(0.02, 128), 3);  // 2.56
  EXPECT_EQ(outliersOf(0.05, 256), 13);
}

TEST(outliers_are_those_that_narrow_the_range_most_and_the_rest_steps_through_it) {
  for (const Shape& shape : {Shape{256, 8}, Shape{256, 24}, Shape{2048, 64}})
    for (const int bits : {3, 2})
      for (const bool perChannel : {false, true})
        for (const double share : {0.01, 0.05}) {
          Filled f(shape, formatWith(bits, share, perChannel));
          f.feed(130);
          const int page = f.cache.pageTokens(), sealed = (130 - 1) / page * page, set = std::min(32, page), each = outliersOf(share, f.dim);
          for (const bool keys : {true, false}) {
            const bool channels = keys && perChannel;
            Rows rows;
            for (int slot = 0; slot < sealed; ++slot) {
              rows.emplace_back();
              for (int c = 0; c < f.dim; ++c) rows.back().push_back(f.given(1, slot, c, keys));
            }
            Picked picked(rows.size());
            for (int first = 0; first < sealed; first += set) pick(rows, first, first + set, each, channels, picked);
            for (int slot = 0; slot < sealed; ++slot) {
              const std::vector<float> row = f.row(1, slot, keys);
              const auto at = static_cast<size_t>(slot);
              for (int c = 0; c < f.dim; ++c) {
                const double given = rows[at][static_cast<size_t>(c)], got = row[static_cast<size_t>(c)];
                if (picked[at].contains(c)) {
                  EXPECT_EQ(got, given);
                  continue;
                }
                const int first = slot / set * set;
                double low = INFINITY, high = -INFINITY;
                for (const Member& m : membersOf(slot, c, first, first + set, f.dim, channels)) {
                  if (picked[static_cast<size_t>(m.slot)].contains(m.component)) continue;
                  low = std::min(low, rows[static_cast<size_t>(m.slot)][static_cast<size_t>(m.component)]);
                  high = std::max(high, rows[static_cast<size_t>(m.slot)][static_cast<size_t>(m.component)]);
                }
                const double top = (1 << bits) - 1, scale = f16ToFloat(floatToF16(static_cast<float>((high - low) / top)));
                const double expected = low + scale * (scale > 0 ? std::clamp(std::nearbyint((given - low) / scale), 0.0, top) : 0);
                EXPECT_NEAR(got, expected, std::fabs(expected) * 0x1p-11 + 1e-6);  // rounded to f16
              }
            }
          }
        }
}

// 1 %, 3 % and 5 % of 64 are 1, 2 and 3 values of a row.
TEST(the_more_outliers_the_smaller_the_error_of_the_rest) {
  for (const bool perChannel : {false, true})
    for (const int bits : {3, 2})
      for (const bool keys : {true, false}) {
        double before = INFINITY;
        for (const double share : {0.0, 0.01, 0.03, 0.05}) {
          Filled f({2048, 64}, formatWith(bits, share, perChannel));
          f.feed(200);
          const double error = squaredError(f, f, keys, 192);
          EXPECT(error < 0.97 * before, perChannel, bits, keys, share, error, before);
          before = error;
        }
      }
}

TEST(bytes_are_the_formula_with_outliers) {
  for (const Shape& shape : {Shape{256, 8}, Shape{2048, 64}})
    for (const bool perChannel : {false, true}) {
      Filled f(shape, formatWith(4, 0.03, perChannel));
      const int64_t tokens = f.cache.pageTokens(), d = shape.headDim, rowOutliers = outliersOf(0.03, shape.headDim);
      const auto check = [&](int64_t bits, int64_t outliers) {
        const int64_t held = f.cache.slots(0, 0), sealed = (held - 1) / tokens, pages = (held + tokens - 1) / tokens;
        const int64_t perToken = tokens * d * bits / 8 + tokens * (d / std::min<int64_t>(32, d)) * 4 + tokens * outliers * 4;
        const int64_t channels = tokens * d * bits / 8 + tokens / std::min<int64_t>(32, tokens) * d * 4 + tokens * outliers * 4;
        const int64_t both = perToken + (perChannel ? channels : perToken);
        EXPECT_EQ(f.cache.allocatedBytes(), kHeads * (sealed * both + (pages - sealed) * tokens * d * 4));
        EXPECT_EQ(f.ledger.bytes(MemoryTag::kv), f.cache.allocatedBytes());
        EXPECT_EQ(f.cache.liveBytes(), kHeads * (sealed * both + (held - sealed * tokens) * d * 4));
      };
      for (const int more : {70, 1, 200}) {
        f.feed(more);
        check(4, rowOutliers);
      }
      f.keep(range(static_cast<int>(tokens), 271));  // whole pages leave
      check(4, rowOutliers);
      f.cache.setFormat(formatWith(2, 0.03, perChannel), f.pool);
      check(2, rowOutliers);
      EXPECT(f.cache.asFormatted());
      f.cache.setFormat(formatWith(2, 0, perChannel), f.pool);
      check(2, 0);
      EXPECT(f.cache.asFormatted());
      f.cache.setFormat(formatWith(2, 0.03, perChannel), f.pool);
      check(2, 0);  // what is lost is not stored in more bytes
      EXPECT(!f.cache.asFormatted());
    }
}

TEST(outliers_move_with_their_rows) {
  std::mt19937 random(3);
  for (const bool perChannel : {false, true}) {
    Filled f({2048, 64}, formatWith(2, 0.03, perChannel));
    f.feed(400);
    for (int round = 0; round < 3; ++round) {
      std::vector<int32_t> kept;
      for (int slot = 0; slot < f.cache.slots(0, 0); ++slot)
        if (perChannel ? slot < 4 || slot >= 20 : random() % 2 == 0) kept.push_back(slot);  // few runs, so that sets need not be grouped anew
      std::vector<std::vector<float>> before;
      for (const int32_t slot : kept) before.push_back(f.row(0, slot, true));
      const int sealedBefore = (f.cache.slots(0, 0) - 1) / 64 * 64;
      f.keep(kept);
      EXPECT_EQ(f.cache.takeRegrouped(), int64_t{0});
      const int stays = (static_cast<int>(kept.size()) - 1) / 64 * 64;
      EXPECT(stays > 0);
      for (int slot = 0; slot < stays; ++slot)
        if (kept[static_cast<size_t>(slot)] < sealedBefore) EXPECT(f.row(0, slot, true) == before[static_cast<size_t>(slot)], perChannel, round, slot);
      f.feed(90);
    }
  }
}

// Layers with bits of their own beside others.
TEST(every_layer_is_sealed_in_its_own_bits) {
  ModelConfig model = modelOf(32);
  model.layers = 3;
  Ledger ledger;
  ThreadPool pool(2);
  cpu::HostKvCache cache(ledger, model, 256);
  KvFormat format = formatOf(4, 4, true);
  format.layers = {{8, 4}, {16, 2}, {16, 16}};
  cache.setFormat(format, pool);
  EXPECT(format.quantizes(true) && format.quantizes(false));
  std::vector<float> rows(static_cast<size_t>(50 * kHeads * 32));
  fillNormal(rows.data(), rows.size(), 7);
  cache.reserve(50);
  for (int layer = 0; layer < 3; ++layer) cache.append(layer, rows.data(), rows.data(), kHeads * 32, 50, 0, pool);
  cache.seal(pool);
  const auto bytes = [](int64_t bits, bool channels) { return bits == 16 ? int64_t{16 * 32 * 2} : 16 * 32 * bits / 8 + (channels ? 32 : 16) * 4; };
  int64_t expected = 0;
  for (int layer = 0; layer < 3; ++layer) {
    const KvBits own = format.layers[static_cast<size_t>(layer)];
    for (const bool keys : {true, false}) {
      const int bits = keys ? own.keys : own.values;
      for (size_t page = 0; page < 4; ++page) EXPECT_EQ(int{cache.form(layer, 1, keys, page).bits}, page < 3 ? bits : 16);
      expected += kHeads * (3 * bytes(bits, keys) + 16 * 32 * 2);
    }
  }
  EXPECT_EQ(cache.allocatedBytes(), expected);
  EXPECT_EQ(ledger.bytes(MemoryTag::kv), expected);
  EXPECT_EQ(cache.unsealedBytes(), int64_t{kHeads * 3 * 16 * 32 * 2});  // the newest page of what is quantized
  EXPECT(cache.asFormatted());
  format.layers[2] = {4, 8};
  format.layers[0] = {16, 4};
  cache.setFormat(format, pool);
  EXPECT_EQ(int{cache.form(2, 0, true, 0).bits}, 4);
  EXPECT_EQ(int{cache.form(0, 0, true, 0).bits}, 8);  // what is lost stays so
  EXPECT(!cache.asFormatted());
}
