// SPDX-License-Identifier: GPL-3.0-or-later
// Embedding, norms and activation functions on the (emulated) device: the bounds of tests/engine/ops_rows.cpp, u = 2^-24.
#include <numbers>

#include "engine/cuda/ops.h"
#include "tests/cuda_emulation/device_matrix.h"

using namespace winnow;
using namespace winnow::test;

namespace {
constexpr double u = 0x1p-24;

std::vector<float> normal(size_t n, uint32_t seed, float sigma = 1) {
  std::vector<float> v(n);
  fillNormal(v.data(), n, seed, sigma);
  return v;
}
}  // namespace

TEST(embedding_looks_rows_up_in_every_format) {
  auto all = formats();
  for (const auto& more : {superFormats(), codedFormats(), halvedFormats()}) all.insert(all.end(), more.begin(), more.end());
  for (const WeightFormat& format : all)
    for (int cols : format.group == 16 ? std::vector{32, 288} : std::vector{31, 172, 300}) {
      const int rows = 19;
      auto values = normal(static_cast<size_t>(rows * cols), 1);
      const Weights host(format, rows, cols, values);
      const DeviceMatrix table(host.m);
      auto learned = normal(static_cast<size_t>(5 * cols), 2);
      const Weights positionsHost({}, 5, cols, learned);
      const DeviceMatrix positions(positionsHost.m);
      const DeviceArray<int32_t> tokens(std::vector<int32_t>{18, 0, 7}), ids(std::vector<int32_t>{4, 0, 1});
      for (bool withPositions : {false, true}) {
        DeviceArray<float> out(static_cast<size_t>(3 * cols));
        underEverySchedule([&] {
          cuda::embed(nullptr, table.args(), withPositions ? &positions.args() : nullptr, tokens.data(), ids.data(), 3, out.data());
        });
        const auto y = out.host();
        std::vector<float> row(static_cast<size_t>(cols));
        const int32_t t[] = {18, 0, 7}, p[] = {4, 0, 1};
        for (int i = 0; i < 3; ++i) {
          dequantizeRow(host.m, t[i], row.data());
          for (int k = 0; k < cols; ++k) {
            const float position = withPositions ? learned[static_cast<size_t>(p[i] * cols + k)] : 0.0f;
            EXPECT_EQ(y[static_cast<size_t>(i * cols + k)], row[static_cast<size_t>(k)] + position);  // the very bits of the CPU
          }
        }
      }
    }
}

TEST(norms_within_the_bound) {
  for (int n : {1, 7, 31, 172, 1000})
    for (int tokens : {1, 5}) {
      const auto x = normal(static_cast<size_t>(tokens * n), 1), w = normal(static_cast<size_t>(n), 2),
                 b = normal(static_cast<size_t>(n), 3);
      const DeviceArray<float> dx(x), dw(w), db(b);
      DeviceArray<float> out(x.size());
      const double eps = 1e-5f;
      underEverySchedule([&] { cuda::rmsNorm(nullptr, dx.data(), dw.data(), 1e-5f, tokens, n, out.data()); });
      auto y = out.host();
      for (int t = 0; t < tokens; ++t) {
        double sum = 0;
        for (int i = 0; i < n; ++i) sum += std::pow(x[static_cast<size_t>(t * n + i)], 2.0);
        for (int i = 0; i < n; ++i) {
          const double e = x[static_cast<size_t>(t * n + i)] / std::sqrt(sum / n + eps) * w[static_cast<size_t>(i)];
          EXPECT_NEAR(y[static_cast<size_t>(t * n + i)], e, std::fabs(e) * (n / 8.0 + 12) * u);
        }
      }
      for (bool bias : {true, false}) {
        underEverySchedule(
            [&] { cuda::layerNorm(nullptr, dx.data(), dw.data(), bias ? db.data() : nullptr, 1e-5f, tokens, n, out.data()); });
        y = out.host();
        for (int t = 0; t < tokens; ++t) {
          double mean = 0, size = 0, variance = 0;
          for (int i = 0; i < n; ++i)
            mean += x[static_cast<size_t>(t * n + i)] / static_cast<double>(n), size += std::fabs(x[static_cast<size_t>(t * n + i)]) / n;
          for (int i = 0; i < n; ++i) variance += std::pow(x[static_cast<size_t>(t * n + i)] - mean, 2.0) / n;
          const double scale = 1 / std::sqrt(variance + eps), d = (n / 4.0 + 8) * u * size;
          for (int i = 0; i < n; ++i) {
            const double v = x[static_cast<size_t>(t * n + i)] - mean, weight = w[static_cast<size_t>(i)],
                         shift = bias ? b[static_cast<size_t>(i)] : 0;
            const double bound = std::fabs(weight) * scale * (d * (1 + std::fabs(v) * scale) + std::fabs(v) * (n / 4.0 + 12) * u) +
                                 2 * u * std::fabs(shift) + 1e-38;
            EXPECT_NEAR(y[static_cast<size_t>(t * n + i)], v * scale * weight + shift, bound);
          }
        }
      }
    }
}

// expf and erfcf of the device are within 2^-22 (CUDA's table of errors: 1 and 4 ulp).
TEST(activations_within_the_bound) {
  const int count = 1300;
  auto x = normal(count, 3, 2);
  x[0] = -100;
  const auto up = normal(count, 4);
  const DeviceArray<float> dup(up);
  for (Activation kind : {Activation::silu, Activation::geluTanh, Activation::geluErf})
    for (bool gated : {true, false}) {
      std::vector<float> y;
      underEverySchedule([&] {
        DeviceArray<float> gate(x);
        cuda::activate(nullptr, kind, gate.data(), gated ? dup.data() : nullptr, count);
        y = gate.host();
      });
      for (size_t i = 0; i < x.size(); ++i) {
        const double v = x[i], factor = gated ? up[i] : 1, z = std::sqrt(2 / std::numbers::pi) * (v + 0.044715 * v * v * v);
        const double e = kind == Activation::silu       ? v / (1 + std::exp(-v))
                         : kind == Activation::geluTanh ? v / (1 + std::exp(-2 * z))
                                                        : v * 0.5 * std::erfc(-v / std::numbers::sqrt2);
        const double argument = kind == Activation::geluTanh ? std::fabs(z) : kind == Activation::geluErf ? v * v : 0;
        const double bound = std::fabs(e) * (0x1p-21 + (10 + 8 * argument) * u) + 1e-36;
        EXPECT_NEAR(y[i], e * factor, bound * std::fabs(factor) * 1.001);
      }
    }
}
