// SPDX-License-Identifier: GPL-3.0-or-later
// Likeness of layers on a text, as the command line and the window ask for it.
#pragma once
#include <string>

#include "engine/share/similarity.h"

namespace winnow {

struct SimilaritySpec {
  std::string text;
  int context = 0;     // tokens per window; 0 = 256, or the model's own context where that is less
  int tokens = 2048;   // of the text at most
};

// In a session of its own under the knobs of `config` that concern weights and computation; the cache is whole and attention unshared. Errors:
// no tokenizer; those of createSession and measureSimilarity.
Result<SimilarityMap> similarityRun(Engine& engine, const Config& config, const SimilaritySpec& spec, const Progress& progress);

}  // namespace winnow
