// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/calibration.h"

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

Calibration::Calibration(const ModelConfig& model, Ledger& ledger) : sums_(static_cast<size_t>(model.layers)) {
  const std::array<int, static_cast<size_t>(LinearInput::count)> cols = {model.hidden, model.qRows(), model.hidden, model.ffn};
  for (PerInput& layer : sums_)
    for (size_t i = 0; i < cols.size(); ++i) layer[i] = Buffer(ledger, MemoryTag::calibration, static_cast<size_t>(cols[i]) * sizeof(double));
}

void Calibration::take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) {
  const Buffer& buffer = sums_[static_cast<size_t>(layer)][static_cast<size_t>(input)];
  CHECK(static_cast<size_t>(cols) * sizeof(double) == buffer.bytes(), layer, cols);
  double* sums = buffer.as<double>();
  for (int t = 0; t < tokens; ++t) {
    const float* row = x + t * stride;
    for (int c = 0; c < cols; ++c) sums[c] += static_cast<double>(row[c]) * row[c];
  }
  if (layer == 0 && input == LinearInput::attention) tokens_ += tokens;
}

std::vector<float> Calibration::columnNorms(int layer, LinearInput input) const {
  const Buffer& sums = sums_[static_cast<size_t>(layer)][static_cast<size_t>(input)];
  std::vector<float> norms(sums.bytes() / sizeof(double));
  for (size_t c = 0; c < norms.size(); ++c) norms[c] = static_cast<float>(std::sqrt(sums.as<double>()[c]));
  return norms;
}

}  // namespace winnow
