// SPDX-License-Identifier: GPL-3.0-or-later
// Oracles a-f of quantization_and_kv.md W1 and the table of its section 8.2.
#include "tests/support/check.h"

#include <algorithm>
#include <random>

#include "engine/core/dtype.h"
#include "engine/quantize/method.h"
#include "engine/weights/matrix.h"

using namespace winnow;

namespace {

WeightFormat packed(int bits, int group, bool symmetric) {
  return {Storage::packed, static_cast<uint8_t>(bits), static_cast<uint16_t>(group), symmetric};
}

struct Quantized {
  Ledger ledger;
  Matrix m;
  Quantized(const std::vector<float>& w, int rows, int cols, const WeightFormat& format) : m(Matrix::allocate(ledger, format, rows, cols)) {
    for (int r = 0; r < rows; r += 16)
      findQuantizeMethod("rtn")->quantizeRows(w.data() + static_cast<size_t>(r) * static_cast<size_t>(cols), r, std::min(16, rows - r), {}, m);
  }
  std::vector<float> values() const {
    std::vector<float> out(static_cast<size_t>(m.rows) * static_cast<size_t>(m.cols));
    for (int r = 0; r < m.rows; ++r) dequantizeRow(m, r, out.data() + static_cast<size_t>(r) * static_cast<size_t>(m.cols));
    return out;
  }
  size_t scaleIndex(int r, int c) const {
    const int group = m.format.groupCols(m.cols);
    return (static_cast<size_t>(r / 16) * static_cast<size_t>(m.format.groups(m.cols)) + static_cast<size_t>(c / group)) * 16 +
           static_cast<size_t>(r % 16);
  }
};

std::vector<float> normal(size_t n, uint32_t seed = 1, float sigma = 1) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> d(0, sigma);
  std::vector<float> w(n);
  for (float& x : w) x = d(rng);
  return w;
}

double sqnr(const std::vector<float>& a, const std::vector<float>& b) {
  double signal = 0, noise = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    signal += static_cast<double>(a[i]) * a[i];
    noise += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
  }
  return 10 * std::log10(signal / noise);
}

}  // namespace

// (a) |w - w'| <= scale/2, plus what the f16 minimum may be off by; 2^-22 of the magnitudes for the f32 arithmetic.
TEST(rtn_stays_within_half_a_step) {
  for (int bits : {2, 3, 4, 5, 6, 8})
    for (bool symmetric : {true, false})
      for (int group : {0, 32, 128})
        for (float shift : {0.0f, 3.0f, 100.0f, 1000.0f})
          for (float sigma : {1.0f, 0.02f, 1e-5f, 1e-7f, 3e-9f}) {
            const int rows = 19, cols = 172;
            auto w = normal(rows * cols, 5, sigma);
            for (float& x : w) x += shift;
            const Quantized q(w, rows, cols, packed(bits, group, symmetric));
            const auto v = q.values();
            for (int i = 0; i < rows * cols; ++i) {
              const size_t at = q.scaleIndex(i / cols, i % cols), n = static_cast<size_t>(i);
              const float scale = f16ToFloat(q.m.scales[at]);
              double bound = 0.5 * scale + std::ldexp(std::fabs(w[n]) + std::fabs(v[n]), -22);
              if (!symmetric) {
                float low = INFINITY, high = -INFINITY;
                const int g = q.m.format.groupCols(cols), begin = i % cols / g * g;
                for (int k = begin; k < std::min(begin + g, cols); ++k) {
                  low = std::min(low, w[static_cast<size_t>(i / cols * cols + k)]);
                  high = std::max(high, w[static_cast<size_t>(i / cols * cols + k)]);
                }
                if (std::fabs(low) <= 32 * (high - low)) bound += std::ldexp(std::fabs(low), -11) + 0x1p-25;
              }
              EXPECT(std::fabs(v[n] - w[n]) <= bound, bits, symmetric, group, shift, sigma, w[n], v[n], bound);
            }
          }
}

// (b) weights already on an 8-bit grid come back exactly.
TEST(rtn_is_lossless_on_its_own_grid) {
  std::vector<float> w(16 * 64);
  std::mt19937 rng(2);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(static_cast<int>(rng() % 255) - 127) * 0.015625f;
  for (size_t i = 0; i < w.size(); i += 32) w[i] = 127 * 0.015625f;
  EXPECT(Quantized(w, 16, 64, packed(8, 32, true)).values() == w);
  std::fill(w.begin(), w.end(), 0.0f);
  EXPECT(Quantized(w, 16, 64, packed(4, 32, true)).values() == w);
  EXPECT(Quantized(w, 16, 64, packed(2, 32, false)).values() == w);
  std::fill(w.begin(), w.end(), 0.3125f);  // a constant group of f16 values is exact with a minimum
  EXPECT(Quantized(w, 16, 64, packed(2, 32, false)).values() == w);
}

// (c) and (d)
TEST(rtn_commutes_with_powers_of_two_and_row_order) {
  const int rows = 32, cols = 128;
  const auto w = normal(rows * cols);
  for (bool symmetric : {true, false})
    for (int bits : {2, 3, 4, 5, 6, 8}) {
      const auto v = Quantized(w, rows, cols, packed(bits, 32, symmetric)).values();
      auto doubled = w, reversed = w;
      for (float& x : doubled) x *= 8;
      for (int r = 0; r < rows; ++r) std::copy_n(w.begin() + r * cols, cols, reversed.begin() + (rows - 1 - r) * cols);
      const auto d = Quantized(doubled, rows, cols, packed(bits, 32, symmetric)).values();
      const auto b = Quantized(reversed, rows, cols, packed(bits, 32, symmetric)).values();
      for (size_t i = 0; i < v.size(); ++i) EXPECT_EQ(d[i], 8 * v[i]);
      for (int r = 0; r < rows; ++r)
        EXPECT(std::equal(v.begin() + r * cols, v.begin() + (r + 1) * cols, b.begin() + (rows - 1 - r) * cols));
    }
}

// (e) quantization_and_kv.md 8.2, +-0.15 dB on 2M samples of N(0,1).
TEST(rtn_signal_to_noise_matches_the_table) {
  const int rows = 512, cols = 4096;
  const auto w = normal(static_cast<size_t>(rows) * cols, 12345);
  struct Row {
    int bits, group;
    bool symmetric;
    double db;
  };
  for (const Row& row :
       {Row{8, 32, true, 45.44}, {8, 128, true, 43.80},  {8, 32, false, 46.74},  {6, 32, true, 33.19}, {6, 128, false, 32.49},
        {5, 32, true, 26.88},    {5, 128, false, 26.33}, {4, 32, true, 20.26},   {4, 64, true, 19.37}, {4, 128, true, 18.62},
        {4, 32, false, 22.14},   {4, 64, false, 20.95},  {4, 128, false, 20.02}, {8, 0, true, 41.27},  {4, 0, true, 16.08},
        {3, 32, true, 12.89},    {3, 32, false, 15.51},  {3, 128, false, 13.40}, {2, 32, true, 3.63},  {2, 32, false, 8.11},
        {2, 64, false, 6.94},    {2, 128, false, 6.01}}) {
    const double db = sqnr(w, Quantized(w, rows, cols, packed(row.bits, row.group, row.symmetric)).values());
    EXPECT(std::fabs(db - row.db) <= 0.15, row.bits, row.group, row.symmetric, db, row.db);
  }
}

// (f)
TEST(rtn_is_better_with_more_bits_and_smaller_groups) {
  const auto w = normal(64 * 1024, 9);
  for (bool symmetric : {true, false}) {
    double last = -100;
    for (int bits : {2, 3, 4, 5, 6, 8}) {
      double previous = 1000;
      for (int group : {32, 64, 128, 0}) {
        const double db = sqnr(w, Quantized(w, 64, 1024, packed(bits, group, symmetric)).values());
        EXPECT(db < previous, bits, group, db, previous);
        previous = db;
        if (group == 32) {
          EXPECT(db > last, bits, db, last);
          last = db;
        }
      }
    }
  }
}
