// SPDX-License-Identifier: GPL-3.0-or-later
// Statistics of the inputs of linear layers over a calibration text, in one pass of the dense model
// (pruning_sharing_attribution.md, section 0). Shared by all methods that need them; cached per engine by CalibrationKey.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/core/result.h"
#include "engine/model/model.h"

namespace winnow {

// The four places where linear layers read; q k v share one input, gate and up another.
enum class LinearInput : uint8_t { attention, output, ffn, down, count };
LinearInput linearInputOf(TensorRole role);  // CHECKs that the role is a linear layer of a block

// Receives the inputs of linear layers during a forward pass: x [tokens, cols] of a layer. Absent means free.
class LinearInputTap {
 public:
  virtual ~LinearInputTap() = default;
  virtual void take(int layer, LinearInput input, const float* x /* [tokens, stride] */, int64_t stride, int tokens, int cols) = 0;
};

struct CalibrationKey {
  std::string textSha256;
  int tokens = 0;
  auto operator<=>(const CalibrationKey&) const = default;
};

class Calibration final : public LinearInputTap {
 public:
  explicit Calibration(int layers) : sums_(static_cast<size_t>(layers)) {}
  void take(int layer, LinearInput input, const float* x, int64_t stride, int tokens, int cols) override;
  // ||X_j||_2 of each input channel, [cols]. f32 of a double sum.
  std::vector<float> columnNorms(int layer, LinearInput input) const;
  int64_t tokens() const { return tokens_; }

 private:
  using PerInput = std::array<std::vector<double>, static_cast<size_t>(LinearInput::count)>;  // sum of squares, [cols]
  std::vector<PerInput> sums_;  // [layers]
  int64_t tokens_ = 0;
};

// Calibration sequences: the text's tokens cut into windows of `window` tokens, at most `tokens` in all, each from an
// empty cache. Error badInput when there are fewer than one window of 32.
struct CalibrationText {
  std::string text;
  int tokens = 4096;
  int window = 512;
};

}  // namespace winnow
