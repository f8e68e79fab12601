// SPDX-License-Identifier: GPL-3.0-or-later
// The dense weights with some matrices in the place of their own, and what a set of weights computes: what narrowed sets are compared with.
#pragma once
#include <map>

#include "engine/cache/kv_cache.h"
#include "engine/run/core.h"
#include "tests/support/engine.h"

namespace winnow::test {

struct ChangedWeights {
  WeightSet set;
  std::map<const Matrix*, Matrix> matrices{};
  std::vector<std::vector<float>> values{};

  // The values of a matrix of `set`, f32 [rows, cols], which from now on reads them. The reference holds until the next change.
  std::vector<float>& change(const Matrix*& matrix) {
    auto& to = values.emplace_back(static_cast<size_t>(matrix->rows) * static_cast<size_t>(matrix->cols));
    for (int r = 0; r < matrix->rows; ++r) dequantizeRow(*matrix, r, to.data() + static_cast<size_t>(r) * static_cast<size_t>(matrix->cols));
    Matrix& made = matrices[matrix];
    made.format = {Storage::f32, 32, 0, true};
    made.rows = matrix->rows;
    made.cols = matrix->cols;
    made.data = to.data();
    matrix = &made;
    return to;
  }
  void keepColumns(const Matrix*& matrix, const std::vector<int>& kept) {
    const int cols = matrix->cols;
    std::vector<float>& all = change(matrix);
    for (size_t i = 0; i < all.size(); ++i)
      if (!std::ranges::binary_search(kept, static_cast<int>(i % static_cast<size_t>(cols)))) all[i] = 0;
  }
  void keepRows(const Matrix*& matrix, const std::vector<int>& kept) {
    const int cols = matrix->cols;
    std::vector<float>& all = change(matrix);
    for (size_t i = 0; i < all.size(); ++i)
      if (!std::ranges::binary_search(kept, static_cast<int>(i / static_cast<size_t>(cols)))) all[i] = 0;
  }
};

inline ChangedWeights denseWeights(EngineCore& core, ThreadPool& pool) { return {*value(core.store.build(core.targetOf(Config()), pool, {}, {}))}; }

// Logits after the tokens, of which there are at most 64.
inline std::vector<float> logitsOf(EngineCore& core, const WeightSet& set, std::span<const int32_t> tokens, ThreadPool& pool, Activations activations = Activations::automatic) {
  const ModelConfig& model = core.model->config();
  const Plan plan = buildPlan(model, noSharing(model.layers), set.parts);
  const auto backend = core.device->makeBackend(core.ledger, pool, {64, 64, 0, set.narrowShape});
  const auto cache = backend->makeCache(64);
  cache->reserve(static_cast<int>(tokens.size()));
  const SequenceRows rows{cache.get(), 0, static_cast<int>(tokens.size())};
  backend->run({plan, set, {&rows, 1}, tokens, activations, true});
  return {backend->logits().begin(), backend->logits().end()};
}

}  // namespace winnow::test
