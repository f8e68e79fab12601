// SPDX-License-Identifier: GPL-3.0-or-later
// How much of the attention over a text a cache setting keeps: the same model with the whole cache beside it.
#pragma once
#include <string>

#include "engine/run/kept_mass.h"

namespace winnow {

struct KeptMassSpec {
  std::string text;
  int tokens = 512;  // of the text at most; never more than the model's own context
  int prompt = 0;    // of them fed at once before the first query; 0: half
};

// Two sessions are made for it, one with the cache whole and nothing shared. Errors: no tokenizer, too short a text, cancelled.
Result<KeptMass> keptMassRun(Engine& engine, const Config& config, const KeptMassSpec& spec, const Progress& progress);

}  // namespace winnow
