// SPDX-License-Identifier: GPL-3.0-or-later
// Which parts of a context made the answer. First form: exact leave-one-out (pruning_sharing_attribution.md B1):
// score_i = log p(R | C, Q) - log p(R | C without i, Q), in nats, everything recomputed.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/run/engine.h"

namespace winnow {

enum class SourceUnit : uint8_t { sentence, paragraph };

struct Source {
  int id = 0;
  std::string text;                 // without the separator
  int64_t start = 0, end = 0;       // byte offsets in the context
  int64_t separatorEnd = 0;         // the separator after it leaves with it
  std::optional<double> score;      // nats; unset = not evaluated
  std::vector<float> perToken;      // [response tokens] nats; may be empty
};

// Deleting a source takes the separator after it along; the last one takes the separator before it, so that what stays reads as if
// joined anew.
std::string contextWithout(std::string_view context, const std::vector<Source>& sources, size_t index);

// Paragraphs end at a blank line; sentences at . ! ? (and closing quotes) before white space, or at a line's end.
std::vector<Source> splitSources(std::string_view context, SourceUnit unit);

struct AttributeRequest {
  std::string context, question;
  std::optional<std::string> response;  // unset: generated greedily
  int responseTokens = 48;              // when generated
  std::string method = "loo";
  SourceUnit unit = SourceUnit::sentence;
};

struct AttributeResult {
  std::string method, response;
  std::vector<int32_t> responseTokens;
  std::vector<float> responseNll;       // [response tokens] with the whole context
  std::vector<Source> sources;          // document order
  double baseLogProb = 0;
  double noiseFloor = 0;                // |score| below this is noise: 3 sd of the baseline under other chunkings
  int64_t forwards = 0, forwardTokens = 0;  // of the method: baseline and ablations, every token fed
  int64_t noiseForwards = 0, noiseForwardTokens = 0;  // spent on the noise floor
  int64_t generatedTokens = 0;          // when the response was generated here
  double ms = 0;
  bool complete = false;                // false: cancelled, partial
};

// The scorer of leave-one-out: log p of each response token under a context, and how many tokens were fed. Injectable for tests.
struct ResponseScore {
  std::vector<double> logProbs;  // [response tokens]
  int64_t tokensFed = 0;
};
using ContextScorer = std::function<Result<ResponseScore>(const std::string& context)>;
// Fills result.sources' scores in document order, counts, baseLogProb and responseNll. Cancel: Done, with result.complete == false.
Status leaveOneOut(const std::string& context, const ContextScorer& score, AttributeResult& result, const Progress& progress,
                   const std::function<void(const AttributeResult&)>& onPartial);

std::string attributionPrompt(std::string_view context, std::string_view question);

// Prompt = context, blank line, question; the response is appended verbatim. Cancel keeps what is done (complete == false).
// Errors: an empty context, a prompt longer than the context window.
Result<AttributeResult> attribute(Session& session, const Tokenizer& tokenizer, const AttributeRequest& request, const Progress& progress,
                                  const std::function<void(const AttributeResult&)>& onPartial = {});

}  // namespace winnow
