// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/plan/numerics.h"

namespace winnow {

Activations activationsOf(const std::string& knob) {
  if (knob == "f32") return Activations::f32;
  if (knob == "16bit") return Activations::sixteenBit;
  if (knob == "fp8") return Activations::fp8;
  return knob == "int8" ? Activations::int8 : Activations::automatic;
}

PrefillTwin prefillTwinOf(const std::string& knob) {
  if (knob == "on") return PrefillTwin::on;
  return knob == "off" ? PrefillTwin::off : PrefillTwin::automatic;
}

ActivationMode activationMode(Activations chosen, Storage weights) {
  if (chosen == Activations::f32) return ActivationMode::f32;
  if (chosen == Activations::int8 && weights == Storage::packed) return ActivationMode::int8;
  if (weights == Storage::bf16) return ActivationMode::bf16;
  return weights == Storage::f32 && chosen != Activations::sixteenBit ? ActivationMode::f32 : ActivationMode::f16;
}

ActivationMode activationMode(Activations chosen, const WeightFormat& weights) {
  return activationMode(chosen == Activations::int8 && !weights.dotsInt8() ? Activations::sixteenBit : chosen, weights.storage);
}

}  // namespace winnow
