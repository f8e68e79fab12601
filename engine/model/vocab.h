// SPDX-License-Identifier: GPL-3.0-or-later
// What the readers of vocabularies share.
#pragma once
#include <string>

#include "engine/core/result.h"
#include "engine/model/model.h"

namespace winnow {

// Defaults that follow from the name of a pre-tokenizer when the file is silent: Llama 3 and relatives begin with BOS and take
// a word that is a token as it is.
struct PreDefaults {
  bool addBos = false;
  bool ignoreMerges = false;
};
PreDefaults preDefaults(const std::string& pre);

// Fills endOfGeneration from eos, `more` and the texts that chat models are known to end with; sorted, each once.
void collectEndOfGeneration(VocabData& vocab, const std::vector<int>& more);

// Lengths agree, ids lie in the table.
Status checkVocab(const VocabData& vocab, const std::string& path);

}  // namespace winnow
