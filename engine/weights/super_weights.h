// SPDX-License-Identifier: GPL-3.0-or-later
// Super weights (Yu et al. 2024, arXiv 2411.07191): single weights of down projections that meet a huge input and make the huge activation which the
// whole model relies on. Found by one forward pass per weight, without any text but a short prompt.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "engine/model/model.h"
#include "engine/weights/calibration.h"

namespace winnow {

struct SuperWeight {
  int layer = 0, row = 0, column = 0;  // of the down projection, row = output channel
  float value = 0;
  float activation = 0;  // the input it meets
  float output = 0;      // of its row
  bool operator==(const SuperWeight&) const = default;
};

enum class SuperWeights : uint8_t { asOthers, keep, zero };
SuperWeights superWeightsNamed(std::string_view name);  // off, keep, zero

constexpr int kMostSuperWeights = 8;
constexpr const char* kSuperWeightPrompt = "Apple Inc. is a worldwide tech company. Once upon a time there was a little girl who lived by the sea.";

// The largest input of every down projection, and the token's whole row with it.
class SpikeTap final : public LinearInputTap {
 public:
  explicit SpikeTap(int layers) : spikes_(static_cast<size_t>(layers)) {}
  void take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) override;

  struct Spike {
    int column = -1;
    float largest = 0;       // |x| at the column
    std::vector<float> row;  // [ffn]
  };
  const std::vector<Spike>& spikes() const { return spikes_; }

 private:
  std::vector<Spike> spikes_;  // [layers]
};

// The weights of layers where both the largest input and the largest output of the down projection stand out: beyond 50, or beyond 20 times
// the median over the layers. `gone` are those that were zero in the pass.
std::vector<SuperWeight> superWeightsIn(const Model& model, const SpikeTap& tap, const std::vector<SuperWeight>& gone);

}  // namespace winnow
