// SPDX-License-Identifier: GPL-3.0-or-later
// SentencePiece-BPE: spaces are written U+2581, characters merge while the joined text is a token, the highest score first,
// and a character that is no token falls back to its bytes.
#include <algorithm>
#include <bit>
#include <cmath>

#include "engine/text/implementations.h"
#include "engine/text/merge.h"
#include "engine/text/utf8.h"

namespace winnow {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";

// Scores as ranks: lower is better; NaN is worst.
int64_t rankOf(float score) {
  if (std::isnan(score)) score = -INFINITY;
  const auto bits = std::bit_cast<int32_t>(-score);
  return int64_t{bits < 0 ? INT32_MIN - bits : bits} + (int64_t{1} << 32);
}

class Spm final : public Tokenizer {
 public:
  explicit Spm(VocabData vocab) : Tokenizer(std::move(vocab)), specials_(vocab_) {
    vocab_.scores.resize(vocab_.tokens.size(), 0.0f);
    ids_ = tokenIds(vocab_);
    bytes_ = byteTokens(ids_);
    // Words may be merged one by one when no token has U+2581 after another character: then no merge crosses a word's start.
    wordwise_ = std::ranges::none_of(vocab_.tokens, [](const std::string& token) {
      const size_t last = token.rfind(kSpaceMark);
      return last != std::string::npos && last > 0 && token.find_first_not_of(kSpaceMark) < last;
    });
  }

  bool canSpellAnything() const {
    return vocab_.unk >= 0 || std::ranges::all_of(bytes_, [](int32_t id) { return id >= 0; });
  }

  std::vector<int32_t> encode(std::string_view text, bool addSpecial, bool parseSpecial) const override {
    std::vector<int32_t> out;
    if (addSpecial && vocab_.addBos && vocab_.bos >= 0) out.push_back(vocab_.bos);
    bool afterSpecial = true;
    Scratch scratch;
    for (const SpecialTokens::Part& part : specials_.cut(text, parseSpecial)) {
      if (part.token >= 0) {
        out.push_back(part.token);
        afterSpecial = true;
        continue;
      }
      std::string marked = vocab_.addPrefixSpace && afterSpecial ? std::string(kSpaceMark) : std::string();
      marked.reserve(part.text.size() + part.text.size() / 2);
      for (char c : part.text) c == ' ' ? marked += kSpaceMark : marked += c;
      encodePart(marked, scratch, out);
      afterSpecial = false;
    }
    if (addSpecial && vocab_.addEos && vocab_.eos >= 0) out.push_back(vocab_.eos);
    return out;
  }

  std::string piece(int32_t id, bool special) const override {
    if (id < 0 || id >= size()) return {};
    const std::string& text = vocab_.tokens[static_cast<size_t>(id)];
    if (isControl(id)) return special ? text : std::string();
    if (vocab_.types[static_cast<size_t>(id)] == VocabData::TokenType::byte)
      for (size_t b = 0; b < 256; ++b)
        if (bytes_[b] == id) return std::string(1, static_cast<char>(b));
    std::string out;
    for (size_t at = 0; at < text.size();) {
      if (std::string_view(text).substr(at).starts_with(kSpaceMark)) {
        out += ' ';
        at += kSpaceMark.size();
      } else {
        out += text[at++];
      }
    }
    return out;
  }

 private:
  // Symbols are ranges of the word; an id per distinct text keeps merging a table look-up.
  struct Scratch {
    std::unordered_map<std::string, std::vector<int32_t>> words;
    std::vector<int32_t> symbols;
    std::vector<std::string> texts;  // of symbols that are no token: id size() + index
    Merger merger;
    std::string joined;
  };

  void encodePart(std::string_view text, Scratch& scratch, std::vector<int32_t>& out) const {
    for (size_t at = 0; at < text.size();) {
      size_t end = text.size();
      if (wordwise_) {
        size_t from = at;
        while (text.substr(from).starts_with(kSpaceMark)) from += kSpaceMark.size();
        end = std::min(text.find(kSpaceMark, from), text.size());
      }
      encodeWord(text.substr(at, end - at), scratch, out);
      at = end;
    }
  }

  void encodeWord(std::string_view word, Scratch& scratch, std::vector<int32_t>& out) const {
    const bool keep = word.size() <= 64;
    if (keep)
      if (const auto seen = scratch.words.find(std::string(word)); seen != scratch.words.end()) {
        out.insert(out.end(), seen->second.begin(), seen->second.end());
        return;
      }
    const size_t first = out.size();
    scratch.symbols.clear();
    scratch.texts.clear();
    for (size_t at = 0; at < word.size();) {
      const size_t length = std::max<size_t>(1, utf8Length(word.substr(at)));
      const std::string_view letter = word.substr(at, length);
      const auto token = ids_.find(letter);
      if (token != ids_.end()) {
        scratch.symbols.push_back(token->second);
      } else {
        scratch.symbols.push_back(size() + static_cast<int32_t>(scratch.texts.size()));
        scratch.texts.emplace_back(letter);
      }
      at += length;
    }
    const auto text = [&](int32_t symbol) -> const std::string& {
      return symbol < size() ? vocab_.tokens[static_cast<size_t>(symbol)] : scratch.texts[static_cast<size_t>(symbol - size())];
    };
    scratch.merger.run(scratch.symbols, [&](int32_t left, int32_t right) {
      scratch.joined.assign(text(left));
      scratch.joined += text(right);
      const auto token = ids_.find(scratch.joined);
      return token == ids_.end() ? Merge{} : Merge{rankOf(vocab_.scores[static_cast<size_t>(token->second)]), token->second};
    });
    for (int32_t symbol : scratch.symbols) {
      if (symbol < size())
        out.push_back(symbol);
      else
        spellBytes(text(symbol), out);
    }
    if (keep) scratch.words.emplace(word, std::vector<int32_t>(out.begin() + static_cast<std::ptrdiff_t>(first), out.end()));
  }

  void spellBytes(const std::string& letter, std::vector<int32_t>& out) const {
    for (char c : letter) {
      const int32_t byte = bytes_[static_cast<unsigned char>(c)];
      out.push_back(byte >= 0 ? byte : std::max(0, vocab_.unk));
    }
  }

  SpecialTokens specials_;
  TokenIds ids_;
  std::vector<int32_t> bytes_;
  bool wordwise_ = false;
};

}  // namespace

Result<std::shared_ptr<const Tokenizer>> createSpm(VocabData vocab) {
  if (!vocab.scores.empty() && vocab.scores.size() != vocab.tokens.size())
    return Error{ErrorCode::badInput,
                 "the vocabulary has " + std::to_string(vocab.tokens.size()) + " tokens but " + std::to_string(vocab.scores.size()) + " scores.", ""};
  auto made = std::make_shared<Spm>(std::move(vocab));
  if (!made->canSpellAnything())
    return Error{ErrorCode::badInput, "the SentencePiece vocabulary has neither byte tokens nor an unknown token: some text could not be written.", ""};
  return std::shared_ptr<const Tokenizer>(std::move(made));
}

}  // namespace winnow
