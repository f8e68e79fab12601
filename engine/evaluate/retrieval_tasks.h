// SPDX-License-Identifier: GPL-3.0-or-later
// Texts with a fact in them, a question about it and its answer: what a compressed cache still finds. Made by the program for any
// length and depth, so that no model has read them before. Tasks after Mohtashami and Jaggi 2023 (arXiv 2305.16300, pass key), Liu et
// al. 2023 (arXiv 2307.03172, key-value pairs) and Kamradt 2023 (needle in a haystack).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/result.h"
#include "engine/text/tokenizer.h"

namespace winnow {

enum class RetrievalTask : uint8_t {
  passkey,  // a number of five digits in a text
  pairs,    // one of many equal facts, which are all of the text
  needle,   // a sentence about somebody's thing in a text
};
std::string_view retrievalTaskName(RetrievalTask task);
std::optional<RetrievalTask> findRetrievalTask(std::string_view name);

struct RetrievalItem {
  std::string context, question, answer;
  int length = 0;               // tokens asked for; 0 = the context is given
  std::optional<double> depth;  // of the fact, 0 = at the start, 1 = at the end; unset = not known
};

struct RetrievalTasks {
  RetrievalTask task = RetrievalTask::needle;
  std::vector<int> lengths = {512};  // tokens of the context
  std::vector<double> depths = {0, 0.25, 0.5, 0.75, 1};
  int trials = 3;                    // of each length and depth
  uint64_t seed = 0;
  std::string haystack;              // the text around a pass key or needle; taken from a random sentence on, and again from its start
};

// Ordered by length, then depth. A context holds as many whole sentences, or pairs, as fit the tokens asked for. Errors: a length that has no room for the fact
// (usage), a haystack without a sentence (badInput).
Result<std::vector<RetrievalItem>> retrievalItems(const RetrievalTasks& tasks, const Tokenizer& tokenizer);

}  // namespace winnow
