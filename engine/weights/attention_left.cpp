// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/attention_left.h"

#include <numeric>

#include "engine/core/check.h"
#include "engine/weights/head_folds.h"

namespace winnow {
namespace {

KeptAttention headsLeft(const ModelConfig& model, const HeadChoice& choice, int layer, const Calibration* statistics, const HeadRelevance* relevance) {
  const HeadMethod* method = findHeadMethod(choice.method);
  CHECK(method && (statistics || !method->norms) && (relevance || !method->relevance), choice.method);
  const std::vector<float> norms = method->norms ? statistics->columnNorms(layer, LinearInput::output) : std::vector<float>();
  const HeadInput input{layer, model.heads, model.kvHeads, model.headDim, norms, method->relevance ? relevance->of(layer) : std::span<const double>()};
  const Channels kept = bestChannels(method->score(input), kvHeadsLeft(choice.removed, model.kvHeads));
  return keptHeads(kept->list, model.groupSize(), model.headDim);
}

KeptAttention headDimsLeft(const Model& model, const HeadDimChoice& choice, int layer, const Calibration* statistics, ThreadPool& pool) {
  const HeadDimMethod* method = findHeadDimMethod(choice.method);
  CHECK(method && (statistics || !method->moments), choice.method);
  const HeadDimInput input{model, layer, method->moments ? &statistics->moments(layer, LinearInput::attention) : nullptr, pool};
  const int left = headDimLeft(choice.removed, model.config().headDim);
  KeptAttention out = keptHeadDims(model.config(), left, method->scoreKeys(input), method->folds() ? std::vector<double>() : method->scoreValues(input));
  if (!method->folds()) return out;
  auto folds = std::make_shared<HeadFolds>(*method->foldValues(input, left));
  folds->key = std::to_string(left) + " components by " + choice.method + " [" + std::to_string(statistics->tokens()) + " tokens] of " + out.keys->key;
  out.folds = std::move(folds);
  return out;
}

}  // namespace

std::shared_ptr<const ModelConfig> narrowShape(const ModelConfig& model, const WeightTarget& target) {
  if (!target.heads && !target.headDims) return nullptr;
  auto shape = std::make_shared<ModelConfig>(model);
  if (target.heads) shape->kvHeads = kvHeadsLeft(target.heads->removed, model.kvHeads);
  shape->heads = shape->kvHeads * model.groupSize();
  if (!target.headDims) return shape;
  shape->headDim = headDimLeft(target.headDims->removed, model.headDim);
  return shape;
}

Result<std::vector<KeptAttention>> attentionLeftBy(const Model& model, const WeightTarget& target, const Calibration* statistics, const HeadRelevance* relevance,
                                                   ThreadPool& pool, const Progress& progress) {
  CHECK(!target.heads || !target.headDims);
  const int layers = model.config().layers;
  std::vector<KeptAttention> out(static_cast<size_t>(layers));
  for (int layer = 0; layer < layers; ++layer) {
    if (progress.stopped()) return Error{ErrorCode::cancelled, "Preparing the weights was cancelled.", ""};
    if (target.heads) out[static_cast<size_t>(layer)] = headsLeft(model.config(), *target.heads, layer, statistics, relevance);
    if (target.headDims) out[static_cast<size_t>(layer)] = headDimsLeft(model, *target.headDims, layer, statistics, pool);
  }
  return out;
}

std::vector<KeptAttention> plannedAttention(const ModelConfig& model, const WeightTarget& target) {
  KeptAttention each;
  if (target.heads) {
    std::vector<int> first(static_cast<size_t>(kvHeadsLeft(target.heads->removed, model.kvHeads)));
    std::iota(first.begin(), first.end(), 0);
    each = keptHeads(first, model.groupSize(), model.headDim);
  } else if (target.headDims) {
    const HeadDimMethod* method = findHeadDimMethod(target.headDims->method);
    const int left = headDimLeft(target.headDims->removed, model.headDim);
    const std::vector<double> alike(static_cast<size_t>(model.kvRows()));
    each = keptHeadDims(model, left, alike, method->folds() ? std::span<const double>() : alike);
    if (method->folds()) each.folds = std::make_shared<HeadFolds>(HeadFolds{model.kvHeads, model.groupSize(), model.headDim, left, {}, {}, "in a plan"});
  }
  return std::vector<KeptAttention>(static_cast<size_t>(model.layers), each);
}

}  // namespace winnow
