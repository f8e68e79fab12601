// SPDX-License-Identifier: GPL-3.0-or-later
// What an attribution method works with: a scorer of the response under contexts, and a task that counts, reports and stops.
#pragma once
#include <span>

#include "engine/attribute/attribute.h"

namespace winnow {

struct ResponseScore {
  std::vector<double> logProbs;      // [response tokens]
  int64_t tokensFed = 0;
  std::vector<int32_t> prompt{};     // ids of context and question; may be empty
};

// Attention of the positions that predict the response.
struct AttentionMass {
  ResponseScore response;
  std::vector<std::vector<double>> mass;  // [sources][response tokens]
  double firstTokenShare = 0;             // of all attention, on the first token
};

// log p(response | context, question), token by token. Tests have their own.
class ResponseScorer {
 public:
  virtual ~ResponseScorer() = default;
  virtual Result<ResponseScore> score(const std::string& context) = 0;
  // Several contexts: each scores as it would alone, right after the one before it. onScore is told of each as it comes, in any order; its
  // error ends it.
  using OnScore = std::function<Status(size_t index, ResponseScore&& score)>;
  virtual Status scoreAll(std::span<const std::string> contexts, const OnScore& onScore);
  virtual std::vector<int32_t> promptTokens(const std::string&) const { return {}; }
  // Keys and values of the prefix a context shares with the one scored before are kept; off (the default), everything is computed anew.
  virtual void reusePrefix(bool) {}
  // One forward in which attention is read: its sum over layers, or its rollout.
  virtual Result<AttentionMass> attention(const std::string& context, const std::vector<Source>& sources, bool rollout);
  // A context's score under other ways of cutting the prompt into batches; none where that makes no difference.
  virtual Result<std::vector<ResponseScore>> otherChunkings(const std::string&) { return std::vector<ResponseScore>{}; }
};

// Errors: cancelled, with what is done so far in `result`.
struct AttributionTask {
  const AttributeRequest& request;
  ResponseScorer& target;
  AttributeResult& result;
  ResponseScorer* proxy = nullptr;
  Progress progress{};
  std::function<void(const AttributeResult&)> onPartial{};
  int64_t forwardsExpected = 0;  // for the progress shown
  // Response tokens that scores are of, the last one past the end; those of a proxy with another tokenizer are its own. {0, 0}: all.
  std::pair<int, int> span{}, proxySpan{};
  std::function<bool()> late{};  // a budget is spent; may be empty
  bool measuresNoise = true;

  const std::vector<Source>& sources() const { return result.sources; }
  std::vector<bool> everySource() const { return std::vector<bool>(result.sources.size(), true); }
  std::string contextOf(const std::vector<bool>& keep) const { return contextWith(request.context, result.sources, keep); }
  // One forward, counted and reported as `what`; none where an earlier run knows its outcome.
  Result<ResponseScore> score(ResponseScorer& scorer, const std::vector<bool>& keep, const std::string& what);
  // Several, through one forward where the scorer can.
  Status scoreAll(ResponseScorer& scorer, std::span<const std::vector<bool>> keeps, const std::string& what, const ResponseScorer::OnScore& onScore);
  // The noise floor of the context with those sources: three standard deviations of its score under other chunkings.
  Status measureNoise(ResponseScorer& scorer, const std::vector<bool>& keep);
  void takeBase(const ResponseScorer& scorer, const ResponseScore& base);  // baseLogProb and responseNll
  double total(const ResponseScorer& scorer, const std::vector<double>& logProbs) const;  // over the span
  void partial() const;

 private:
  const Outcome* known(const ResponseScorer& scorer, const std::vector<bool>& keep) const;
  void take(const ResponseScorer& scorer, const std::vector<bool>& keep, const ResponseScore& score);
  Result<ResponseScore> takeKnown(const ResponseScorer& scorer, const std::vector<bool>& keep, const Outcome& outcome);
  void report(const std::string& what) const;
};

double sum(const std::vector<double>& logProbs);
double noiseOf(const std::vector<double>& scores);  // three standard deviations; 0 of fewer than two

// Leaves out one group of sources after the other (document order) from a context that holds those of `keep`.
struct LeaveOut {
  ResponseScorer& scorer;
  std::vector<bool> keep;
  std::vector<std::vector<size_t>> groups;
  // Prefix reuse: groups are evaluated last to first, so that the prefix of each ends before that of the one before it, and a text
  // equal to the baseline's has its score without a forward.
  bool reuse = false;
  bool final = false;  // its baseline is the result's
  std::string what = "source";
  std::vector<size_t> order{};  // of evaluation; empty = as above, or document order
};
struct LeftOut {
  double score = 0;               // nats
  double logProb = 0;             // of the response without the group
  std::vector<float> perToken{};  // [response tokens]
};
// onScore is told each group's score as it comes.
Status leaveOut(AttributionTask& task, const LeaveOut& plan, const std::function<void(size_t group, LeftOut&&)>& onScore);

// One group per source kept.
std::vector<std::vector<size_t>> singles(const std::vector<bool>& keep);
// The final pass of leave-one-out methods: noise floor, baseline and the score of every source kept.
Status scoreSources(AttributionTask& task, ResponseScorer& scorer, const std::vector<bool>& keep, bool reuse);

}  // namespace winnow
