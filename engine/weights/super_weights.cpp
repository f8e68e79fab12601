// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/super_weights.h"

#include <algorithm>
#include <cmath>

namespace winnow {
namespace {

constexpr float kSpike = 50, kTimesMedian = 20;

struct Output {
  int row = -1;
  float value = 0;
};

// The largest output for the token of the largest input, without the weights that are gone.
Output largestOutput(const MasterTensor& down, const SpikeTap::Spike& spike, const std::vector<SuperWeight>& gone) {
  Output out;
  std::vector<float> row(static_cast<size_t>(down.cols));
  for (int r = 0; r < static_cast<int>(down.rows); ++r) {
    Model::decodeRows(down, r, 1, row.data());
    for (const SuperWeight& weight : gone)
      if (weight.layer == down.layer && weight.row == r) row[static_cast<size_t>(weight.column)] = 0;
    double sum = 0;
    for (size_t c = 0; c < row.size(); ++c) sum += static_cast<double>(row[c]) * static_cast<double>(spike.row[c]);
    if (std::fabs(sum) > static_cast<double>(std::fabs(out.value))) out = {r, static_cast<float>(sum)};
  }
  return out;
}

float median(std::vector<float> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

bool standsOut(float value, float middle) { return value > kSpike || value > kTimesMedian * middle; }

}  // namespace

SuperWeights superWeightsNamed(std::string_view name) {
  return name == "keep" ? SuperWeights::keep : name == "zero" ? SuperWeights::zero : SuperWeights::asOthers;
}

void SpikeTap::take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) {
  if (input != LinearInput::down) return;
  Spike& spike = spikes_[static_cast<size_t>(layer)];
  for (int t = 0; t < tokens; ++t) {
    const float* row = x + t * stride;
    const float before = spike.largest;
    for (int c = 0; c < cols; ++c)
      if (std::fabs(row[c]) > spike.largest) {
        spike.largest = std::fabs(row[c]);
        spike.column = c;
      }
    if (spike.largest > before) spike.row.assign(row, row + cols);
  }
}

std::vector<SuperWeight> superWeightsIn(const Model& model, const SpikeTap& tap, const std::vector<SuperWeight>& gone) {
  std::vector<float> inputs, magnitudes;
  std::vector<Output> outputs;
  for (size_t layer = 0; layer < tap.spikes().size(); ++layer) {
    const SpikeTap::Spike& spike = tap.spikes()[layer];
    const MasterTensor* down = model.find(TensorRole::down, static_cast<int>(layer));
    outputs.push_back(down && spike.column >= 0 ? largestOutput(*down, spike, gone) : Output{});
    inputs.push_back(spike.largest);
    magnitudes.push_back(std::fabs(outputs.back().value));
  }
  std::vector<SuperWeight> found;
  if (inputs.empty()) return found;
  const float middleInput = median(inputs), middleOutput = median(magnitudes);
  for (size_t layer = 0; layer < inputs.size(); ++layer) {
    if (outputs[layer].row < 0 || !standsOut(inputs[layer], middleInput) || !standsOut(magnitudes[layer], middleOutput)) continue;
    const SpikeTap::Spike& spike = tap.spikes()[layer];
    std::vector<float> row(spike.row.size());
    Model::decodeRows(*model.find(TensorRole::down, static_cast<int>(layer)), outputs[layer].row, 1, row.data());
    const SuperWeight weight{static_cast<int>(layer), outputs[layer].row, spike.column, row[static_cast<size_t>(spike.column)],
                             spike.row[static_cast<size_t>(spike.column)], outputs[layer].value};
    const bool known = std::any_of(gone.begin(), gone.end(), [&](const SuperWeight& g) {
      return g.layer == weight.layer && g.row == weight.row && g.column == weight.column;
    });
    if (!known) found.push_back(weight);
  }
  return found;
}

}  // namespace winnow
