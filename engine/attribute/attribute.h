// SPDX-License-Identifier: GPL-3.0-or-later
// Which parts of a context made the answer (pruning_sharing_attribution.md B). The context is cut into sources; a method scores each
// of them in nats of log p(response | context, question). Exact leave-one-out, score_i = log p(R | C, Q) - log p(R | C without i, Q),
// is what the others are measured by.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/run/engine.h"

namespace winnow {

// window: so many tokens; document: a passage of a list, a section of a Markdown text; given: the byte ranges of the request.
enum class SourceUnit : uint8_t { sentence, paragraph, window, document, given };
std::string_view sourceUnitName(SourceUnit unit);
std::optional<SourceUnit> findSourceUnit(std::string_view name);

struct ByteRange {
  int64_t start = 0, end = 0;
  bool operator==(const ByteRange&) const = default;
};

// A passage of the context.
struct Document {
  std::string id, title;           // may be empty
  int64_t start = 0, end = 0;      // byte offsets in the context
};

struct Source {
  int id = 0;
  std::string text;                 // without the separator
  int64_t start = 0, end = 0;       // byte offsets in the context
  int64_t separatorEnd = 0;         // the separator after it leaves with it
  std::optional<double> score;      // nats; unset = not evaluated
  std::vector<float> perToken;      // [response tokens] nats; may be empty
  std::optional<double> standardError;   // of the score, where a method samples
  std::optional<double> ablatedLogProb;  // log p of what is attributed without this source, where it was left out alone
  std::string label{};              // of a document: its title or id
};

// The context with the sources whose flag is set, as if they had been joined anew: a source that goes takes the separator after it
// along, the last one kept has none; white space around the whole stays.
std::string contextWith(std::string_view context, const std::vector<Source>& sources, const std::vector<bool>& keep);
std::string contextWithout(std::string_view context, const std::vector<Source>& sources, size_t index);

// Paragraphs end at a blank line; sentences at . ! ? (and closing quotes) before white space, or at a line's end.
std::vector<Source> splitSources(std::string_view context, SourceUnit unit);  // sentence or paragraph
// So many tokens each, cut between characters, with nothing between them; with `within`, never across one of those.
std::vector<Source> splitWindows(std::string_view context, const Tokenizer& tokenizer, int tokens, const std::vector<Source>& within = {});
// The documents given; else the sections that Markdown headings begin; without any, the whole text.
std::vector<Source> splitDocuments(std::string_view context, const std::vector<Document>& documents);
// Errors: ranges out of order, overlapping, outside the text or inside a character.
Result<std::vector<Source>> sourcesOf(std::string_view context, const std::vector<ByteRange>& ranges);

// AttriBoT: savings that multiply, each of them optional.
struct AttribotOptions {
  bool reuse = true;       // keys and values of the prefix that contexts share; exact
  bool hierarchy = true;   // paragraphs first, then the units of the best ones in a context of those alone
  int keepParagraphs = 3;  // as many or fewer: no hierarchy
  int keepSentences = 3;   // of those paragraphs, whose windows are looked into (unit window)
  // A small model of the family, where one is given, chooses the units the target then scores, or scores in its place.
  enum class Proxy : uint8_t { prune, replace } proxy = Proxy::prune;
  int keepSources = 3;     // prune: units that stay
};

// "reuse,hierarchy,prune", "replace", "none" ...; errors list the words.
Result<AttribotOptions> parseTricks(std::string_view words);
std::string tricksText(const AttribotOptions& options);

// A part of the response: tokens [begin, end), or bytes, which stand for the tokens they touch.
struct ResponseSpan {
  enum class Unit : uint8_t { tokens, bytes } unit = Unit::tokens;
  int64_t begin = 0, end = 0;
};

// What one forward found: the response under the sources it kept.
struct Outcome {
  enum class From : uint8_t { target, proxy, noise } from = From::target;
  std::vector<bool> keep{};       // [sources]
  std::vector<double> logProbs{}; // [response tokens]
  int64_t tokensFed = 0;
};
using Outcomes = std::vector<std::shared_ptr<const Outcome>>;

// What an attribution that was stopped left behind. Where context, response and sources are the same, its forwards are not done again.
struct KnownOutcomes {
  std::string context, question;
  std::vector<int32_t> responseTokens;
  std::vector<ByteRange> sources;
  Outcomes outcomes;
};

struct AttributeRequest {
  std::string context, question;
  std::optional<std::string> response;  // unset: generated greedily
  std::vector<int32_t> responseIds{};     // of `response`, where an earlier run knows them (an end token is no text); may be empty
  int responseTokens = 48;              // when generated
  std::optional<ResponseSpan> span;     // scores are of this part; unset = all of the response
  std::string method = "attribot";      // a name of attributionMethods()
  SourceUnit unit = SourceUnit::sentence;
  int windowTokens = 8;                 // of the unit window; 1 = single tokens
  std::vector<Document> documents{};    // of the unit document; see splitDocuments
  std::vector<ByteRange> ranges{};      // of the unit given
  int samples = 0;                      // masks (contextcite) or pairs of orders (shapley); 0 = the method's default
  uint64_t seed = 0;
  AttribotOptions attribot{};
  // A budget: method, tricks, kept sources and samples are chosen so that it ends in time, whatever they say above. 0 = none.
  double seconds = 0;
  bool together = true;                 // ablations that share a prefix go through one forward; the scores are the same
  std::shared_ptr<const KnownOutcomes> known{};  // of an earlier run; may be null
};

// One way to answer within a budget, weighed before it is done.
struct AttributionForecast {
  std::string method, tricks;       // tricks of attribot
  int keepParagraphs = 0, keepSources = 0, samples = 0;
  int64_t targetTokens = 0, proxyTokens = 0;  // to be fed
  double seconds = 0;               // at the speeds measured on this text
  double agreement = 1, spearman = 1;  // with exact leave-one-out, expected: mean average precision of the outliers, rank correlation
  double agreementError = 0;        // standard error of that expectation
  std::string basis;                // what the expectation rests on
};

// A coarser level that chose what was looked into.
struct AttributionLevel {
  SourceUnit unit = SourceUnit::paragraph;
  std::vector<Source> sources;      // those evaluated, document order; scores in the context of that level
  bool proxy = false;               // as the proxy sees it
};

struct AttributeResult {
  std::string method, response;
  std::string tricks;                   // of attribot
  SourceUnit unit = SourceUnit::sentence;
  std::vector<int32_t> responseTokens;
  std::vector<int64_t> responseEnds;    // [response tokens] byte of `response` at which each ends
  int spanFirst = 0, spanLast = 0;      // the response tokens [first, last) that scores are of
  std::vector<float> responseNll;       // [response tokens] with the context the scores are differences from
  std::vector<Source> sources;          // document order
  std::vector<AttributionLevel> levels;  // coarse to fine; the finest is `sources`
  double baseLogProb = 0;               // of that context: the whole, or what a method kept of it (the sources with a score)
  double noiseFloor = 0;                // |score| below this is noise: 3 sd of the baseline under other chunkings
  std::vector<std::vector<double>> noiseLogProbs;  // [chunkings][response tokens] that it comes from
  int64_t forwards = 0, forwardTokens = 0;  // of the method: baselines and ablations, every token fed, a proxy's included
  int64_t proxyForwards = 0, proxyForwardTokens = 0;
  double parameterTokens = 0;           // tokens fed, each times the parameters of its model
  int64_t noiseForwards = 0, noiseForwardTokens = 0;  // spent on the noise floor
  int64_t knownForwards = 0;            // taken from an earlier run instead
  int64_t generatedTokens = 0;          // when the response was generated here
  double ms = 0;                        // of the method, without the response's generation and the noise floor
  double noiseMs = 0;
  std::optional<double> confidence;     // contextcite: rank correlation of predicted and true outcomes of masks held out
  std::vector<AttributionForecast> forecasts;  // with a budget: what was weighed
  int forecast = -1;                    // the one chosen
  std::vector<std::string> notes;       // what a person should know to read the scores
  bool complete = false;                // false: cancelled, partial
  int samples = 0;                      // as asked
  uint64_t seed = 0;
  Outcomes outcomes;                    // every forward, in the order it was done
};

// Scores of another part of the same response from what was computed already, without a forward.
Result<AttributeResult> attributeSpan(const AttributeResult& whole, const ResponseSpan& span);
// The response tokens [first, last) of a span; errors: nothing of the response is in it.
Result<std::pair<int, int>> spanTokens(const AttributeResult& result, const ResponseSpan& span);

// What a source supported: every response token with the nats it owes to that source, the most first.
struct SupportedToken {
  int token = 0;
  int64_t start = 0, end = 0;  // bytes of the response
  double nats = 0;             // or the method's own scores
  bool noise = false;          // below the noise of that token
};
std::vector<SupportedToken> supportedBy(const AttributeResult& result, size_t source);

// Two attributions of the same response to the same sources: by two configurations, or by attention and by effect.
struct AttributionDifference {
  struct Row {
    int source = 0;
    std::optional<double> a, b, difference;  // b - a, where both are there
    double noise = 0;                        // |difference| below this is noise: both floors and standard errors together
    std::vector<float> perToken{};           // [response tokens] of the difference
  };
  AttributeResult a, b;
  bool shares = false;          // their scores have no unit in common: each is its share of the sum of |scores|
  std::vector<Row> rows;        // document order
  double rankCorrelation = 0;   // of the sources that both have
  std::vector<std::string> notes;
};
Result<AttributionDifference> attributionDifference(AttributeResult a, AttributeResult b);

struct AttributionTask;  // engine/attribute/method.h

// A method is one file, a line in methods.h and a line in registry.cpp.
struct AttributionMethod {
  std::string name{}, title{};
  std::string help{};   // one sentence: what it does and what it costs
  std::string paper{};  // may be empty
  bool usesProxy = false;
  bool nats = true;                  // false: scores are not differences of log p
  bool replays = false;              // scores of a span are no sums over its tokens: the method runs again on the outcomes it has
  std::optional<SourceUnit> unit{};  // the only one it knows
  Status (*run)(AttributionTask& task) = nullptr;
};
std::span<const AttributionMethod> attributionMethods();
const AttributionMethod* findAttributionMethod(std::string_view name);  // null: no such method
Error unknownAttributionMethod(std::string_view name);                  // lists those there are

std::string attributionPrompt(std::string_view context, std::string_view question);

// A second model for methods that use one. Its tokenizer may differ: the response is then encoded anew.
struct ProxyModel {
  Session& session;
  const Tokenizer& tokenizer;
};

// Prompt = context, blank line, question; the response is appended verbatim. Cancel keeps what is done (complete == false), and takes
// effect within one micro-batch of a forward. A context without sources gives none, and a note. Errors: an unknown method, a prompt longer
// than the context window. The first partial result comes before the first forward: response and sources, no scores.
Result<AttributeResult> attribute(Session& session, const Tokenizer& tokenizer, const AttributeRequest& request, const Progress& progress,
                                  const std::function<void(const AttributeResult&)>& onPartial = {}, const ProxyModel* proxy = nullptr);

}  // namespace winnow
