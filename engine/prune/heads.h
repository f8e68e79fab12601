// SPDX-License-Identifier: GPL-3.0-or-later
// Which heads of the attentions are left out (pruning_sharing_attribution.md, D4 and D7): a head of keys and values with all query heads that read
// it, so that Q, K, V, O and the cache shrink by as much. Every layer loses equally many, so that the model keeps one shape: what a method thinks
// of them is compared within a layer. One method is one file and one line in heads.cpp.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/weights/kept_channels.h"
#include "engine/weights/method_input.h"

namespace winnow {

// One attention, as the methods see it.
struct HeadInput {
  int layer = 0, heads = 0, kvHeads = 0, headDim = 0;
  std::span<const float> outputNorms;  // [heads * headDim] ||z_c||_2 over the calibration text of what o reads; empty unless asked for
  std::span<const double> relevance;   // [heads] (head_relevance.h), the same
  int groupSize() const { return heads / kvHeads; }
};

struct HeadMethod {
  std::string name, title, paper;
  bool norms = false, relevance = false;  // what it looks at of a calibration text
  std::vector<double> (*score)(const HeadInput& input);  // [kvHeads]: those with the highest stay
  bool measures() const { return norms || relevance; }
};
std::span<const HeadMethod> headMethods();
const HeadMethod* findHeadMethod(std::string_view name);

struct HeadChoice {
  std::string method;
  double removed = 0;    // share of the heads of keys and values, above 0
  std::string recovery;  // of o, whose columns go; "" = none
  double damping = 0;    // of the second moments, for that
};
std::string headKey(const HeadChoice& choice);

// How many heads of keys and values a layer keeps: one at least, and one less than all.
int kvHeadsLeft(double removed, int kvHeads);

// The channels of the groups `kept` (ascending) of an attention.
KeptAttention keptHeads(std::span<const int> kept, int groupSize, int headDim);

}  // namespace winnow
