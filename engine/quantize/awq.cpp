// SPDX-License-Identifier: GPL-3.0-or-later
// AWQ (Lin et al., MLSys 2024): the columns of a matrix that meet large inputs are scaled up before rounding, s_j = mean|x_j|^alpha, and what
// makes those inputs is divided by s, so nothing else changes. alpha is searched; then each group's largest magnitude is clipped where that
// lowers the error of its partial product (not for q and k). The error of an output is measured with rounding errors of different columns taken
// as independent: sum over j of (w_j - q_j)^2 mean(x_j^2). Of the published method only the measure differs (the output of the block on sampled
// tokens), which costs a forward pass per trial.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "engine/core/check.h"
#include "engine/quantize/grid.h"
#include "engine/quantize/methods.h"

namespace winnow {
namespace {

constexpr int kTile = WeightFormat::kTileRows, kTrials = 20, kClipTrials = 10;
constexpr float kSmallestScale = 1e-4f;

// Rounds one row by groups; scales, minimums and exponents lie 16 apart.
struct RoundedRow {
  std::vector<uint8_t> codes, steps;
  std::vector<uint16_t> scales, mins;
  void round(const float* w, int cols, const WeightFormat& f) {
    codes.resize(static_cast<size_t>(cols));
    scales.resize(static_cast<size_t>(f.groups(cols)) * 16);
    mins.resize(scales.size());
    steps.resize(scales.size());
    roundRow(f, w, cols, codes.data(), place(0, f));
  }
  GridPlace place(size_t group, const WeightFormat& f) { return {&scales[group * 16], f.symmetric ? nullptr : &mins[group * 16], &steps[group * 16]}; }
  // body(column, value) for each column.
  template <class Body>
  void values(int cols, const WeightFormat& f, Body body) {
    for (int begin = 0, group = 0; begin < cols; begin += f.groupCols(cols), ++group) {
      const Grid grid(f, place(static_cast<size_t>(group), f));
      for (int c = begin; c < std::min(begin + f.groupCols(cols), cols); ++c) body(static_cast<size_t>(c), grid.value(codes[static_cast<size_t>(c)]));
    }
  }
};

std::vector<float> scalesOf(const ScaleSearch& search, int trial) {
  std::vector<float> s(search.meanMagnitudes.size());
  const float alpha = static_cast<float>(trial) / kTrials;
  float low = INFINITY, high = 0;
  for (size_t j = 0; j < s.size(); ++j) {
    s[j] = std::max(std::pow(search.meanMagnitudes[j], alpha), kSmallestScale);
    low = std::min(low, s[j]);
    high = std::max(high, s[j]);
  }
  const float unit = std::sqrt(low * high);
  for (float& x : s) x /= unit;
  return s;
}

// The error of one row under each trial's scales, added to sums.
void addErrors(const float* row, const ScaleSearch& search, const std::vector<std::vector<float>>& scales, std::vector<float>& scaled, RoundedRow& rounded,
               double* sums) {
  const int cols = static_cast<int>(search.meanSquares.size());
  for (size_t trial = 0; trial < scales.size(); ++trial) {
    const std::vector<float>& s = scales[trial];
    for (size_t j = 0; j < s.size(); ++j) scaled[j] = row[j] * s[j];
    rounded.round(scaled.data(), cols, search.format);
    double sum = 0;
    rounded.values(cols, search.format, [&](size_t j, float value) {
      const double off = static_cast<double>(value - scaled[j]) / static_cast<double>(s[j]);
      sum += off * off * static_cast<double>(search.meanSquares[j]);
    });
    sums[trial] += sum;
  }
}

}  // namespace

// Every row of every matrix that reads the input counts alike; sums are made per row and added in their order, whatever the threads.
std::vector<float> searchAwqScales(const ScaleSearch& search, ThreadPool& pool, const Progress& progress) {
  const size_t cols = search.meanSquares.size();
  CHECK(cols == search.meanMagnitudes.size() && cols > 0, cols, search.meanMagnitudes.size());
  std::vector<std::vector<float>> scales;
  for (int trial = 0; trial < kTrials; ++trial) scales.push_back(scalesOf(search, trial));
  std::vector<double> totals(kTrials);
  for (const auto& matrix : search.matrices) {
    std::vector<double> sums(static_cast<size_t>(matrix.rows) * kTrials);  // [rows, trials]
    std::atomic<int> next{0};
    pool.run([&](int, int) {
      std::vector<float> row(cols), scaled(cols);
      RoundedRow rounded;
      for (int r; (r = next.fetch_add(1)) < matrix.rows && !progress.stopped();) {
        matrix.decode(r, 1, row.data());
        addErrors(row.data(), search, scales, scaled, rounded, sums.data() + static_cast<size_t>(r) * kTrials);
      }
    });
    for (size_t i = 0; i < sums.size(); ++i) totals[i % kTrials] += sums[i];
  }
  return scales[static_cast<size_t>(std::min_element(totals.begin(), totals.end()) - totals.begin())];
}

// Rows come scaled; input.meanSquares are those of the inputs as they come then.
void quantizeAwq(const float* rows, int firstRow, int count, const MethodInput& input, Matrix& out) {
  if (input.meanSquares.empty() || !input.options.clip) return quantizeRtn(rows, firstRow, count, input, out);
  const WeightFormat& f = out.format;
  const int cols = out.cols, group = f.groupCols(cols);
  std::vector<float> clipped(rows, rows + int64_t{count} * cols);
  std::vector<float> part(static_cast<size_t>(group));
  RoundedRow rounded;
  for (int r = 0; r < count; ++r)
    for (int begin = 0; begin < cols; begin += group) {
      const int size = std::min(group, cols - begin);
      const float* w = rows + int64_t{r} * cols + begin;
      float largest = 0;
      for (int j = 0; j < size; ++j) largest = std::max(largest, std::fabs(w[j]));
      double best = INFINITY;
      float limit = largest;
      for (int trial = 0; trial < kClipTrials; ++trial) {
        const float most = largest * (1 - static_cast<float>(trial) / kTrials);
        for (int j = 0; j < size; ++j) part[static_cast<size_t>(j)] = std::clamp(w[j], -most, most);
        rounded.round(part.data(), size, f);
        double error = 0;
        rounded.values(size, f, [&](size_t j, float value) {
          const auto off = static_cast<double>(value - w[j]);
          error += off * off * static_cast<double>(input.meanSquares[static_cast<size_t>(begin) + j]);
        });
        if (error < best) {
          best = error;
          limit = most;
        }
      }
      for (int j = 0; j < size; ++j) {
        float& value = clipped[static_cast<size_t>(int64_t{r} * cols + begin + j)];
        value = std::clamp(value, -limit, limit);
      }
    }
  quantizeRtn(clipped.data(), firstRow, count, input, out);
}

}  // namespace winnow
