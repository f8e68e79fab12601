// SPDX-License-Identifier: GPL-3.0-or-later
// Byte-level BPE (Radford et al. 2019): bytes are written in an alphabet of 256 printable characters, the text is cut into
// words, and pairs of symbols merge in the order of the merge table.
#include <algorithm>
#include <array>

#include "engine/core/suggest.h"
#include "engine/text/implementations.h"
#include "engine/text/merge.h"
#include "engine/text/splitter.h"
#include "engine/text/utf8.h"

namespace winnow {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";

// GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others for U+0100 on, in order.
std::array<std::string, 256> byteAlphabet() {
  std::array<std::string, 256> alphabet;
  char32_t next = 0x100;
  for (unsigned b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    alphabet[b] = toUtf8(printable ? b : next++);
  }
  return alphabet;
}

class Bpe final : public Tokenizer {
 public:
  Bpe(VocabData vocab, Splitter splitter, bool byteAlphabet, bool escapeSpaces)
      : Tokenizer(std::move(vocab)), splitter_(std::move(splitter)), specials_(vocab_), byteAlphabet_(byteAlphabet), escapeSpaces_(escapeSpaces) {}

  Status build() {
    ids_ = tokenIds(vocab_);
    bytes_ = byteTokens(ids_);
    const auto alphabet = winnow::byteAlphabet();
    for (unsigned b = 0; b < 256; ++b) {
      letter_[b] = intern(byteAlphabet_ ? alphabet[b] : std::string(1, static_cast<char>(b)));
      byteOf_[alphabet[b]] = static_cast<char>(b);
    }
    if (byteAlphabet_ && std::ranges::all_of(letter_, [&](int32_t symbol) { return tokenOf(symbol) < 0; }))
      return Error{ErrorCode::badInput, "the BPE vocabulary has no byte tokens: no text could be written with it.", "The file's vocabulary is damaged."};
    pairs_.reserve(vocab_.merges.size() * 2);
    for (size_t rank = 0; rank < vocab_.merges.size(); ++rank) {
      const std::string& merge = vocab_.merges[rank];
      const size_t space = merge.find(' ', 1);
      if (space == std::string::npos || space + 1 >= merge.size())
        return Error{ErrorCode::badInput, "merge " + std::to_string(rank) + " of the vocabulary is not a pair of symbols.", "The file's merge table is damaged."};
      const int32_t left = intern(merge.substr(0, space)), right = intern(merge.substr(space + 1));
      pairs_[key(left, right)] = {static_cast<int64_t>(rank), intern(merge.substr(0, space) + merge.substr(space + 1))};
    }
    return Done{};
  }

  std::vector<int32_t> encode(std::string_view text, bool addSpecial, bool parseSpecial) const override {
    std::vector<int32_t> out;
    if (addSpecial && vocab_.addBos && vocab_.bos >= 0) out.push_back(vocab_.bos);
    Scratch scratch;
    for (const SpecialTokens::Part& part : specials_.cut(text, parseSpecial)) {
      if (part.token >= 0)
        out.push_back(part.token);
      else
        encodePart(part.text, scratch, out);
    }
    if (addSpecial && vocab_.addEos && vocab_.eos >= 0) out.push_back(vocab_.eos);
    return out;
  }

  std::string piece(int32_t id, bool special) const override {
    if (id < 0 || id >= size()) return {};
    const std::string& text = vocab_.tokens[static_cast<size_t>(id)];
    if (isControl(id)) return special ? text : std::string();
    const auto type = vocab_.types[static_cast<size_t>(id)];
    if (type == VocabData::TokenType::userDefined) return text;
    if (type == VocabData::TokenType::byte)
      for (size_t b = 0; b < 256; ++b)
        if (bytes_[b] == id) return std::string(1, static_cast<char>(b));
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t length = std::max<size_t>(1, utf8Length(std::string_view(text).substr(at)));
      const std::string letter = text.substr(at, length);
      const auto byte = byteAlphabet_ ? byteOf_.find(letter) : byteOf_.end();
      if (byte != byteOf_.end())
        out += byte->second;
      else
        out += escapeSpaces_ && letter == kSpaceMark ? " " : letter;
      at += length;
    }
    return out;
  }

 private:
  struct Scratch {
    std::unordered_map<std::string_view, std::pair<size_t, size_t>> words;  // word -> range in `known`
    std::vector<int32_t> known, symbols;
    std::vector<std::string_view> pieces;
    Merger merger;
  };

  // Symbols below size() are tokens; merge parts that are no token get ids from size() on.
  int32_t intern(const std::string& text) {
    if (const auto token = ids_.find(text); token != ids_.end()) return token->second;
    const auto [it, fresh] = extra_.emplace(text, size() + static_cast<int32_t>(extra_.size()));
    if (fresh) extraText_.push_back(text);
    return it->second;
  }
  int32_t tokenOf(int32_t symbol) const { return symbol < size() ? symbol : -1; }
  static uint64_t key(int32_t left, int32_t right) { return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right); }

  void encodePart(std::string_view text, Scratch& scratch, std::vector<int32_t>& out) const {
    std::string escaped;
    if (escapeSpaces_) {
      for (char c : text) c == ' ' ? escaped += kSpaceMark : escaped += c;
      text = escaped;
      scratch.words.clear();  // the words point into `escaped`
    }
    // Runs of valid UTF-8 are split by the expressions; a byte that belongs to no character is a word of its own.
    for (size_t at = 0; at < text.size();) {
      size_t end = at;
      for (size_t length; end < text.size() && (length = utf8Length(text.substr(end))) > 0;) end += length;
      if (end > at) {
        scratch.pieces.clear();
        splitter_.split(text.substr(at, end - at), scratch.pieces);
        for (const std::string_view word : scratch.pieces) encodeWord(word, scratch, out);
      }
      if (end < text.size()) encodeWord(text.substr(end++, 1), scratch, out);
      at = end;
    }
    if (escapeSpaces_) scratch.words.clear();
  }

  void encodeWord(std::string_view word, Scratch& scratch, std::vector<int32_t>& out) const {
    const auto seen = scratch.words.find(word);
    if (seen != scratch.words.end()) {
      out.insert(out.end(), scratch.known.begin() + static_cast<std::ptrdiff_t>(seen->second.first), scratch.known.begin() + static_cast<std::ptrdiff_t>(seen->second.second));
      return;
    }
    const size_t first = out.size();
    spell(word, scratch.symbols);
    if (!wholeWord(word, out)) {
      scratch.merger.run(scratch.symbols, [this](int32_t left, int32_t right) {
        const auto it = pairs_.find(key(left, right));
        return it == pairs_.end() ? Merge{} : it->second;
      });
      for (int32_t symbol : scratch.symbols) emit(symbol, out);
    }
    const size_t begin = scratch.known.size();
    scratch.known.insert(scratch.known.end(), out.begin() + static_cast<std::ptrdiff_t>(first), out.end());
    scratch.words.emplace(word, std::pair{begin, scratch.known.size()});
  }

  bool wholeWord(std::string_view word, std::vector<int32_t>& out) const {
    if (!vocab_.ignoreMerges) return false;
    std::string text;
    if (byteAlphabet_) {
      for (char c : word) text += symbolText(letter_[static_cast<unsigned char>(c)]);
    } else {
      text = word;
    }
    const auto it = ids_.find(text);
    if (it == ids_.end()) return false;
    out.push_back(it->second);
    return true;
  }

  void spell(std::string_view word, std::vector<int32_t>& symbols) const {
    symbols.clear();
    if (byteAlphabet_) {
      for (char c : word) symbols.push_back(letter_[static_cast<unsigned char>(c)]);
      return;
    }
    for (size_t at = 0; at < word.size();) {
      const size_t length = std::max<size_t>(1, utf8Length(word.substr(at)));
      const auto symbol = find(word.substr(at, length));
      if (symbol >= 0)
        symbols.push_back(symbol);
      else
        for (size_t i = 0; i < length; ++i) symbols.push_back(letter_[static_cast<unsigned char>(word[at + i])]);
      at += length;
    }
  }
  int32_t find(std::string_view text) const {
    if (const auto token = ids_.find(text); token != ids_.end()) return token->second;
    const auto it = extra_.find(std::string(text));
    return it == extra_.end() ? -1 : it->second;
  }
  const std::string& symbolText(int32_t symbol) const {
    return symbol < size() ? vocab_.tokens[static_cast<size_t>(symbol)] : extraText_[static_cast<size_t>(symbol - size())];
  }

  // A symbol that is no token falls apart into its bytes; bytes the vocabulary lacks are left out, as llama.cpp does.
  void emit(int32_t symbol, std::vector<int32_t>& out) const {
    if (const int32_t token = tokenOf(symbol); token >= 0) {
      out.push_back(token);
      return;
    }
    for (char c : symbolText(symbol)) {
      const int32_t byte = bytes_[static_cast<unsigned char>(c)];
      const auto single = ids_.find(std::string_view(&c, 1));
      if (!byteAlphabet_ && byte >= 0)
        out.push_back(byte);
      else if (single != ids_.end())
        out.push_back(single->second);
    }
  }

  Splitter splitter_;
  SpecialTokens specials_;
  bool byteAlphabet_, escapeSpaces_;
  TokenIds ids_;
  std::vector<int32_t> bytes_;
  std::array<int32_t, 256> letter_{};
  std::unordered_map<std::string, char> byteOf_;
  std::unordered_map<std::string, int32_t> extra_;
  std::vector<std::string> extraText_;
  std::unordered_map<uint64_t, Merge> pairs_;
};

}  // namespace

Result<std::shared_ptr<const Tokenizer>> createBpe(VocabData vocab) {
  PreTokenizer pre;
  pre.patterns = vocab.splitPatterns;
  if (pre.patterns.empty()) {
    const std::string name = vocab.pre.empty() ? "default" : vocab.pre;  // files from before the key existed
    const PreTokenizer* known = findPreTokenizer(name);
    if (!known)
      return Error{ErrorCode::badInput, "the vocabulary asks for the pre-tokenizer \"" + name + "\", which is not known here.",
                   "The nearest known name is " + closest(name, knownPreTokenizers()) + "; a wrong one would change every token, so none is assumed."};
    pre = *known;
  }
  if (vocab.merges.empty() && !vocab.ignoreMerges)
    return Error{ErrorCode::badInput, "the BPE vocabulary has no merge table.", "Convert the model again with its tokenizer files beside it."};
  Result<Splitter> splitter = Splitter::create(pre.patterns);
  if (!splitter) return splitter.error();
  auto made = std::make_shared<Bpe>(std::move(vocab), std::move(*splitter), pre.byteAlphabet, pre.escapeSpaces);
  if (const Status built = made->build(); !built) return built.error();
  return std::shared_ptr<const Tokenizer>(std::move(made));
}

}  // namespace winnow
