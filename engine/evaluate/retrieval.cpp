// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/evaluate/retrieval.h"

#include <algorithm>
#include <chrono>

#include "engine/attribute/attribute.h"
#include "engine/attribute/model_scorer.h"
#include "engine/evaluate/window_scorer.h"

namespace winnow {
namespace {

struct Fed {
  std::vector<int32_t> tokens;  // context, question, answer
  size_t context = 0, prompt = 0;
};

// The context's tokens are those that the whole prompt begins with: the last may join what follows.
Fed tokensOf(const RetrievalItem& item, const Tokenizer& tokenizer) {
  Fed out;
  const std::string prompt = attributionPrompt(item.context, item.question);
  const std::vector<int32_t> context = tokenizer.encode(item.context, true), answer = responseTokens(tokenizer, prompt, item.answer);
  out.tokens = tokenizer.encode(prompt, true);
  out.context = static_cast<size_t>(std::ranges::mismatch(context, out.tokens).in1 - context.begin());
  out.prompt = out.tokens.size();
  out.tokens.insert(out.tokens.end(), answer.begin(), answer.end());
  return out;
}

RetrievalScore scored(const ScoredWindow& window, const RetrievalItem& item, int number, size_t prompt, bool compared) {
  RetrievalScore out;
  out.item = number;
  out.length = item.length;
  out.depth = item.depth;
  const int count = static_cast<int>(window.nll.size());
  out.found = window.hits == count;
  if (compared) out.baseFound = window.baseHits == count;
  out.baseNllSum = window.baseNll;
  out.window.index = number;
  out.window.firstToken = static_cast<int64_t>(prompt);
  out.window.count = count;
  for (const double nll : window.nll) {
    out.window.nllSum += nll;
    out.window.nllSquaredSum += nll * nll;
  }
  for (const float kld : window.kld) out.window.kldSum += kld;
  out.window.sameTop = window.sameTop;
  return out;
}

}  // namespace

void RetrievalResult::add(const RetrievalScore& score) {
  items.push_back(score);
  sums.add(score.window);
  found += score.found;
  baseFound += score.baseFound.value_or(false);
}

std::string retrievalProtocol(const std::string& what, bool queryAware) {
  return "retrieval " + what + (queryAware ? ", compressed after the question (query-aware)" : ", compressed before the question");
}

int retrievalTokens(const Tokenizer& tokenizer, const std::vector<RetrievalItem>& items) {
  size_t most = 0;
  for (const RetrievalItem& item : items) most = std::max(most, tokensOf(item, tokenizer).tokens.size());
  return static_cast<int>(most);
}

Result<RetrievalResult> measureRetrieval(Session& session, Session* baseline, const Tokenizer& tokenizer, const std::vector<RetrievalItem>& items,
                                         bool queryAware, const Progress& progress, const std::function<void(const RetrievalScore&)>& onItem) {
  const auto began = std::chrono::steady_clock::now();
  RetrievalResult result;
  session.adopt();
  WindowScorer scorer(session, baseline, true, progress.stop);
  for (size_t i = 0; i < items.size(); ++i) {
    if (progress.stopped()) return Error{ErrorCode::cancelled, "Cancelled.", ""};
    const std::string name = "question " + std::to_string(i + 1);
    progress(static_cast<double>(i) / static_cast<double>(items.size()), name + " of " + std::to_string(items.size()));
    const Fed fed = tokensOf(items[i], tokenizer);
    if (fed.tokens.size() == fed.prompt || fed.prompt == 0) return Error{ErrorCode::badInput, name + " has no answer or nothing before it.", "Give each a context, a question and an answer."};
    for (const Session* each : {&session, baseline})
      if (each && fed.tokens.size() > static_cast<size_t>(each->context()))
        return Error{ErrorCode::badInput, name + " takes " + std::to_string(fed.tokens.size()) + " tokens, and the context holds " + std::to_string(each->context()) + ".",
                     "Use shorter lengths."};
    const size_t prefix = queryAware ? fed.prompt - 1 : std::min(fed.context, fed.prompt - 1);
    auto window = scorer.score(fed.tokens, prefix, fed.prompt);
    if (!window) return window.error();
    result.add(scored(*window, items[i], static_cast<int>(i), fed.prompt, baseline != nullptr));
    if (onItem) onItem(result.items.back());
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  progress(1.0, "done");
  return result;
}

}  // namespace winnow
