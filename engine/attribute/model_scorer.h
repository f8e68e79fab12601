// SPDX-License-Identifier: GPL-3.0-or-later
// Scores a response with a model: teacher-forced, prompt and response in one pass over the text.
#pragma once
#include "engine/attribute/method.h"

namespace winnow {

class ModelScorer final : public ResponseScorer {
 public:
  // stop: cancels within one micro-batch.
  ModelScorer(Session& session, const Tokenizer& tokenizer, std::string question, std::vector<int32_t> response, std::stop_token stop);

  Result<ResponseScore> score(const std::string& context) override;
  Result<AttentionMass> attention(const std::string& context, const std::vector<Source>& sources, bool rollout) override;
  void reusePrefix(bool on) override;
  Status measureNoise(const std::string& context, AttributeResult& result) override;

 private:
  Result<ResponseScore> scorePrompt(std::vector<int32_t> prompt, size_t piece);

  Session& session_;
  const Tokenizer& tokenizer_;
  std::string question_;
  std::vector<int32_t> response_;
  Progress inner_;
  bool reuse_ = false;
};

// The response as it follows the prompt: those tokens of the joined text where the prompt's own come out unchanged, else those the
// response has after a line break.
std::vector<int32_t> responseTokens(const Tokenizer& tokenizer, const std::string& prompt, const std::string& response);

}  // namespace winnow
