// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/attribute/lasso.h"

#include <algorithm>
#include <cmath>

namespace winnow {
namespace {

constexpr int kMostRounds = 100000;
constexpr double kSettled = 1e-14;  // largest change of a weight in a round

struct Column {
  std::vector<double> z;  // [M] standardised
  double mean = 0, deviation = 0;
};

Column standardise(const std::vector<std::vector<double>>& rows, size_t column) {
  Column out;
  const auto count = static_cast<double>(rows.size());
  for (const auto& row : rows) out.mean += row[column] / count;
  for (const auto& row : rows) out.deviation += (row[column] - out.mean) * (row[column] - out.mean) / count;
  out.deviation = std::sqrt(out.deviation);
  if (out.deviation == 0) return out;
  for (const auto& row : rows) out.z.push_back((row[column] - out.mean) / out.deviation);
  return out;
}

}  // namespace

double LassoFit::predict(const std::vector<double>& row) const {
  double value = intercept;
  for (size_t i = 0; i < weights.size(); ++i) value += weights[i] * row[i];
  return value;
}

LassoFit lasso(const std::vector<std::vector<double>>& rows, const std::vector<double>& y, double alpha) {
  LassoFit fit;
  if (rows.empty()) return fit;
  const size_t count = rows.size(), columns = rows.front().size();
  std::vector<Column> z;
  for (size_t i = 0; i < columns; ++i) z.push_back(standardise(rows, i));
  double mean = 0;
  for (const double value : y) mean += value / static_cast<double>(count);
  std::vector<double> rest, w(columns, 0.0);
  for (const double value : y) rest.push_back(value - mean);
  for (int round = 0; round < kMostRounds; ++round) {
    double largest = 0;
    for (size_t i = 0; i < columns; ++i) {
      if (z[i].deviation == 0) continue;
      double rho = w[i];  // a standardised column has variance 1
      for (size_t row = 0; row < count; ++row) rho += z[i].z[row] * rest[row] / static_cast<double>(count);
      const double next = std::copysign(std::max(std::fabs(rho) - alpha, 0.0), rho), change = next - w[i];
      if (change != 0)
        for (size_t row = 0; row < count; ++row) rest[row] -= change * z[i].z[row];
      w[i] = next;
      largest = std::max(largest, std::fabs(change));
    }
    if (largest < kSettled) break;
  }
  fit.intercept = mean;
  for (size_t i = 0; i < columns; ++i) {
    fit.weights.push_back(z[i].deviation == 0 ? 0.0 : w[i] / z[i].deviation);
    fit.intercept -= fit.weights.back() * z[i].mean;
  }
  return fit;
}

}  // namespace winnow
