// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/support/check.h"

#include <random>

#include "engine/core/dtype.h"
#include "engine/quantize/method.h"
#include "engine/weights/matrix.h"

using namespace winnow;

namespace {
WeightFormat packed(int bits, int group, bool symmetric) {
  return {Storage::packed, static_cast<uint8_t>(bits), static_cast<uint16_t>(group), symmetric};
}
}  // namespace

TEST(pack_and_unpack_are_inverse_for_every_code) {
  std::mt19937 rng(3);
  for (int bits : {2, 3, 4, 5, 6, 8})
    for (int cols : {1, 31, 32, 33, 172, 256}) {
      Ledger ledger;
      Matrix m = Matrix::allocate(ledger, packed(bits, 32, true), 40, cols);
      std::vector<std::vector<uint8_t>> tiles;
      for (int tile = 0; tile < 3; ++tile) {
        std::vector<uint8_t> q(static_cast<size_t>(16 * cols));
        for (auto& c : q) c = static_cast<uint8_t>(rng() & ((1u << bits) - 1));
        packTile(m, tile, q.data());
        tiles.push_back(q);
      }
      for (int tile = 0; tile < 3; ++tile) {
        std::vector<uint8_t> q(static_cast<size_t>(16 * cols), 0xee);
        unpackTile(m, tile, q.data());
        EXPECT(q == tiles[static_cast<size_t>(tile)], bits, cols, tile);
      }
    }
}

TEST(packed_bytes_sit_where_the_header_says) {
  Ledger ledger;
  std::vector<uint8_t> q(16 * 64);
  for (size_t i = 0; i < q.size(); ++i) q[i] = static_cast<uint8_t>(i * 37 >> 2);
  const auto at = [&](int bits, int r, int k) { return q[static_cast<size_t>(r * 64 + k)] & ((1 << bits) - 1); };
  for (int bits : {2, 3, 4, 5, 6, 8}) {
    std::vector<uint8_t> codes = q;
    for (auto& c : codes) c = static_cast<uint8_t>(c & ((1 << bits) - 1));
    Matrix m = Matrix::allocate(ledger, packed(bits, 32, true), 16, 64);
    packTile(m, 0, codes.data());
    const auto* bytes = static_cast<const uint8_t*>(m.data);
    for (int chunk = 0; chunk < 2; ++chunk)
      for (int r = 0; r < 16; ++r)
        for (int b = 0; b < 4; ++b) {
          const uint8_t* in = bytes + chunk * 64 * bits + 4 * r + b;
          const auto code = [&](int k) { return at(bits, r, chunk * 32 + k); };
          if (bits == 8)
            for (int p = 0; p < 8; ++p) EXPECT_EQ(in[64 * p], code(4 * p + b));
          if (bits >= 4 && bits <= 6)
            for (int p = 0; p < 4; ++p) EXPECT_EQ(in[64 * p], (code(4 * p + b) & 15) | (code(16 + 4 * p + b) & 15) << 4);
          const auto crumbs = [&](int p, int shift) {
            int byte = 0;
            for (int i = 0; i < 4; ++i) byte |= (code(8 * i + 4 * p + b) >> shift & 3) << (2 * i);
            return byte;
          };
          const auto single = [&](int shift) {
            int byte = 0;
            for (int p = 0; p < 8; ++p) byte |= (code(4 * p + b) >> shift & 1) << p;
            return byte;
          };
          if (bits == 2 || bits == 3)
            for (int p = 0; p < 2; ++p) EXPECT_EQ(in[64 * p], crumbs(p, 0));
          if (bits == 3) EXPECT_EQ(in[128], single(2));
          if (bits == 5) EXPECT_EQ(in[256], single(4));
          if (bits == 6)
            for (int p = 0; p < 2; ++p) EXPECT_EQ(in[256 + 64 * p], crumbs(p, 4));
        }
  }
}

TEST(a_planning_ledger_counts_the_same_bytes) {
  for (const WeightFormat& f : {WeightFormat{}, packed(4, 32, true), packed(3, 128, false), packed(8, 0, false), WeightFormat{Storage::packed, 4, 64, true, 0, Code::nf4},
                                WeightFormat{Storage::packed, 8, 0, true, 0, Code::e5m2}, WeightFormat{Storage::packed, 4, 32, true, 0, Code::e2m1}}) {
    Ledger plan(true), real;
    const Matrix a = Matrix::allocate(plan, f, 33, 172), b = Matrix::allocate(real, f, 33, 172);
    EXPECT_EQ(plan.total(), real.total());
    EXPECT_EQ(static_cast<size_t>(real.total()), b.bytes());
    EXPECT(a.data == nullptr);
  }
  // Bits per weight: codes, and what a group adds. The K-quants are as large as in the file.
  const auto bits = [](const WeightFormat& f) { return 8 * static_cast<double>(f.bytes(64, 1024)) / (64 * 1024); };
  EXPECT_EQ(bits({Storage::packed, 4, 64, true, 0, Code::nf4}), 4.25);
  EXPECT_EQ(bits({Storage::packed, 4, 32, true, 0, Code::e2m1}), 4.25);
  EXPECT_EQ(bits({Storage::packed, 8, 0, true, 0, Code::e4m3}), 8 + 16.0 / 1024);
  EXPECT_EQ(bits({Storage::packed, 6, 16, true, 256}), 6.5625);
  EXPECT_EQ(bits({Storage::packed, 3, 16, true, 256}), 3.5625);  // 6-bit multiples take 8: an eighth of a bit more than the file
}
