// SPDX-License-Identifier: GPL-3.0-or-later
// Maps of a cache over one generation, in the order of their tokens.
#pragma once
#include <vector>

#include "experiments/workbench.h"

namespace winnow {

class CacheHistory {
 public:
  // Beyond either, every second one goes. A map of 32 layers of 8 heads in 512 columns takes 0.8 MB.
  static constexpr size_t kMost = 512, kMostBytes = size_t{96} << 20;

  // Those behind its position belong to a generation that is over, or were computed anew.
  void add(const CacheMap& map);
  void clear() { maps_.clear(); }
  int size() const { return static_cast<int>(maps_.size()); }
  const CacheMap& at(int index) const { return maps_[static_cast<size_t>(index)]; }

 private:
  size_t bytes() const;
  void thin();

  std::vector<CacheMap> maps_;
};

}  // namespace winnow
