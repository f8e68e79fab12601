// SPDX-License-Identifier: GPL-3.0-or-later
// What each name of tokenizer.ggml.pre means: the steps that cut a text into words before byte-pair merging.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace winnow {

struct SplitStep {
  enum class Kind : unsigned char {
    pattern,           // every match is a word of its own, and so is every gap between matches
    digitsFromRight,   // cuts after the first 1 to 3 digits of a run, which keep the text before them, and then every 3
    thousandsCuts,     // cuts before each group of 3 ASCII digits counted from the right of their run
  };
  Kind kind = Kind::pattern;
  std::string pattern;
};

struct PreTokenizer {
  std::vector<SplitStep> steps;  // each cuts further what the ones before it left
  bool rawUtf8 = false;          // tokens are UTF-8 with <0xNN> for bytes, not GPT-2's alphabet
  bool escapeSpaces = false;     // spaces are written U+2581 in tokens
  bool wholeNewlines = false;    // a run of line feeds that is a token is taken whole
  bool ignoreMerges = false;     // a word that is a token is taken whole
  bool mergesOptional = false;
};

std::optional<PreTokenizer> preTokenizer(std::string_view name);
std::vector<std::string> knownPreTokenizers();

// The patterns of this table in the words of PCRE2: \s is Unicode's White_Space and nothing else, and letters and digits of ASCII
// come first in their classes because they are the common case.
std::string expandPattern(std::string_view pattern);

}  // namespace winnow
