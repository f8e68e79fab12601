// SPDX-License-Identifier: GPL-3.0-or-later
// Byte-level BPE: words are cut by a Splitter; inside a word the pair of neighbours whose merge comes first in the file is joined,
// the leftmost of equals, until no merge applies.
#include <algorithm>
#include <bit>
#include <deque>
#include <limits>

#include "engine/core/suggest.h"
#include "engine/model/message.h"
#include "engine/text/split.h"
#include "engine/text/string_map.h"
#include "engine/text/tokenizer_impl.h"
#include "engine/text/unicode_age.h"
#include "engine/text/utf8.h"

namespace winnow {
namespace {

constexpr uint32_t noRank = std::numeric_limits<uint32_t>::max();

// GPT-2's alphabet: printable Latin-1 characters stand for themselves, the other bytes for U+0100 and up.
struct Alphabet {
  std::array<int16_t, 0x144> byteOf;
  Alphabet() {
    byteOf.fill(-1);
    int16_t next = 0x100;
    for (int16_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      byteOf[static_cast<size_t>(printable ? b : next++)] = b;
    }
  }
  // False when a character does not belong to the alphabet.
  bool decode(std::string_view text, std::string& out) const {
    out.clear();
    for (size_t i = 0; i < text.size();) {
      const Utf8Char c = utf8Char(text.substr(i));
      if (!c.valid || c.codePoint >= byteOf.size() || byteOf[c.codePoint] < 0) return false;
      out += static_cast<char>(byteOf[c.codePoint]);
      i += c.bytes;
    }
    return true;
  }
};

// From a pair of symbols to the rank of its merge.
class PairTable {
 public:
  explicit PairTable(size_t expected = 0) : slots_(std::bit_ceil(std::max<size_t>(16, expected * 2))) {}
  void insert(int32_t left, int32_t right, uint32_t rank) {
    Slot* s = slot(key(left, right));
    if (s->rank == noRank) *s = {key(left, right), rank};
  }
  uint32_t find(int32_t left, int32_t right) const { return const_cast<PairTable*>(this)->slot(key(left, right))->rank; }

 private:
  struct Slot {
    uint64_t key = 0;
    uint32_t rank = noRank;
  };
  static uint64_t key(int32_t left, int32_t right) { return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right); }
  Slot* slot(uint64_t wanted) {
    size_t i = mixBits(wanted, 0) & (slots_.size() - 1);
    while (slots_[i].rank != noRank && slots_[i].key != wanted) i = (i + 1) & (slots_.size() - 1);
    return &slots_[i];
  }
  std::vector<Slot> slots_;
};

class BpeTokenizer final : public TokenizerBase {
 public:
  BpeTokenizer(VocabData vocab, PreTokenizer pre, Splitter splitter)
      : TokenizerBase(std::move(vocab)), pre_(std::move(pre)), splitter_(std::move(splitter)), pairs_(vocab_.merges.size()) {}
  Status build();

 private:
  // A stretch of a word that is one symbol by now. Symbols below size() are tokens; the others are texts that occur in merges
  // only, or -1 for characters that occur nowhere.
  struct Node {
    int32_t symbol;
    uint32_t rank;   // of the merge with the next node
    uint32_t start;  // in the word
    int32_t next, previous;
  };
  void encodeText(std::string_view text, bool first, std::vector<int32_t>& out) const override;
  void encodeWord(std::string_view word, std::vector<Node>& scratch, std::vector<int32_t>& out) const;
  size_t cutIntoSymbols(std::string_view word, Node* nodes) const;
  size_t mergeShort(Node* nodes, size_t count) const;
  void mergeLong(std::vector<Node>& nodes) const;
  void emit(const Node& node, std::string_view text, std::vector<int32_t>& out) const;
  void addKeys();
  void addMerges();
  bool toKey(std::string_view text, std::string& key) const;
  int32_t symbolOf(const std::string& key);
  uint32_t rank(int32_t left, int32_t right) const { return (left | right) < 0 ? noRank : pairs_.find(left, right); }

  static constexpr size_t shortWord = 96;  // symbols; above, a heap is faster than looking at all pairs
  Alphabet alphabet_;
  PreTokenizer pre_;
  Splitter splitter_;
  Pieces keys_;                           // tokens as they stand in texts
  std::deque<std::string> extraSymbols_;  // texts of merges that are no tokens
  StringMap symbols_;
  PairTable pairs_;
  std::vector<int32_t> merged_;           // by rank: the symbol a merge makes
  std::array<int32_t, 256> byteSymbol_{}; // of one byte in a text
  std::array<int32_t, 256> byteToken_{};  // what stands for a byte that ended in no token; -1 when the vocabulary lacks it
};

bool BpeTokenizer::toKey(std::string_view text, std::string& key) const {
  if (!pre_.rawUtf8) return alphabet_.decode(text, key);
  key = text;
  return true;
}

int32_t BpeTokenizer::symbolOf(const std::string& key) {
  if (const int32_t known = symbols_.find(key); known >= 0) return known;
  const auto made = static_cast<int32_t>(vocab_.tokens.size() + extraSymbols_.size());
  extraSymbols_.push_back(key);
  symbols_.insert(extraSymbols_.back(), made);
  return made;
}

void BpeTokenizer::addKeys() {
  using Type = VocabData::TokenType;
  const std::array<int32_t, 256> bytes = byteTokens(vocab_);
  std::string key;
  std::vector<bool> reachable;
  for (size_t i = 0; i < vocab_.tokens.size(); ++i) {
    const std::string& text = vocab_.tokens[i];
    const Type type = vocab_.types[i];
    reachable.push_back(!text.empty() && toKey(text, key));
    keys_.add(reachable.back() ? std::string_view(key) : std::string_view());
    const bool verbatim = type == Type::control || type == Type::userDefined || type == Type::unknown;
    if (pre_.rawUtf8 && type == Type::byte) {
      const auto it = std::ranges::find(bytes, static_cast<int32_t>(i));
      pieces_.add(it == bytes.end() ? text : std::string(1, static_cast<char>(it - bytes.begin())));
    } else if (verbatim || !reachable.back()) {
      pieces_.add(text);
    } else {
      pieces_.add(pre_.escapeSpaces ? replaceAll(key, spaceMark, " ") : key);
    }
  }
  symbols_ = StringMap(vocab_.tokens.size() + vocab_.merges.size() / 16);
  for (size_t i = 0; i < reachable.size(); ++i)
    if (reachable[i]) symbols_.insert(keys_[i], static_cast<int32_t>(i));
}

// A merge without a space, or with characters that no text has, can never apply and is passed over.
void BpeTokenizer::addMerges() {
  std::string left, right;
  for (size_t i = 0; i < vocab_.merges.size(); ++i) {
    const std::string_view merge = vocab_.merges[i];
    const size_t space = merge.find(' ', 1);
    merged_.push_back(-1);
    if (space == std::string_view::npos || space + 1 >= merge.size()) continue;
    if (!toKey(merge.substr(0, space), left) || !toKey(merge.substr(space + 1), right)) continue;
    const int32_t l = symbolOf(left), r = symbolOf(right);
    left += right;
    merged_.back() = symbolOf(left);
    pairs_.insert(l, r, static_cast<uint32_t>(i));
  }
}

Status BpeTokenizer::build() {
  addKeys();
  addMerges();
  byteToken_ = pre_.rawUtf8 ? byteTokens(vocab_) : std::array<int32_t, 256>{};
  bool any = false;
  for (size_t b = 0; b < 256; ++b) {
    const int32_t symbol = symbols_.find(std::string(1, static_cast<char>(b)));
    byteSymbol_[b] = symbol;
    if (!pre_.rawUtf8) byteToken_[b] = symbol < size() ? symbol : -1;
    any |= byteToken_[b] >= 0 || (symbol >= 0 && symbol < size());
  }
  if (!vocab_.merges.empty() && std::ranges::max(merged_) < 0)
    return badInput("none of the vocabulary's ", merged_.size(), " merges can be used; 'left right' was expected of each");
  if (!any)
    return badInput("the vocabulary has no token for any single byte, so it can't spell a text; byte-level BPE was expected");
  collectSpecials();
  return Done{};
}

size_t BpeTokenizer::cutIntoSymbols(std::string_view word, Node* nodes) const {
  size_t count = 0;
  for (size_t i = 0; i < word.size();) {
    size_t bytes = 1;
    int32_t symbol = byteSymbol_[static_cast<uint8_t>(word[i])];
    if (pre_.rawUtf8) {
      bytes = utf8Char(word.substr(i)).bytes;
      symbol = symbols_.find(word.substr(i, bytes));
    }
    nodes[count] = {symbol, noRank, static_cast<uint32_t>(i), static_cast<int32_t>(count) + 1, static_cast<int32_t>(count) - 1};
    ++count;
    i += bytes;
  }
  for (size_t i = 0; i + 1 < count; ++i) nodes[i].rank = rank(nodes[i].symbol, nodes[i + 1].symbol);
  return count;
}

size_t BpeTokenizer::mergeShort(Node* nodes, size_t count) const {
  while (count > 1) {
    size_t at = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (nodes[i].rank < nodes[at].rank) at = i;
    if (nodes[at].rank == noRank) break;
    nodes[at].symbol = merged_[nodes[at].rank];
    std::copy(nodes + at + 2, nodes + count, nodes + at + 1);
    --count;
    nodes[at].rank = at + 1 < count ? rank(nodes[at].symbol, nodes[at + 1].symbol) : noRank;
    if (at > 0) nodes[at - 1].rank = rank(nodes[at - 1].symbol, nodes[at].symbol);
  }
  return count;
}

// A heap of rank << 32 | node. An entry is out of date when its node is gone or has another rank by now.
void BpeTokenizer::mergeLong(std::vector<Node>& nodes) const {
  const auto count = static_cast<int32_t>(nodes.size());
  const auto node = [&](int32_t i) -> Node& { return nodes[static_cast<size_t>(i)]; };
  std::vector<uint64_t> heap;
  for (size_t i = 0; i + 1 < nodes.size(); ++i)
    if (nodes[i].rank != noRank) heap.push_back(uint64_t{nodes[i].rank} << 32 | i);
  std::ranges::make_heap(heap, std::greater<>());
  const auto update = [&](int32_t i) {
    const int32_t next = node(i).next;
    node(i).rank = next < count ? rank(node(i).symbol, node(next).symbol) : noRank;
    if (node(i).rank == noRank) return;
    heap.push_back(uint64_t{node(i).rank} << 32 | static_cast<uint32_t>(i));
    std::ranges::push_heap(heap, std::greater<>());
  };
  while (!heap.empty()) {
    std::ranges::pop_heap(heap, std::greater<>());
    const uint64_t top = heap.back();
    heap.pop_back();
    const auto i = static_cast<int32_t>(top & 0xffffffffU);
    if (node(i).rank != top >> 32) continue;
    const int32_t gone = node(i).next;
    node(i).symbol = merged_[node(i).rank];
    node(i).next = node(gone).next;
    if (node(gone).next < count) node(node(gone).next).previous = i;
    node(gone).rank = noRank;
    node(gone).start = noRank;  // marks it as gone
    update(i);
    if (node(i).previous >= 0) update(node(i).previous);
  }
  std::erase_if(nodes, [](const Node& n) { return n.start == noRank; });
}

// What ended in no token is spelled byte by byte; a byte the vocabulary lacks is left out, as llama.cpp does.
void BpeTokenizer::emit(const Node& node, std::string_view text, std::vector<int32_t>& out) const {
  if (node.symbol >= 0 && node.symbol < size()) {
    out.push_back(node.symbol);
    return;
  }
  for (const char c : text)
    if (const int32_t id = byteToken_[static_cast<uint8_t>(c)]; id >= 0) out.push_back(id);
}

void BpeTokenizer::encodeWord(std::string_view word, std::vector<Node>& scratch, std::vector<int32_t>& out) const {
  if (pre_.ignoreMerges || (pre_.wholeNewlines && word.find_first_not_of('\n') == std::string_view::npos)) {
    if (const int32_t whole = symbols_.find(word); whole >= 0 && whole < size()) {
      out.push_back(whole);
      return;
    }
  }
  // Words beyond 1 GiB are taken in parts, so that positions fit.
  constexpr size_t most = size_t{1} << 30;
  for (; word.size() > most; word.remove_prefix(most)) encodeWord(word.substr(0, most), scratch, out);
  scratch.resize(word.size());
  size_t count = cutIntoSymbols(word, scratch.data());
  if (count <= shortWord) {
    count = mergeShort(scratch.data(), count);
  } else {
    scratch.resize(count);
    mergeLong(scratch);
    count = scratch.size();
  }
  for (size_t i = 0; i < count; ++i) {
    const size_t end = i + 1 < count ? scratch[i + 1].start : word.size();
    emit(scratch[i], word.substr(scratch[i].start, end - scratch[i].start), out);
  }
}

void BpeTokenizer::encodeText(std::string_view text, bool first, std::vector<int32_t>& out) const {
  std::string changed;
  if (vocab_.addPrefixSpace && first && !text.starts_with(' ')) {
    changed = " ";
    changed += text;
    text = changed;
  }
  if (pre_.escapeSpaces) {
    changed = replaceAll(text, " ", spaceMark);
    text = changed;
  }
  // Broken bytes are split as if each were U+FFFD, and then taken as they are.
  const bool whole = isUtf8(text);
  std::vector<size_t> ends;
  std::string repaired, older;
  if (!whole) repaired = replaceBrokenBytes(text);
  splitter_.split(withOlderCharacters(whole ? text : std::string_view(repaired), older), ends);
  const bool caching = text.size() > 512;
  std::optional<WordCache> cache;
  if (caching) cache.emplace();
  std::vector<Node> scratch;
  size_t begin = 0, counted = 0, shift = 0;  // shift: how much longer the text is with its broken bytes replaced
  for (size_t end : ends) {
    if (!whole) {  // find where the word ends in the true text
      size_t at = begin;
      while (counted < end) {
        const Utf8Char c = utf8Char(text.substr(at));
        const size_t step = c.valid ? c.bytes : 1;
        counted += c.valid ? c.bytes : 3;
        shift += c.valid ? 0 : 2;
        at += step;
      }
      end -= shift;
    }
    const std::string_view word = text.substr(begin, end - begin);
    begin = end;
    if (!caching || word.size() > WordCache::longestWord) {
      encodeWord(word, scratch, out);
      continue;
    }
    const uint64_t hash = hashText(word);
    if (const WordCache::Entry* known = cache->find(word, hash)) {
      const size_t at = out.size();
      out.resize(at + known->ids);
      std::copy_n(out.begin() + static_cast<ptrdiff_t>(known->firstId), known->ids, out.begin() + static_cast<ptrdiff_t>(at));
      continue;
    }
    const size_t at = out.size();
    encodeWord(word, scratch, out);
    cache->add(word, hash, at, out.size() - at);
  }
}

// The few known names closest to one that is not.
std::string nearestNames(const std::string& name) {
  std::vector<std::string> known = knownPreTokenizers();
  std::string out;
  for (int i = 0; i < 3; ++i) {
    const std::string best = closest(name, known);
    out += (i == 0 ? "'" : ", '") + best + "'";
    std::erase(known, best);
  }
  return out;
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> createBpe(VocabData vocab) {
  PreTokenizer pre;
  if (!vocab.splitPatterns.empty()) {
    for (const std::string& pattern : vocab.splitPatterns) pre.steps.push_back({SplitStep::Kind::pattern, pattern});
  } else {
    const std::string name = vocab.pre.empty() ? "default" : vocab.pre;  // files from before the key existed have none
    auto known = preTokenizer(name);
    if (!known)
      return problem(ErrorCode::badInput,
                   "the pre-tokenizer " + shown(name) + " (tokenizer.ggml.pre) is not known, and any other would give wrong tokens",
                   "The nearest known names are " + nearestNames(name) + ".");
    pre = std::move(*known);
  }
  if (vocab.splitPatterns.empty()) vocab.addPrefixSpace = false;  // only a tokenizer.json can ask for it
  if (pre.wholeNewlines && vocab.bos >= 0) vocab.addBos = true;   // files of the kind say otherwise by mistake
  pre.ignoreMerges |= vocab.ignoreMerges;
  vocab.ignoreMerges = pre.ignoreMerges;
  if (vocab.merges.empty() && !pre.mergesOptional)
    return badInput("the vocabulary has no merges (tokenizer.ggml.merges), which byte-level BPE needs");
  if (vocab.merges.size() >= noRank / 2)
    return badInput("the vocabulary has ", vocab.merges.size(), " merges, fewer than 2147483647 were expected");
  auto splitter = Splitter::create(pre.steps);
  if (!splitter) return splitter.error();
  auto made = std::make_shared<BpeTokenizer>(std::move(vocab), std::move(pre), std::move(splitter).value());
  if (Status s = made->build(); !s) return s.error();
  return std::shared_ptr<const Tokenizer>(std::move(made));
}

}  // namespace winnow
