// SPDX-License-Identifier: GPL-3.0-or-later
// A matrix, inputs and a bias for both sides, and the product on the device.
#pragma once
#include "tests/cuda_emulation/device_matrix.h"

namespace winnow::test {

inline std::vector<ActivationMode> modesOf(const WeightFormat& format) {
  if (format.dotsInt8()) return {ActivationMode::f32, ActivationMode::f16, ActivationMode::int8};
  if (format.storage == Storage::packed) return {ActivationMode::f32, ActivationMode::f16};
  return {ActivationMode::f32, ActivationMode::f16, ActivationMode::bf16};
}

struct Problem {
  std::vector<float> bias;
  std::vector<float> values;
  Weights weights;
  DeviceMatrix matrix;
  Guarded<float> x;
  DeviceArray<float> dx, dbias;
  static std::vector<float> fill(size_t n, uint32_t seed, float sigma, float shift) {
    std::vector<float> v(n);
    fillNormal(v.data(), n, seed, sigma);
    for (float& f : v) f += shift;
    return v;
  }
  Problem(const WeightFormat& format, int rows, int cols, int mostTokens)
      : bias(fill(static_cast<size_t>(rows), 7, 1, 0)),
        values(fill(static_cast<size_t>(rows * cols), static_cast<uint32_t>(rows * 1000 + cols), 0.1f,
                    format.storage == Storage::packed && !format.symmetric ? 0.3f : 0.0f)),
        weights(format, rows, cols, values),
        matrix(weights.m),
        x(static_cast<size_t>(mostTokens * cols)),
        dx(x.size()),
        dbias(bias) {
    fillNormal(x.data(), x.size(), 11);
    dx.set({x.begin(), x.end()});
  }
};

// [tokens][rows + 3]: three sentinels behind each row.
inline std::vector<float> product(const Problem& p, ActivationMode mode, int tokens, int firstToken) {
  const int rows = p.weights.m.rows, cols = p.weights.m.cols;
  Output host(tokens, rows, 3);
  const std::vector<float> before(host.row(0), host.row(0) + tokens * host.stride());
  DeviceArray<float> y(before);
  DeviceArray<uint8_t> scratch(cuda::InputForms::bytes(mode, tokens, cols));
  const cuda::Target target{p.matrix.args(), y.data(), host.stride(), p.dbias.data(), false};
  const cuda::Input input = cuda::prepare(nullptr, {p.dx.data() + firstToken * cols, cols}, tokens, cols, mode,
                                          cuda::InputForms::of({&target, 1}, mode, tokens), scratch.data());
  cuda::multiply(nullptr, {&target, 1}, input);
  const auto out = y.host();
  for (int t = 0; t < tokens; ++t)
    for (int i = rows; i < rows + 3; ++i) EXPECT_EQ(float{out[static_cast<size_t>(t * (rows + 3) + i)]}, float{Output::kSentinel});
  return out;
}

// The largest distance from the reference in units of the bound.
inline double worstRatio(const Problem& p, const std::vector<float>& y, ActivationMode mode, int tokens) {
  const int rows = p.weights.m.rows;
  const Reference ref = reference(p.weights.m, p.x, tokens, p.bias, mode);
  double worst = 0;
  for (int t = 0; t < tokens; ++t)
    for (int r = 0; r < rows; ++r) {
      const size_t at = static_cast<size_t>(t * rows + r);
      const double ratio = std::fabs(static_cast<double>(y[static_cast<size_t>(t * (rows + 3) + r)]) - ref.y[at]) / ref.bound[at];
      worst = std::isnan(ratio) ? 1e9 : std::max(worst, ratio);
    }
  return worst;
}

// Three matrices of one input in one product: each as alone, added to what was there.
inline void expectJoinedTargets(int rowsOfFirst, int cols, int tokens) {
  const Problem a({Storage::packed, 4, 32, true}, rowsOfFirst, cols, tokens), b({Storage::packed, 4, 128, false}, 19, cols, tokens),
      c({Storage::packed, 8, 32, true}, 33, cols, tokens);
  const Problem* all[] = {&a, &b, &c};
  DeviceArray<uint8_t> scratch(cuda::InputForms::bytes(ActivationMode::f16, tokens, cols));
  const cuda::Input input =
      cuda::prepare(nullptr, {a.dx.data(), cols}, tokens, cols, ActivationMode::f16, {false, true}, scratch.data());
  underEverySchedule([&] {
    std::vector<DeviceArray<float>> together;
    std::vector<cuda::Target> targets;
    for (const Problem* p : all) {
      const int rows = p->weights.m.rows;
      together.emplace_back(std::vector<float>(static_cast<size_t>(tokens * rows), 0.5f));
      targets.push_back({p->matrix.args(), together.back().data(), rows, nullptr, true});
    }
    cuda::multiply(nullptr, targets, input);
    for (size_t i = 0; i < 3; ++i) {
      DeviceArray<float> alone(together[i].size());
      cuda::Target target = targets[i];
      target.y = alone.data();
      target.accumulate = false;
      cuda::multiply(nullptr, {&target, 1}, input);
      const auto x = together[i].host(), y = alone.host();
      for (size_t j = 0; j < x.size(); ++j) EXPECT_EQ(x[j], y[j] + 0.5f);
    }
  });
}

}  // namespace winnow::test
