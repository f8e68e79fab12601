// SPDX-License-Identifier: GPL-3.0-or-later
// What the two kinds of tokenizer share; for engine/text alone.
#pragma once
#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/specials.h"
#include "engine/text/tokenizer.h"

namespace winnow {

// One text for each id, in one block.
class Pieces {
 public:
  void add(std::string_view text);
  std::string_view operator[](size_t id) const { return std::string_view(bytes_).substr(ends_[id], ends_[id + 1] - ends_[id]); }
  size_t size() const { return ends_.size() - 1; }

 private:
  std::string bytes_;
  std::vector<size_t> ends_{0};
};

// The ids of words met before in one call of encode(); their text and their ids are not copied.
class WordCache {
 public:
  static constexpr size_t longestWord = 64;  // bytes
  struct Entry {
    const char* text = nullptr;
    uint32_t bytes = 0;
    uint32_t ids = 0;       // how many
    size_t firstId = 0;     // where they stand in the output
    uint64_t hash = 0;
  };
  WordCache() : slots_(1024) {}
  Entry* find(std::string_view word, uint64_t hash);                        // null when unknown
  void add(std::string_view word, uint64_t hash, size_t firstId, size_t ids);

 private:
  void grow();
  std::vector<Entry> slots_;
  size_t used_ = 0;
};

class TokenizerBase : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, bool addSpecial, bool parseSpecial) const final;
  std::string piece(int32_t id, bool special) const final;

 protected:
  explicit TokenizerBase(VocabData vocab) : Tokenizer(std::move(vocab)) {}
  // A stretch of ordinary text; `first` when nothing or a special token stands before it.
  virtual void encodeText(std::string_view text, bool first, std::vector<int32_t>& out) const = 0;
  void collectSpecials();

  Pieces pieces_;  // as decoded
  SpecialTokens specials_;
};

Result<std::shared_ptr<const Tokenizer>> createBpe(VocabData vocab);
Result<std::shared_ptr<const Tokenizer>> createSpm(VocabData vocab);

// The tokens <0x00> to <0xFF>; -1 for those that are missing.
std::array<int32_t, 256> byteTokens(const VocabData& vocab);
std::string replaceAll(std::string_view text, std::string_view from, std::string_view to);
inline constexpr std::string_view spaceMark = "\xe2\x96\x81";  // U+2581

}  // namespace winnow
