// SPDX-License-Identifier: GPL-3.0-or-later
// The two tokenizers behind Tokenizer::create, and what they share.
#pragma once
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/text/tokenizer.h"

namespace winnow {

Result<std::shared_ptr<const Tokenizer>> createBpe(VocabData vocab);
Result<std::shared_ptr<const Tokenizer>> createSpm(VocabData vocab);

// Tokens that are cut out of the text before anything else, longest first: user-defined ones always, control and unknown
// ones when the text may contain them (parseSpecial).
class SpecialTokens {
 public:
  explicit SpecialTokens(const VocabData& vocab);
  struct Part {
    std::string_view text;  // empty when this is a token
    int32_t token = -1;
  };
  std::vector<Part> cut(std::string_view text, bool parseSpecial) const;

 private:
  struct Entry {
    std::string text;
    int32_t id;
    bool control;
  };
  std::vector<Entry> entries_;
};

// Text of a token to id; of two tokens with the same text the later one counts.
using TokenIds = std::unordered_map<std::string_view, int32_t>;
TokenIds tokenIds(const VocabData& vocab);
// Ids of the 256 byte tokens <0x00>..<0xFF>, -1 where absent.
std::vector<int32_t> byteTokens(const TokenIds& ids);

}  // namespace winnow
