// SPDX-License-Identifier: GPL-3.0-or-later
// What can be read from an attribution without another forward: the scores of a part of the response, what a source supported, and how
// two attributions of one response differ.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <tuple>

#include "engine/attribute/agreement.h"
#include "engine/attribute/method.h"

namespace winnow {
namespace {

// Stands where a model would, and is never asked: what a method needs is among the outcomes.
class NoScorer final : public ResponseScorer {
 public:
  Result<ResponseScore> score(const std::string&) override {
    return Error{ErrorCode::badInput, "This attribution was not completed: another part of the response can't be scored from it.", "Let it run to the end first."};
  }
};

double over(const std::vector<float>& perToken, int first, int last) {
  double total = 0;
  for (int t = first; t < std::min(last, static_cast<int>(perToken.size())); ++t) total += static_cast<double>(perToken[static_cast<size_t>(t)]);
  return total;
}

void sumSource(Source& source, int first, int last, std::optional<double> base) {
  if (!source.score) return;
  source.score = over(source.perToken, first, last);
  source.standardError.reset();
  if (source.ablatedLogProb && base) source.ablatedLogProb = *base - *source.score;
}

Status replay(AttributeResult& out, const AttributionMethod& method) {
  AttributeRequest request;
  request.method = out.method;
  request.samples = out.samples;
  request.seed = out.seed;
  auto known = std::make_shared<KnownOutcomes>();
  known->outcomes = std::move(out.outcomes);
  request.known = known;
  request.context = std::string(out.sources.empty() ? 0 : static_cast<size_t>(out.sources.back().separatorEnd), ' ');  // nobody reads it
  NoScorer none;
  AttributeResult again = out;
  again.notes.clear();
  again.outcomes.clear();
  AttributionTask task{request, none, again};
  task.span = {out.spanFirst, out.spanLast};
  if (Status done = method.run(task); !done) return done;
  again.notes = out.notes;
  again.knownForwards = out.knownForwards;
  again.outcomes = known->outcomes;
  out = std::move(again);
  return Done{};
}

double noiseOfSource(const AttributeResult& result, const Source& source) {
  return std::max(result.noiseFloor, 1.96 * source.standardError.value_or(0));
}

double magnitude(const AttributeResult& result) {
  double total = 0;
  for (const Source& source : result.sources) total += std::fabs(source.score.value_or(0));
  return total > 0 ? total : 1;
}

std::string countText(size_t a, size_t b, const char* what) { return std::to_string(a) + " and " + std::to_string(b) + " " + what; }

}  // namespace

Result<std::pair<int, int>> spanTokens(const AttributeResult& result, const ResponseSpan& span) {
  const auto count = static_cast<int64_t>(result.responseTokens.size());
  std::pair<int, int> out{0, 0};
  const bool bytes = span.unit == ResponseSpan::Unit::bytes;
  if (!bytes && span.begin >= 0 && span.begin < span.end && span.end <= count) out = {static_cast<int>(span.begin), static_cast<int>(span.end)};
  if (bytes && span.begin < span.end && result.responseEnds.size() == result.responseTokens.size()) {
    for (int64_t t = 0, start = 0; t < count; start = result.responseEnds[static_cast<size_t>(t)], ++t) {
      const int64_t end = result.responseEnds[static_cast<size_t>(t)];
      if (start >= span.end || end <= span.begin) continue;
      if (out.second == 0) out.first = static_cast<int>(t);
      out.second = static_cast<int>(t) + 1;
    }
  }
  if (out.second > 0) return out;
  const std::string have = bytes ? std::to_string(result.response.size()) + " bytes" : std::to_string(count) + " tokens";
  return Error{ErrorCode::usage, "The span " + std::to_string(span.begin) + " to " + std::to_string(span.end) + " holds nothing of the response, which has " + have + ".",
               "Choose a part of the response."};
}

Result<AttributeResult> attributeSpan(const AttributeResult& whole, const ResponseSpan& span) {
  const auto tokens = spanTokens(whole, span);
  if (!tokens) return tokens.error();
  const AttributionMethod* method = findAttributionMethod(whole.method);
  if (!method) return unknownAttributionMethod(whole.method);
  AttributeResult out = whole;
  std::tie(out.spanFirst, out.spanLast) = *tokens;
  const auto [first, last] = *tokens;
  if (method->replays) {
    if (Status done = replay(out, *method); !done) return done.error();
    return out;
  }
  for (const Source& source : whole.sources)
    if (source.score && source.perToken.size() != whole.responseTokens.size())
      return Error{ErrorCode::badInput, "The scores are those of a proxy with tokens of its own: a part of the response can't be told from them.",
                   "Attribute that part anew, or use a proxy with the same tokenizer."};
  if (!whole.responseNll.empty()) out.baseLogProb = -over(whole.responseNll, first, last);
  for (Source& source : out.sources) sumSource(source, first, last, method->nats ? std::optional(out.baseLogProb) : std::nullopt);
  for (AttributionLevel& level : out.levels)
    for (Source& source : level.sources) sumSource(source, first, last, std::nullopt);
  std::vector<double> totals;
  for (const auto& logProbs : whole.noiseLogProbs) {
    double total = 0;
    for (int t = first; t < last; ++t) total += logProbs[static_cast<size_t>(t)];
    totals.push_back(total);
  }
  out.noiseFloor = noiseOf(totals);
  return out;
}

std::vector<SupportedToken> supportedBy(const AttributeResult& result, size_t source) {
  std::vector<SupportedToken> out;
  if (source >= result.sources.size()) return out;
  const std::vector<float>& perToken = result.sources[source].perToken;
  for (size_t t = 0; t < perToken.size(); ++t) {
    std::vector<double> noise;
    for (const auto& logProbs : result.noiseLogProbs)
      if (t < logProbs.size()) noise.push_back(logProbs[t]);
    SupportedToken token{static_cast<int>(t), 0, 0, static_cast<double>(perToken[t]), false};
    if (t < result.responseEnds.size()) {
      token.start = t > 0 ? result.responseEnds[t - 1] : 0;
      token.end = result.responseEnds[t];
    }
    token.noise = std::fabs(token.nats) < noiseOf(noise);
    out.push_back(token);
  }
  std::ranges::stable_sort(out, [](const SupportedToken& a, const SupportedToken& b) { return a.nats > b.nats; });
  return out;
}

Result<AttributionDifference> attributionDifference(AttributeResult a, AttributeResult b) {
  if (a.responseTokens != b.responseTokens)
    return Error{ErrorCode::usage, "The two attributions are of different responses (" + countText(a.responseTokens.size(), b.responseTokens.size(), "tokens") + ").",
                 "Attribute the same response twice."};
  const auto same = [](const Source& x, const Source& y) { return x.start == y.start && x.end == y.end && x.text == y.text; };
  if (!std::ranges::equal(a.sources, b.sources, same))
    return Error{ErrorCode::usage, "The two attributions cut the context differently (" + countText(a.sources.size(), b.sources.size(), "sources") + ").",
                 "Use the same unit for both."};
  const AttributionMethod *methodA = findAttributionMethod(a.method), *methodB = findAttributionMethod(b.method);
  AttributionDifference out;
  out.shares = a.method != b.method && !(methodA && methodB && methodA->nats && methodB->nats);
  const double scaleA = out.shares ? magnitude(a) : 1, scaleB = out.shares ? magnitude(b) : 1;
  std::vector<double> both[2];
  for (size_t i = 0; i < a.sources.size(); ++i) {
    const Source &x = a.sources[i], &y = b.sources[i];
    AttributionDifference::Row row;
    row.source = x.id;
    if (x.score) row.a = *x.score / scaleA;
    if (y.score) row.b = *y.score / scaleB;
    row.noise = std::hypot(noiseOfSource(a, x) / scaleA, noiseOfSource(b, y) / scaleB);
    if (row.a && row.b) {
      row.difference = *row.b - *row.a;
      both[0].push_back(*row.a);
      both[1].push_back(*row.b);
      for (size_t t = 0; t < std::min(x.perToken.size(), y.perToken.size()); ++t)
        row.perToken.push_back(static_cast<float>(static_cast<double>(y.perToken[t]) / scaleB - static_cast<double>(x.perToken[t]) / scaleA));
    }
    out.rows.push_back(std::move(row));
  }
  if (both[0].size() > 1) out.rankCorrelation = spearman(both[0], both[1]);
  if (out.shares) out.notes.push_back("The two have no unit in common: each score is its share of the sum of all sizes.");
  if (both[0].size() < a.sources.size())
    out.notes.push_back(std::to_string(a.sources.size() - both[0].size()) + " of " + std::to_string(a.sources.size()) + " sources were not evaluated on both sides.");
  if (std::fabs(a.baseLogProb - b.baseLogProb) > std::hypot(a.noiseFloor, b.noiseFloor) && !out.shares) {
    char text[160];
    std::snprintf(text, sizeof text, "With the whole context the response has log p %.3f on one side and %.3f on the other.", a.baseLogProb, b.baseLogProb);
    out.notes.emplace_back(text);
  }
  out.a = std::move(a);
  out.b = std::move(b);
  return out;
}

}  // namespace winnow
