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

// What stays of an attention: rows of q, k and v, columns of o. Null: all.
struct KeptAttention {
  Channels queries, keys, values, outputs;
};

// What stays of a layer.
struct KeptOfLayer {
  Channels ffn;
  KeptAttention attention;
};

}  // namespace winnow
