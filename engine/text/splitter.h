// SPDX-License-Identifier: GPL-3.0-or-later
// Pre-tokenization: cuts text into the words that BPE merges never cross, by regular expressions applied one after the
// other (each to the pieces the ones before left). PCRE2 with Unicode properties and JIT.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/result.h"

namespace winnow {

class Splitter {
 public:
  static Result<Splitter> create(const std::vector<std::string>& patterns);
  Splitter(Splitter&&) noexcept;
  Splitter& operator=(Splitter&&) noexcept;
  ~Splitter();

  // Appends the pieces of `text` (valid UTF-8) in order; together they are the text, byte for byte. Thread-safe.
  void split(std::string_view text, std::vector<std::string_view>& pieces) const;

 private:
  struct Pattern;
  Splitter();
  std::vector<Pattern> patterns_;
};

// What a tokenizer.ggml.pre name stands for.
struct PreTokenizer {
  std::vector<std::string> patterns;
  bool byteAlphabet = true;    // false: pieces are looked up as raw UTF-8, unknown characters as <0xNN> tokens
  bool escapeSpaces = false;   // U+2581 for spaces
};
const PreTokenizer* findPreTokenizer(std::string_view name);  // null when unknown

}  // namespace winnow
