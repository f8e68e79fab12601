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

void Calibration::take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) {
  std::vector<double>& sums = sums_[static_cast<size_t>(layer)][static_cast<size_t>(input)];
  sums.resize(static_cast<size_t>(cols));
  for (int t = 0; t < tokens; ++t) {
    const float* row = x + t * stride;
    for (int c = 0; c < cols; ++c) sums[static_cast<size_t>(c)] += static_cast<double>(row[c]) * row[c];
  }
  if (layer == 0 && input == LinearInput::attention) tokens_ += tokens;
}

std::vector<float> Calibration::columnNorms(int layer, LinearInput input) const {
  const std::vector<double>& sums = sums_[static_cast<size_t>(layer)][static_cast<size_t>(input)];
  std::vector<float> norms(sums.size());
  for (size_t c = 0; c < sums.size(); ++c) norms[c] = static_cast<float>(std::sqrt(sums[c]));
  return norms;
}

}  // namespace winnow
