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
  int64_t forwards = 0, forwardTokens = 0;  // every forward, baseline included
  double ms = 0;
  bool complete = false;                // false: cancelled, partial
};

// Prompt = context, blank line, question; the response is appended verbatim. Cancel keeps what is done (complete == false).
// Errors: an empty context, a prompt longer than the context window.
Result<AttributeResult> attribute(Session& session, const Tokenizer& tokenizer, const AttributeRequest& request, const Progress& progress,
                                  const std::function<void(const AttributeResult&)>& onPartial = {});

}  // namespace winnow
