// SPDX-License-Identifier: GPL-3.0-or-later
// Ids equal to llama.cpp's: every .inp/.out pair of the shared tokenizers whose vocabulary is present, the ids of a whole text by
// their digest, two lists of ids, and strings chosen for their nastiness.
#include <map>

#include "engine/core/sha256.h"
#include "tests/support/vocab.h"

using namespace winnow;
using namespace winnow::test;

namespace {

void conforms(const std::string& pair, const std::string& vocabulary) {
  const auto tokenizer = load("tokenizers/" + vocabulary);
  const auto inputs = linesOf(readFile(sharedData("tokenizers/" + pair + ".inp")), "\n__ggml_vocab_test__\n");
  const auto outputs = linesOf(readFile(sharedData("tokenizers/" + pair + ".out")));
  EXPECT(inputs.size() > 40 && outputs.size() >= inputs.size(), pair, inputs.size(), outputs.size());
  for (size_t i = 0; i < std::min(inputs.size(), outputs.size()); ++i) {
    std::string expected = outputs[i];  // numbers, with a space before the first
    expected.erase(0, expected.find_first_not_of(' ') == std::string::npos ? expected.size() : expected.find_first_not_of(' '));
    const std::string ids = joined(tokenizer->encode(inputs[i], false));
    EXPECT(ids == expected, pair, "case", i, "\"" + inputs[i] + "\"", ids, "expected", expected);
  }
}

void wholeText(const std::string& vocabulary, size_t count, const std::string& digest) {
  const auto ids = load(vocabulary)->encode(readFile(sharedData("corpora/wiki.test.raw")), false);
  EXPECT_EQ(ids.size(), count);
  EXPECT_EQ(sha256Hex(joined(ids)).substr(0, 16), digest);
}

constexpr const char* mixed = "Once upon a time, in a café, 3 naïve kids — \"Zoë\" & 小明 — ran 12,345 km!  ok?\n";

}  // namespace

TEST(pair_gpt2) { conforms("ggml-vocab-gpt-2.gguf", "ggml-vocab-gpt-2.gguf"); }
TEST(pair_gpt2_from_vocab_and_merges) { conforms("ggml-vocab-gpt-2.gguf", "gpt2"); }
TEST(pair_llama_spm) { conforms("ggml-vocab-llama-spm.gguf", "ggml-vocab-llama-spm.gguf"); }
TEST(pair_llama_spm_from_sentencepiece) { conforms("ggml-vocab-llama-spm.gguf", "llama2_tokenizer.model"); }
TEST(pair_starcoder) { conforms("ggml-vocab-starcoder.gguf", "ggml-vocab-starcoder.gguf"); }
TEST(pair_mpt) { conforms("ggml-vocab-mpt.gguf", "ggml-vocab-mpt.gguf"); }
TEST(pair_deepseek_llm) { conforms("ggml-vocab-deepseek-llm.gguf", "ggml-vocab-deepseek-llm.gguf"); }
TEST(pair_phi3) { conforms("ggml-vocab-phi-3.gguf", "ggml-vocab-phi-3.gguf"); }
TEST(pair_qwen2_from_vocab_and_merges) { conforms("ggml-vocab-qwen2.gguf", "qwen2.5"); }
TEST(pair_deepseek_r1_qwen_from_vocab_and_merges) { conforms("ggml-vocab-deepseek-r1-qwen.gguf", "qwen2.5"); }
TEST(pair_llama_bpe_from_ranks) { conforms("ggml-vocab-llama-bpe.gguf", "llama3_tokenizer.model"); }

TEST(whole_text_gpt2) { wholeText("tokenizers/ggml-vocab-gpt-2.gguf", 286221, "4411370d542f5e31"); }
TEST(whole_text_llama_spm) { wholeText("tokenizers/ggml-vocab-llama-spm.gguf", 335687, "6e4178197a6ae238"); }
TEST(whole_text_starcoder) { wholeText("tokenizers/ggml-vocab-starcoder.gguf", 355915, "db1de07a6db85507"); }
TEST(whole_text_mpt) { wholeText("tokenizers/ggml-vocab-mpt.gguf", 287159, "28a96325c9e7d36f"); }
TEST(whole_text_deepseek_llm) { wholeText("tokenizers/ggml-vocab-deepseek-llm.gguf", 305346, "4d1deb885443abec"); }
TEST(whole_text_stories260k) { wholeText("models/stories260K-f32.gguf", 809289, "5ef520b6b723d085"); }
TEST(whole_text_tinystories_chat) { wholeText("models/tinystories-instruct-3m-chat-f32.gguf", 396796, "4912d95cc874b3a1"); }

TEST(ids_of_a_mixed_sentence) {
  EXPECT_EQ(joined(load("models/stories260K-f32.gguf")->encode(mixed, true)),
            std::string("1 403 407 261 378 432 322 261 280 412 431 485 432 410 472 297 412 198 178 360 409 292 419 410 481 313 469 414 198 "
                        "174 436 410 499 410 232 179 146 233 155 145 410 481 352 303 410 475 479 432 472 484 480 409 423 443 410 334 433 450 13"));
  EXPECT_EQ(joined(load("models/tinystories-instruct-3m-chat-f32.gguf")->encode(mixed, true)),
            std::string("5490 2218 257 638 11 287 257 13116 11 512 7603 127 107 303 3428 839 366 57 78 127 104 1 220 5 220 161 108 237 162 246 "
                        "236 839 4070 1084 11 18 19 20 479 76 0 220 7776 30 198"));
}

// Lines of a golden: vocabulary, flags (s: special tokens are added and read), text in hex, ids as llama.cpp gives them.
TEST(nasty_strings) {
  size_t checked = 0;
  for (const std::string& line : linesOf(readFile(WINNOW_TESTS_DIR "/golden/tokenizer/nasty.tsv"))) {
    if (line.empty() || line[0] == '#') continue;
    const auto fields = linesOf(line, "\t");
    EXPECT_EQ(fields.size(), size_t{4});
    static std::map<std::string, std::shared_ptr<const Tokenizer>> loaded;
    auto& tokenizer = loaded[fields[0]];
    if (!tokenizer) tokenizer = load(fields[0]);
    const bool special = fields[1] == "s";
    EXPECT_EQ(joined(tokenizer->encode(fromHex(fields[2]), special, special)), fields[3]);
    ++checked;
  }
  EXPECT(checked >= 30, checked);
}
