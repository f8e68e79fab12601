// SPDX-License-Identifier: GPL-3.0-or-later
// Looking at attention as the model pays it: the cache whole, nothing shared, whatever is asked of weights.
#pragma once
#include <string>
#include <vector>

#include "engine/run/attention_maps.h"

namespace winnow {

Config withWholeCache(const Config& config);  // every kv., share. and prefill. knob at its default

// The first tokens of a text, no more of them than the model's own context. Error: no tokenizer.
Result<std::vector<int32_t>> opening(const Engine& engine, const std::string& text, int tokens);

struct AttentionSpec {
  std::string text;
  int tokens = 256;  // of the text at most; never more than the model's own context
  int cells = 128;   // along a side, at most
};

// Errors: no tokenizer, too short a text, cancelled.
Result<AttentionMaps> attentionRun(Engine& engine, const Config& config, const AttentionSpec& spec, const Progress& progress);

}  // namespace winnow
