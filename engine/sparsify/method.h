// SPDX-License-Identifier: GPL-3.0-or-later
// A method of dynamic (contextual) activation sparsity decides at each decoded token which activations count as zero; the weights they would
// meet are not read. Prompts are computed whole. One method is one file and one line in registry.cpp (pruning_sharing_attribution.md, E).
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/sparsify/profile.h"
#include "engine/sparsify/prompt.h"

namespace winnow {

enum class SparsePlace : uint8_t {
  inputs,  // small entries of what the matrices of the blocks read: their columns are skipped
  gate,    // neurons whose gate is nearly shut: their rows of up and columns of down
  prompt,  // neurons the prompt hardly used: their rows of gate and up and columns of down, until another prompt comes
};

struct ActivationMethod {
  std::string name, title, paper;
  SparsePlace place{};
  bool calibrates = false;  // reads an ActivationProfile
  bool unitTokens = false;  // prompt: the neurons of each token are scaled to norm 1 before their squares are added
  // inputs and gate: magnitudes up to this count as zero.
  float (*threshold)(const ActivationProfile& profile, int layer, ActivationSite site, double sparsity) = nullptr;
  // prompt: the neurons that stay, ascending, at least one. `profile` is null unless the method calibrates.
  std::vector<int32_t> (*neurons)(const PromptNeurons& prompt, const ActivationProfile* profile, int layer, double sparsity) = nullptr;
};

std::span<const ActivationMethod> activationMethods();
const ActivationMethod* findActivationMethod(std::string_view name);

}  // namespace winnow
