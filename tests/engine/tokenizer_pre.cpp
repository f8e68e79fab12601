// SPDX-License-Identifier: GPL-3.0-or-later
// Every name of tokenizer.ggml.pre against llama.cpp: the digest of the ids of some hundred strings under a vocabulary that shows
// where words were cut.
#include <algorithm>
#include <chrono>

#include "engine/core/sha256.h"
#include "tests/support/vocab.h"

using namespace winnow;
using namespace winnow::test;

namespace {

bool isRaw(const std::string& name) {  // their tokens are UTF-8, not GPT-2's alphabet
  return name == "gemma4" || name == "granite-embed-multi-311m" || name == "sarvam-moe" || name == "whitespace";
}

}  // namespace

TEST(cuts_equal_llama_cpps) {
  std::vector<std::string> texts;
  for (const std::string& line : linesOf(readFile(WINNOW_TESTS_DIR "/golden/tokenizer/strings.hex")))
    if (!line.empty()) texts.push_back(fromHex(line));
  EXPECT(texts.size() >= 300, texts.size());
  std::vector<std::string> names;
  for (const std::string& line : linesOf(readFile(WINNOW_TESTS_DIR "/golden/tokenizer/pre.txt"))) {
    if (line.empty() || line[0] == '#') continue;
    const std::string name = line.substr(0, line.find(' ')), digest = line.substr(line.find(' ') + 1);
    names.push_back(name);
    const auto tokenizer = made(pairVocabulary(name));
    Sha256 ids;
    for (const std::string& text : texts) ids.update(joined(tokenizer->encode(text, false)) + "\n");
    EXPECT(ids.hex().substr(0, 16) == digest, name, ids.hex().substr(0, 16), "expected", digest);
  }
  std::vector<std::string> known = knownPreTokenizers();
  std::erase(known, "whitespace");  // llama.cpp stops at a space under this name
  std::ranges::sort(names);
  EXPECT(names == known);
}

TEST(no_byte_is_lost_under_any_name) {
  std::mt19937 rng(5);
  for (const std::string& name : knownPreTokenizers()) {
    const auto tokenizer = made(pairVocabulary(name));
    if (isRaw(name)) continue;
    for (int i = 0; i < 20; ++i) {
      const std::string text = i % 2 ? randomUnicode(rng, 60) : randomBytes(rng, 200);
      EXPECT(tokenizer->decode(tokenizer->encode(text, false)) == text, name, i);
    }
  }
}

TEST(no_name_is_slow_on_one_letter_or_digit_or_space) {
  const std::string units[] = {"a", "7", " ", "\n", "é", "中", "\xcc\x81", "a ", "\xff", "'", "A"};
  for (const std::string& name : knownPreTokenizers()) {
    if (isRaw(name)) continue;
    const auto tokenizer = made(pairVocabulary(name));
    for (const std::string& unit : units) {
      std::string text;
      while (text.size() < 100000) text += unit;
      const auto begin = std::chrono::steady_clock::now();
      const auto ids = tokenizer->encode(text, false);
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
      EXPECT(taken.count() < 2, name, "on", unit, "took", taken.count());  // quadratic time would be minutes
      EXPECT(tokenizer->decode(ids) == text, name, "on", unit);
    }
  }
}

TEST(an_unknown_name_is_refused_by_name) {
  VocabData vocab = pairVocabulary("qwen22");
  const auto tokenizer = Tokenizer::create(std::move(vocab));
  EXPECT(!tokenizer.ok());
  EXPECT(tokenizer.error().code == ErrorCode::badInput);
  EXPECT(tokenizer.error().message.find("'qwen22'") != std::string::npos, tokenizer.error().message);
  EXPECT(tokenizer.error().hint.find("'qwen2'") != std::string::npos, tokenizer.error().hint);
  EXPECT(std::ranges::is_sorted(knownPreTokenizers()));
}

TEST(split_patterns_win_over_the_name) {
  VocabData vocab = pairVocabulary("no such name");
  vocab.splitPatterns = {"b"};
  const auto tokenizer = made(std::move(vocab));
  const auto ids = tokenizer->encode("aba", false);
  EXPECT_EQ(ids.size(), size_t{3});
  VocabData broken = pairVocabulary("gpt-2");
  broken.splitPatterns = {"a(b"};
  const auto refused = Tokenizer::create(std::move(broken));
  EXPECT(!refused.ok() && refused.error().message.find("a(b") != std::string::npos);
}

TEST(an_explosive_pattern_loses_no_text) {
  VocabData vocab = pairVocabulary("gpt-2");
  vocab.splitPatterns = {"(a|a)*+b|(?:a+)+$c"};
  const auto tokenizer = made(std::move(vocab));
  const std::string text(3000, 'a');
  EXPECT(tokenizer->decode(tokenizer->encode(text + "d", false)) == text + "d");
}

TEST(flags_that_follow_from_the_name) {
  VocabData vocab = pairVocabulary("llama3");
  vocab.tokens.push_back("abcd");
  vocab.types.push_back(VocabData::TokenType::normal);
  const int whole = static_cast<int>(vocab.tokens.size()) - 1;
  VocabData merged = vocab;
  merged.pre = "gpt-2";
  EXPECT_EQ(joined(made(std::move(vocab))->encode("abcd", false)), std::to_string(whole));
  EXPECT(made(std::move(merged))->encode("abcd", false).size() > 1);
  VocabData gemma = pairVocabulary("gemma4");
  EXPECT(made(std::move(gemma))->vocab().addBos);
}
