// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/attention_left.h"

#include <numeric>

#include "engine/core/check.h"

namespace winnow {

std::shared_ptr<const ModelConfig> narrowShape(const ModelConfig& model, const WeightTarget& target) {
  if (!target.heads) return nullptr;
  auto shape = std::make_shared<ModelConfig>(model);
  shape->kvHeads = kvHeadsLeft(target.heads->removed, model.kvHeads);
  shape->heads = shape->kvHeads * model.groupSize();
  return shape;
}

std::vector<KeptAttention> attentionLeftBy(const ModelConfig& model, const WeightTarget& target, const Calibration* statistics, const HeadRelevance* relevance) {
  std::vector<KeptAttention> out(static_cast<size_t>(model.layers));
  if (!target.heads) return out;
  const HeadMethod* method = findHeadMethod(target.heads->method);
  CHECK(method && (statistics || !method->norms) && (relevance || !method->relevance), target.heads->method);
  for (int layer = 0; layer < model.layers; ++layer) {
    const std::vector<float> norms = method->norms ? statistics->columnNorms(layer, LinearInput::output) : std::vector<float>();
    const HeadInput input{layer, model.heads, model.kvHeads, model.headDim, norms, method->relevance ? relevance->of(layer) : std::span<const double>()};
    const Channels kept = bestChannels(method->score(input), kvHeadsLeft(target.heads->removed, model.kvHeads));
    out[static_cast<size_t>(layer)] = keptHeads(kept->list, model.groupSize(), model.headDim);
  }
  return out;
}

std::vector<KeptAttention> plannedAttention(const ModelConfig& model, const WeightTarget& target) {
  if (!target.heads) return std::vector<KeptAttention>(static_cast<size_t>(model.layers));
  std::vector<int> first(static_cast<size_t>(kvHeadsLeft(target.heads->removed, model.kvHeads)));
  std::iota(first.begin(), first.end(), 0);
  return std::vector<KeptAttention>(static_cast<size_t>(model.layers), keptHeads(first, model.groupSize(), model.headDim));
}

}  // namespace winnow
