// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/run/kept_mass.h"

#include <algorithm>

#include "engine/core/check.h"
#include "engine/run/session_impl.h"

namespace winnow {
namespace {

// Both sums go over the slots in the same order: of a cache that holds everything the share is exactly 1.
class KeptTap final : public AttentionTap {
 public:
  KeptTap(KeptMass& out, const KvCache& kept) : out_(out), kept_(kept) {}

  void take(int layer, const AttentionRows& rows) override {
    CHECK(rows.queries == 1 && rows.heads == out_.heads, rows.queries, rows.heads);
    out_.attends[static_cast<size_t>(layer)] = true;
    for (int head = 0; head < rows.heads; ++head) {
      const float* row = rows.probabilities + int64_t{head} * rows.stride;
      const std::span<const int32_t> positions = kept_.positions(layer, head / (rows.heads / kept_.kvHeads()));
      double all = 0, held = 0;
      for (int64_t key = 0; key <= rows.first; ++key) all += static_cast<double>(row[key]);
      for (const int32_t position : positions) held += static_cast<double>(row[position]);
      held += static_cast<double>(row[rows.first]);
      KeptMass::Head& to = out_.of[static_cast<size_t>(layer * out_.heads + head)];
      to.mass += held / all;
      to.held += static_cast<double>(positions.size() + 1) / static_cast<double>(rows.first + 1);
    }
  }

 private:
  KeptMass& out_;
  const KvCache& kept_;
};

Status feed(Session& whole, Session& kept, std::span<const int32_t> ids, size_t prompt, const Progress& progress) {
  const Progress quiet{{}, progress.stop};
  for (Session* session : {&whole, &kept})
    if (Status fed = session->prefill(ids.first(prompt), quiet); !fed) return fed;
  kept.applyPolicyNow();
  return Done{};
}

Status query(Session& whole, Session& kept, std::span<const int32_t> ids, AttentionTap& tap, const Progress& progress) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (progress.stopped()) return Error{ErrorCode::cancelled, "Stopped.", ""};
    whole.observeAttention(&tap);
    Status fed = whole.step(ids[i]);
    whole.observeAttention(nullptr);
    if (fed) fed = kept.step(ids[i]);
    if (!fed) return fed;
    progress(static_cast<double>(i + 1) / static_cast<double>(ids.size()), "Reading attention");
  }
  return Done{};
}

}  // namespace

KeptMass::Head KeptMass::mean(int layer) const {
  Head sum;
  for (int head = 0; head < heads; ++head) sum.mass += at(layer, head).mass, sum.held += at(layer, head).held;
  return {sum.mass / heads, sum.held / heads};
}

KeptMass::Head KeptMass::mean() const {
  Head sum;
  int count = 0;
  for (int layer = 0; layer < layers; ++layer) {
    if (!attends[static_cast<size_t>(layer)]) continue;
    const Head own = mean(layer);
    sum.mass += own.mass, sum.held += own.held;
    ++count;
  }
  return count > 0 ? Head{sum.mass / count, sum.held / count} : sum;
}

int KeptMass::least(int layer) const {
  int found = 0;
  for (int head = 1; head < heads; ++head)
    if (at(layer, head).mass < at(layer, found).mass) found = head;
  return found;
}

Result<KeptMass> measureKeptMass(Session& whole, Session& kept, std::span<const int32_t> ids, int prompt, const Progress& progress) {
  if (prompt < 1 || ids.size() <= static_cast<size_t>(prompt))
    return Error{ErrorCode::badInput, "The text has " + std::to_string(ids.size()) + " tokens; after a prompt of " + std::to_string(prompt) + " none is left that attends.",
                 "Choose a longer text or a shorter prompt."};
  const auto &from = EngineCore::inside(whole), &to = EngineCore::inside(kept);
  if (from.evictor.evicts())
    return Error{ErrorCode::badInput, "The cache to compare with evicts (kv.policy), so the attention over the whole text is not there to read.", "Set kv.policy=full for it."};
  KeptMass out;
  out.layers = from.model.layers;
  out.heads = from.model.heads;
  out.prompt = prompt;
  out.queries = static_cast<int64_t>(ids.size()) - prompt;
  out.of.resize(static_cast<size_t>(out.layers) * static_cast<size_t>(out.heads));
  out.attends.resize(static_cast<size_t>(out.layers));
  KeptTap tap(out, *to.cache);
  whole.reset();
  kept.reset();
  const auto first = static_cast<size_t>(prompt);
  Status done = feed(whole, kept, ids, first, progress);
  if (done) done = query(whole, kept, ids.subspan(first), tap, progress);
  whole.reset();
  kept.reset();
  if (!done) return done.error();
  for (KeptMass::Head& head : out.of) head.mass /= static_cast<double>(out.queries), head.held /= static_cast<double>(out.queries);
  return out;
}

}  // namespace winnow
