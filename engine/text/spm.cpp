// SPDX-License-Identifier: GPL-3.0-or-later
// SentencePiece-BPE: of all neighbours that together are a token, the pair with the highest score is joined, the leftmost of
// equals, until none is left. Characters without a token are spelled in bytes.
#include <algorithm>
#include <cmath>
#include <optional>

#include "engine/model/message.h"
#include "engine/text/string_map.h"
#include "engine/text/tokenizer_impl.h"

namespace winnow {
namespace {

// Symbols begin as characters, measured by their first byte alone; broken text so falls apart as it does in llama.cpp.
size_t symbolBytes(char first, size_t left) {
  constexpr uint8_t lengths[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
  return std::min<size_t>(lengths[static_cast<uint8_t>(first) >> 4], left);
}

class SpmTokenizer final : public TokenizerBase {
 public:
  explicit SpmTokenizer(VocabData vocab) : TokenizerBase(std::move(vocab)) {}
  Status build();

 private:
  struct Node {
    uint32_t start, bytes;
    int32_t id;      // of the symbol, -1 when it is no token
    int32_t joined;  // the token it makes with the next node, -1 if none
    int32_t next, previous;
  };
  void encodeText(std::string_view text, bool first, std::vector<int32_t>& out) const override;
  void encodeWord(std::string_view word, std::vector<Node>& scratch, std::vector<int32_t>& out) const;
  size_t mergeShort(std::string_view word, Node* nodes, size_t count) const;
  void mergeLong(std::string_view word, std::vector<Node>& nodes) const;
  void emit(std::string_view text, int32_t id, std::vector<int32_t>& out) const;
  size_t wordEnd(std::string_view text, size_t begin) const;
  int32_t join(std::string_view word, const Node& left, const Node& right) const {
    const size_t bytes = size_t{left.bytes} + right.bytes;
    return bytes > longestToken_ ? -1 : ids_.find(word.substr(left.start, bytes));
  }
  bool better(int32_t a, int32_t b) const {  // strictly; b may be -1
    return a >= 0 && (b < 0 || vocab_.scores[static_cast<size_t>(a)] > vocab_.scores[static_cast<size_t>(b)]);
  }

  static constexpr size_t shortWord = 64;  // symbols
  StringMap ids_;
  StringMap beforeSpace_;  // characters that some token has before U+2581: there a word may not be cut
  bool cutAnywhere_ = true;
  size_t longestToken_ = 0;  // bytes
  std::array<int32_t, 256> byteToken_{};
};

Status SpmTokenizer::build() {
  using Type = VocabData::TokenType;
  if (vocab_.scores.empty()) vocab_.scores.assign(vocab_.tokens.size(), 0.0f);
  if (vocab_.scores.size() != vocab_.tokens.size())
    return badInput("the vocabulary has ", vocab_.tokens.size(), " tokens, but ", vocab_.scores.size(), " scores");
  byteToken_ = byteTokens(vocab_);
  ids_ = StringMap(vocab_.tokens.size());
  for (size_t i = 0; i < vocab_.tokens.size(); ++i) {
    const std::string& text = vocab_.tokens[i];
    const Type type = vocab_.types[i];
    if (std::isnan(vocab_.scores[i])) return badInput("the score of token ", i, " is not a number");
    if (!text.empty()) ids_.insert(text, static_cast<int32_t>(i));
    longestToken_ = std::max(longestToken_, text.size());
    for (size_t at = 0; at < text.size();) {
      const std::string_view symbol = std::string_view(text).substr(at, symbolBytes(text[at], text.size() - at));
      at += symbol.size();
      if (symbol == spaceMark || !std::string_view(text).substr(at).starts_with(spaceMark)) continue;
      beforeSpace_.insert(symbol, 0);
      cutAnywhere_ = false;
    }
    const auto byte = type == Type::byte ? std::ranges::find(byteToken_, static_cast<int32_t>(i)) : byteToken_.end();
    if (byte != byteToken_.end()) pieces_.add(std::string(1, static_cast<char>(byte - byteToken_.begin())));
    else if (type == Type::control || type == Type::userDefined || type == Type::unknown) pieces_.add(text);
    else pieces_.add(replaceAll(text, spaceMark, " "));
  }
  for (size_t b = 0; b < 256; ++b) {
    if (byteToken_[b] < 0) byteToken_[b] = ids_.find(std::string(1, static_cast<char>(b)));
    if (byteToken_[b] < 0 && vocab_.unk < 0)
      return badInput("the vocabulary has neither a token for byte ", b, " nor an unknown token, so it can't spell every text");
  }
  collectSpecials();
  return Done{};
}

// No token reaches over the place where a character that stands before U+2581 in no token is followed by one, so what stands on
// either side is encoded for itself.
size_t SpmTokenizer::wordEnd(std::string_view text, size_t begin) const {
  std::string_view before;
  size_t at = begin;
  while (at < text.size()) {
    const std::string_view symbol = text.substr(at, symbolBytes(text[at], text.size() - at));
    if (!before.empty() && symbol == spaceMark && before != spaceMark && (cutAnywhere_ || beforeSpace_.find(before) < 0)) break;
    before = symbol;
    at += symbol.size();
  }
  return at;
}

size_t SpmTokenizer::mergeShort(std::string_view word, Node* nodes, size_t count) const {
  while (count > 1) {
    size_t at = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (better(nodes[i].joined, nodes[at].joined)) at = i;
    if (nodes[at].joined < 0) break;
    nodes[at].id = nodes[at].joined;
    nodes[at].bytes += nodes[at + 1].bytes;
    std::copy(nodes + at + 2, nodes + count, nodes + at + 1);
    --count;
    nodes[at].joined = at + 1 < count ? join(word, nodes[at], nodes[at + 1]) : -1;
    if (at > 0) nodes[at - 1].joined = join(word, nodes[at - 1], nodes[at]);
  }
  return count;
}

void SpmTokenizer::mergeLong(std::string_view word, std::vector<Node>& nodes) const {
  struct Candidate {
    float score;
    int32_t left;
    int32_t token;
  };
  const auto worse = [](const Candidate& a, const Candidate& b) { return a.score != b.score ? a.score < b.score : a.left > b.left; };
  const auto count = static_cast<int32_t>(nodes.size());
  const auto node = [&](int32_t i) -> Node& { return nodes[static_cast<size_t>(i)]; };
  std::vector<Candidate> heap;
  for (int32_t i = 0; i < count; ++i)
    if (node(i).joined >= 0) heap.push_back({vocab_.scores[static_cast<size_t>(node(i).joined)], i, node(i).joined});
  std::ranges::make_heap(heap, worse);
  const auto update = [&](int32_t i) {
    const int32_t next = node(i).next;
    const int32_t token = next < count ? join(word, node(i), node(next)) : -1;
    node(i).joined = token;
    if (token < 0) return;
    heap.push_back({vocab_.scores[static_cast<size_t>(token)], i, token});
    std::ranges::push_heap(heap, worse);
  };
  while (!heap.empty()) {
    std::ranges::pop_heap(heap, worse);
    const Candidate top = heap.back();
    heap.pop_back();
    Node& left = node(top.left);
    if (left.joined != top.token) continue;  // its node is gone or has another neighbour by now
    const int32_t gone = left.next;
    left.id = top.token;
    left.bytes += node(gone).bytes;
    left.next = node(gone).next;
    if (left.next < count) node(left.next).previous = top.left;
    node(gone).bytes = 0;
    node(gone).joined = -1;
    update(top.left);
    if (left.previous >= 0) update(left.previous);
  }
  std::erase_if(nodes, [](const Node& n) { return n.bytes == 0; });
}

void SpmTokenizer::emit(std::string_view text, int32_t id, std::vector<int32_t>& out) const {
  if (id >= 0) {
    out.push_back(id);
    return;
  }
  const size_t before = out.size();
  for (const char c : text) {
    const int32_t byte = byteToken_[static_cast<uint8_t>(c)];
    if (byte < 0) {  // one unknown token for the character
      out.resize(before);
      out.push_back(vocab_.unk);
      return;
    }
    out.push_back(byte);
  }
}

void SpmTokenizer::encodeWord(std::string_view word, std::vector<Node>& nodes, std::vector<int32_t>& out) const {
  nodes.clear();
  for (size_t at = 0; at < word.size();) {
    const size_t bytes = symbolBytes(word[at], word.size() - at);
    const auto index = static_cast<int32_t>(nodes.size());
    nodes.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(bytes), ids_.find(word.substr(at, bytes)), -1, index + 1, index - 1});
    at += bytes;
  }
  for (size_t i = 0; i + 1 < nodes.size(); ++i) nodes[i].joined = join(word, nodes[i], nodes[i + 1]);
  size_t count = nodes.size();
  if (count <= shortWord) {
    count = mergeShort(word, nodes.data(), count);
  } else {
    mergeLong(word, nodes);
    count = nodes.size();
  }
  for (size_t i = 0; i < count; ++i) emit(word.substr(nodes[i].start, nodes[i].bytes), nodes[i].id, out);
}

void SpmTokenizer::encodeText(std::string_view plain, bool first, std::vector<int32_t>& out) const {
  std::string text = vocab_.addPrefixSpace && first ? std::string(spaceMark) : std::string();
  text += replaceAll(plain, " ", spaceMark);
  const bool caching = text.size() > 512;
  std::optional<WordCache> cache;
  if (caching) cache.emplace();
  std::vector<Node> scratch;
  constexpr size_t most = size_t{1} << 30;  // bytes of a word, so that positions fit
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(wordEnd(text, begin), begin + most);
    const std::string_view word = std::string_view(text).substr(begin, end - begin);
    begin = end;
    if (!caching || word.size() > WordCache::longestWord) {
      encodeWord(word, scratch, out);
      continue;
    }
    const uint64_t hash = hashText(word);
    const size_t at = out.size();
    if (const WordCache::Entry* known = cache->find(word, hash)) {
      out.resize(at + known->ids);
      std::copy_n(out.begin() + static_cast<ptrdiff_t>(known->firstId), known->ids, out.begin() + static_cast<ptrdiff_t>(at));
      continue;
    }
    encodeWord(word, scratch, out);
    cache->add(word, hash, at, out.size() - at);
  }
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> createSpm(VocabData vocab) {
  auto made = std::make_shared<SpmTokenizer>(std::move(vocab));
  if (Status s = made->build(); !s) return s.error();
  return std::shared_ptr<const Tokenizer>(std::move(made));
}

}  // namespace winnow
