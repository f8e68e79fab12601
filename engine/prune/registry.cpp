// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/core/check.h"
#include "engine/prune/methods.h"

namespace winnow {

std::span<const PruneMethod> pruneMethods() {
  static const PruneMethod methods[] = {
      {"magnitude", "Magnitude: smallest weights of each matrix", "Han et al. 2015", {}, PruneScope::matrix, prepareMagnitude},
      {"wanda", "Wanda: weight times input norm, per row", "Sun et al., ICLR 2024, section 3", {.norms = true}, PruneScope::row, prepareWanda},
      {"sparsegpt", "SparseGPT: the rest makes up for what goes", "Frantar and Alistarh, ICML 2023, section 3", {.factor = true}, PruneScope::matrix, prepareSparseGpt, true},
      {"sds", "Sparse-Dense-Sparse: SparseGPT, weights again, SparseGPT", "Li et al., COLING 2025, section 3", {.moments = true, .factor = true}, PruneScope::matrix, prepareSds, true},
      {"sds-wanda", "Sparse-Dense-Sparse: Wanda, weights again, Wanda", "Li et al., COLING 2025, section 3", {.norms = true, .moments = true, .factor = true}, PruneScope::row, prepareSdsWanda, true},
      {"barber", "LLM-Barber: another mask, corrected by what whole blocks lose", "Su et al. 2024 (arXiv 2408.10631), section 3", {.gradients = true}, PruneScope::row, prepareBarber},
  };
  return methods;
}

const PruneMethod* findPruneMethod(std::string_view name) {
  for (const PruneMethod& method : pruneMethods())
    if (method.name == name) return &method;
  return nullptr;
}

std::span<const std::string> prunePatterns() {
  static const std::string names[] = {"unstructured", "2:4", "4:8"};
  return names;
}

PrunePattern parsePattern(std::string_view name) {
  if (name == "2:4") return {2, 4};
  if (name == "4:8") return {4, 8};
  CHECK(name == "unstructured", name);
  return {};
}

}  // namespace winnow
