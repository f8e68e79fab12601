// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/run/branches.h"

#include <algorithm>
#include <new>
#include <type_traits>
#include <utility>

#include "engine/core/check.h"
#include "engine/run/session_impl.h"

namespace winnow {
namespace {

using Inside = std::remove_reference_t<decltype(EngineCore::inside(std::declval<Session&>()))>;

// Rows of one micro-batch whose logits are wanted, and whose they are.
struct WantedRow {
  int row;
  size_t branch;
  int token;
};

class BranchFeeder {
 public:
  BranchFeeder(Inside& session, std::span<const Branch> branches, const BranchSink& sink)
      : session_(session), branches_(branches), sink_(sink), fed_(branches.size(), 0), caches_(branches.size()) {}

  Status run(const Progress& progress) {
    while (first_ < branches_.size()) {
      if (progress.stopped()) return Error{ErrorCode::cancelled, "The branches were cancelled.", ""};
      try {
        fill();
      } catch (const std::bad_alloc&) {
        return Error{ErrorCode::resources, "Not enough memory for the caches of branches.", "Choose a shorter context."};
      }
      if (Status done = feed(); !done) return done;
    }
    return Done{};
  }

 private:
  // As many rows as a batch holds, of the branches that come next. One that would not fit whole waits for the next batch: it is cut where it
  // would be alone, since a sequence cut elsewhere is rounded differently.
  void fill() {
    tokens_.clear();
    sequences_.clear();
    wanted_.clear();
    const auto batch = static_cast<size_t>(session_.backend->batch());
    for (size_t b = first_; b < branches_.size() && tokens_.size() < batch; ++b) {
      const Branch& branch = branches_[b];
      const size_t left = branch.tokens.size() - fed_[b];
      if (!tokens_.empty() && left > batch - tokens_.size()) break;
      const size_t count = std::min(batch, left);
      if (count == 0) continue;
      if (!caches_[b]) {
        caches_[b] = session_.backend->makeCache(session_.context);
        caches_[b]->beginAs(*session_.cache, static_cast<int>(branch.from));
      }
      caches_[b]->reserve(static_cast<int>(count));
      sequences_.push_back({caches_[b].get(), branch.from + static_cast<int64_t>(fed_[b]), static_cast<int>(count)});
      for (size_t i = std::max(fed_[b], branch.logitsFrom); i < fed_[b] + count; ++i)
        wanted_.push_back({static_cast<int>(tokens_.size() + i - fed_[b]), b, static_cast<int>(i)});
      const auto next = branch.tokens.subspan(fed_[b], count);
      tokens_.insert(tokens_.end(), next.begin(), next.end());
      fed_[b] += count;
    }
  }

  Status feed() {
    Status told = Done{};
    const Session::LogitsSink deal = [&](int first, int count, const float* logits) {
      for (int i = 0; i < count && told;) {
        const WantedRow& row = wanted_[static_cast<size_t>(first + i)];
        int run = 1;
        while (i + run < count && wanted_[static_cast<size_t>(first + i + run)].branch == row.branch) ++run;
        told = sink_(row.branch, row.token, run, logits + int64_t{i} * session_.model.vocab);
        i += run;
      }
    };
    std::vector<int> rows;
    for (const WantedRow& wanted : wanted_) rows.push_back(wanted.row);
    if (!tokens_.empty())
      session_.backend->run({.plan = session_.plan, .weights = *session_.weights, .sequences = sequences_, .tokens = tokens_, .activations = session_.activations,
                            .wantLogits = false, .sink = rows.empty() ? nullptr : &deal, .sinkRows = rows});
    while (first_ < branches_.size() && fed_[first_] == branches_[first_].tokens.size()) caches_[first_++].reset();
    return told;
  }

  Inside& session_;
  std::span<const Branch> branches_;
  const BranchSink& sink_;
  size_t first_ = 0;  // the first that is not done
  std::vector<size_t> fed_;
  std::vector<std::unique_ptr<KvCache>> caches_;
  std::vector<int32_t> tokens_;
  std::vector<SequenceRows> sequences_;
  std::vector<WantedRow> wanted_;
};

}  // namespace

bool canBranch(const Session& session) {
  const auto& in = EngineCore::inside(session);
  return !in.evictor.evicts() && !in.evictedUnder && !in.cache->observed().any() && !in.writtenMixed && !in.attention && in.criticalBudget == 0 &&
         (in.fed == 0 || in.writtenUnder == in.weights->key);
}

Status prefillBranches(Session& session, std::span<const Branch> branches, const Progress& progress, const BranchSink& sink) {
  CHECK(canBranch(session));
  auto& in = EngineCore::inside(session);
  for (const Branch& branch : branches) {
    CHECK(branch.from >= 0 && branch.from <= in.fed, branch.from, in.fed);
    if (branch.from + static_cast<int64_t>(branch.tokens.size()) > in.context)
      return Error{ErrorCode::badInput, std::to_string(branch.from + static_cast<int64_t>(branch.tokens.size())) + " tokens were to be fed, but the context holds " +
                                            std::to_string(in.context) + ".", "Shorten the text or choose a larger context."};
    for (const int32_t id : branch.tokens) CHECK(id >= 0 && id < in.model.vocab, id);
  }
  return in.onOwnThread([&] { return Inside::guarded(in.fed, [&] { return BranchFeeder(in, branches, sink).run(progress); }); });
}

}  // namespace winnow
