// SPDX-License-Identifier: GPL-3.0-or-later
// SmoothQuant (Xiao et al., ICML 2023): what is large in a channel of activations is moved into the weights that read it, so that both can be
// held in 8 bits: s_j = max|x_j|^alpha / max|w_j|^(1-alpha), columns are multiplied by s, the norm that makes the input is divided by it. Only
// inputs that a norm makes are scaled, as published; then weights are rounded to nearest. Activations are rounded when the model runs
// (compute.activations=int8, one scale for 32 values of a token, where the paper has one for all of them).
#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <vector>

#include "engine/core/check.h"
#include "engine/quantize/methods.h"

namespace winnow {
namespace {

constexpr float kSmallest = 1e-5f;

// max |w_j| over the rows of every matrix that reads the input.
std::vector<float> largestWeights(const ScaleSearch& search, ThreadPool& pool, const Progress& progress) {
  const size_t cols = search.largestMagnitudes.size();
  std::vector<float> largest(cols);
  std::mutex mutex;
  for (const auto& matrix : search.matrices) {
    std::atomic<int> next{0};
    pool.run([&](int, int) {
      std::vector<float> row(cols), mine(cols);
      for (int r; (r = next.fetch_add(1)) < matrix.rows && !progress.stopped();) {
        matrix.decode(r, 1, row.data());
        for (size_t j = 0; j < cols; ++j) mine[j] = std::max(mine[j], std::fabs(row[j]));
      }
      const std::scoped_lock lock(mutex);
      for (size_t j = 0; j < cols; ++j) largest[j] = std::max(largest[j], mine[j]);
    });
  }
  return largest;
}

}  // namespace

// An input that was never active is left as it is: nothing is known of it.
std::vector<float> smoothingScales(const ScaleSearch& search, ThreadPool& pool, const Progress& progress) {
  CHECK(!search.largestMagnitudes.empty() && search.strength >= 0 && search.strength <= 1, search.strength);
  std::vector<float> s = largestWeights(search, pool, progress);
  const auto alpha = static_cast<float>(search.strength);
  for (size_t j = 0; j < s.size(); ++j) {
    const float active = search.largestMagnitudes[j], weight = std::max(s[j], kSmallest);
    s[j] = active > 0 ? std::max(std::pow(active, alpha) / std::pow(weight, 1 - alpha), kSmallest) : 1.0f;
  }
  return s;
}

}  // namespace winnow
