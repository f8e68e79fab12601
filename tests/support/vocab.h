// SPDX-License-Identifier: GPL-3.0-or-later
// Vocabularies for tokenizer tests: those of the shared data, and one made here in which any two bytes can merge.
#pragma once
#include <memory>
#include <numeric>
#include <random>
#include <utility>

#include "engine/model/model.h"
#include "engine/text/tokenizer.h"
#include "engine/text/utf8.h"
#include "tests/support/check.h"

namespace winnow::test {

inline std::shared_ptr<const Tokenizer> made(VocabData vocab) {
  auto tokenizer = Tokenizer::create(std::move(vocab));
  if (!tokenizer) throw std::runtime_error(tokenizer.error().message);
  return *tokenizer;
}

inline std::shared_ptr<const Tokenizer> load(const std::string& relative) {
  auto vocab = Model::openVocab(sharedData(relative));
  if (!vocab) throw std::runtime_error(relative + ": " + vocab.error().message);
  return made(std::move(*vocab));
}

inline std::string joined(const std::vector<int32_t>& ids) {
  std::string out;
  for (const int32_t id : ids) {
    if (!out.empty()) out += ' ';
    out += std::to_string(id);
  }
  return out;
}

inline std::vector<std::string> linesOf(const std::string& text, const std::string& separator = "\n") {
  std::vector<std::string> out;
  size_t at = 0;
  for (size_t end; (end = text.find(separator, at)) != std::string::npos; at = end + separator.size())
    out.push_back(text.substr(at, end - at));
  out.push_back(text.substr(at));
  return out;
}

inline std::string fromHex(const std::string& hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return out;
}

inline std::string byteLetter(int byte) {  // in GPT-2's alphabet
  const auto printable = [](int b) { return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae; };
  int code = byte;
  if (!printable(byte)) {
    code = 0x100;
    for (int b = 0; b < byte; ++b) code += !printable(b);
  }
  std::string out;
  appendUtf8(out, static_cast<uint32_t>(code));
  return out;
}

// 256 bytes, the 65536 pairs of them in a fixed shuffled order, and one control token. Whether two bytes were in the same word shows
// in the ids, which makes the cuts of a pre-tokenizer visible.
inline VocabData pairVocabulary(const std::string& pre) {
  VocabData v;
  v.kind = VocabData::Kind::bpe;
  v.pre = pre;
  std::vector<int> order(65536);
  std::iota(order.begin(), order.end(), 0);
  uint64_t state = 1;
  for (uint64_t i = order.size() - 1; i > 0; --i) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    std::swap(order[i], order[(state >> 33) % (i + 1)]);
  }
  for (int b = 0; b < 256; ++b) v.tokens.push_back(byteLetter(b));
  for (const int pair : order) {
    const std::string& left = v.tokens[static_cast<size_t>(pair >> 8)];
    const std::string& right = v.tokens[static_cast<size_t>(pair & 255)];
    v.merges.push_back(left + " " + right);
    v.tokens.push_back(left + right);
  }
  v.tokens.push_back("<|special|>");
  v.types.assign(v.tokens.size(), VocabData::TokenType::normal);
  v.types.back() = VocabData::TokenType::control;
  v.bos = v.eos = static_cast<int>(v.tokens.size()) - 1;
  return v;
}

inline std::string randomUnicode(std::mt19937& rng, int characters) {
  constexpr uint32_t limits[] = {0x80, 0x250, 0x3100, 0x10000, 0x20000, 0x110000};
  std::string out;
  while (characters-- > 0) {
    const uint32_t c = rng() % limits[rng() % std::size(limits)];
    appendUtf8(out, c >= 0xd800 && c < 0xe000 ? 0x20 : c);
  }
  return out;
}

inline std::string randomBytes(std::mt19937& rng, size_t bytes) {
  std::string out(bytes, '\0');
  for (char& c : out) c = static_cast<char>(rng());
  return out;
}

}  // namespace winnow::test
