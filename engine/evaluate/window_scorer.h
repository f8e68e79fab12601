// SPDX-License-Identifier: GPL-3.0-or-later
// Feeds one window of tokens after the other and scores what follows its prefix, teacher-forced, beside a baseline where there is one.
#pragma once
#include <cstdint>
#include <span>
#include <stop_token>
#include <vector>

#include "engine/run/engine.h"

namespace winnow {

// The scored predictions of one window, in order.
struct ScoredWindow {
  std::vector<double> nll;
  double baseNll = 0;         // 0 without a baseline, as are all that compare
  std::vector<float> kld;
  double squaredDeltaP = 0;
  int sameTop = 0;
  int hits = 0, baseHits = 0;  // predictions whose first choice is the target
  double stepMs = 0, baseStepMs = 0;  // mean of the tokens fed one by one; 0 where none was
};

class WindowScorer {
 public:
  // stepwise: what follows the prefix is fed token by token, and a cache policy fires at the prefix' end. baseline may be null.
  WindowScorer(Session& session, Session* baseline, bool stepwise, std::stop_token stop);
  // tokens: the window's, BOS already in place; the last one is a target only. Predictions of those from `firstTarget` on are scored,
  // which is prefix + 1 unless it is stepwise. Errors: of the session, cancelled.
  Result<ScoredWindow> score(std::span<const int32_t> tokens, size_t prefix, size_t firstTarget);

 private:
  Status feed(std::span<const int32_t> prefix);
  Status step(std::span<const int32_t> rest, std::span<const int32_t> targets, size_t unscored);
  Status slices(std::span<const int32_t> rest, std::span<const int32_t> targets);
  size_t sliceTokens() const;
  void add(const float* logits, const float* base, std::span<const int32_t> targets);

  Session& session_;
  Session* baseline_;
  bool stepwise_;
  Progress inner_;
  ScoredWindow scored_;
  std::vector<float> held_;  // [slice, vocab]
  std::vector<TokenScore> scores_;
  std::vector<Divergence> divergences_;
};

}  // namespace winnow
