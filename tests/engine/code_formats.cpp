// SPDX-License-Identifier: GPL-3.0-or-later
// Oracles of quantization_and_kv.md W3 and W4: the tables against their construction, every code there and back, roundings against double, and
// the signal-to-noise ratios of section 8.2.
#include "tests/support/check.h"

#include <algorithm>
#include <random>

#include "engine/core/dtype.h"
#include "engine/cpu/isa.h"
#include "engine/quantize/code_format.h"
#include "engine/quantize/method.h"

using namespace winnow;

namespace {

WeightFormat coded(Code code, int group) {
  return {Storage::packed, static_cast<uint8_t>(findCodeFormat(code)->bits), static_cast<uint16_t>(group), true, 0, code};
}

std::vector<float> rounded(const std::vector<float>& w, int rows, int cols, const WeightFormat& format) {
  Ledger ledger;
  Matrix m = Matrix::allocate(ledger, format, rows, cols);
  for (int r = 0; r < rows; r += 16)
    findQuantizeMethod("rtn")->quantizeRows(w.data() + static_cast<size_t>(r) * static_cast<size_t>(cols), r, std::min(16, rows - r), {}, m);
  std::vector<float> out(w.size());
  for (int r = 0; r < rows; ++r) dequantizeRow(m, r, out.data() + static_cast<size_t>(r) * static_cast<size_t>(cols));
  return out;
}

double sqnr(const std::vector<float>& a, const std::vector<float>& b) {
  double signal = 0, noise = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double was = static_cast<double>(a[i]), error = was - static_cast<double>(b[i]);
    signal += was * was;
    noise += error * error;
  }
  return 10 * std::log10(signal / noise);
}

// The quantile of a normal distribution, by bisection.
double quantile(double p) {
  double low = -10, high = 10;
  for (int i = 0; i < 100; ++i) ((std::erfc(-(low + high) / 2 / std::sqrt(2.0)) / 2 < p) ? low : high) = (low + high) / 2;
  return low;
}

// The nearest float of such a format, as the formula of W4 has it: exponent, unit in the last place, ties to even.
double nearest(double x, int mantissa, int bias, double most) {
  if (x == 0) return 0;
  const int exponent = std::max(static_cast<int>(std::floor(std::log2(std::fabs(x)))), 1 - bias);
  const double ulp = std::ldexp(1.0, exponent - mantissa), q = std::nearbyint(std::fabs(x) / ulp) * ulp;
  return std::copysign(std::min(q, most), x);
}

struct Shape {
  Code code;
  int mantissa, bias;
};
constexpr Shape kFloats[] = {{Code::e4m3, 3, 7}, {Code::e5m2, 2, 15}, {Code::e2m1, 1, 1}};

}  // namespace

TEST(nf4_levels_are_quantiles_of_a_normal_distribution) {
  constexpr double kOffset = 0.9677083;
  std::vector<double> levels{0};
  for (int i = 0; i < 8; ++i) levels.push_back(quantile(kOffset + (0.5 - kOffset) * i / 8));
  for (int i = 0; i < 7; ++i) levels.push_back(-quantile(kOffset + (0.5 - kOffset) * i / 7));
  std::sort(levels.begin(), levels.end());
  const auto values = findCodeFormat(Code::nf4)->values;
  for (size_t i = 0; i < 16; ++i) EXPECT_NEAR(static_cast<double>(values[i]), levels[i] / levels[15], 1e-6);
  int mirrored = 0;
  for (size_t i = 0; i < 16; ++i) mirrored += values[i] != 0 && std::count(values.begin(), values.end(), -values[i]) > 0;
  EXPECT_EQ(mirrored, 2);  // the ends alone
}

TEST(nf4_keeps_zero_and_the_largest_and_bounds_the_rest) {
  std::mt19937 rng(4);
  std::normal_distribution<float> draw;
  std::vector<float> w(16 * 64);
  for (int r = 0; r < 16; ++r) {
    float largest = 0;
    for (int k = 0; k < 64; ++k) largest = std::max(largest, std::fabs(w[static_cast<size_t>(r * 64 + k)] = draw(rng)));
    w[static_cast<size_t>(r * 64)] = r % 2 == 0 ? 4.5f : -4.5f;  // an f16
    w[static_cast<size_t>(r * 64 + 1)] = 0;
    EXPECT(largest < 4.5f);
  }
  const auto v = rounded(w, 16, 64, coded(Code::nf4, 64));
  for (int r = 0; r < 16; ++r) {
    EXPECT_EQ(v[static_cast<size_t>(r * 64)], w[static_cast<size_t>(r * 64)]);
    EXPECT_EQ(v[static_cast<size_t>(r * 64 + 1)], 0.0f);
    for (int k = 0; k < 64; ++k) EXPECT_NEAR(static_cast<double>(v[static_cast<size_t>(r * 64 + k)]), static_cast<double>(w[static_cast<size_t>(r * 64 + k)]), 0.15191 * 4.5);
  }
  auto mirrored = w;
  for (float& x : mirrored) x = -x;
  const auto other = rounded(mirrored, 16, 64, coded(Code::nf4, 64));
  int different = 0;
  for (size_t i = 0; i < v.size(); ++i) different += other[i] != -v[i];
  EXPECT(different > 512, different);  // the table is not symmetric: all but small weights and the ends
}

TEST(every_fp8_code_is_what_f16_makes_of_it) {
  const auto e4m3 = findCodeFormat(Code::e4m3)->values, e5m2 = findCodeFormat(Code::e5m2)->values;
  for (unsigned c = 0; c < 256; ++c) {
    const float wide = f16ToFloat(static_cast<uint16_t>(c << 8));
    EXPECT(std::isnan(wide) ? std::isnan(e5m2[c]) : e5m2[c] == wide && std::signbit(e5m2[c]) == std::signbit(wide), c);
    const float four = f16ToFloat(static_cast<uint16_t>((c & 0x80) << 8 | (c & 0x7f) << 7)) * 256;
    EXPECT((c & 0x7f) == 0x7f ? std::isnan(e4m3[c]) : e4m3[c] == four && std::signbit(e4m3[c]) == std::signbit(four), c);
  }
  EXPECT_EQ(*std::max_element(e4m3.begin(), e4m3.begin() + 0x7f), 448.0f);
  EXPECT_EQ(e5m2[0x7b], 57344.0f);
}

// Every instruction set: codes of their own values come back, signs included, at any power of two as scale.
TEST(every_code_comes_back) {
  for (const cpu::Isa isa : cpu::availableIsas()) {
    const cpu::CodeKernels kernels = cpu::codeKernelsFor(isa);
    for (const Shape& shape : kFloats) {
      const CodeFormat& format = *findCodeFormat(shape.code);
      for (const float scale : {1.0f, 0x1p-9f, 64.0f}) {
        std::vector<float> w;
        std::vector<uint8_t> codes;
        for (int c = 0; c < 1 << format.bits; ++c)
          if (std::isfinite(format.values[static_cast<size_t>(c)])) {
            w.push_back(format.values[static_cast<size_t>(c)] * scale);
            codes.push_back(static_cast<uint8_t>(c));
          }
        std::vector<uint8_t> q(w.size());
        kernels.floatCodes(w.data(), static_cast<int>(w.size()), scale, {shape.mantissa, shape.bias, format.bits, format.most}, q.data());
        EXPECT(q == codes, cpu::isaName(isa), format.name, scale);
      }
    }
  }
  const CodeFormat& nf4 = *findCodeFormat(Code::nf4);
  uint8_t q[16];
  nf4.encode(nf4.values.data(), 16, 1, q);
  for (int c = 0; c < 16; ++c) EXPECT_EQ(static_cast<int>(q[c]), c);
}

TEST(floats_are_rounded_to_nearest_with_ties_to_even) {
  std::mt19937 rng(8);
  for (const Shape& shape : kFloats) {
    const CodeFormat& format = *findCodeFormat(shape.code);
    std::vector<float> w;
    for (int c = 0; c + 1 < 1 << (format.bits - 1); ++c) {  // the middle of neighbours, and the two beside it
      const float a = format.values[static_cast<size_t>(c)], b = format.values[static_cast<size_t>(c + 1)];
      if (!std::isfinite(a) || !std::isfinite(b)) continue;
      for (const float x : {(a + b) / 2, std::nextafter((a + b) / 2, 0.0f), std::nextafter((a + b) / 2, 1e9f)})
        for (const float sign : {1.0f, -1.0f}) w.push_back(sign * x);
    }
    std::normal_distribution<float> draw(0, format.most / 3);
    for (int i = 0; i < 20000; ++i) w.push_back(draw(rng) * (i % 3 == 0 ? 1e-3f : 1.0f));
    for (const cpu::Isa isa : cpu::availableIsas()) {
      std::vector<uint8_t> q(w.size());
      cpu::codeKernelsFor(isa).floatCodes(w.data(), static_cast<int>(w.size()), 1, {shape.mantissa, shape.bias, format.bits, format.most}, q.data());
      int wrong = 0;
      for (size_t i = 0; i < w.size(); ++i)
        wrong += static_cast<double>(format.values[q[i]]) != nearest(static_cast<double>(w[i]), shape.mantissa, shape.bias, static_cast<double>(format.most));
      EXPECT(wrong == 0, cpu::isaName(isa), format.name, wrong);
    }
  }
}

TEST(mxfp4_ties_scales_and_saturation) {
  const CodeFormat& format = *findCodeFormat(Code::e2m1);
  const std::pair<float, float> ties[] = {{0.25f, 0}, {0.75f, 1}, {1.25f, 1}, {1.75f, 2}, {2.5f, 2}, {3.5f, 4}, {5, 4}, {7.9f, 6}};
  for (const auto& [x, expected] : ties)
    for (const float sign : {1.0f, -1.0f}) {
      uint8_t q = 0xff;
      const float w = sign * x;
      format.encode(&w, 1, 1, &q);
      EXPECT(format.values[q] == sign * expected, w, static_cast<int>(q));
    }
  // The shared exponent: 2^(floor(log2 largest) - 2).
  for (const auto& [largest, exponent] : {std::pair{4.0f, 127}, {7.99f, 127}, {8.0f, 128}, {0.9f, 124}, {1e-38f, 0}, {0.0f, 0}}) EXPECT_EQ(static_cast<int>(format.scaleOf(largest)), exponent);
  // What lies on the grid comes back bit for bit; powers of two move through.
  std::vector<float> w(16 * 64);
  for (size_t i = 0; i < w.size(); ++i) w[i] = std::ldexp(format.values[i % 32 == 0 ? 7 : i * 7 % 16], static_cast<int>(i / 32 % 9) - 4);
  EXPECT(rounded(w, 16, 64, coded(Code::e2m1, 32)) == w);
}

TEST(signal_to_noise_matches_the_table) {
  const int rows = 512, cols = 4096;
  std::vector<float> normal(static_cast<size_t>(rows) * cols), heavy(normal.size());
  std::mt19937 rng(12345);
  std::normal_distribution<float> draw;
  std::student_t_distribution<float> tails(5);
  for (float& x : normal) x = draw(rng);
  for (float& x : heavy) x = tails(rng);
  struct Row {
    Code code;
    int group;
    double normal, heavy;
  };
  for (const Row& row : {Row{Code::nf4, 64, 20.73, 19.61}, {Code::e2m1, 32, 18.78, 17.97}, {Code::e4m3, 0, 31.54, 31.61}, {Code::e5m2, 0, 25.57, 25.63}}) {
    const double n = sqnr(normal, rounded(normal, rows, cols, coded(row.code, row.group))), t = sqnr(heavy, rounded(heavy, rows, cols, coded(row.code, row.group)));
    EXPECT(std::fabs(n - row.normal) <= 0.15, findCodeFormat(row.code)->name, n, row.normal);
    EXPECT(std::fabs(t - row.heavy) <= 0.6, findCodeFormat(row.code)->name, t, row.heavy);
    std::printf("  %-9s %.2f dB (%.2f), t5 %.2f dB (%.2f)\n", findCodeFormat(row.code)->name.c_str(), n, row.normal, t, row.heavy);
  }
}

// Scales among f16 subnormals, and below them: the largest weight is off by its own rounding alone (an eighth with two mantissa bits).
TEST(tiny_weights_keep_their_size) {
  for (const Code code : {Code::nf4, Code::e4m3, Code::e5m2})
    for (const float size : {1e-3f, 1e-5f, 3e-6f}) {
      std::vector<float> w(16 * 64);
      for (size_t i = 0; i < w.size(); ++i) w[i] = size * (static_cast<float>(i % 64) / 63);
      const auto v = rounded(w, 16, 64, coded(code, 0));
      const CodeFormat& format = *findCodeFormat(code);
      for (int r = 0; r < 16; ++r) {
        const double cut = static_cast<double>(size - v[static_cast<size_t>(r * 64 + 63)]) / static_cast<double>(size);
        EXPECT(std::fabs(cut) <= 0.126, format.name, size, cut);
      }
    }
}
