// SPDX-License-Identifier: GPL-3.0-or-later
// Which parts of a context made the answer (pruning_sharing_attribution.md B). The context is cut into sources; a method scores each
// of them in nats of log p(response | context, question). Exact leave-one-out, score_i = log p(R | C, Q) - log p(R | C without i, Q),
// is what the others are measured by.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/run/engine.h"

namespace winnow {

enum class SourceUnit : uint8_t { sentence, paragraph, window };  // window: so many tokens
std::string_view sourceUnitName(SourceUnit unit);

struct Source {
  int id = 0;
  std::string text;                 // without the separator
  int64_t start = 0, end = 0;       // byte offsets in the context
  int64_t separatorEnd = 0;         // the separator after it leaves with it
  std::optional<double> score;      // nats; unset = not evaluated
  std::vector<float> perToken;      // [response tokens] nats; may be empty
  std::optional<double> standardError;  // of the score, where a method samples
};

// The context with the sources whose flag is set, as if they had been joined anew: a source that goes takes the separator after it
// along, the last one kept has none; white space around the whole stays.
std::string contextWith(std::string_view context, const std::vector<Source>& sources, const std::vector<bool>& keep);
std::string contextWithout(std::string_view context, const std::vector<Source>& sources, size_t index);

// Paragraphs end at a blank line; sentences at . ! ? (and closing quotes) before white space, or at a line's end.
std::vector<Source> splitSources(std::string_view context, SourceUnit unit);  // sentence or paragraph
// So many tokens each, cut between characters, with nothing between them.
std::vector<Source> splitWindows(std::string_view context, const Tokenizer& tokenizer, int tokens);

// AttriBoT: savings that multiply, each of them optional.
struct AttribotOptions {
  bool reuse = true;       // keys and values of the prefix that contexts share; exact
  bool hierarchy = true;   // paragraphs first, then the units of the best ones in a context of those alone
  int keepParagraphs = 3;  // as many or fewer: no hierarchy
  // A small model of the family, where one is given, chooses the units the target then scores, or scores in its place.
  enum class Proxy : uint8_t { prune, replace } proxy = Proxy::prune;
  int keepSources = 3;     // prune: units that stay
};

// "reuse,hierarchy,prune", "replace", "none" ...; errors list the words.
Result<AttribotOptions> parseTricks(std::string_view words);
std::string tricksText(const AttribotOptions& options);

struct AttributeRequest {
  std::string context, question;
  std::optional<std::string> response;  // unset: generated greedily
  int responseTokens = 48;              // when generated
  std::string method = "attribot";        // a name of attributionMethods()
  SourceUnit unit = SourceUnit::sentence;
  int windowTokens = 8;                 // of the unit window
  int samples = 0;                      // masks (contextcite) or pairs of orders (shapley); 0 = the method's default
  uint64_t seed = 0;
  AttribotOptions attribot{};
};

struct AttributeResult {
  std::string method, response;
  SourceUnit unit = SourceUnit::sentence;
  std::vector<int32_t> responseTokens;
  std::vector<float> responseNll;       // [response tokens] with the context the scores are differences from
  std::vector<Source> sources;          // document order
  double baseLogProb = 0;               // of that context: the whole, or what a method kept of it (the sources with a score)
  double noiseFloor = 0;                // |score| below this is noise: 3 sd of the baseline under other chunkings
  int64_t forwards = 0, forwardTokens = 0;  // of the method: baselines and ablations, every token fed, a proxy's included
  int64_t proxyForwards = 0, proxyForwardTokens = 0;
  double parameterTokens = 0;           // tokens fed, each times the parameters of its model
  int64_t noiseForwards = 0, noiseForwardTokens = 0;  // spent on the noise floor
  int64_t generatedTokens = 0;          // when the response was generated here
  double ms = 0;                        // of the method, without the response's generation and the noise floor
  double noiseMs = 0;
  std::optional<double> confidence;     // contextcite: rank correlation of predicted and true outcomes of masks held out
  std::vector<std::string> notes;       // what a person should know to read the scores
  bool complete = false;                // false: cancelled, partial
};

struct AttributionTask;  // engine/attribute/method.h

// A method is one file, a line in methods.h and a line in registry.cpp.
struct AttributionMethod {
  std::string name{}, title{};
  std::string help{};   // one sentence: what it does and what it costs
  std::string paper{};  // may be empty
  bool usesProxy = false;
  bool nats = true;                  // false: scores are not differences of log p
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

// Prompt = context, blank line, question; the response is appended verbatim. Cancel keeps what is done (complete == false). A context
// without sources gives none, and a note. Errors: an unknown method, a prompt longer than the context window.
Result<AttributeResult> attribute(Session& session, const Tokenizer& tokenizer, const AttributeRequest& request, const Progress& progress,
                                  const std::function<void(const AttributeResult&)>& onPartial = {}, const ProxyModel* proxy = nullptr);

}  // namespace winnow
