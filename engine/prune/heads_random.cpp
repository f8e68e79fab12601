// SPDX-License-Identifier: GPL-3.0-or-later
// Heads by chance: what a method has to be better than.
#include "engine/prune/head_methods.h"
#include "engine/prune/width_methods.h"

namespace winnow {

// Another order in every layer, the same at every share.
std::vector<double> randomHeadScores(const HeadInput& input) {
  WidthInput order;
  order.layer = input.layer;
  order.ffn = input.kvHeads;
  return randomChannelScores(order);
}

}  // namespace winnow
