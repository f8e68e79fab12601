// SPDX-License-Identifier: GPL-3.0-or-later
// Norms, rotations, activations, logits and f16 stores against references in double. Bounds are derived at each test; u = 2^-24.
#include "tests/engine/ops/harness.h"
#include "tests/engine/ops/logits_oracle.h"

#include <numbers>

#include "engine/core/dtype.h"
#include "engine/cpu/isa.h"

using namespace winnow;
using namespace winnow::cpu;
using namespace winnow::test;

namespace {
const int kWidths[] = {1, 7, 8, 31, 64, 172, 1000};
constexpr double u = 0x1p-24;
}  // namespace

// Documented in simd.h: relative error <= 2^-22 where the result is a normal number; 0 below.
TEST(exponential_keeps_its_bound) {
  for (Isa isa : availableIsas()) {
    const KernelTable k = kernelsFor(isa);
    std::vector<float> x, y(1 << 12);
    double worst = 0;
    const auto flush = [&] {
      k.exponentials(x.data(), static_cast<int64_t>(x.size()), y.data());
      for (size_t i = 0; i < x.size(); ++i)
        worst = std::max(worst, std::fabs(static_cast<double>(y[i]) / std::exp(static_cast<double>(x[i])) - 1));
      x.clear();
    };
    for (float limit : {-87.33654f, 88.72f})
      for (uint32_t b = 0; b < std::bit_cast<uint32_t>(std::fabs(limit)); b += 997) {
        x.push_back(std::copysign(std::bit_cast<float>(b), limit));
        if (x.size() == y.size()) flush();
      }
    flush();
    EXPECT(worst <= 0x1p-22, isaName(isa), worst * 0x1p24, "ulp / 2");
    const float special[] = {0.0f, -0.0f, -88.0f, -1e30f, -INFINITY, 89.0f};
    k.exponentials(special, 6, y.data());
    EXPECT(y[0] == 1 && y[1] == 1 && y[2] == 0 && y[3] == 0 && y[4] == 0 && y[5] > 3.39e38f);
  }
}

// Documented in simd.h: within 2^-21 of the result for normal numbers.
TEST(logarithm_keeps_its_bound) {
  for (Isa isa : availableIsas()) {
    const KernelTable k = kernelsFor(isa);
    std::vector<float> x, y;
    for (uint32_t b = 0x00800000; b < 0x7f800000; b += 4099) x.push_back(std::bit_cast<float>(b));
    for (uint32_t b = 0x3f700000; b < 0x3f900000; b += 13) x.push_back(std::bit_cast<float>(b));  // around 1
    x.push_back(1);
    y.resize(x.size());
    k.logarithms(x.data(), static_cast<int64_t>(x.size()), y.data());
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i)
      if (x[i] != 1) worst = std::max(worst, std::fabs(static_cast<double>(y[i]) / std::log(static_cast<double>(x[i])) - 1));
    EXPECT(worst <= 0x1p-21, isaName(isa), worst * 0x1p24, "ulp / 2");
    EXPECT_EQ(y.back(), 0.0f);
  }
}

// The same draws on every machine, of the lanes beyond the last whole vector too: -ln(-ln u) to 2^-20 of it, or of 1 where it is smaller.
TEST(noise_is_the_double_logarithm_of_its_draw) {
  const auto hashed = [](uint32_t position, uint32_t first, uint32_t second) {
    uint32_t h = position * 0x9e3779b9u + first;
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) + second;
    h = (h ^ h >> 16) * 0xc2b2ae35u;
    return h ^ h >> 16;
  };
  const uint32_t key[] = {0x12345678u, 0x9abcdef0u};
  for (Isa isa : availableIsas())
    for (const int count : {1, 5, 30, 20011}) {
      std::vector<int32_t> positions;
      for (int i = 0; i < count; ++i) positions.push_back(3 * i + i % 7);
      std::vector<float> x(positions.size() + 1, 0.25f);
      kernelsFor(isa).perturb(x.data(), positions.data(), count, key, 0.5f);
      for (size_t i = 0; i < positions.size(); ++i) {
        const double u = ((hashed(static_cast<uint32_t>(positions[i]), key[0], key[1]) >> 9) + 0.5) * 0x1p-23, z = -std::log(-std::log(u));
        EXPECT_NEAR(x[i], (z + 0.25) * 0.5, 0x1p-21 * std::max(1.0, std::fabs(z)));
      }
      EXPECT_EQ(x.back(), 0.25f);
    }
}

// What a product leaves by slots, by rows: all shapes around whole vectors.
TEST(scaled_rows_turn_exactly) {
  for (Isa isa : availableIsas())
    for (const int rows : {1, 3, 16, 37})
      for (const int columns : {1, 5, 16}) {
        std::vector<float> in(static_cast<size_t>(rows) * 16), out(static_cast<size_t>(columns * (rows + 3)), -1.0f);
        fillNormal(in.data(), in.size(), 1);
        kernelsFor(isa).turnScaled(in.data(), rows, columns, 0.5f, out.data(), rows + 3);
        for (int c = 0; c < columns; ++c)
          for (int r = 0; r < rows + 3; ++r)
            EXPECT_EQ(out[static_cast<size_t>(c * (rows + 3) + r)], r < rows ? in[static_cast<size_t>(r * 16 + c)] * 0.5f : -1.0f);
      }
}

// A sum of n squares in at least 4 lanes: relative error (n/4 + 8) u, halved by the root; three more roundings.
TEST(norms_within_the_bound) {
  for (auto& machine : machines(2))
    for (int n : kWidths)
      for (int tokens : {1, 5, 40}) {
        const Guarded<float> x(static_cast<size_t>(tokens * n)), w(static_cast<size_t>(n)), b(static_cast<size_t>(n)),
            out(static_cast<size_t>(tokens * n));
        fillNormal(x.data(), x.size(), 1);
        fillNormal(w.data(), w.size(), 2);
        fillNormal(b.data(), b.size(), 3);
        const double eps = 1e-5f;
        rmsNorm(machine->context, x.data(), w.data(), 1e-5f, tokens, n, out.data());
        for (int t = 0; t < tokens; ++t) {
          double sum = 0;
          for (int i = 0; i < n; ++i) sum += std::pow(x[static_cast<size_t>(t * n + i)], 2.0);
          for (int i = 0; i < n; ++i) {
            const double y = x[static_cast<size_t>(t * n + i)] / std::sqrt(sum / n + eps) * w[static_cast<size_t>(i)];
            EXPECT_NEAR(out[static_cast<size_t>(t * n + i)], y, std::fabs(y) * (n / 8.0 + 12) * u);
          }
        }
        for (const float* bias : {static_cast<const float*>(b.data()), static_cast<const float*>(nullptr)}) {
          layerNorm(machine->context, x.data(), w.data(), bias, 1e-5f, tokens, n, out.data());
          for (int t = 0; t < tokens; ++t) {
            double mean = 0, size = 0, variance = 0;
            for (int i = 0; i < n; ++i)
              mean += x[static_cast<size_t>(t * n + i)] / static_cast<double>(n), size += std::fabs(x[static_cast<size_t>(t * n + i)]) / n;
            for (int i = 0; i < n; ++i) variance += std::pow(x[static_cast<size_t>(t * n + i)] - mean, 2.0) / n;
            const double scale = 1 / std::sqrt(variance + eps);
            // The mean is off by d = (n/4 + 8) u mean|x|; every deviation by d + u |deviation|; the scale by less than that again.
            const double d = (n / 4.0 + 8) * u * size;
            for (int i = 0; i < n; ++i) {
              const double v = x[static_cast<size_t>(t * n + i)] - mean, weight = w[static_cast<size_t>(i)], shift = bias ? bias[i] : 0;
              const double bound = std::fabs(weight) * scale * (d * (1 + std::fabs(v) * scale) + std::fabs(v) * (n / 4.0 + 12) * u) +
                                   2 * u * std::fabs(shift) + 1e-38;
              EXPECT_NEAR(out[static_cast<size_t>(t * n + i)], v * scale * weight + shift, bound);
            }
          }
        }
      }
}

TEST(head_norm_is_rms_norm_per_head) {
  for (auto& machine : machines(3)) {
    const int tokens = 3, heads = 5, dim = 20, stride = heads * dim + 4;
    Guarded<float> x(tokens * stride), w(dim);
    fillNormal(x.data(), x.size(), 1);
    fillNormal(w.data(), w.size(), 2);
    std::vector<float> before(x.begin(), x.end()), expected(dim);
    headNorm(machine->context, x.data(), stride, w.data(), 1e-6f, tokens, heads, dim);
    for (int t = 0; t < tokens; ++t) {
      for (int h = 0; h < heads; ++h) {
        rmsNorm(machine->context, before.data() + t * stride + h * dim, w.data(), 1e-6f, 1, dim, expected.data());
        EXPECT(std::memcmp(expected.data(), x.data() + t * stride + h * dim, dim * 4) == 0);
      }
      EXPECT(std::memcmp(before.data() + t * stride + heads * dim, x.data() + t * stride + heads * dim, 16) == 0);
    }
  }
}

// Cosine and sine are correct to u, so a rotated component is within 4 u (|a| + |b|).
TEST(rope_turns_half_split_pairs) {
  RopeConfig config;
  config.dims = 12;
  const auto frequencies = winnow::ropeFrequencies(config);
  EXPECT_EQ(frequencies.size(), size_t{6});
  for (int c = 0; c < 6; ++c) EXPECT_NEAR(frequencies[static_cast<size_t>(c)], std::pow(10000.0, -c / 6.0), 1e-7);
  for (auto& machine : machines(2)) {
    const int tokens = 2, heads = 3, dim = 16, stride = heads * dim;
    for (int32_t shift : {0, 100000}) {
      const int32_t positions[] = {3 + shift, 17 + shift};
      Guarded<float> x(tokens * stride);
      fillNormal(x.data(), x.size(), 1);
      const std::vector<float> before(x.begin(), x.end());
      rope(machine->context, x.data(), stride, frequencies.data(), 12, positions, tokens, heads, dim);
      for (int t = 0; t < tokens; ++t)
        for (int h = 0; h < heads; ++h) {
          const float *b = before.data() + t * stride + h * dim, *a = x.data() + t * stride + h * dim;
          for (int c = 0; c < 6; ++c) {
            const double angle = static_cast<double>(positions[t]) * frequencies[static_cast<size_t>(c)],
                         size = std::fabs(b[c]) + std::fabs(b[c + 6]);
            EXPECT_NEAR(a[c], b[c] * std::cos(angle) - b[c + 6] * std::sin(angle), 4 * u * size);
            EXPECT_NEAR(a[c + 6], b[c] * std::sin(angle) + b[c + 6] * std::cos(angle), 4 * u * size);
          }
          for (int c = 12; c < dim; ++c) EXPECT_EQ(a[c], b[c]);
        }
    }
  }
}

TEST(rope_frequencies_follow_the_scaling) {
  RopeConfig config;
  config.dims = 128;
  config.base = 500000;
  const auto plain = winnow::ropeFrequencies(config);
  config.scaling = RopeScaling::linear;
  config.factor = 4;
  const auto linear = winnow::ropeFrequencies(config);
  config.scaling = RopeScaling::llama3;
  config.factor = 8;
  config.originalContext = 8192;
  const auto llama = winnow::ropeFrequencies(config);
  for (size_t c = 0; c < 64; ++c) {
    EXPECT_NEAR(linear[c], plain[c] / 4, plain[c] * 1e-6);
    const double wave = 2 * std::numbers::pi / plain[c];
    if (wave < 8192 / 4.0)
      EXPECT_EQ(llama[c], plain[c]);
    else if (wave > 8192)
      EXPECT_NEAR(llama[c], plain[c] / 8, plain[c] * 1e-6);
    else
      EXPECT(llama[c] < plain[c] && llama[c] > plain[c] / 8);
  }
}

// exp within 2^-22 and a handful of roundings: relative 2^-22 + 10 u for silu; the argument of tanh-gelu, |2v| <= 90, adds 4 u |2v|;
// the error function's formula is within 1.5e-7, half of it times |x|.
TEST(activations_within_the_bound) {
  for (auto& machine : machines(2))
    for (int count : {1, 15, 172, 5000, 20000}) {
      const Guarded<float> gate(static_cast<size_t>(count)), up(static_cast<size_t>(count));
      std::vector<float> before(static_cast<size_t>(count));
      fillNormal(before.data(), before.size(), 3, 2);
      fillNormal(up.data(), up.size(), 4);
      before[0] = -100;
      for (Activation kind : {Activation::silu, Activation::geluTanh, Activation::geluErf})
        for (bool gated : {true, false}) {
          std::copy(before.begin(), before.end(), gate.begin());
          activate(machine->context, kind, gate.data(), gated ? up.data() : nullptr, count);
          for (int i = 0; i < count; ++i) {
            const double x = before[static_cast<size_t>(i)], factor = gated ? up[static_cast<size_t>(i)] : 1,
                         v = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
            double y = 0, bound = 0;
            if (kind == Activation::silu) {
              y = x / (1 + std::exp(-x));
              bound = std::fabs(y) * (0x1p-22 + 10 * u) + 1e-36;
            } else if (kind == Activation::geluTanh) {
              y = x / (1 + std::exp(-2 * v));
              bound = std::fabs(y) * (0x1p-22 + (10 + 8 * std::fabs(v)) * u) + 1e-36;
            } else {
              y = x * 0.5 * std::erfc(-x / std::numbers::sqrt2);
              bound = std::fabs(x) * (0.75e-7 + 10 * u) + std::fabs(y) * 4 * u;
            }
            EXPECT_NEAR(gate[static_cast<size_t>(i)], y * factor, bound * std::fabs(factor) * 1.001);
          }
        }
    }
}

TEST(halves_are_stored_as_the_compiler_rounds) {
  for (Isa isa : availableIsas()) {
    const KernelTable k = kernelsFor(isa);
    std::vector<float> x;
    for (uint32_t b = 0; b < 0x7f800000u; b += 40009) x.push_back(std::bit_cast<float>(b)), x.push_back(-std::bit_cast<float>(b));
    for (int e = -26; e < 17; ++e)
      for (float f : {1.0f, 1.00048828125f, 1.00146484375f, 1.99951171875f, 1.999755859375f}) x.push_back(std::ldexp(f, e));
    std::vector<uint16_t> h(x.size());
    k.toHalf(x.data(), static_cast<int64_t>(x.size()), h.data());
    for (size_t i = 0; i < x.size(); ++i) EXPECT(h[i] == floatToF16(x[i]), isaName(isa), x[i], h[i]);
  }
}

TEST(bfloats_are_stored_to_nearest_even) {
  std::vector<float> x;
  for (uint32_t b = 0; b < 0x7f800000u; b += 30011) x.push_back(std::bit_cast<float>(b)), x.push_back(-std::bit_cast<float>(b));
  for (uint32_t b : {0x3f808000u, 0x3f818000u, 0x3f807fffu, 0x3f808001u, 0x7f7fffffu, 0x00008000u}) x.push_back(std::bit_cast<float>(b));  // ties, and past the largest
  for (Isa isa : availableIsas()) {
    std::vector<uint16_t> h(x.size());
    kernelsFor(isa).toBf16(x.data(), static_cast<int64_t>(x.size()), h.data());
    for (size_t i = 0; i < x.size(); ++i) EXPECT(h[i] == floatToBf16(x[i]), isaName(isa), x[i], h[i]);
  }
}

TEST(bfloats_are_widened_exactly) {
  for (Isa isa : availableIsas())
    for (const size_t n : {size_t{1}, size_t{15}, size_t{16}, size_t{37}, size_t{65536}}) {
      std::vector<uint16_t> h(n);
      for (size_t i = 0; i < n; ++i) h[i] = static_cast<uint16_t>(i * (65536 / n));
      std::vector<float> x(n + 1, 0.25f);
      kernelsFor(isa).widenBf16(h.data(), static_cast<int64_t>(n), x.data());
      for (size_t i = 0; i < n; ++i) EXPECT(std::bit_cast<uint32_t>(x[i]) == static_cast<uint32_t>(h[i]) << 16, isaName(isa), n, i, x[i]);
      EXPECT_EQ(x.back(), 0.25f);
    }
}

TEST(one_value_that_is_not_finite_is_found_anywhere) {
  for (Isa isa : availableIsas())
    for (size_t n : {1u, 15u, 16u, 37u, 64u, 133u}) {
      std::vector<float> x(n, 3.0e38f);
      EXPECT(kernelsFor(isa).allFinite(x.data(), static_cast<int64_t>(n)), isaName(isa), n);
      for (size_t i = 0; i < n; ++i)
        for (float bad : {NAN, INFINITY, -INFINITY}) {
          std::vector<float> y = x;
          y[i] = bad;
          EXPECT(!kernelsFor(isa).allFinite(y.data(), static_cast<int64_t>(n)), isaName(isa), n, i, bad);
        }
    }
}

TEST(weights_below_a_score_go_and_those_within_are_listed) {
  for (Isa isa : availableIsas())
    for (int cols : {1, 7, 16, 33, 301}) {
      std::vector<float> row(static_cast<size_t>(cols)), factors(row.size());
      fillNormal(row.data(), row.size(), 1, 11);
      fillNormal(factors.data(), factors.size(), 1, 12);
      for (size_t c = 0; c < row.size(); ++c) factors[c] = c % 5 == 0 ? 0.0f : std::fabs(factors[c]);
      for (const auto& [from, last] : {std::pair{0.0f, 0.0f}, std::pair{0.0f, INFINITY}, std::pair{0.3f, 0.9f}, std::pair{0.5f, 0.25f}}) {
        std::vector<float> pruned = row;
        std::vector<uint32_t> within(row.size() + 16, ~0u), expected;
        const int found = kernelsFor(isa).pruneBelow(pruned.data(), factors.data(), cols, from, last, within.data());
        for (size_t c = 0; c < row.size(); ++c) {
          const float score = std::fabs(row[c]) * factors[c];
          EXPECT_EQ(pruned[c], score < from ? 0.0f : row[c]);
          if (score >= from && score <= last) expected.push_back(static_cast<uint32_t>(c));
        }
        within.resize(static_cast<size_t>(found));
        EXPECT((within == expected), isaName(isa), cols, from, last, found, expected.size());
      }
    }
}

TEST(logits_are_scored) {
  for (auto& machine : machines(2))
    for (int vocab : {1, 5, 512, 3001}) {
      const size_t tokens = 4, stride = static_cast<size_t>(vocab) + 2;
      std::vector<float> x(tokens * stride);
      fillNormal(x.data(), x.size(), 6, 3);
      if (vocab > 5) x[3] = x[5] = 70;  // a tie for the first place
      const std::vector<int32_t> targets = {0, vocab - 1, vocab / 2, 0};
      std::vector<TokenScore> scores(tokens);
      scoreLogits(machine->context, x.data(), static_cast<int64_t>(stride), vocab, targets.data(), static_cast<int>(tokens), scores.data());
      for (size_t t = 0; t < tokens; ++t) expectScore(scores[t], x.data() + t * stride, vocab, targets[t]);
    }
}

TEST(divergence_is_zero_only_for_equal_rows) {
  for (auto& machine : machines(2))
    for (int vocab : {5, 512, 3001}) {
      const int tokens = 3;
      std::vector<float> p(static_cast<size_t>(tokens * vocab)), q;
      fillNormal(p.data(), p.size(), 6, 2);
      q = p;
      for (int i = 0; i < vocab; ++i) q[static_cast<size_t>(vocab + i)] += 0.1f * static_cast<float>(i % 3);  // the second row differs
      const std::vector<int32_t> targets = {1, 2, 3};
      std::vector<Divergence> d(tokens);
      compareLogits(machine->context, p.data(), q.data(), vocab, vocab, targets.data(), tokens, d.data());
      EXPECT_EQ(d[0].kld, 0.0);
      EXPECT_EQ(d[2].kld, 0.0);
      EXPECT(d[0].sameTop && d[2].sameTop);
      expectDivergence(d[1], p.data() + vocab, q.data() + vocab, vocab, targets[1]);
    }
}

TEST(weights_round_alike_on_every_instruction_set) {
  std::vector<float> w(333);
  fillNormal(w.data(), w.size(), 2);
  for (int bits : {2, 3, 4, 5, 6, 8})
    for (bool symmetric : {true, false})
      for (int group : {32, 64, 333})
        for (float shift : {0.0f, 50.0f}) {
          for (float& x : w) x += shift;
          std::vector<uint8_t> first;
          for (Isa isa : availableIsas()) {
            std::vector<uint8_t> q(333);
            std::vector<uint16_t> scales(11 * 16), mins(11 * 16);
            kernelsFor(isa).rtnRow(w.data(), 333, group, bits, symmetric, q.data(), scales.data(), symmetric ? nullptr : mins.data());
            for (auto* list : {&scales, &mins})
              for (uint16_t h : *list) q.push_back(static_cast<uint8_t>(h)), q.push_back(static_cast<uint8_t>(h >> 8));
            if (first.empty()) first = q;
            EXPECT(q == first, isaName(isa), bits, symmetric, group, shift);
          }
        }
}

TEST(rooflines_are_positive) {
  for (auto& machine : machines(2)) {
    EXPECT(measureReadBandwidth(machine->context, 1 << 22) > 0);
    EXPECT(measurePeak(machine->context, Storage::packed, ActivationMode::int8, 8) > 0);
  }
}
