// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/residuals.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/core/check.h"

namespace winnow {
namespace {

constexpr int64_t kRowBytes = int64_t{64} << 20;  // of a batch, all points together
constexpr int kFewest = 64, kMost = 512;          // tokens

}  // namespace

ResidualCosines::ResidualCosines(Ledger& ledger, int layers, int cols)
    : ledger_(ledger), layers_(layers), cols_(cols),
      most_(static_cast<int>(std::clamp<int64_t>(kRowBytes / (int64_t{sizeof(float)} * points() * std::max(cols, 1)), kFewest, kMost))),
      sums_(static_cast<size_t>(points()) * static_cast<size_t>(points())), angles_(static_cast<size_t>(layers)) {}

void ResidualCosines::take(int point, const float* x, int64_t stride, int tokens) {
  CHECK(point >= 0 && point < points(), point);
  const size_t plane = static_cast<size_t>(most_) * static_cast<size_t>(cols_);
  if (rows_.bytes() == 0) rows_ = Buffer(ledger_, MemoryTag::calibration, plane * static_cast<size_t>(points()) * sizeof(float));
  held_ = std::min(tokens, most_);
  for (int i = 0; i < held_; ++i) {
    const float* row = x + int64_t{i} * tokens / held_ * stride;
    float* to = rows_.as<float>() + static_cast<size_t>(point) * plane + static_cast<size_t>(i) * static_cast<size_t>(cols_);
    double squares = 0;
    for (int c = 0; c < cols_; ++c) squares += static_cast<double>(row[c]) * row[c];
    const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
    for (int c = 0; c < cols_; ++c) to[c] = static_cast<float>(row[c] * scale);
  }
  if (point == points() - 1) addBatch();
}

void ResidualCosines::addBatch() {
  const size_t cols = static_cast<size_t>(cols_), plane = static_cast<size_t>(most_) * cols;
  for (int from = 0; from < points(); ++from)
    for (int to = from + 1; to < points(); ++to) {
      const float* a = rows_.as<float>() + static_cast<size_t>(from) * plane;
      const float* b = rows_.as<float>() + static_cast<size_t>(to) * plane;
      double sum = 0;
      for (int i = 0; i < held_; ++i, a += cols, b += cols) {
        // Eight partial sums: one would wait for itself, and the order is fixed this way.
        float partial[8] = {};
        size_t c = 0;
        for (; c + 8 <= cols; c += 8)
          for (size_t k = 0; k < 8; ++k) partial[k] += a[c + k] * b[c + k];
        for (size_t k = 0; c < cols; ++c, ++k) partial[k] += a[c] * b[c];
        for (const float each : partial) sum += each;
      }
      sums_[pair(from, to)] += sum;
    }
  for (int layer = 0; layer < layers_; ++layer) {
    const float* a = rows_.as<float>() + static_cast<size_t>(2 * layer) * plane;
    const float* b = a + 2 * plane;
    for (int i = 0; i < held_; ++i, a += cols, b += cols) {
      double cosine = 0;
      for (size_t c = 0; c < cols; ++c) cosine += static_cast<double>(a[c]) * b[c];
      angles_[static_cast<size_t>(layer)] += std::acos(std::clamp(cosine, -1.0, 1.0)) / std::numbers::pi;
    }
  }
  tokens_ += held_;
}

double ResidualCosines::cosine(int from, int to) const {
  if (from == to || tokens_ == 0) return 1;
  return std::clamp(sums_[pair(std::min(from, to), std::max(from, to))] / static_cast<double>(tokens_), -1.0, 1.0);
}

LayerInfluence ResidualCosines::influence(int layer) const {
  const int begin = 2 * layer;
  const double whole = cosine(begin, begin + 2);
  return {1 - whole, 1 - cosine(begin, begin + 1), 1 - cosine(begin + 1, begin + 2), std::acos(whole) / std::numbers::pi,
          tokens_ > 0 ? angles_[static_cast<size_t>(layer)] / static_cast<double>(tokens_) : 0};
}

}  // namespace winnow
