// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/calibration.h"

#include <algorithm>
#include <cmath>

#include "engine/core/check.h"

namespace winnow {

LinearInput linearInputOf(TensorRole role) {
  switch (role) {
    case TensorRole::q:
    case TensorRole::k:
    case TensorRole::v:
      return LinearInput::attention;
    case TensorRole::o:
      return LinearInput::output;
    case TensorRole::gate:
    case TensorRole::up:
      return LinearInput::ffn;
    case TensorRole::down:
      return LinearInput::down;
    default:
      CHECK(false, "not a linear layer of a block:", tensorRoleName(role));
      return LinearInput::count;
  }
}

std::string_view linearInputName(LinearInput input) {
  constexpr std::array<std::string_view, static_cast<size_t>(LinearInput::count)> names = {"attention", "output", "ffn", "down"};
  return names[static_cast<size_t>(input)];
}

Calibration::Calibration(const ModelConfig& model, Ledger& ledger, ThreadPool* moments)
    : ledger_(ledger), pool_(moments), sums_(static_cast<size_t>(model.layers)), stream_(ledger, model.layers, model.hidden) {
  const std::array<int, static_cast<size_t>(LinearInput::count)> cols = {model.hidden, model.qRows(), model.hidden, model.ffn};
  for (PerInput& layer : sums_)
    for (size_t i = 0; i < cols.size(); ++i) layer[i] = Buffer(ledger, MemoryTag::calibration, kSums * static_cast<size_t>(cols[i]) * sizeof(double));
  if (!moments) return;
  moments_.resize(sums_.size());
  for (auto& layer : moments_)
    for (size_t i = 0; i < cols.size(); ++i) layer[i] = SecondMoments(ledger, cols[i]);
}

void Calibration::take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) {
  const Buffer& buffer = sumsOf(layer, input);
  CHECK(static_cast<size_t>(cols) == colsOf(buffer), layer, cols);
  double* sums = buffer.as<double>();
  std::vector<double> before(sums + cols, sums + 2 * cols);
  for (int t = 0; t < tokens; ++t) {
    const float* row = x + t * stride;
    for (int c = 0; c < cols; ++c) {
      sums[c] += static_cast<double>(row[c]) * row[c];
      const double magnitude = std::fabs(static_cast<double>(row[c]));
      sums[cols + c] += magnitude;
      sums[2 * cols + c] = std::max(sums[2 * cols + c], magnitude);
      sums[4 * cols + c] += static_cast<double>(row[c]);
    }
  }
  for (int c = 0; c < cols; ++c) {
    const double mean = (sums[cols + c] - before[static_cast<size_t>(c)]) / tokens;
    sums[3 * cols + c] += mean * mean;
  }
  if (!moments_.empty()) moments_[static_cast<size_t>(layer)][static_cast<size_t>(input)].add(x, stride, tokens, *pool_);
  if (layer == 0 && input == LinearInput::attention) tokens_ += tokens;
}

const SecondMoments& Calibration::moments(int layer, LinearInput input) const {
  CHECK(hasMoments(), layer);
  return moments_[static_cast<size_t>(layer)][static_cast<size_t>(input)];
}

// Finite f32 inputs can't make the double sums overflow.
Status Calibration::sound() const {
  for (size_t layer = 0; layer < sums_.size(); ++layer)
    for (size_t input = 0; input < sums_[layer].size(); ++input) {
      const Buffer& sums = sums_[layer][input];
      const double* values = sums.as<double>();
      for (size_t c = 0; c < colsOf(sums); ++c)
        if (!std::isfinite(values[c]))
          return Error{ErrorCode::badInput, "On the calibration text the model computes NaN or infinity: first in layer " + std::to_string(layer) + ", channel " +
                                                std::to_string(c) + " of what " + std::string(linearInputName(static_cast<LinearInput>(input))) + " reads.",
                       "Choose another calibration text, or set compute.activations=f32."};
    }
  return Done{};
}

std::vector<float> Calibration::columnNorms(int layer, LinearInput input) const {
  const Buffer& sums = sumsOf(layer, input);
  std::vector<float> norms(colsOf(sums));
  for (size_t c = 0; c < norms.size(); ++c) norms[c] = static_cast<float>(std::sqrt(sums.as<double>()[c]));
  return norms;
}

std::vector<float> Calibration::meanMagnitudes(int layer, LinearInput input) const {
  const Buffer& sums = sumsOf(layer, input);
  std::vector<float> means(colsOf(sums));
  for (size_t c = 0; c < means.size(); ++c) means[c] = static_cast<float>(sums.as<double>()[means.size() + c] / static_cast<double>(std::max<int64_t>(tokens_, 1)));
  return means;
}

std::vector<float> Calibration::largestMagnitudes(int layer, LinearInput input) const {
  const Buffer& sums = sumsOf(layer, input);
  std::vector<float> largest(colsOf(sums));
  for (size_t c = 0; c < largest.size(); ++c) largest[c] = static_cast<float>(sums.as<double>()[2 * largest.size() + c]);
  return largest;
}

std::vector<float> Calibration::windowMagnitudes(int layer, LinearInput input) const {
  const Buffer& sums = sumsOf(layer, input);
  std::vector<float> magnitudes(colsOf(sums));
  for (size_t c = 0; c < magnitudes.size(); ++c) magnitudes[c] = static_cast<float>(std::sqrt(sums.as<double>()[3 * magnitudes.size() + c]));
  return magnitudes;
}

std::vector<double> Calibration::means(int layer, LinearInput input) const {
  const Buffer& sums = sumsOf(layer, input);
  std::vector<double> means(colsOf(sums));
  for (size_t c = 0; c < means.size(); ++c) means[c] = sums.as<double>()[4 * means.size() + c] / static_cast<double>(std::max<int64_t>(tokens_, 1));
  return means;
}

}  // namespace winnow
