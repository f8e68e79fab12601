// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/attribute/model_scorer.h"

#include <algorithm>
#include <chrono>

#include "engine/attribute/attention_flow.h"
#include "engine/attribute/token_ranges.h"
#include "engine/run/branches.h"

namespace winnow {
namespace {

// Numbers the layers that attend, so that those that were dropped leave no gap.
class AttendingLayers final : public AttentionTap {
 public:
  AttendingLayers(const Plan& plan, AttentionTap& to) : to_(to) {
    for (size_t layer = 0; layer < plan.parts.size(); ++layer) number_.push_back(plan.parts[layer].attention ? next_++ : -1);
  }
  static int64_t count(const Plan& plan) {
    return std::count_if(plan.parts.begin(), plan.parts.end(), [](const LayerParts& parts) { return parts.attention; });
  }
  void take(int layer, const AttentionRows& rows) override { to_.take(number_[static_cast<size_t>(layer)], rows); }

 private:
  AttentionTap& to_;
  int next_ = 0;
  std::vector<int> number_;  // [layers]
};

}  // namespace

ModelScorer::ModelScorer(Session& session, const Tokenizer& tokenizer, std::string question, std::vector<int32_t> response, std::stop_token stop, bool together)
    : session_(session), tokenizer_(tokenizer), question_(std::move(question)), response_(std::move(response)), together_(together) {
  inner_.stop = std::move(stop);
}

Result<ResponseScore> ModelScorer::score(const std::string& context) {
  return scorePrompt(promptTokens(context), 0);
}

std::vector<int32_t> ModelScorer::promptTokens(const std::string& context) const { return tokenizer_.encode(attributionPrompt(context, question_), true); }

void ModelScorer::reusePrefix(bool on) {
  reuse_ = on;
  session_.reset();  // what a method feeds does not depend on what ran before it
}

std::vector<int32_t> ModelScorer::withResponse(const std::vector<int32_t>& prompt) const {
  std::vector<int32_t> tokens = prompt;
  tokens.insert(tokens.end(), response_.begin(), response_.end() - 1);
  return tokens;
}

void ModelScorer::addScores(ResponseScore& to, int count, const float* logits) {
  scores_.resize(static_cast<size_t>(count));
  session_.scoreLogits(logits, std::span(response_).subspan(to.logProbs.size(), static_cast<size_t>(count)), scores_.data());
  for (const TokenScore& score : scores_) to.logProbs.push_back(-score.nll);
}

namespace {

size_t sharedPrefix(const std::vector<int32_t>& held, const std::vector<int32_t>& tokens, size_t most) {
  const size_t room = std::min(most, held.size());
  return static_cast<size_t>(std::mismatch(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(room), tokens.begin()).first - held.begin());
}

Error noPrompt() { return {ErrorCode::badInput, "The prompt has no tokens.", "Give a question."}; }

}  // namespace

// piece: tokens per prefill call, 0 = all at once.
Result<ResponseScore> ModelScorer::scorePrompt(std::vector<int32_t> prompt, size_t piece) {
  if (prompt.empty()) return noPrompt();
  ResponseScore out;
  const std::vector<int32_t> tokens = withResponse(prompt);
  // The last prompt token is always fed: its logits score the first response token.
  const size_t scored = prompt.size() - 1;
  size_t begin = 0;
  if (reuse_)
    begin = static_cast<size_t>(session_.rewind(static_cast<int64_t>(sharedPrefix(session_.tokens(), tokens, scored))));
  else
    session_.reset();
  out.prompt = std::move(prompt);
  out.tokensFed = static_cast<int64_t>(tokens.size() - begin);
  const Session::LogitsSink sink = [&](int, int count, const float* logits) { addScores(out, count, logits); };
  const std::span<const int32_t> all(tokens);
  for (size_t at = begin; at < tokens.size();) {
    const size_t count = piece == 0 ? tokens.size() - at : std::min(piece, tokens.size() - at);
    if (Status fed = session_.prefill(all.subspan(at, count), inner_, sink, scored - std::min(scored, at)); !fed) return fed.error();
    at += count;
  }
  return out;
}

// What the session holds is the context they are parts of: each is a branch of it, and those that fit a batch are fed together.
Status ModelScorer::scoreAll(std::span<const std::string> contexts, const OnScore& onScore) {
  if (!reuse_ || !together_ || session_.position() == 0 || !canBranch(session_)) return ResponseScorer::scoreAll(contexts, onScore);
  std::vector<ResponseScore> scores(contexts.size());
  std::vector<std::vector<int32_t>> tokens(contexts.size());
  std::vector<Branch> branches;
  for (size_t i = 0; i < contexts.size(); ++i) {
    scores[i].prompt = promptTokens(contexts[i]);
    if (scores[i].prompt.empty()) return noPrompt();
    tokens[i] = withResponse(scores[i].prompt);
    const size_t scored = scores[i].prompt.size() - 1, begin = sharedPrefix(session_.tokens(), tokens[i], scored);
    scores[i].tokensFed = static_cast<int64_t>(tokens[i].size() - begin);
    branches.push_back({static_cast<int64_t>(begin), std::span<const int32_t>(tokens[i]).subspan(begin), scored - begin});
  }
  return prefillBranches(session_, branches, inner_, [&](size_t branch, int, int count, const float* logits) -> Status {
    addScores(scores[branch], count, logits);
    return scores[branch].logProbs.size() < response_.size() ? Status(Done{}) : onScore(branch, std::move(scores[branch]));
  });
}

Result<double> ModelScorer::measureSpeed(const std::string& context) {
  constexpr size_t kMost = 256;
  std::vector<int32_t> prompt = promptTokens(context);
  if (prompt.empty()) return noPrompt();
  prompt.resize(std::min(prompt.size(), kMost));
  session_.reset();
  const auto began = std::chrono::steady_clock::now();
  if (Status fed = session_.prefill(prompt, inner_); !fed) return fed.error();
  const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
  session_.reset();
  return ms / static_cast<double>(prompt.size());
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
  const auto count = static_cast<int64_t>(response_.size()), layers = AttendingLayers::count(session_.plan());
  AttentionFlow flow(static_cast<int>(layers), static_cast<int>(sources.size()), std::move(owner), firstQuery, firstQuery + count, rollout);
  AttendingLayers attending(session_.plan(), flow);
  session_.observeAttention(&attending);
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

Result<std::vector<ResponseScore>> ModelScorer::otherChunkings(const std::string& context) {
  const std::vector<int32_t> prompt = promptTokens(context);
  reusePrefix(false);
  std::vector<ResponseScore> scores;
  for (const size_t piece : {size_t{0}, size_t{64}, size_t{17}, size_t{5}}) {
    auto scored = scorePrompt(prompt, piece);
    if (!scored) return scored.error();
    scores.push_back(std::move(*scored));
  }
  return scores;
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
