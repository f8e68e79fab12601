// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include <memory>
#include <string>
#include <vector>

namespace winnow {

// Channels of a feed-forward that stay, ascending.
struct KeptChannels {
  std::vector<int> list;
  std::string key;  // their identity
};
using Channels = std::shared_ptr<const KeptChannels>;  // null: all of them stay
Channels keptChannels(std::vector<int> list);

}  // namespace winnow
