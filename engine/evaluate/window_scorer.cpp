// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/evaluate/window_scorer.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "engine/core/check.h"

namespace winnow {
namespace {

constexpr size_t kSliceBytes = 32u << 20;  // logits of one sequence held at a time when a baseline runs beside it

int hitsOf(std::span<const TokenScore> scores, std::span<const int32_t> targets) {
  int hits = 0;
  for (size_t i = 0; i < targets.size(); ++i) hits += scores[i].best == targets[i];
  return hits;
}

}  // namespace

WindowScorer::WindowScorer(Session& session, Session* baseline, bool stepwise, std::stop_token stop)
    : session_(session), baseline_(baseline), stepwise_(stepwise) {
  inner_.stop = std::move(stop);
}

Result<ScoredWindow> WindowScorer::score(std::span<const int32_t> tokens, size_t prefix, size_t firstTarget) {
  CHECK(firstTarget > prefix && (stepwise_ || firstTarget == prefix + 1));
  scored_ = {};
  session_.reset();
  if (baseline_) baseline_->reset();
  const auto rest = tokens.subspan(prefix, tokens.size() - 1 - prefix);
  const auto targets = tokens.subspan(prefix + 1);
  if (prefix > 0) {
    if (Status fed = feed(tokens.first(prefix)); !fed) return fed.error();
  }
  Status done = stepwise_ ? step(rest, targets, firstTarget - prefix - 1) : slices(rest, targets);
  if (!done) return done.error();
  return std::move(scored_);
}

Status WindowScorer::feed(std::span<const int32_t> prefix) {
  for (Session* session : {&session_, baseline_}) {
    if (!session) continue;
    if (Status fed = session->prefill(prefix, inner_); !fed) return fed;
    if (stepwise_) session->applyPolicyNow();
  }
  return Done{};
}

Status WindowScorer::step(std::span<const int32_t> rest, std::span<const int32_t> targets, size_t unscored) {
  using Clock = std::chrono::steady_clock;
  const double each = 1.0 / static_cast<double>(rest.size());
  for (size_t i = 0; i < rest.size(); ++i) {
    if (inner_.stopped()) return Error{ErrorCode::cancelled, "Cancelled.", ""};
    for (Session* session : {&session_, baseline_}) {
      if (!session) continue;
      const auto began = Clock::now();
      if (Status stepped = session->step(rest[i]); !stepped) return stepped;
      (session == &session_ ? scored_.stepMs : scored_.baseStepMs) += each * std::chrono::duration<double, std::milli>(Clock::now() - began).count();
    }
    if (i >= unscored) add(session_.logits().data(), baseline_ ? baseline_->logits().data() : nullptr, targets.subspan(i, 1));
  }
  return Done{};
}

// The same slices with and without a baseline, so that its presence changes no digit.
Status WindowScorer::slices(std::span<const int32_t> rest, std::span<const int32_t> targets) {
  const auto vocab = static_cast<size_t>(session_.vocab());
  for (size_t at = 0; at < rest.size();) {
    const size_t count = std::min(rest.size() - at, sliceTokens());
    const auto piece = rest.subspan(at, count), pieceTargets = targets.subspan(at, count);
    size_t seen = 0;
    Status fed = session_.prefill(piece, inner_, [&](int, int n, const float* logits) {
      const auto rows = static_cast<size_t>(n);
      if (!baseline_)
        add(logits, nullptr, pieceTargets.subspan(seen, rows));
      else
        held_.insert(held_.end(), logits, logits + rows * vocab);
      seen += rows;
    });
    if (!fed) return fed;
    if (baseline_) {
      seen = 0;
      fed = baseline_->prefill(piece, inner_, [&](int, int n, const float* logits) {
        const auto rows = static_cast<size_t>(n);
        add(held_.data() + seen * vocab, logits, pieceTargets.subspan(seen, rows));
        seen += rows;
      });
      held_.clear();
      if (!fed) return fed;
    }
    at += count;
  }
  return Done{};
}

size_t WindowScorer::sliceTokens() const {
  return std::clamp<size_t>(kSliceBytes / (sizeof(float) * static_cast<size_t>(session_.vocab())), 16, 512);
}

void WindowScorer::add(const float* logits, const float* base, std::span<const int32_t> targets) {
  scores_.resize(targets.size());
  session_.scoreLogits(logits, targets, scores_.data());
  for (const TokenScore& score : scores_) scored_.nll.push_back(score.nll);
  scored_.hits += hitsOf(scores_, targets);
  if (!base) return;
  session_.scoreLogits(base, targets, scores_.data());
  for (const TokenScore& score : scores_) scored_.baseNll += score.nll;
  scored_.baseHits += hitsOf(scores_, targets);
  divergences_.resize(targets.size());
  session_.compareLogits(base, logits, targets, divergences_.data());
  for (const Divergence& divergence : divergences_) {
    scored_.kld.push_back(static_cast<float>(divergence.kld));
    const double delta = static_cast<double>(divergence.otherP) - divergence.baseP;
    scored_.squaredDeltaP += delta * delta;
    scored_.sameTop += divergence.sameTop ? 1 : 0;
  }
}

}  // namespace winnow
