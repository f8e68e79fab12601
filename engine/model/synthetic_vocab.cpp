// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/model/synthetic_vocab.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "engine/model/message.h"

namespace winnow {
namespace {

// Frequent English words; each is merged from left to right, once after a space and once on its own.
constexpr std::string_view kWords =
    "the of and to a in is was he for it with as his on be at by I this had not are but from or have an they which one you were her all "
    "she there would their we him been has when who will more no if out so said what up its about into than them can only other new some "
    "could time these two may then do first any my now such like our over man me even most made after also did many before must through "
    "back years where much your way well down should because each just those people too how little state good very make world still own "
    "see men work long get here between both life being under never day same another know while last might us great old year off come "
    "since against go came right used take three small large once upon found went asked day big wanted play friend happy mother girl boy "
    "house looked saw home school water food city number system part place case week company group problem fact hand high eye night "
    "light head word story room book name thing things world point money side city door morning tree dog cat park ball red blue";

std::string utf8(int code) {
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
}

class Builder {
 public:
  explicit Builder(size_t most) : most_(most), alphabet_(byteAlphabet()) {
    for (const std::string& byte : alphabet_) add(byte, 1);
  }
  void add(const std::string& token, int type) {
    known_.insert(token);
    vocab.tokens.push_back(token);
    vocab.types.push_back(type);
  }
  void addWord(std::string_view word) {
    std::string made = spelled(word.front());
    for (const char c : word.substr(1)) {
      const std::string letter = spelled(c), next = made + letter;
      if (!known_.count(next)) {
        if (vocab.tokens.size() >= most_) return;
        vocab.merges.push_back(made + " " + letter);
        add(next, 1);
      }
      made = next;
    }
  }
  SyntheticVocab vocab;

 private:
  const std::string& spelled(char c) const { return alphabet_[static_cast<uint8_t>(c)]; }
  size_t most_;
  std::array<std::string, 256> alphabet_;
  std::unordered_set<std::string> known_;
};

}  // namespace

std::array<std::string, 256> byteAlphabet() {
  std::array<std::string, 256> out;
  int next = 256;
  for (int b = 0; b < 256; ++b) {
    const bool itself = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
    out[static_cast<size_t>(b)] = utf8(itself ? b : next++);
  }
  return out;
}

Result<SyntheticVocab> syntheticVocab(int size) {
  if (size < 257) return problem(ErrorCode::usage, sentence("a vocabulary of ", size, " tokens is too small, at least 257 are needed"));
  Builder builder(static_cast<size_t>(size));
  builder.vocab.endOfText = 256;
  builder.add("<|endoftext|>", 3);
  std::string_view words = kWords;
  std::vector<std::string> list;
  while (!words.empty()) {
    const size_t end = std::min(words.find(' '), words.size());
    list.emplace_back(words.substr(0, end));
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  for (const std::string& word : list) builder.addWord(" " + word);
  for (const std::string& word : list) builder.addWord(word);
  for (int i = 0; builder.vocab.tokens.size() < static_cast<size_t>(size); ++i) builder.add("<|unused_" + std::to_string(i) + "|>", 5);
  return std::move(builder.vocab);
}

}  // namespace winnow
