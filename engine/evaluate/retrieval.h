// SPDX-License-Identifier: GPL-3.0-or-later
// Whether an answer is still found in a context. The context is prefilled and a cache policy fires at its end, before the question is
// known; question and answer follow token by token (as kvpress does it: a cache serves many questions). Query-aware: the question
// is part of what the policy sees, as SnapKV's paper measures.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/evaluate/perplexity.h"
#include "engine/evaluate/retrieval_tasks.h"

namespace winnow {

struct RetrievalScore {
  int item = 0;
  int length = 0;                // as the item's
  std::optional<double> depth;
  bool found = false;            // every token of the answer is the first choice: greedy decoding says the answer
  std::optional<bool> baseFound; // by the baseline
  double baseNllSum = 0;
  PerplexityWindow window;       // sums over the answer's tokens; firstToken = tokens before it
};

struct RetrievalResult {
  std::string protocol;
  std::vector<RetrievalScore> items;
  WindowSums sums;               // over all answers' tokens
  int64_t found = 0, baseFound = 0;
  double seconds = 0;
  void add(const RetrievalScore& score);
};

// "needle after 2 lengths, 5 depths, 3 trials, seed 0, compressed before the question": `what` names the task or the data.
std::string retrievalProtocol(const std::string& what, bool queryAware);

// baseline (same vocabulary) null for none. Errors: an item longer than the session's context, an answer without tokens (badInput, the
// item's number counts from 1), cancelled. onItem is called after each.
Result<RetrievalResult> measureRetrieval(Session& session, Session* baseline, const Tokenizer& tokenizer, const std::vector<RetrievalItem>& items,
                                         bool queryAware, const Progress& progress, const std::function<void(const RetrievalScore&)>& onItem = {});
// Context a session needs for them.
int retrievalTokens(const Tokenizer& tokenizer, const std::vector<RetrievalItem>& items);

}  // namespace winnow
