// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/attribute/model_scorer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "engine/attribute/attention_flow.h"
#include "engine/attribute/token_ranges.h"

namespace winnow {

ModelScorer::ModelScorer(Session& session, const Tokenizer& tokenizer, std::string question, std::vector<int32_t> response, std::stop_token stop)
    : session_(session), tokenizer_(tokenizer), question_(std::move(question)), response_(std::move(response)) {
  inner_.stop = std::move(stop);
}

Result<ResponseScore> ModelScorer::score(const std::string& context) {
  return scorePrompt(tokenizer_.encode(attributionPrompt(context, question_), true), 0);
}

void ModelScorer::reusePrefix(bool on) {
  reuse_ = on;
  session_.reset();  // what a method feeds does not depend on what ran before it
}

// piece: tokens per prefill call, 0 = all at once.
Result<ResponseScore> ModelScorer::scorePrompt(std::vector<int32_t> prompt, size_t piece) {
  if (prompt.empty()) return Error{ErrorCode::badInput, "The prompt has no tokens.", "Give a question."};
  ResponseScore out;
  std::vector<int32_t> tokens = prompt;
  tokens.insert(tokens.end(), response_.begin(), response_.end() - 1);
  // The last prompt token is always fed: its logits score the first response token.
  const size_t scored = prompt.size() - 1;
  size_t begin = 0;
  if (reuse_) {
    const std::vector<int32_t>& held = session_.tokens();
    const size_t room = std::min(scored, held.size());
    begin = static_cast<size_t>(std::mismatch(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(room), tokens.begin()).first - held.begin());
    begin = static_cast<size_t>(session_.rewind(static_cast<int64_t>(begin)));
  } else {
    session_.reset();
  }
  out.prompt = std::move(prompt);
  out.tokensFed = static_cast<int64_t>(tokens.size() - begin);
  std::vector<TokenScore> scores;
  const Session::LogitsSink sink = [&](int, int count, const float* logits) {
    scores.resize(static_cast<size_t>(count));
    session_.scoreLogits(logits, std::span(response_).subspan(out.logProbs.size(), static_cast<size_t>(count)), scores.data());
    for (const TokenScore& score : scores) out.logProbs.push_back(-score.nll);
  };
  const std::span<const int32_t> all(tokens);
  for (size_t at = begin; at < tokens.size();) {
    const size_t count = piece == 0 ? tokens.size() - at : std::min(piece, tokens.size() - at);
    if (Status fed = session_.prefill(all.subspan(at, count), inner_, sink, scored - std::min(scored, at)); !fed) return fed.error();
    at += count;
  }
  return out;
}

// A token is of the source in which its last byte stands: words bring the space before them along.
Result<AttentionMass> ModelScorer::attention(const std::string& context, const std::vector<Source>& sources, bool rollout) {
  const std::string text = attributionPrompt(context, question_);
  std::vector<int32_t> prompt = tokenizer_.encode(text, true);
  const std::vector<int64_t> ends = tokenEnds(tokenizer_, prompt, text);
  if (ends.empty())
    return Error{ErrorCode::badInput, "The tokenizer changes the text: its tokens can't be matched to the sources.", "Use a method that leaves sources out, such as attribot."};
  std::vector<int> owner(prompt.size(), -1);
  size_t source = 0;
  for (size_t i = 0; i < prompt.size(); ++i) {
    const int64_t last = ends[i] - 1;
    if (i > 0 ? ends[i] == ends[i - 1] : ends[i] == 0) continue;
    while (source < sources.size() && last >= sources[source].separatorEnd) ++source;
    if (source < sources.size() && last >= sources[source].start) owner[i] = static_cast<int>(source);
  }
  const auto firstQuery = static_cast<int64_t>(prompt.size()) - 1;
  const auto count = static_cast<int64_t>(response_.size()), layers = static_cast<int64_t>(session_.plan().sharing.size());
  AttentionFlow flow(static_cast<int>(layers), static_cast<int>(sources.size()), std::move(owner), firstQuery, firstQuery + count, rollout);
  session_.observeAttention(&flow);
  auto scored = scorePrompt(std::move(prompt), 0);
  session_.observeAttention(nullptr);
  if (!scored) return scored.error();
  if (!flow.complete())
    return Error{ErrorCode::badInput, "The cache evicts (kv.policy): attention over the whole text is not there to read.", "Set kv.policy=full."};
  AttentionMass out;
  out.response = std::move(*scored);
  out.mass.assign(sources.size(), {});
  for (int64_t t = 0; t < count; ++t) {
    for (size_t i = 0; i < sources.size(); ++i) out.mass[i].push_back(flow.mass(static_cast<int>(i), t));
    out.firstTokenShare += flow.firstToken(t) / static_cast<double>(count * (rollout ? 1 : layers));
  }
  return out;
}

// Three standard deviations of a context's score under four ways of cutting the prompt into batches.
Status ModelScorer::measureNoise(const std::string& context, AttributeResult& result) {
  const auto began = std::chrono::steady_clock::now();
  const std::vector<int32_t> prompt = tokenizer_.encode(attributionPrompt(context, question_), true);
  reusePrefix(false);
  std::vector<double> values;
  for (const size_t piece : {size_t{0}, size_t{64}, size_t{17}, size_t{5}}) {
    const auto scored = scorePrompt(prompt, piece);
    if (!scored) return scored.error();
    values.push_back(sum(scored->logProbs));
    ++result.noiseForwards;
    result.noiseForwardTokens += scored->tokensFed;
  }
  double mean = 0, squared = 0;
  for (const double value : values) mean += value / static_cast<double>(values.size());
  for (const double value : values) squared += (value - mean) * (value - mean);
  result.noiseFloor = 3 * std::sqrt(squared / static_cast<double>(values.size() - 1));
  result.noiseMs += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
  return Done{};
}

std::vector<int32_t> responseTokens(const Tokenizer& tokenizer, const std::string& prompt, const std::string& response) {
  for (const std::string& before : {prompt, std::string("\n")}) {
    const auto left = tokenizer.encode(before, false), joined = tokenizer.encode(before + response, false);
    if (left.size() > joined.size() || !std::equal(left.begin(), left.end(), joined.begin())) continue;
    return {joined.begin() + static_cast<std::ptrdiff_t>(left.size()), joined.end()};
  }
  return tokenizer.encode(response, false);
}

}  // namespace winnow
