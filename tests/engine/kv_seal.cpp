// SPDX-License-Identifier: GPL-3.0-or-later
// Sealed pages: rounding against double, codes that stay through evictions, bytes by formula, attention over packed pages on every
// instruction set.
#include "tests/engine/filled_cache.h"

using namespace winnow;
using namespace winnow::test;

namespace {

// What quantizing `values` in one group should give, in double but for the stored f16 scale and minimum, and how far off a value may be.
std::vector<double> rounded(const std::vector<double>& values, int bits, double& bound) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const double top = (1 << bits) - 1, scale = f16ToFloat(floatToF16(static_cast<float>((*high - *low) / top)));
  std::vector<double> out;
  for (const double x : values) out.push_back(*low + scale * (scale > 0 ? std::clamp(std::nearbyint((x - *low) / scale), 0.0, top) : 0));
  bound = scale / 2 + (*high - *low) * 0x1p-11 + std::max(std::fabs(*low), std::fabs(*high)) * 0x1p-11;
  return out;
}

}  // namespace

TEST(sealed_pages_hold_the_nearest_codes) {
  for (const Shape& shape : {Shape{256, 8}, Shape{256, 24}, Shape{2048, 64}, Shape{2048, 128}})
    for (const int bits : {8, 4, 3, 2})
      for (const bool perChannel : {false, true}) {
        Filled f(shape, formatOf(bits, bits, perChannel));
        f.feed(150);
        const int page = f.cache.pageTokens(), sealed = (150 - 1) / page * page, group = std::min(32, shape.headDim), set = std::min(32, page);
        for (int h = 0; h < kHeads; ++h)
          for (const bool keys : {true, false}) {
            std::vector<std::vector<float>> rows;
            for (int slot = 0; slot < 150; ++slot) rows.push_back(f.row(h, slot, keys));
            for (int slot = sealed; slot < 150; ++slot)
              for (int c = 0; c < f.dim; ++c) EXPECT_EQ(rows[static_cast<size_t>(slot)][static_cast<size_t>(c)], f.given(h, slot, c, keys));  // the newest page is f16
            const bool channels = keys && perChannel;
            for (int a = 0; a < (channels ? sealed / set : sealed); ++a)
              for (int b = 0; b < (channels ? f.dim : f.dim / group); ++b) {
                std::vector<double> values;
                for (int i = 0; i < (channels ? set : group); ++i) {
                  const int slot = channels ? a * set + i : a, c = channels ? b : b * group + i;
                  values.push_back(f.given(h, slot, c, keys));
                }
                double bound = 0;
                const auto expected = rounded(values, bits, bound);
                for (size_t i = 0; i < values.size(); ++i) {
                  const int slot = channels ? a * set + static_cast<int>(i) : a, c = channels ? b : b * group + static_cast<int>(i);
                  if (slot % 5 != 0 && c % 7 != 0) continue;  // enough of them
                  const double got = rows[static_cast<size_t>(slot)][static_cast<size_t>(c)];
                  EXPECT_NEAR(got, expected[i], std::fabs(expected[i]) * 0x1p-11 + 1e-6);
                  EXPECT(std::fabs(got - values[i]) <= bound, bits, got, values[i], bound);
                }
              }
          }
      }
}

TEST(bytes_are_the_formula_after_every_change) {
  for (const Shape& shape : {Shape{256, 8}, Shape{2048, 64}})
    for (const bool perChannel : {false, true}) {
      Filled f(shape, formatOf(4, 2, perChannel));
      const int64_t tokens = f.cache.pageTokens(), d = shape.headDim;
      const auto check = [&](int64_t kBits, int64_t vBits) {
        const int64_t held = f.cache.slots(0, 0), sealed = (held - 1) / tokens, pages = (held + tokens - 1) / tokens;
        const auto packed = [&](int64_t bits, bool channels) {
          if (bits == 16) return tokens * d * 2;
          return tokens * d * bits / 8 + (channels ? tokens / std::min<int64_t>(32, tokens) * d : tokens * (d / std::min<int64_t>(32, d))) * 4;
        };
        const int64_t k = packed(kBits, perChannel), v = packed(vBits, false);
        EXPECT_EQ(f.cache.allocatedBytes(), kHeads * (sealed * (k + v) + (pages - sealed) * tokens * d * 4));
        EXPECT_EQ(f.ledger.bytes(MemoryTag::kv), f.cache.allocatedBytes());
        EXPECT_EQ(f.cache.liveBytes(), kHeads * (sealed * (k + v) + (held - sealed * tokens) * d * 4));
        EXPECT_EQ(f.cache.unsealedBytes(), kHeads * (pages - sealed) * tokens * d * 2 * ((kBits < 16) + (vBits < 16)));
      };
      for (const int more : {1, 14, 1, 1, 47, 1, 200}) {
        f.feed(more);
        check(4, 2);
      }
      f.keep(range(static_cast<int>(tokens), 265));  // whole pages leave
      check(4, 2);
      f.cache.setFormat(formatOf(2, 2, perChannel), f.pool);
      check(2, 2);
      f.cache.truncate(static_cast<int>(tokens) + 3);  // into a sealed page, which opens
      f.cache.reserve(1);
      EXPECT_EQ(f.cache.slots(0, 0), static_cast<int>(tokens) + 3);
      check(2, 2);
      f.cache.clear();
      EXPECT_EQ(f.ledger.bytes(MemoryTag::kv), int64_t{0});
    }
}

TEST(evicted_caches_keep_the_codes_of_what_stays) {
  std::mt19937 random(3);
  for (const bool perChannel : {false, true})
    for (const int bits : {8, 2}) {
      Filled f({2048, 64}, formatOf(bits, bits, perChannel));
      f.feed(400);
      std::vector<std::vector<float>> before;
      for (int slot = 0; slot < 400; ++slot) before.push_back(f.row(1, slot, true));
      // Sinks and a window that moves by 16: sets of channels meet in a page, and none has to be rounded again.
      std::vector<int32_t> kept = range(0, 4);
      for (const int32_t slot : range(20, 400)) kept.push_back(slot);
      f.keep(kept);
      EXPECT_EQ(f.cache.takeRegrouped(), int64_t{0});
      const int sealed = (static_cast<int>(kept.size()) - 1) / 64 * 64;
      for (int slot = 0; slot < sealed; ++slot)
        if (kept[static_cast<size_t>(slot)] < 384) EXPECT(f.row(1, slot, true) == before[static_cast<size_t>(kept[static_cast<size_t>(slot)])], slot);
      // What was f16 until now was sealed within the bound of its own range, or stays f16.
      for (int slot = 0; slot < static_cast<int>(kept.size()); ++slot) {
        const int position = kept[static_cast<size_t>(slot)];
        const std::vector<float> row = f.row(1, slot, false);
        for (int c = 0; c < 64; ++c)
          EXPECT_NEAR(row[static_cast<size_t>(c)], f.given(1, position, c, false), (slot < sealed || position < 384 ? 4.5 / ((1 << bits) - 1) : 0) + 0.003);
      }
      // A random half, again and again: per token nothing is ever rounded twice; per channel it is said.
      int64_t again = 0;
      for (int round = 0; round < 4; ++round) {
        std::vector<int32_t> half;
        for (int slot = 0; slot < f.cache.slots(0, 0); ++slot)
          if (random() % 2) half.push_back(slot);
        std::vector<std::vector<float>> old;
        for (const int32_t slot : half) old.push_back(f.row(0, slot, true));
        f.keep(half);
        const int64_t now = f.cache.takeRegrouped();
        again += now;
        if (now > 0) continue;
        const int stays = static_cast<int>(half.size()) < 65 ? 0 : 64;
        for (int slot = 0; slot < stays; ++slot)
          if (half[static_cast<size_t>(slot)] < 128) EXPECT(f.row(0, slot, true) == old[static_cast<size_t>(slot)], round, slot);
        f.feed(100);
      }
      EXPECT(perChannel || again == 0, again);
    }
}

TEST(narrowing_reformats_in_place_and_widening_waits) {
  Filled f({256, 64}, formatOf(16, 16));
  f.feed(100);
  EXPECT(f.cache.asFormatted());
  const int64_t wide = f.cache.allocatedBytes();
  f.cache.setFormat(formatOf(8, 4), f.pool);
  const int64_t narrow = f.cache.allocatedBytes();
  EXPECT(narrow < wide / 2 + wide / 10, narrow, wide);
  EXPECT(f.cache.asFormatted());
  // The same as if it had been so from the start.
  Filled fresh({256, 64}, formatOf(8, 4));
  fresh.feed(100);
  for (int slot = 0; slot < 100; ++slot)
    for (const bool keys : {true, false}) EXPECT(f.row(1, slot, keys) == fresh.row(1, slot, keys), slot);
  EXPECT_EQ(f.cache.allocatedBytes(), fresh.cache.allocatedBytes());
  f.cache.setFormat(formatOf(16, 16), f.pool);
  EXPECT_EQ(f.cache.allocatedBytes(), narrow);
  EXPECT(!f.cache.asFormatted());  // offers to recompute
  EXPECT(f.row(1, 3, true) == fresh.row(1, 3, true));
  f.cache.clear();
  EXPECT(f.cache.asFormatted());
}

TEST(branches_read_sealed_pages_in_place) {
  Filled f({256, 32}, formatOf(4, 4, true));
  f.feed(100);
  const int64_t before = f.cache.allocatedBytes();
  Ledger own;
  cpu::HostKvCache branch(own, modelOf(32), 256);
  branch.beginAs(f.cache, 75);  // in the middle of a sealed page
  EXPECT(branch.format() == f.cache.format());
  EXPECT_EQ(branch.allocatedBytes(), int64_t{kHeads * 2 * 16 * 32 * 2});  // its own last page, f16
  const auto view = branch.view(0, 0);
  for (int slot = 0; slot < 75; ++slot) {
    std::vector<uint16_t> row(32);
    readSlot({16, 32}, {view[1].keys[slot / 16], &view[1].keyForms[slot / 16], slot % 16}, row.data());
    const auto expected = f.row(1, slot, true);
    for (size_t c = 0; c < 32; ++c) EXPECT_EQ(f16ToFloat(row[c]), expected[c]);
  }
  branch.reserve(20);
  branch.append(0, f.k.data(), f.v.data(), kHeads * 32, 20, 75, f.pool);
  branch.seal(f.pool);
  EXPECT_EQ(branch.slots(0, 0), 95);
  EXPECT_EQ(f.cache.allocatedBytes(), before);
}

TEST(a_hadamard_matrix_is_its_own_inverse_and_keeps_scores) {
  for (const int n : {8, 64, 128}) {
    std::vector<float> a(static_cast<size_t>(n)), b(a.size());
    fillNormal(a.data(), a.size(), 1);
    fillNormal(b.data(), b.size(), 2);
    double dot = 0, rotated = 0;
    std::vector<float> c = a, d = b;
    rotateHadamard(c.data(), n);
    rotateHadamard(d.data(), n);
    for (size_t i = 0; i < a.size(); ++i) {
      dot += double{a[i]} * b[i];
      rotated += double{c[i]} * d[i];
    }
    EXPECT_NEAR(dot, rotated, 1e-4);
    rotateHadamard(c.data(), n);
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], c[i], 1e-5);
  }
}

// Packed pages give bit for bit what their rows in f16 give, on every instruction set, for decoding and prefill.
TEST(attention_over_sealed_pages_equals_attention_over_their_rows) {
  for (const Shape& shape : {Shape{256, 8}, Shape{256, 24}, Shape{2048, 64}, Shape{2048, 128}})
    for (const bool perChannel : {false, true})
      for (const int bits : {8, 4, 3, 2})
        for (const int queries : {1, 20}) {
          KvFormat format = formatOf(bits, bits == 3 ? 16 : bits, perChannel);
          format.outliers = bits < 4 ? 0.04 : 0;
          Filled f(shape, format);
          f.feed(330);
          std::vector<int32_t> kept = range(0, 4);
          for (const int32_t slot : range(21, 330)) kept.push_back(slot);
          f.keep(kept);
          const auto sealed = f.cache.view(0, 0);
          const int tokens = static_cast<int>(kept.size()), page = f.cache.pageTokens();
          std::vector<std::vector<uint16_t>> open;
          std::vector<std::vector<const uint16_t*>> tables(kHeads * 2);
          std::vector<cpu::KvHead> rows(sealed.begin(), sealed.end());
          open.reserve(200);
          for (int h = 0; h < kHeads; ++h)
            for (const bool keys : {true, false}) {
              auto& table = tables[static_cast<size_t>(h * 2 + keys)];
              for (int p = 0; p * page < tokens; ++p) {
                auto& to = open.emplace_back();
                for (int slot = p * page; slot < std::min(tokens, (p + 1) * page); ++slot)
                  for (const float x : f.row(h, slot, keys)) to.push_back(floatToF16(x));
                table.push_back(to.data());
              }
              (keys ? rows[static_cast<size_t>(h)].keys : rows[static_cast<size_t>(h)].values) = table.data();
              (keys ? rows[static_cast<size_t>(h)].keyForms : rows[static_cast<size_t>(h)].valueForms) = nullptr;
            }
          std::vector<float> q(static_cast<size_t>(queries * 4 * f.dim));
          fillNormal(q.data(), q.size(), 5);
          cpu::AttendArgs args;
          args.heads = 4;
          args.kvHeads = kHeads;
          args.headDim = f.dim;
          args.queries = queries;
          args.pageTokens = page;
          args.q = q.data();
          args.qStride = args.outStride = 4 * f.dim;
          args.scale = 0.3f;
          for (const int threads : {1, 3})
            for (const auto& machine : machines(threads)) {
              std::vector<float> packed(q.size()), plain(q.size());
              args.kv = sealed.data();
              args.out = packed.data();
              cpu::attend(machine->context, args);
              args.kv = rows.data();
              args.out = plain.data();
              cpu::attend(machine->context, args);
              EXPECT(packed == plain, cpu::isaName(machine->context.isa()), bits, f.dim, perChannel, queries, threads);
            }
        }
}
