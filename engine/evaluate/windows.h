// SPDX-License-Identifier: GPL-3.0-or-later
// A text cut into windows as the perplexity protocols define them (engines.md C.2, C.4). No model: arithmetic alone.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/core/result.h"
#include "engine/evaluate/perplexity.h"

namespace winnow {

struct EvaluationWindow {
  int64_t begin = 0;   // index of its first token in the text
  int length = 0;      // tokens; the last is a target only
  int firstScored = 0; // predictions at positions firstScored .. length - 2, targets one further
  bool bosFirst = false;  // the first token is overwritten by BOS
  double weight = 0;   // predictions it counts for; differs from scored() in hf-doc only
  int depth = 0;       // of PerplexityRequest::depths, else 0
  int scored() const { return length - 1 - firstScored; }
};

// `tokens` in the whole text, special tokens included.
Result<std::vector<EvaluationWindow>> evaluationWindows(const PerplexityRequest& request, int64_t tokens, bool vocabularyAddsBos);

}  // namespace winnow
