// SPDX-License-Identifier: GPL-3.0-or-later
// How far each part of a layer turns the residual stream: mean cosines between what enters and leaves it, over tokens of a calibration
// text. Points are numbered 2 l where layer l begins, 2 l + 1 between its attention and its feed-forward, 2 layers where the last one ends.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/core/memory.h"

namespace winnow {

// One layer's share in the stream; 1 - cosine is ShortGPT's block influence (Men et al. 2024), 0 where nothing turns.
struct LayerInfluence {
  double layer = 0, attention = 0, ffn = 0;  // 1 - mean cosine, 0..2
  double angle = 0;                          // of the layer, arccos of the mean cosine over pi
  double meanAngle = 0;                      // of the layer, mean over the tokens of arccos over pi
};

class ResidualCosines {
 public:
  ResidualCosines(Ledger& ledger, int layers, int cols);
  // Points come in ascending order, each of the same tokens; evenly spaced ones of a batch are looked at.
  void take(int point, const float* x /* [tokens, stride] */, int64_t stride, int tokens);
  void finish() { rows_ = Buffer(); }  // nothing more comes

  int layers() const { return layers_; }
  double cosine(int from, int to) const;  // between two points, mean over the tokens; 1 when none came
  LayerInfluence influence(int layer) const;

 private:
  int points() const { return 2 * layers_ + 1; }
  size_t pair(int from, int to) const { return static_cast<size_t>(from) * static_cast<size_t>(points()) + static_cast<size_t>(to); }
  void addBatch();

  Ledger& ledger_;
  int layers_, cols_, most_;   // tokens of a batch
  Buffer rows_;                // [points, most, cols] directions, while inputs come
  int held_ = 0;               // tokens of the batch
  int64_t tokens_ = 0;
  std::vector<double> sums_;   // [points, points] of cosines
  std::vector<double> angles_;  // [layers], sums of angles over pi
};

}  // namespace winnow
