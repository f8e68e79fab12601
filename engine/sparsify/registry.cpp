// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/sparsify/methods.h"

namespace winnow {

std::span<const ActivationMethod> activationMethods() {
  static const ActivationMethod methods[] = {
      {"cats", "CATS: neurons whose gate is nearly shut", "Lee et al., COLM 2024, section 3", SparsePlace::gate, true, false, catsThreshold},
      {"teal", "TEAL: small inputs of every matrix", "Liu et al., ICLR 2025 (arXiv 2408.14690), section 4", SparsePlace::inputs, true, false, tealThreshold},
      {"tda", "TDA: neurons below a threshold in the prompt", "Ma et al. 2024 (arXiv 2408.11393), section 3", SparsePlace::prompt, true, false, nullptr, tdaNeurons},
      {"griffin", "GRIFFIN: a share of the neurons, by the prompt", "Dong et al. 2024 (arXiv 2402.19427), section 4", SparsePlace::prompt, false, true, nullptr, griffinNeurons},
  };
  return methods;
}

const ActivationMethod* findActivationMethod(std::string_view name) {
  for (const ActivationMethod& method : activationMethods())
    if (method.name == name) return &method;
  return nullptr;
}

}  // namespace winnow
