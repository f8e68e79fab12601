// SPDX-License-Identifier: GPL-3.0-or-later
// Components of heads by chance: what a method has to be better than.
#include "engine/prune/head_dim_methods.h"
#include "engine/prune/width_methods.h"

namespace winnow {
namespace {

std::vector<double> randomScores(const HeadDimInput& input, int order, int count) {
  WidthInput channels;
  channels.layer = 2 * input.layer + order;
  channels.ffn = count;
  return randomChannelScores(channels);
}

}  // namespace

std::vector<double> randomKeyScores(const HeadDimInput& input) { return randomScores(input, 0, input.model.config().kvHeads * input.units()); }
std::vector<double> randomValueScores(const HeadDimInput& input) { return randomScores(input, 1, input.model.config().kvRows()); }

}  // namespace winnow
