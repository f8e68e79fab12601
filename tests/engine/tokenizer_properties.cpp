// SPDX-License-Identifier: GPL-3.0-or-later
#include <chrono>
#include <thread>

#include "tests/support/vocab.h"

using namespace winnow;
using namespace winnow::test;
using Type = VocabData::TokenType;

namespace {

std::string streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  Utf8Stream stream;
  std::string out;
  for (const int32_t id : ids) out += stream.push(tokenizer.piece(id));
  return out + stream.finish();
}

VocabData smallSpm() {
  VocabData v;
  v.kind = VocabData::Kind::spm;
  v.tokens = {"<unk>", "<s>", "</s>"};
  v.types = {Type::unknown, Type::control, Type::control};
  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", b);
    v.tokens.push_back(name);
    v.types.push_back(Type::byte);
  }
  for (const char* word : {"\u2581", "a", "b", "ab", "\u2581a", "a\u2581b", "<x>"}) v.tokens.push_back(word);
  v.types.insert(v.types.end(), 6, Type::normal);
  v.types.push_back(Type::userDefined);
  v.scores.assign(v.tokens.size(), 0);
  for (size_t i = 259; i < v.tokens.size(); ++i) v.scores[i] = -static_cast<float>(i);
  v.unk = 0, v.bos = 1, v.eos = 2;
  v.addPrefixSpace = v.addBos = true;
  return v;
}

}  // namespace

TEST(round_trips_of_unicode) {
  std::mt19937 rng(7);
  for (const char* file : {"tokenizers/ggml-vocab-gpt-2.gguf", "tokenizers/ggml-vocab-llama-spm.gguf", "tokenizers/ggml-vocab-starcoder.gguf",
                           "tokenizers/ggml-vocab-phi-3.gguf", "tokenizers/ggml-vocab-mpt.gguf", "tokenizers/ggml-vocab-deepseek-llm.gguf",
                           "tokenizers/qwen2.5", "tokenizers/llama3_tokenizer.model", "tokenizers/llama2_tokenizer.model", "models/stories260K-f32.gguf"}) {
    const auto tokenizer = load(file);
    for (int i = 0; i < 300; ++i) {
      std::string text = randomUnicode(rng, 1 + static_cast<int>(rng() % 60));
      if (tokenizer->vocab().kind == VocabData::Kind::spm) {  // U+2581 reads back as a space
        for (size_t at; (at = text.find("\u2581")) != std::string::npos;) text.replace(at, 3, "x");
      }
      if (std::string_view(file).find("starcoder") != std::string_view::npos) {  // that vocabulary can't spell the byte F1
        for (size_t at; (at = text.find('\xf1')) != std::string::npos;) text.replace(at, 4, "x");
      }
      const auto ids = tokenizer->encode(text, false);
      EXPECT(tokenizer->decode(ids) == text, file, text);
      const std::string shown = streamed(*tokenizer, ids);
      EXPECT(shown == text || shown == " " + text, file, text);
    }
  }
}

TEST(round_trips_of_bytes) {
  std::mt19937 rng(8);
  for (const char* file : {"tokenizers/ggml-vocab-gpt-2.gguf", "tokenizers/qwen2.5", "tokenizers/llama3_tokenizer.model"}) {
    const auto tokenizer = load(file);
    for (int i = 0; i < 200; ++i) {
      std::string bytes = randomBytes(rng, 1 + rng() % 300);
      if (i % 2) bytes += "a\xe4\xb8 text\xf0\x9f\x98" + randomUnicode(rng, 9) + "\xc3";
      EXPECT(tokenizer->decode(tokenizer->encode(bytes, false)) == bytes, file, i);
    }
  }
}

TEST(broken_bytes_leave_the_words_around_them_alone) {
  const auto tokenizer = load("tokenizers/ggml-vocab-gpt-2.gguf");
  const auto ids = tokenizer->encode("hello\xff world", false);
  EXPECT_EQ(tokenizer->piece(ids.front()), std::string("hello"));
  EXPECT_EQ(tokenizer->piece(ids.back()), std::string(" world"));
}

TEST(a_megabyte_without_a_space_takes_no_time) {
  for (const char* file : {"tokenizers/ggml-vocab-gpt-2.gguf", "tokenizers/ggml-vocab-llama-spm.gguf", "tokenizers/llama3_tokenizer.model",
                           "tokenizers/ggml-vocab-deepseek-llm.gguf", "models/stories260K-f32.gguf"}) {
    const auto tokenizer = load(file);
    for (const std::string unit : {"a", "ab", " ", "0", "=", "中"}) {
      std::string text;
      while (text.size() < 1 << 20) text += unit;
      const auto begin = std::chrono::steady_clock::now();
      const auto ids = tokenizer->encode(text, false);
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
      EXPECT(taken.count() < 2, file, unit, taken.count());
      EXPECT(tokenizer->decode(ids) == text, file, unit);
    }
  }
}

TEST(long_words_end_as_short_ones_do) {  // the heap and the plain search choose the same merges
  auto words = Model::openVocab(sharedData("tokenizers/ggml-vocab-gpt-2.gguf"));
  EXPECT(words.ok());
  words->splitPatterns = {R"([\s\S]+)"};  // every text is one word
  const std::string wall = "\x01";         // merges with nothing
  for (const auto& tokenizer : {made(std::move(*words)), load("tokenizers/ggml-vocab-llama-spm.gguf")}) {
    const auto head = tokenizer->encode(wall, false);
    for (const std::string part : {"abcdabcd", "thethethethe", "internationalization", "aaaaaaaaaaaaaaa", "  x   x", "Donaudampfschifffahrt"}) {
      const auto once = tokenizer->encode(wall + part, false);
      std::string text;
      auto expected = std::vector<int32_t>(head.begin(), head.end() - 1);
      for (int i = 0; i < 40; ++i) {
        text += wall + part;
        expected.insert(expected.end(), once.begin() + static_cast<ptrdiff_t>(head.size()) - 1, once.end());
      }
      EXPECT_EQ(joined(tokenizer->encode(text, false)), joined(expected));
    }
  }
}

TEST(four_threads_share_a_tokenizer) {
  for (const char* file : {"tokenizers/ggml-vocab-gpt-2.gguf", "tokenizers/ggml-vocab-llama-spm.gguf"}) {
    const auto tokenizer = load(file);
    const std::string text = readFile(sharedData("corpora/tinystories_60k.txt"));
    const auto expected = tokenizer->encode(text, true, true);
    const std::string decoded = tokenizer->decode(expected);
    std::vector<int> equal(4, 0);
    std::vector<std::thread> threads;
    for (size_t t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < 5; ++i) equal[t] += tokenizer->encode(text, true, true) == expected && tokenizer->decode(expected) == decoded;
      });
    for (std::thread& thread : threads) thread.join();
    for (const int n : equal) EXPECT_EQ(n, 5);
  }
}

TEST(sentencepiece_prefers_score_then_left) {
  const auto tokenizer = made(smallSpm());
  const auto id = [&](const std::string& text) {
    const auto& all = tokenizer->vocab().tokens;
    return static_cast<int32_t>(std::find(all.begin(), all.end(), text) - all.begin());
  };
  EXPECT_EQ(joined(tokenizer->encode("ab", true)), joined({1, id("\u2581"), id("ab")}));     // ab scores higher than U+2581 a
  EXPECT_EQ(joined(tokenizer->encode("a b", false)), joined({id("\u2581a"), id("\u2581"), id("b")}));
  EXPECT_EQ(joined(tokenizer->encode("\n", false)), joined({id("\u2581"), id("<0x0A>")}));
  // A user-defined token is cut out first, and the text after it gets a space of its own.
  EXPECT_EQ(joined(tokenizer->encode("a<x>a", false)), joined({id("\u2581a"), id("<x>"), id("\u2581a")}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a<x>a", false)), std::string("a<x>a"));
  EXPECT_EQ(joined(tokenizer->encode("</s>", false, true)), std::string("2"));
  EXPECT(tokenizer->encode("</s>", false, false).size() > 1);
  EXPECT_EQ(joined(tokenizer->encode("", true)), std::string("1"));
  EXPECT(tokenizer->encode("", false).empty());
  EXPECT(tokenizer->isEnd(2) && !tokenizer->isEnd(1) && tokenizer->isControl(1) && !tokenizer->isControl(0) && !tokenizer->isEnd(-1));
  EXPECT_EQ(tokenizer->piece(2), std::string());
  EXPECT_EQ(tokenizer->piece(2, true), std::string("</s>"));
  EXPECT_EQ(tokenizer->piece(-1), std::string());
  EXPECT_EQ(tokenizer->piece(1 << 20), std::string());
}

TEST(a_merge_over_a_space_is_not_cut_off) {  // "a b" can become one token, so no word may end before U+2581 there
  VocabData v = smallSpm();
  v.addPrefixSpace = v.addBos = false;
  v.scores[static_cast<size_t>(std::find(v.tokens.begin(), v.tokens.end(), "ab") - v.tokens.begin())] = -1000;
  v.tokens.push_back("a\u2581");
  v.types.push_back(Type::normal);
  v.scores.push_back(-1);
  const auto tokenizer = made(std::move(v));
  const auto ids = tokenizer->encode("a b", false);
  EXPECT_EQ(ids.size(), size_t{1});
  EXPECT_EQ(tokenizer->piece(ids[0]), std::string("a b"));
}

TEST(special_tokens_longest_first) {
  VocabData v = pairVocabulary("gpt-2");
  for (const char* text : {"<a>", "<a><b>", "b><", "  "}) {
    v.tokens.push_back(text);
    v.types.push_back(Type::userDefined);
  }
  const int32_t a = 256 + 65536 + 1;
  const int32_t x = 'x';
  const auto tokenizer = made(std::move(v));
  EXPECT_EQ(joined(tokenizer->encode("<a><b>", false)), joined({a + 1}));
  EXPECT_EQ(joined(tokenizer->encode("<a><b><a>x", false)), joined({a + 1, a, x}));
  EXPECT_EQ(joined(tokenizer->encode("x    x", false)), joined({x, a + 3, a + 3, x}));
  EXPECT_EQ(joined(tokenizer->encode("<|special|>", false, true)), joined({a - 1}));
  EXPECT(tokenizer->encode("<|special|>", false).size() > 1);
}

TEST(white_space_after_some_special_tokens_is_swallowed) {
  VocabData v = pairVocabulary("gpt-2");
  v.stripAfter = {v.bos};
  const int32_t special = v.bos;
  const auto tokenizer = made(std::move(v));
  EXPECT_EQ(joined(tokenizer->encode("<|special|> \n x", false, true)), joined({special, 'x'}));
  EXPECT_EQ(joined(tokenizer->encode("<|special|>  ", false, true)), joined({special}));
}

TEST(ends_are_known_by_their_text) {
  VocabData v = pairVocabulary("gpt-2");
  const auto add = [&](const char* text) {
    v.tokens.push_back(text);
    v.types.push_back(Type::normal);
    return static_cast<int32_t>(v.tokens.size()) - 1;
  };
  const int32_t turn = add("<|im_end|>"), text = add("<|endoftext|>"), channel = add("<|channel|>");
  VocabData harmony = v;
  const auto tokenizer = made(std::move(v));
  EXPECT(tokenizer->isEnd(turn) && tokenizer->isEnd(text) && !tokenizer->isEnd(channel) && !tokenizer->isEnd('x'));
  EXPECT(tokenizer->isControl(turn));  // though the file called it normal
  EXPECT_EQ(joined(tokenizer->encode("<|im_end|>", false, true)), std::to_string(turn));
  EXPECT_EQ(joined(tokenizer->encode("<|channel|>", false)), std::to_string(channel));
  for (const char* more : {"<|end|>", "<|return|>", "<|call|>"}) {
    harmony.tokens.push_back(more);
    harmony.types.push_back(Type::control);
  }
  const auto other = made(std::move(harmony));
  EXPECT(!other->isEnd(channel + 1) && other->isEnd(channel + 2) && other->isEnd(channel + 3));
}

TEST(utf8_stream_shows_whole_characters_only) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xE5"), std::string("a"));
  EXPECT_EQ(stream.push("\xB0"), std::string());
  EXPECT_EQ(stream.push("\x8F"), std::string("小"));
  EXPECT_EQ(stream.push("\xFFz"), std::string("\uFFFDz"));
  EXPECT_EQ(stream.push("\xF0\x9F\x98"), std::string());
  EXPECT_EQ(stream.finish(), std::string("\uFFFD"));
  EXPECT_EQ(stream.finish(), std::string());
  EXPECT_EQ(stream.push("\xF0\x9F\x41"), std::string("\uFFFD") + "A");  // one mark for the longest beginning
  // The example of Unicode's table of U+FFFD substitution.
  EXPECT_EQ(stream.push("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            std::string("a\uFFFD\uFFFD\uFFFD" "b\uFFFD" "c\uFFFD\uFFFD" "d"));
  EXPECT_EQ(stream.push("\xED\xA0\x80\xC0\xAF\xF4\x90\x80\x80"), std::string("\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"));
}

TEST(utf8_stream_is_the_same_however_it_is_cut) {
  std::mt19937 rng(3);
  for (int i = 0; i < 200; ++i) {
    std::string text = randomUnicode(rng, 10) + randomBytes(rng, 6) + randomUnicode(rng, 5);
    Utf8Stream whole, pieces;
    const std::string expected = whole.push(text) + whole.finish();
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + rng() % 4;
      out += pieces.push(std::string_view(text).substr(at, n));
      at += n;
    }
    out += pieces.finish();
    EXPECT(isUtf8(out));
    EXPECT_EQ(out, expected);
  }
}
