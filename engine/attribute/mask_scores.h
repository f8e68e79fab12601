// SPDX-License-Identifier: GPL-3.0-or-later
// log p of the response under many subsets of the sources, each computed once.
#pragma once
#include <map>

#include "engine/attribute/method.h"

namespace winnow {

using Mask = std::vector<bool>;  // [sources] true: the source stays

class MaskScores {
 public:
  explicit MaskScores(AttributionTask& task) : task_(task) { task.target.reusePrefix(true); }

  // Computes what is missing, in document order: neighbours share the longest prefixes.
  Status evaluate(std::vector<Mask> masks);
  const std::vector<double>& at(const Mask& mask) const { return scores_.at(mask); }  // [response tokens]
  size_t size() const { return scores_.size(); }

 private:
  AttributionTask& task_;
  std::map<Mask, std::vector<double>> scores_;
};

Mask maskOf(uint64_t bits, size_t sources);  // bit i: source i stays

}  // namespace winnow
