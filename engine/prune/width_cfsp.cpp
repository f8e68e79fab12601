// SPDX-License-Identifier: GPL-3.0-or-later
// CFSP (Wang et al., COLING 2025; pruning_sharing_attribution.md, D2). Coarse: with I_l the mean angle by which layer l turns the stream, over pi,
// and g_l = sigma(13.1 (I_l - mean I)) a layer keeps the share kept * g_l / mean g; the released program divides the sum over its 128 x 1024
// tokens by 10^4, which is that factor. Where a layer would keep more than it has, all are drawn towards the mean. Fine: a channel j scores
//   sum over the matrices of mean_i(|W_ij| / sum_j' |W_ij'|) * a_j,
// a_j the norm of what down reads of it, |W| times a_j in the case of down; rows i are those of down, and the columns of gate and up.
#include <algorithm>
#include <cmath>

#include "engine/core/check.h"
#include "engine/prune/width_methods.h"

namespace winnow {
namespace {

constexpr double kSlope = 128.0 * 1024.0 / 1e4;

void addMeans(std::vector<double>& to, const std::vector<double>& sums, int over) {
  for (size_t j = 0; j < to.size(); ++j) to[j] += sums[j] / over;
}

// Of gate or up, [ffn, hidden]: each input's weights are divided by their sum over the channels.
std::vector<double> shareOfInputs(const WidthInput& input, const WidthInput::Decode& decode) {
  const int hidden = input.hidden;
  const std::vector<double> totals = sumOverRows(decode, input.ffn, hidden, hidden, input.pool, [&](const float* row, int, double* sums) {
    for (int i = 0; i < hidden; ++i) sums[i] += std::fabs(static_cast<double>(row[i]));
  });
  return sumOverRows(decode, input.ffn, hidden, input.ffn, input.pool, [&](const float* row, int channel, double* sums) {
    for (int i = 0; i < hidden; ++i)
      if (totals[static_cast<size_t>(i)] > 0) sums[channel] += std::fabs(static_cast<double>(row[i])) / totals[static_cast<size_t>(i)];
  });
}

}  // namespace

std::vector<double> cfspScores(const WidthInput& input) {
  const std::span<const float> norms = input.statistics.columnNorms;
  CHECK(static_cast<int>(norms.size()) == input.ffn, norms.size(), input.ffn);
  const auto weight = [&](const float* row, int j) { return std::fabs(static_cast<double>(row[j])) * static_cast<double>(norms[static_cast<size_t>(j)]); };
  std::vector<double> out(norms.size());
  addMeans(out, sumOverRows(input.down, input.hidden, input.ffn, input.ffn, input.pool, [&](const float* row, int, double* sums) {
             double total = 0;
             for (int j = 0; j < input.ffn; ++j) total += weight(row, j);
             for (int j = 0; j < input.ffn && total > 0; ++j) sums[j] += weight(row, j) / total;
           }), input.hidden);
  for (const WidthInput::Decode* decode : {&input.up, &input.gate})
    if (*decode) addMeans(out, shareOfInputs(input, *decode), input.hidden);
  for (size_t j = 0; j < out.size(); ++j) out[j] *= static_cast<double>(norms[j]);
  return out;
}

// The program divides each channel's weights by their own sum and then averages them, which is the same number for every channel.
std::vector<double> releasedCfspScores(const WidthInput& input) {
  const std::span<const float> norms = input.statistics.columnNorms;
  CHECK(static_cast<int>(norms.size()) == input.ffn, norms.size(), input.ffn);
  return {norms.begin(), norms.end()};
}

std::vector<double> cfspShares(std::span<const LayerInfluence> layers, double kept) {
  double mean = 0, average = 0, most = 0;
  for (const LayerInfluence& layer : layers) mean += layer.meanAngle / static_cast<double>(layers.size());
  std::vector<double> g;
  for (const LayerInfluence& layer : layers) {
    g.push_back(1 / (1 + std::exp(-kSlope * (layer.meanAngle - mean))));
    average += g.back() / static_cast<double>(layers.size());
    most = std::max(most, g.back());
  }
  const double draw = kept * most / average >= 1 ? average * (1 / kept - 1) / (most - average) / 1.05 : 1;
  for (double& each : g) each = kept * (1 + draw * (each - average) / average);
  return g;
}

}  // namespace winnow
