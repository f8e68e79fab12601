// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/attribute/model_scorer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "engine/cpu/ops.h"

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
  std::vector<cpu::TokenScore> scores;
  const Session::LogitsSink sink = [&](int, int count, const float* logits) {
    const int vocab = session_.vocab();
    scores.resize(static_cast<size_t>(count));
    cpu::scoreLogits(session_.cpuContext(), logits, vocab, vocab, response_.data() + out.logProbs.size(), count, scores.data());
    for (const cpu::TokenScore& score : scores) out.logProbs.push_back(-score.nll);
  };
  const std::span<const int32_t> all(tokens);
  const auto feed = [&](size_t from, size_t to, const Session::LogitsSink& logits) -> Status {
    for (size_t at = from; at < to;) {
      const size_t count = std::min(to - at, piece == 0 ? to - at : piece);
      if (Status fed = session_.prefill(all.subspan(at, count), inner_, logits); !fed) return fed;
      at += count;
    }
    return Done{};
  };
  if (Status fed = feed(begin, scored, {}); !fed) return fed.error();
  if (Status fed = feed(scored, tokens.size(), sink); !fed) return fed.error();
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
