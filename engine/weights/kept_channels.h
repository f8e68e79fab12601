// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace winnow {

// Channels that stay, ascending: of a feed-forward, or of the queries, keys or values of an attention.
struct KeptChannels {
  std::vector<int> list;
  std::string key;  // their identity
};
using Channels = std::shared_ptr<const KeptChannels>;  // null: all of them stay
Channels keptChannels(std::vector<int> list);

struct HeadFolds;  // head_folds.h

// What stays of an attention: rows of q, k and v, columns of o. Null: all.
struct KeptAttention {
  Channels queries, keys, values, outputs;
  std::vector<int32_t> pairs{};  // [kvHeads, headDim / 2] which RoPE pair of a whole head each of a narrow one is; empty: its own
  float queryScale = 1;          // of queries, so that scores divided by the root of the components that are left are divided by that of all
  std::shared_ptr<const HeadFolds> folds{};  // of v and o, where these are other matrices; null: not
};

// What stays of a layer.
struct KeptOfLayer {
  Channels ffn;
  KeptAttention attention;
};

}  // namespace winnow
