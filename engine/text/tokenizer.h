// SPDX-License-Identifier: GPL-3.0-or-later
// Text to token ids and back: byte-level BPE (pre-split by PCRE2) and SentencePiece-BPE with byte fallback.
// Ids equal llama.cpp's for every vocabulary it can read. Immutable and thread-safe after create().
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/result.h"
#include "engine/model/model.h"

namespace winnow {

class Tokenizer {
 public:
  // Refuses an unknown `pre` by name, a missing merge table, a vocabulary with no byte fallback, ...
  static Result<std::shared_ptr<const Tokenizer>> create(VocabData vocab);
  virtual ~Tokenizer() = default;

  // addSpecial: BOS/EOS as the vocabulary asks. parseSpecial: control tokens written in the text become their ids.
  // Bytes that are not UTF-8 are taken one by one. Any input is accepted.
  virtual std::vector<int32_t> encode(std::string_view text, bool addSpecial, bool parseSpecial = false) const = 0;
  // The bytes of one token; may be part of a UTF-8 sequence. Control tokens give their text only when `special`.
  virtual std::string piece(int32_t id, bool special = false) const = 0;
  // Undoes encode(text, false): removes what a prefix space added.
  std::string decode(const std::vector<int32_t>& ids, bool special = false) const;

  const VocabData& vocab() const { return vocab_; }
  int size() const { return static_cast<int>(vocab_.tokens.size()); }
  bool isEnd(int32_t id) const;      // ends generation
  bool isControl(int32_t id) const;

 protected:
  explicit Tokenizer(VocabData vocab) : vocab_(std::move(vocab)) {}
  VocabData vocab_;
};

// Joins pieces into whole UTF-8 characters for display: push() returns what can be shown now, finish() the rest
// (incomplete bytes as U+FFFD).
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);
  std::string finish();

 private:
  std::string pending_;
};

// Names of tokenizer.ggml.pre that are supported, sorted; for `winnow-cli doctor` and messages.
std::vector<std::string> knownPreTokenizers();

}  // namespace winnow
