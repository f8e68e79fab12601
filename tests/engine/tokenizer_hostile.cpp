// SPDX-License-Identifier: GPL-3.0-or-later
// Vocabularies no converter would write: an error sentence or a tokenizer that works, never a crash.
#include <cmath>
#include <limits>

#include "tests/support/vocab.h"

using namespace winnow;
using namespace winnow::test;
using Type = VocabData::TokenType;

namespace {

void refused(VocabData vocab, const std::string& mentions) {
  const auto tokenizer = Tokenizer::create(std::move(vocab));
  EXPECT(!tokenizer.ok(), "expected a refusal that mentions", mentions);
  if (tokenizer.ok()) return;
  EXPECT(tokenizer.error().code == ErrorCode::badInput);
  EXPECT(tokenizer.error().message.find(mentions) != std::string::npos, tokenizer.error().message, "should mention", mentions);
}

VocabData bytesSpm() {
  VocabData v;
  v.kind = VocabData::Kind::spm;
  v.tokens = {"<unk>", "<s>", "</s>", "a", "aa"};
  v.scores = {0, 0, 0, -1, -2};
  v.unk = 0;
  return v;
}

std::string randomToken(std::mt19937& rng) {
  switch (rng() % 6) {
    case 0: return byteLetter(static_cast<int>(rng() % 256));
    case 1: return byteLetter(static_cast<int>(rng() % 256)) + byteLetter(static_cast<int>(rng() % 256));
    case 2: return randomBytes(rng, rng() % 6);
    case 3: return randomUnicode(rng, static_cast<int>(rng() % 4));
    case 4: return std::string(rng() % 4, 'a') + std::string(rng() % 3, ' ');
    default: {
      char name[8];
      std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(rng() % 256));
      return name;
    }
  }
}

float randomScore(std::mt19937& rng) {
  constexpr float odd[] = {0, -0.0f, 1e38f, -1e38f, std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), 1e-45f};
  return rng() % 2 ? odd[rng() % std::size(odd)] : static_cast<float>(rng() % 100) - 50;
}

VocabData randomVocabulary(std::mt19937& rng) {
  VocabData v;
  v.kind = rng() % 2 ? VocabData::Kind::bpe : VocabData::Kind::spm;
  const auto names = knownPreTokenizers();
  v.pre = rng() % 8 ? names[rng() % names.size()] : randomBytes(rng, rng() % 8);
  const size_t n = rng() % 80;
  for (size_t i = 0; i < n; ++i) v.tokens.push_back(randomToken(rng));
  if (rng() % 2)
    for (int b = 0; b < 256; ++b) v.tokens.push_back(byteLetter(b));
  for (size_t i = 0; i < v.tokens.size(); ++i) v.types.push_back(static_cast<Type>(1 + rng() % 6));
  if (rng() % 16 == 0) v.types.resize(rng() % 100);
  if (rng() % 4)
    for (size_t i = 0; i < v.tokens.size(); ++i) v.scores.push_back(randomScore(rng));
  if (rng() % 16 == 0) v.scores.push_back(1);
  for (size_t i = rng() % 60; i > 0; --i) v.merges.push_back(randomToken(rng) + (rng() % 9 ? " " : "") + randomToken(rng));
  if (rng() % 8 == 0) v.merges.clear();
  for (int* id : {&v.bos, &v.eos, &v.unk, &v.pad}) *id = static_cast<int>(rng() % (v.tokens.size() + 2)) - 1;
  for (size_t i = rng() % 4; i > 0; --i) v.endOfGeneration.push_back(static_cast<int>(rng() % 200) - 50);
  for (size_t i = rng() % 4; i > 0; --i) v.stripAfter.push_back(static_cast<int>(rng() % 200) - 50);
  if (rng() % 8 == 0) v.splitPatterns = {randomBytes(rng, rng() % 12)};
  v.ignoreMerges = rng() % 2;
  v.addPrefixSpace = rng() % 2;
  v.addBos = rng() % 2;
  v.addEos = rng() % 2;
  return v;
}

}  // namespace

TEST(damaged_vocabularies_are_refused_in_a_sentence) {
  VocabData bpe;
  refused(bpe, "no vocabulary");
  bpe.kind = VocabData::Kind::bpe;
  bpe.pre = "gpt-2";
  refused(bpe, "empty");
  bpe.tokens = {"a", "b"};
  refused(bpe, "merges");
  bpe.merges = {"ab"};
  refused(bpe, "merges");  // not a pair
  bpe.merges = {"a b"};
  VocabData other = bpe;
  other.eos = 2;
  refused(other, "token 2");
  other = bpe;
  other.types = {Type::normal};
  refused(other, "types");
  other = bpe;
  other.addBos = true;
  refused(other, "beginning");
  other = bpe;
  other.tokens = {"ab", "cd"};
  refused(other, "single byte");
  VocabData spm;
  spm.kind = VocabData::Kind::spm;
  spm.tokens = {"a"};
  spm.scores = {0};
  refused(spm, "byte");  // cannot spell other bytes
  spm = bytesSpm();
  spm.scores.push_back(1);
  refused(spm, "scores");
  spm = bytesSpm();
  spm.scores[3] = std::nanf("");
  refused(spm, "not a number");
}

TEST(odd_but_usable_vocabularies_work) {
  VocabData spm = bytesSpm();  // no bytes, but an unknown token: one for each character
  spm.tokens.push_back("a");   // twice: the first counts
  spm.scores.push_back(5);
  const auto tokenizer = made(std::move(spm));
  EXPECT_EQ(joined(tokenizer->encode("aa\u4e2d" "a", false)), std::string("4 0 3"));
  VocabData huge = bytesSpm();
  huge.scores[4] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(joined(made(std::move(huge))->encode("aaaa", false)), std::string("4 4"));
  VocabData bpe = pairVocabulary("gpt-2");
  bpe.merges.insert(bpe.merges.begin(), {"zz yy", "", " ", "x", "  ", "\xff \xff", "a a"});
  const auto merged = made(std::move(bpe));
  EXPECT_EQ(merged->decode(merged->encode("zzyy aaa", false)), std::string("zzyy aaa"));
}

TEST(a_merge_that_makes_no_token_is_spelled_out) {
  VocabData v = pairVocabulary("gpt-2");
  v.merges.insert(v.merges.begin(), "abc d");  // neither side nor the result is a token
  v.merges.insert(v.merges.begin(), "ab c");
  v.merges.insert(v.merges.begin(), "a b");
  const auto tokenizer = made(std::move(v));
  EXPECT_EQ(joined(tokenizer->encode("abcd", false)), joined({'a', 'b', 'c', 'd'}));
}

TEST(random_vocabularies_never_crash) {
  std::mt19937 rng(12);
  int works = 0;
  for (int i = 0; i < 3000; ++i) {
    auto tokenizer = Tokenizer::create(randomVocabulary(rng));
    if (!tokenizer) {
      EXPECT(!tokenizer.error().message.empty() && tokenizer.error().message.find('\n') == std::string::npos);
      continue;
    }
    ++works;
    for (int k = 0; k < 6; ++k) {
      std::string text = randomBytes(rng, rng() % 40) + randomUnicode(rng, 10) + std::string(rng() % 200, 'a') + " aa  \n\n";
      const auto ids = (*tokenizer)->encode(text, rng() % 2, rng() % 2);
      for (const int32_t id : ids) EXPECT(id >= 0 && id < (*tokenizer)->size());
      (*tokenizer)->decode(ids, rng() % 2);
      for (int32_t id = -2; id < (*tokenizer)->size() + 2; ++id) (*tokenizer)->piece(id, true);
    }
  }
  EXPECT(works > 300, works);
}
