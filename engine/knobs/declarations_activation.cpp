// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/knobs/declarations.h"
#include "engine/knobs/declare.h"
#include "engine/sparsify/method.h"

namespace winnow {

std::vector<Knob> activationKnobs() {
  const std::string group = "Activation sparsity";
  Knob method = enumeration("activation.method", "Sparse activations", group, names("none", activationMethods()), Apply::prepareWeights);
  method.help = "What of the activations counts as zero while tokens are decoded; the weights it would meet are not read. cats: neurons whose gate is nearly shut. teal: small inputs "
                "of every matrix. tda, griffin: neurons the prompt hardly used. Prompts are computed whole. Copies of weights by channel take memory.";
  method.paper = papers(activationMethods());
  method.refuses = [](const ModelConfig& model, const KnobValue& value) -> std::optional<std::string> {
    const ActivationMethod* chosen = findActivationMethod(std::get<std::string>(value));
    if (!chosen || chosen->place != SparsePlace::gate || model.gatedFfn) return std::nullopt;
    return chosen->name + " goes by the gate of the feed-forward, and this model's has none: choose teal, tda or griffin.";
  };

  Knob sparsity = text("activation.sparsity", "Share left out", group, KnobType::real, "", Apply::nextToken);
  sparsity.defaultValue = 0.5;
  sparsity.maximum = 0.95;
  sparsity.step = 0.05;
  sparsity.help = "Share of the inputs (teal) or neurons (the others) that counts as zero, the same in every layer; 0 computes all. Another share acts at the next token: "
                  "thresholds are read off what was measured. Texts unlike the calibration text reach other shares.";
  sparsity.enabledIf = "activation.method is not none";
  sparsity.enabled = [](const Config& config) { return config.text("activation.method") != "none"; };
  return {method, sparsity};
}

}  // namespace winnow
