// SPDX-License-Identifier: GPL-3.0-or-later
// What is left of the attentions of a model where heads go, or components of heads.
#pragma once
#include <memory>
#include <vector>

#include "engine/core/result.h"
#include "engine/model/model.h"
#include "engine/weights/calibration.h"
#include "engine/weights/head_relevance.h"
#include "engine/weights/recipe.h"

namespace winnow {

// The model's shape with its attentions as a target leaves them; null: as they are.
std::shared_ptr<const ModelConfig> narrowShape(const ModelConfig& model, const WeightTarget& target);

// [layers] what stays, by the method of target.heads or target.headDims. `statistics` and `relevance` are null where that looks at neither.
// Errors: cancelled. Throws std::bad_alloc.
Result<std::vector<KeptAttention>> attentionLeftBy(const Model& model, const WeightTarget& target, const Calibration* statistics, const HeadRelevance* relevance,
                                                   ThreadPool& pool, const Progress& progress);
// The extents alone, for a plan.
std::vector<KeptAttention> plannedAttention(const ModelConfig& model, const WeightTarget& target);

}  // namespace winnow
