// SPDX-License-Identifier: GPL-3.0-or-later
// Oracles of quantization_and_kv.md W5: equal to round to nearest where inputs are independent and equal, equal to column by column elimination
// in double, its loss identity, and better outputs than round to nearest on correlated inputs.
#include "tests/support/check.h"

#include <algorithm>
#include <random>

#include "engine/core/dtype.h"
#include "engine/quantize/method.h"

using namespace winnow;

namespace {

WeightFormat packed(int bits, int group, bool symmetric) {
  return {Storage::packed, static_cast<uint8_t>(bits), static_cast<uint16_t>(group), symmetric};
}

std::vector<float> normal(size_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> draw;
  std::vector<float> out(n);
  for (float& x : out) x = draw(rng);
  return out;
}

// Inputs of unequal sizes that hang together.
std::vector<float> inputs(int tokens, int cols) {
  const auto own = normal(static_cast<size_t>(tokens * cols), 11), shared = normal(static_cast<size_t>(tokens * 8), 12);
  const auto mix = normal(static_cast<size_t>(8 * cols), 13);
  std::vector<float> x(own.size());
  for (int t = 0; t < tokens; ++t)
    for (int c = 0; c < cols; ++c) {
      float value = 0.4f * own[static_cast<size_t>(t * cols + c)];
      for (int k = 0; k < 8; ++k) value += shared[static_cast<size_t>(t * 8 + k)] * mix[static_cast<size_t>(k * cols + c)] * 0.5f;
      x[static_cast<size_t>(t * cols + c)] = value * (c % 11 == 0 ? 4.0f : 1.0f);
    }
  return x;
}

struct Layer {
  int rows, cols;
  std::vector<float> w;
  Ledger ledger;
  ThreadPool pool{2};
  SecondMoments moments;
  Layer(int r, int c, const std::vector<float>& x) : rows(r), cols(c), w(normal(static_cast<size_t>(r * c), 5)), moments(ledger, c) {
    moments.add(x.data(), c, static_cast<int>(x.size()) / c, pool);
  }

  struct Result {
    Matrix m;
    std::vector<float> values;
  };
  Result quantized(const char* method, const WeightFormat& format, const FactorOptions& factoring = {}, bool staticGroups = false) {
    InverseFactor factor;
    EXPECT(factor.make(ledger, moments, factoring, pool, {}) == InverseFactor::Outcome::done);
    MethodInput input;
    input.factor = &factor;
    input.options.staticGroups = staticGroups;
    Result out{Matrix::allocate(ledger, format, rows, cols), std::vector<float>(w.size())};
    for (int r = 0; r < rows; r += 16) findQuantizeMethod(method)->quantizeRows(w.data() + r * cols, r, std::min(16, rows - r), input, out.m);
    for (int r = 0; r < rows; ++r) dequantizeRow(out.m, r, out.values.data() + r * cols);
    return out;
  }

  // The damped H, in double.
  std::vector<double> hessian(double damping) const {
    const auto n = static_cast<size_t>(cols);
    std::vector<double> h(n * n);
    double mean = 0;
    for (int i = 0; i < cols; ++i) mean += 2.0 * double{moments.at(i, i)} / static_cast<double>(moments.tokens()) / cols;
    for (int i = 0; i < cols; ++i)
      for (int j = 0; j < cols; ++j)
        h[static_cast<size_t>(i) * n + static_cast<size_t>(j)] = 2.0 * double{moments.at(i, j)} / static_cast<double>(moments.tokens()) + (i == j ? damping * mean : 0);
    return h;
  }
  double loss(const std::vector<float>& values, const std::vector<double>& h) const {
    double sum = 0;
    const auto n = static_cast<size_t>(cols);
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r)
      for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < n; ++j)
          sum += (double{w[r * n + i]} - double{values[r * n + i]}) * h[i * n + j] * (double{w[r * n + j]} - double{values[r * n + j]});
    return sum;
  }
};

bool sameBytes(const Matrix& a, const Matrix& b) {
  const size_t scales = a.format.scaleBytes(a.rows, a.cols);
  return std::memcmp(a.data, b.data, a.format.codeBytes(a.rows, a.cols)) == 0 && std::memcmp(a.scales, b.scales, scales) == 0 &&
         (!a.mins || std::memcmp(a.mins, b.mins, scales) == 0);
}

// Optimal brain surgery in the order of the columns: after a column is fixed it leaves the inverse by elimination. Grids are those of round to
// nearest. Returns the codes' values and the sum of (w - q)^2 / [H^-1]_jj.
double eliminate(const Layer& layer, std::vector<double> inverse, const Matrix& grids, std::vector<float>& values) {
  const auto n = static_cast<size_t>(layer.cols);
  std::vector<double> w(layer.w.begin(), layer.w.end());
  const WeightFormat& f = grids.format;
  const double half = 1 << (f.bits - 1), bottom = f.symmetric ? 1 - half : 0, top = f.symmetric ? half - 1 : 2 * half - 1;
  double loss = 0;
  for (size_t j = 0; j < n; ++j) {
    const double pivot = inverse[j * n + j];
    for (size_t r = 0; r < static_cast<size_t>(layer.rows); ++r) {
      const size_t at = (r / 16 * static_cast<size_t>(f.groups(layer.cols)) + j / static_cast<size_t>(f.groupCols(layer.cols))) * 16 + r % 16;
      const double scale = double{f16ToFloat(grids.scales[at])}, min = f.symmetric ? 0 : double{f16ToFloat(grids.mins[at])};
      const double q = std::nearbyint(std::clamp((w[r * n + j] - min) / scale, bottom, top)) * scale + min;
      const double error = w[r * n + j] - q;
      values[r * n + j] = static_cast<float>(q);
      loss += error * error / pivot;
      for (size_t k = j; k < n; ++k) w[r * n + k] -= error / pivot * inverse[j * n + k];
    }
    for (size_t a = j + 1; a < n; ++a) {
      const double factor = inverse[a * n + j] / pivot;
      for (size_t b = j + 1; b < n; ++b) inverse[a * n + b] -= factor * inverse[j * n + b];
    }
  }
  return loss;
}

std::vector<double> inverted(std::vector<double> a) {  // Gauss and Jordan, of a positive definite matrix
  const auto n = static_cast<size_t>(std::lround(std::sqrt(static_cast<double>(a.size()))));
  for (size_t p = 0; p < n; ++p) {
    const double pivot = 1 / a[p * n + p];
    for (size_t i = 0; i < n; ++i) {
      if (i == p) continue;
      const double factor = a[i * n + p] * pivot;
      for (size_t j = 0; j < n; ++j)
        if (j != p) a[i * n + j] -= factor * a[p * n + j];
      a[i * n + p] = -factor;
    }
    for (size_t j = 0; j < n; ++j)
      if (j != p) a[p * n + j] *= pivot;
    a[p * n + p] = pivot;
  }
  return a;
}

}  // namespace

// Every input active alone, all alike: H is a multiple of the identity.
TEST(independent_inputs_leave_round_to_nearest) {
  const int cols = 200;
  std::vector<float> x(static_cast<size_t>(cols) * cols);
  for (size_t c = 0; c < cols; ++c) x[c * cols + c] = 1.5f;
  Layer layer(21, cols, x);
  for (const bool ordered : {false, true})
    for (const bool symmetric : {false, true})
      for (const int group : {32, 128, 0})
        for (const int bits : {2, 3, 4, 8}) {
          const auto a = layer.quantized("gptq", packed(bits, group, symmetric), {0.01, ordered}), b = layer.quantized("rtn", packed(bits, group, symmetric));
          EXPECT(sameBytes(a.m, b.m), ordered, symmetric, group, bits);
        }
}

TEST(columns_are_rounded_as_by_elimination) {
  const int cols = 172;  // more than one block, and no multiple of 16
  Layer layer(32, cols, inputs(600, cols));
  const std::vector<double> h = layer.hessian(0.01);
  for (const int bits : {2, 3, 4}) {
    const WeightFormat format = packed(bits, 32, false);
    const auto fast = layer.quantized("gptq", format, {}, true);
    std::vector<float> values(layer.w.size());
    const double loss = eliminate(layer, inverted(h), layer.quantized("rtn", format).m, values);
    int different = 0;
    for (size_t i = 0; i < values.size(); ++i) different += std::fabs(values[i] - fast.values[i]) > 1e-5f;
    EXPECT(different <= static_cast<int>(values.size()) / 100, bits, different);  // weights half-way between two codes, and what follows from them
    EXPECT_NEAR(layer.loss(values, h), loss, 1e-5 * loss);
    EXPECT_NEAR(layer.loss(fast.values, h), loss, 0.01 * loss);
  }
}

TEST(outputs_are_nearer_than_those_of_round_to_nearest) {
  const int cols = 256;
  Layer layer(48, cols, inputs(1024, cols));
  const std::vector<double> h = layer.hessian(0);
  for (const int bits : {2, 3, 4})
    for (const bool ordered : {false, true}) {
      const double rtn = layer.loss(layer.quantized("rtn", packed(bits, 64, false)).values, h),
                   gptq = layer.loss(layer.quantized("gptq", packed(bits, 64, false), {0.01, ordered}).values, h);
      EXPECT(gptq < 0.6 * rtn, bits, ordered, gptq, rtn);
    }
}

// Other codes than integers: equal to round to nearest where inputs are independent, better outputs where they are not.
TEST(codes_of_any_format_are_made_up_for) {
  const int cols = 192;
  std::vector<float> alone(static_cast<size_t>(cols) * cols);
  for (size_t c = 0; c < cols; ++c) alone[c * cols + c] = 1.5f;
  Layer independent(21, cols, alone), layer(48, cols, inputs(1024, cols));
  const std::vector<double> h = layer.hessian(0);
  for (const WeightFormat& format : {WeightFormat{Storage::packed, 4, 64, true, 0, Code::nf4}, WeightFormat{Storage::packed, 4, 32, true, 0, Code::e2m1},
                                     WeightFormat{Storage::packed, 8, 0, true, 0, Code::e4m3}}) {
    EXPECT(independent.quantized("gptq", format).values == independent.quantized("rtn", format).values, format.describe());
    const double rtn = layer.loss(layer.quantized("rtn", format).values, h), gptq = layer.loss(layer.quantized("gptq", format, {0.01, true}).values, h);
    EXPECT(gptq < 0.6 * rtn, format.describe(), gptq, rtn);
  }
}

// A tile knows nothing of the others.
TEST(rows_do_not_know_each_other) {
  const int cols = 96;
  const auto x = inputs(300, cols);
  Layer all(40, cols, x), one(40, cols, x);
  const auto whole = all.quantized("gptq", packed(3, 32, false));
  std::fill(one.w.begin(), one.w.begin() + 16 * cols, 0.25f);
  const auto changed = one.quantized("gptq", packed(3, 32, false));
  EXPECT(std::equal(whole.values.begin() + 16 * cols, whole.values.end(), changed.values.begin() + 16 * cols));
}

TEST(matrices_without_measured_inputs_are_rounded_to_nearest) {
  Layer layer(16, 64, inputs(10, 64));
  Ledger ledger;
  Matrix a = Matrix::allocate(ledger, packed(4, 32, true), 16, 64), b = Matrix::allocate(ledger, packed(4, 32, true), 16, 64);
  findQuantizeMethod("gptq")->quantizeRows(layer.w.data(), 0, 16, {}, a);
  findQuantizeMethod("rtn")->quantizeRows(layer.w.data(), 0, 16, {}, b);
  EXPECT(sameBytes(a, b));
}
