// SPDX-License-Identifier: GPL-3.0-or-later
// Scores a response with a model: teacher-forced, prompt and response in one pass over the text.
#pragma once
#include "engine/attribute/method.h"

namespace winnow {

class ModelScorer final : public ResponseScorer {
 public:
  // stop: cancels within one micro-batch. together: contexts that share a prefix go through one forward.
  ModelScorer(Session& session, const Tokenizer& tokenizer, std::string question, std::vector<int32_t> response, std::stop_token stop, bool together = true);

  Result<ResponseScore> score(const std::string& context) override;
  Status scoreAll(std::span<const std::string> contexts, const OnScore& onScore) override;
  // Milliseconds a token of this prompt takes, measured on its first ones.
  Result<double> measureSpeed(const std::string& context);
  size_t responseLength() const { return response_.size(); }
  Result<AttentionMass> attention(const std::string& context, const std::vector<Source>& sources, bool rollout) override;
  void reusePrefix(bool on) override;
  Result<std::vector<ResponseScore>> otherChunkings(const std::string& context) override;
  std::vector<int32_t> promptTokens(const std::string& context) const override;

 private:
  Result<ResponseScore> scorePrompt(std::vector<int32_t> prompt, size_t piece);
  std::vector<int32_t> withResponse(const std::vector<int32_t>& prompt) const;  // all but its last token, which is scored, not fed
  void addScores(ResponseScore& to, int count, const float* logits);

  Session& session_;
  const Tokenizer& tokenizer_;
  std::string question_;
  std::vector<int32_t> response_;
  std::vector<TokenScore> scores_;
  Progress inner_;
  bool reuse_ = false, together_;
};

// The response as it follows the prompt: those tokens of the joined text where the prompt's own come out unchanged, else those the
// response has after a line break.
std::vector<int32_t> responseTokens(const Tokenizer& tokenizer, const std::string& prompt, const std::string& response);

}  // namespace winnow
