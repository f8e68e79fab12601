// SPDX-License-Identifier: GPL-3.0-or-later
// TDA (Ma et al. 2024): a neuron stays when what it adds to the output over the prompt, its root mean square times the norm of its column of down, reaches
// a threshold of its layer that was found beforehand. The paper finds it by the error of the tail (CETT 0.2); here it is the quantile of that
// statistic over windows of the calibration text, so that a share can be asked for. A prompt unlike that text keeps more or fewer.
#include <algorithm>
#include <cmath>

#include "engine/core/check.h"
#include "engine/sparsify/methods.h"

namespace winnow {

std::vector<int32_t> tdaNeurons(const PromptNeurons& prompt, const ActivationProfile* profile, int layer, double sparsity) {
  CHECK(profile);
  const float threshold = profile->quantile(layer, ActivationSite::neurons, sparsity);
  const std::span<const float> squares = prompt.squares(layer), norms = profile->downNorms(layer);
  if (norms.empty()) return {};  // the layer has no feed-forward
  const auto tokens = static_cast<float>(std::max<int64_t>(prompt.tokens(), 1));
  std::vector<int32_t> kept;
  int32_t most = 0;
  float largest = -1;
  for (size_t j = 0; j < squares.size(); ++j) {
    const float adds = std::sqrt(squares[j] / tokens) * norms[j];
    if (adds > threshold) kept.push_back(static_cast<int32_t>(j));
    if (adds > largest) largest = adds, most = static_cast<int32_t>(j);
  }
  if (kept.empty()) kept.push_back(most);
  return kept;
}

}  // namespace winnow
