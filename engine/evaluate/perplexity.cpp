// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/evaluate/perplexity.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <utility>

#include "engine/evaluate/held_out.h"
#include "engine/evaluate/window_scorer.h"
#include "engine/evaluate/windows.h"

namespace winnow {
namespace {

constexpr std::array<std::pair<PerplexityMode, std::string_view>, 4> kModes = {{{PerplexityMode::llama, "llama"},
                                                                               {PerplexityMode::llamaStride, "llama-stride"},
                                                                               {PerplexityMode::hfDoc, "hf-doc"},
                                                                               {PerplexityMode::hfExact, "hf-exact"}}};

// Sums over all windows that the final result needs beyond WindowSums.
struct Totals {
  WindowSums sums, baseSums;
  double rawNll = 0, squaredDeltaP = 0;
  int64_t predictions = 0, bytes = 0;
  std::vector<float> kld;
  std::vector<double> positionNll;
  std::vector<int64_t> positionCount;
  std::vector<DepthSummary> depths;
};

DepthSummary& depthOf(Totals& totals, int depth) {
  const auto known = std::ranges::find(totals.depths, depth, &DepthSummary::depth);
  return known != totals.depths.end() ? *known : totals.depths.emplace_back(DepthSummary{depth, {}, {}, {}, {}});
}

void addCost(DepthSummary::Cost& cost, double stepMs, int64_t place, const Session& session) {
  cost.stepMs += (stepMs - cost.stepMs) / static_cast<double>(place + 1);  // mean so far
  cost.kvBytes = std::max(cost.kvBytes, session.memory()[static_cast<size_t>(MemoryTag::kv)]);
}

PerplexityWindow record(const EvaluationWindow& window, int index, const ScoredWindow& scored, Totals& totals, int firstPosition) {
  double sum = 0, squared = 0;
  for (size_t i = 0; i < scored.nll.size(); ++i) {
    sum += scored.nll[i];
    squared += scored.nll[i] * scored.nll[i];
    const size_t position = static_cast<size_t>(window.depth > 0 ? 0 : window.firstScored - firstPosition) + i;
    if (totals.positionNll.size() <= position) {
      totals.positionNll.resize(position + 1);
      totals.positionCount.resize(position + 1);
    }
    totals.positionNll[position] += scored.nll[i];
    ++totals.positionCount[position];
  }
  const double scale = window.weight / static_cast<double>(scored.nll.size());
  PerplexityWindow out;
  out.index = index;
  out.firstToken = window.begin;
  out.depth = window.depth;
  out.count = static_cast<int>(window.weight);
  out.nllSum = sum * scale;
  out.nllSquaredSum = squared * scale;
  for (const float kld : scored.kld) out.kldSum += kld;
  out.sameTop = scored.sameTop;
  totals.rawNll += sum;
  totals.predictions += static_cast<int64_t>(scored.nll.size());
  totals.squaredDeltaP += scored.squaredDeltaP;
  totals.kld.insert(totals.kld.end(), scored.kld.begin(), scored.kld.end());
  totals.sums.add(out);
  PerplexityWindow base = out;
  base.nllSum = scored.baseNll * scale;
  totals.baseSums.add(base);
  if (window.depth > 0) {
    depthOf(totals, window.depth).sums.add(out);
    depthOf(totals, window.depth).baseSums.add(base);
  }
  return out;
}

DivergenceSummary summarize(const Totals& totals) {
  DivergenceSummary out;
  const double n = static_cast<double>(totals.kld.size());
  double squared = 0;
  for (const float kld : totals.kld) {
    out.mean += kld;
    squared += static_cast<double>(kld) * kld;
    out.max = std::max(out.max, static_cast<double>(kld));
  }
  out.mean /= n;
  if (n > 1) out.meanStderr = std::sqrt(std::max(0.0, squared / n - out.mean * out.mean) / (n - 1));
  std::vector<float> sorted = totals.kld;
  std::sort(sorted.begin(), sorted.end());
  out.median = quantileOf(sorted, 0.5);
  out.p90 = quantileOf(sorted, 0.9);
  out.p95 = quantileOf(sorted, 0.95);
  out.p99 = quantileOf(sorted, 0.99);
  out.p999 = quantileOf(sorted, 0.999);
  out.top1 = static_cast<double>(totals.sums.sameTop) / n;
  out.rmsDeltaP = std::sqrt(totals.squaredDeltaP / n);
  out.meanLnRatio = (totals.sums.nll - totals.baseSums.nll) / static_cast<double>(totals.sums.count);
  return out;
}

void finish(PerplexityResult& result, const Totals& totals, bool compared) {
  result.perplexity = totals.sums.perplexity();
  result.stderror = totals.sums.stderror();
  result.nllSum = totals.sums.nll;
  result.count = totals.sums.count;
  result.chunks = static_cast<int>(result.windows.size());
  if (totals.bytes > 0) result.bitsPerByte = totals.rawNll / std::log(2.0) / static_cast<double>(totals.bytes);
  for (size_t i = 0; i < totals.positionNll.size(); ++i)
    result.nllByPosition.push_back(static_cast<float>(totals.positionNll[i] / static_cast<double>(std::max<int64_t>(1, totals.positionCount[i]))));
  result.depths = totals.depths;
  if (!compared) {
    for (DepthSummary& depth : result.depths) depth.baseSums = {};
    return;
  }
  result.kld = summarize(totals);
  result.basePerplexity = totals.baseSums.perplexity();
}

Status checkSessions(const Session& session, const Session* baseline, const Tokenizer& tokenizer, const PerplexityRequest& request) {
  for (const Session* each : {&session, baseline}) {
    if (!each) continue;
    if (each->context() < windowTokens(request))
      return Error{ErrorCode::badInput, "A window of " + std::to_string(windowTokens(request)) + " tokens does not fit a context of " +
                                            std::to_string(each->context()) + ".", "Use a smaller --context."};
    if (each->vocab() < tokenizer.size())
      return Error{ErrorCode::badInput, "The vocabulary has " + std::to_string(tokenizer.size()) + " tokens and the model " +
                                            std::to_string(each->vocab()) + " outputs.", ""};
  }
  if (baseline && baseline->vocab() != session.vocab())
    return Error{ErrorCode::badInput, "The baseline has " + std::to_string(baseline->vocab()) + " outputs and the model " +
                                          std::to_string(session.vocab()) + ".", "KL divergence needs two models of one vocabulary."};
  return Done{};
}

}  // namespace

std::string_view perplexityModeName(PerplexityMode mode) {
  for (const auto& [value, name] : kModes)
    if (value == mode) return name;
  return "";
}

std::optional<PerplexityMode> findPerplexityMode(std::string_view name) {
  for (const auto& [value, known] : kModes)
    if (known == name) return value;
  return std::nullopt;
}

bool scoresStepwise(const PerplexityRequest& request, const Config& effective) {
  return request.stepwise.value_or(!request.depths.empty() || effective.text("kv.policy") != "full" || effective.text("share.method") != "none" ||
                                  effective.text("activation.method") != "none" || effective.text("prefill.method") != "dense" ||
                                  effective.integer("kv.k_bits") < 16 || effective.integer("kv.v_bits") < 16 || !effective.text("kv.layers").empty() ||
                                  effective.integer("kv.aligned") > 0);
}

std::string perplexityProtocol(const PerplexityRequest& request, bool stepwise) {
  std::string name;
  for (const int depth : request.depths) name += (name.empty() ? "depths " : ",") + std::to_string(depth);
  if (!name.empty())
    name += " n=" + std::to_string(request.scored);
  else
    name = std::string(perplexityModeName(request.mode)) + " c=" + std::to_string(request.context);
  if (request.depths.empty() && request.mode != PerplexityMode::llama) name += " s=" + std::to_string(effectiveStride(request));
  if (request.chunks > 0) name += " chunks=" + std::to_string(request.chunks);
  if (stepwise) name += " stepwise";
  return name;
}

void WindowSums::add(const PerplexityWindow& window) {
  nll += window.nllSum;
  nllSquared += window.nllSquaredSum;
  kld += window.kldSum;
  count += window.count;
  sameTop += window.sameTop;
}

double WindowSums::perplexity() const { return count > 0 ? std::exp(nll / static_cast<double>(count)) : 0.0; }

double WindowSums::stderror() const {
  if (count < 2) return 0.0;
  const double n = static_cast<double>(count), mean = nll / n;
  return perplexity() * std::sqrt(std::max(0.0, nllSquared / n - mean * mean) / (n - 1));
}

double quantileOf(std::vector<float> values, double fraction) {
  if (values.empty()) return 0.0;
  std::sort(values.begin(), values.end());
  const double at = fraction * static_cast<double>(values.size() - 1);
  const size_t low = static_cast<size_t>(at), high = std::min(low + 1, values.size() - 1);
  return values[low] + (at - static_cast<double>(low)) * (static_cast<double>(values[high]) - values[low]);
}

Result<PerplexityResult> measurePerplexity(Session& session, Session* baseline, const Tokenizer& tokenizer, const std::string& text,
                                           const PerplexityRequest& request, const Progress& progress,
                                           const std::function<void(const PerplexityWindow&)>& onWindow) {
  const auto began = std::chrono::steady_clock::now();
  if (Status checked = checkSessions(session, baseline, tokenizer, request); !checked) return checked.error();
  if (Status held = heldOut(session, text); !held) return held.error();
  progress(0.0, "tokenizing");
  const std::vector<int32_t> tokens = tokenizer.encode(text, true);
  const VocabData& vocab = tokenizer.vocab();
  auto windows = evaluationWindows(request, static_cast<int64_t>(tokens.size()), vocab.addBos && vocab.bos >= 0);
  if (!windows) return windows.error();

  session.adopt();
  const bool stepwise = scoresStepwise(request, session.effective()->config);
  PerplexityResult result;
  result.protocol = perplexityProtocol(request, stepwise);
  int firstPosition = request.context;
  for (const EvaluationWindow& window : *windows) firstPosition = std::min(firstPosition, window.firstScored);

  WindowScorer scorer(session, baseline, stepwise, progress.stop);
  Totals totals;
  std::vector<int32_t> fed;
  for (size_t i = 0; i < windows->size(); ++i) {
    const EvaluationWindow& window = (*windows)[i];
    if (progress.stopped()) return Error{ErrorCode::cancelled, "Cancelled.", ""};
    progress(static_cast<double>(i) / static_cast<double>(windows->size()), "window " + std::to_string(i + 1) + " of " + std::to_string(windows->size()));
    fed.assign(tokens.begin() + window.begin, tokens.begin() + window.begin + window.length);
    if (window.bosFirst) fed[0] = vocab.bos;
    const auto prefix = static_cast<size_t>(window.firstScored);
    auto scored = scorer.score(fed, prefix, prefix + 1);
    if (!scored) return scored.error();
    for (int position = window.firstScored; position + 1 < window.length; ++position)
      totals.bytes += static_cast<int64_t>(tokenizer.piece(fed[static_cast<size_t>(position) + 1]).size());
    result.windows.push_back(record(window, static_cast<int>(i), *scored, totals, firstPosition));
    if (window.depth > 0) {
      DepthSummary& depth = depthOf(totals, window.depth);
      const auto place = static_cast<int64_t>(i / request.depths.size());
      addCost(depth.cost, scored->stepMs, place, session);
      if (baseline) addCost(depth.baseCost, scored->baseStepMs, place, *baseline);
    }
    if (onWindow) onWindow(result.windows.back());
  }
  finish(result, totals, baseline != nullptr);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  progress(1.0, "done");
  return result;
}

}  // namespace winnow
