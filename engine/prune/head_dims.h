// SPDX-License-Identifier: GPL-3.0-or-later
// Which components of the heads are left out (pruning_sharing_attribution.md, D3, types II and III): of queries and keys whole RoPE pairs, so that each
// that stays turns by its own frequency; of values components, or all are folded into fewer. Every head of every layer keeps equally many, so that
// the model and its cache keep one shape. Queries are scaled, so that scores of attention stay divided by the root of the size that heads had. One method is one file and one
// line in head_dims.cpp.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/model.h"
#include "engine/weights/kept_channels.h"
#include "engine/weights/second_moments.h"

namespace winnow {

class ThreadPool;

// One attention, as the methods see it.
struct HeadDimInput {
  const Model& model;
  int layer = 0;
  const SecondMoments* moments = nullptr;  // of what q, k and v read; null unless asked for
  ThreadPool& pool;
  int units() const;  // what stays or goes together in queries and keys: RoPE pairs, or components where there is no RoPE
};

struct HeadDimMethod {
  std::string name, title, paper;
  bool moments = false;
  std::vector<double> (*scoreKeys)(const HeadDimInput& input);    // [kvHeads, units()]: those with the highest stay
  // Of values one of the two. Scores: [kvHeads, headDim], the same. Folds of all components to `kept` ones (head_folds.h).
  std::vector<double> (*scoreValues)(const HeadDimInput& input);
  std::shared_ptr<const HeadFolds> (*foldValues)(const HeadDimInput& input, int kept) = nullptr;
  bool folds() const { return foldValues != nullptr; }
};
std::span<const HeadDimMethod> headDimMethods();
const HeadDimMethod* findHeadDimMethod(std::string_view name);

struct HeadDimChoice {
  std::string method;
  double removed = 0;    // share of the components of a head, above 0
  std::string recovery;  // of o, where its columns go; "" = none
  double damping = 0;    // of the second moments, for that
};
std::string headDimKey(const HeadDimChoice& choice);

// Components that a head keeps: a multiple of 8, of 4 where it has fewer than 32, and not all.
int headDimLeft(double removed, int headDim);
// Why heads of this model can't be narrowed; nullopt when they can.
std::optional<std::string> cannotNarrowHeads(const ModelConfig& model);

// What stays of an attention by such scores; `values` is empty where values are folded.
KeptAttention keptHeadDims(const ModelConfig& model, int left, std::span<const double> keys, std::span<const double> values);

}  // namespace winnow
