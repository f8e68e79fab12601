// SPDX-License-Identifier: GPL-3.0-or-later
// Statistics of no text, with a pool their second moments as well: some channels of every input are twenty times as large as the others.
#pragma once
#include <memory>
#include <random>
#include <vector>

#include "engine/weights/calibration.h"

namespace winnow::test {

inline std::shared_ptr<const Calibration> unevenStatistics(const ModelConfig& c, Ledger& ledger, ThreadPool* moments = nullptr) {
  constexpr int kTokens = 16;
  auto measured = std::make_shared<Calibration>(c, ledger, moments);
  std::mt19937 rng(2);
  std::normal_distribution<float> draw;
  for (int layer = 0; layer < c.layers; ++layer)
    for (const auto& [input, cols] : {std::pair{LinearInput::attention, c.hidden}, {LinearInput::output, c.qRows()}, {LinearInput::ffn, c.hidden}, {LinearInput::down, c.ffn}}) {
      std::vector<float> x(static_cast<size_t>(kTokens * cols));
      for (size_t i = 0; i < x.size(); ++i) x[i] = draw(rng) * (i % 7 == 0 ? 20.0f : 1.0f);
      measured->take(layer, input, x.data(), cols, kTokens, cols);
    }
  return measured;
}

}  // namespace winnow::test
