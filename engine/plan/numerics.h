// SPDX-License-Identifier: GPL-3.0-or-later
// What every backend computes with and answers in: how activations are rounded, how logits are scored.
#pragma once
#include <cstdint>
#include <string>

#include "engine/weights/matrix.h"

namespace winnow {

// How activations enter a matrix product (DESIGN §2, compute.activations).
enum class ActivationMode : uint8_t {
  f32,   // f32 x against dequantized or plain weights
  f16,   // x rounded to f16 first
  bf16,  // x rounded to bf16 first
  int8,  // x quantized per token and group of 32: scale = max|x|/127, round to nearest even; integer dot products on packed
         // weights. On plain weights and 8-bit floats it is refused by the caller.
};

// compute.activations. fp8: long prompts on a GPU (engine/cuda/fp8.h); everything else as with automatic.
enum class Activations : uint8_t { automatic, f32, sixteenBit, int8, fp8 };
Activations activationsOf(const std::string& knob);
ActivationMode activationMode(Activations chosen, Storage weights);
ActivationMode activationMode(Activations chosen, const WeightFormat& weights);  // 8-bit floats take 16-bit x where int8 is chosen

enum class PrefillTwin : uint8_t { off, automatic, on };  // compute.prefill_twin
PrefillTwin prefillTwinOf(const std::string& knob);

// Negative log-likelihood of a target under a row of logits, the entropy in nats, and the arg-max with ties to the lowest id.
struct TokenScore {
  double nll = 0;
  double entropy = 0;
  int32_t best = 0;
};

// KL(base || other) of two rows in nats, exactly 0 when they are equal; and whether the arg-max agrees.
struct Divergence {
  double kld = 0;
  bool sameTop = true;
  float baseP = 0, otherP = 0;  // probability of the target
};

}  // namespace winnow
