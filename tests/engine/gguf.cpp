// SPDX-License-Identifier: GPL-3.0-or-later
#include <chrono>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/engine/gguf/tiny.h"

using namespace winnow;
using namespace winnow::test;

namespace {

void patch(std::string& bytes, size_t at, uint64_t value, size_t size) { std::memcpy(bytes.data() + at, &value, size); }
size_t placeOf(const std::string& bytes, const std::string& text) {
  const size_t at = bytes.find(text);
  if (at == std::string::npos) throw std::runtime_error("no " + text);
  return at;
}
// A tiny Llama with one thing changed.
std::string changed(const std::function<void(std::string&)>& change) {
  std::string bytes = tinyLlamaText();
  change(bytes);
  return written("changed.gguf", bytes);
}
std::string withKeys(const std::function<void(GgufHeader&)>& more) {
  return written("keys.gguf", ggufText([&](GgufHeader& h) { llamaKeys(h, {}); more(h); }, llamaTensors({})));
}
std::string withTensors(const std::function<void(std::vector<TinyTensor>&)>& change) {
  std::vector<TinyTensor> t = llamaTensors({});
  change(t);
  return written("tensors.gguf", ggufText([](GgufHeader& h) { llamaKeys(h, {}); }, t));
}

}  // namespace

TEST(tiny_llama_opens) {
  const auto m = Model::open(written("tiny.gguf", tinyLlamaText()));
  EXPECT(m.ok(), m.ok() ? "" : m.error().message);
  EXPECT((*m)->config().tiedHead && (*m)->vocab().kind == VocabData::Kind::none);
  EXPECT_EQ((*m)->config().kvHeads, 1);
  EXPECT_EQ((*m)->find(TensorRole::down, 0)->cols, 12);
}

TEST(files_that_cannot_be_opened) {
  EXPECT_REFUSED((scratch() / "missing.gguf").string(), "no such file");
  EXPECT_REFUSED(written("empty.gguf", ""), "is empty");
  EXPECT_REFUSED("/dev/null", "not a regular file");
  EXPECT_REFUSED(written("text.gguf", "hello, this is not a model at all"), "not a GGUF file");
  const std::string hidden = written("hidden.gguf", tinyLlamaText());
  ::chmod(hidden.c_str(), 0);
  if (::geteuid() != 0) EXPECT_REFUSED(hidden, "no permission");
}

TEST(versions) {
  EXPECT_REFUSED(changed([](std::string& b) { patch(b, 4, 1, 4); }), "GGUF version 1");
  EXPECT_REFUSED(changed([](std::string& b) { patch(b, 4, 0x03000000, 4); }), "big-endian");
  EXPECT_REFUSED(changed([](std::string& b) { patch(b, 4, 4, 4); }), "GGUF version 4");
  EXPECT_EQ(refusal(changed([](std::string& b) { patch(b, 4, 2, 4); })), "");
}

TEST(every_truncation_is_refused) {
  const std::string whole = tinyLlamaText();
  for (size_t n = 1; n < whole.size() - 32; n += n < 1200 ? 1 : 37) EXPECT(!refusal(written("cut.gguf", whole.substr(0, n))).empty(), n);
  EXPECT_REFUSED(written("cut.gguf", whole.substr(0, 300)), "the file ends inside");
  EXPECT_REFUSED(written("cut.gguf", whole.substr(0, whole.size() - 100)), "lies outside the file");
}

TEST(impossible_counts) {
  for (const uint64_t n : {uint64_t{1} << 63, ~uint64_t{0}, uint64_t{1} << 32}) {
    EXPECT_REFUSED(changed([&](std::string& b) { patch(b, 8, n, 8); }), "announces");
    EXPECT_REFUSED(changed([&](std::string& b) { patch(b, 16, n, 8); }), "announces");
    EXPECT_REFUSED(changed([&](std::string& b) { patch(b, 24, n, 8); }), "the file ends inside");  // length of the first key
    const auto list = [&](std::string& b) { patch(b, placeOf(b, "tokenizer.ggml.tokens") + 21 + 4 + 4, n, 8); };
    std::string bytes = ggufText(
        [](GgufHeader& h) {
          llamaKeys(h, {});
          h.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
        },
        llamaTensors({}));
    list(bytes);
    EXPECT_REFUSED(written("list.gguf", bytes), "elements, but only");
  }
}

TEST(metadata_faults) {
  EXPECT_REFUSED(withKeys([](GgufHeader& h) { h.add("llama.block_count", uint32_t{1}); }), "'llama.block_count' is there twice");
  EXPECT_REFUSED(withKeys([](GgufHeader& h) { h.add("general.alignment", uint32_t{48}); }), "power of two");
  EXPECT_REFUSED(withKeys([](GgufHeader& h) { h.add("general.name", uint32_t{48}); }),
                 "general.name is of type uint32, a string was expected");
  EXPECT_REFUSED(withKeys([](GgufHeader& h) { h.add("llama.rope.scaling.type", std::string_view("yarn")); }), "'yarn' is not supported");
  EXPECT_REFUSED(withKeys([](GgufHeader& h) { h.add("llama.rope.dimension_count", uint32_t{3}); }), "RoPE rotates 3");
  EXPECT_REFUSED(withKeys([](GgufHeader& h) { h.add("llama.expert_count", uint32_t{8}); }), "mixture of experts");
  EXPECT_REFUSED(withKeys([](GgufHeader& h) { h.add("split.count", uint32_t{3}); }), "3 parts");
  EXPECT_REFUSED(changed([](std::string& b) { b.replace(placeOf(b, "llama.block_count"), 17, "llama.black_count"); }),
                 "no llama.block_count");
  EXPECT_REFUSED(changed([](std::string& b) { patch(b, placeOf(b, "llama.attention.head_count") + 26 + 4, 0, 4); }), "head_count is 0");
  EXPECT_REFUSED(changed([](std::string& b) { patch(b, placeOf(b, "llama.attention.head_count_kv") + 29 + 4, 3, 4); }), "evenly");
  EXPECT_REFUSED(changed([](std::string& b) { patch(b, placeOf(b, "llama.block_count") + 17, 99, 4); }), "unknown type 99");
  EXPECT_REFUSED(changed([](std::string& b) { patch(b, placeOf(b, "llama.block_count") + 17 + 4, 0x7fffffff, 4); }), "number of layers");
  EXPECT_REFUSED(changed([](std::string& b) { b.replace(placeOf(b, "\x05\0\0\0\0\0\0\0llama") + 8, 5, "falco"); }),
                 "'falco' is not supported, llama, qwen2, qwen3, gpt2");
  EXPECT_REFUSED(changed([](std::string& b) { patch(b, placeOf(b, "layer_norm_rms_epsilon") + 26, 0x7fc00000, 4); }),
                 "not a finite number");
}

TEST(nested_arrays_are_bounded) {
  std::string bytes = ggufText(
      [](GgufHeader& h) {
        llamaKeys(h, {});
        h.add("x.deep", std::string_view(std::string(200, 'x')));
      },
      llamaTensors({}));
  const size_t at = placeOf(bytes, "x.deep") + 6;
  patch(bytes, at, 9, 4);
  for (size_t level = 0, place = at + 4; level < 12; ++level, place += 12) {
    patch(bytes, place, 9, 4);
    patch(bytes, place + 4, 1, 8);
  }
  EXPECT_REFUSED(written("deep.gguf", bytes), "nests arrays deeper");
}

TEST(tensor_faults) {
  EXPECT_REFUSED(withTensors([](auto& t) { t.push_back(t[3]); }), "'blk.0.attn_q.weight' is there twice");
  EXPECT_REFUSED(withTensors([](auto& t) { t.erase(t.begin() + 4); }), "'blk.0.attn_k.weight' is missing");
  EXPECT_REFUSED(withTensors([](auto& t) {
                   t[3] = numbered("blk.0.attn_q.weight", {9, 8}, 0);
                 }),
                 "has the shape [9, 8], [8, 8] was expected");
  EXPECT_REFUSED(withTensors([](auto& t) { t[0] = numbered("token_embd.weight", {40}, 0); }), "'token_embd.weight' has the shape [40]");
  EXPECT_REFUSED(withTensors([](auto& t) { t.erase(t.begin()); }), "holds no weights");
  EXPECT_REFUSED(withTensors([](auto& t) { t[3].name = std::string(65, 'n'); }), "65 bytes long");
  const std::string q = "blk.0.attn_q.weight";
  const auto entry = [&](std::string& b) { return placeOf(b, q) + q.size(); };  // dims, extents, type, offset
  EXPECT_REFUSED(changed([&](std::string& b) { patch(b, entry(b), 5, 4); }), "5 dimensions");
  EXPECT_REFUSED(changed([&](std::string& b) { patch(b, entry(b) + 4, 0, 8); }), "impossible extent of 0");
  EXPECT_REFUSED(changed([&](std::string& b) { patch(b, entry(b) + 4, uint64_t{1} << 60, 8); }), "impossible extent");
  EXPECT_REFUSED(changed([&](std::string& b) { patch(b, entry(b) + 4, uint64_t{1} << 46, 8); }), "impossible extent");
  EXPECT_REFUSED(changed([&](std::string& b) { patch(b, entry(b) + 4, 1 << 20, 8); }), "lies outside the file");
  EXPECT_REFUSED(changed([&](std::string& b) { patch(b, entry(b) + 20, 23, 4); }),
                 "is of type IQ4_XS, which this program cannot read; it reads F32, F16, BF16, Q8_0");
  EXPECT_REFUSED(changed([&](std::string& b) { patch(b, entry(b) + 20, 77, 4); }), "is of type type 77");
  EXPECT_REFUSED(changed([&](std::string& b) { patch(b, entry(b) + 20, 2, 4); }), "a multiple of 32 was expected");
  EXPECT_REFUSED(changed([&](std::string& b) { patch(b, entry(b) + 24, 33, 8); }), "a multiple of the alignment 32");
  EXPECT_REFUSED(changed([&](std::string& b) { patch(b, entry(b) + 24, ~uint64_t{31}, 8); }), "lies outside the file");
}

TEST(extra_tensors_are_noted) {
  const auto m = Model::open(withTensors([](auto& t) { t.push_back(numbered("blk.0.something_new", {3}, 9)); }));
  EXPECT(m.ok() && (*m)->notes().size() == 1 && (*m)->notes()[0].find("'blk.0.something_new'") != std::string::npos);
}

TEST(vocabulary_faults) {
  const auto vocab = [](int tokens, int types, uint32_t bos) {
    return withKeys([=](GgufHeader& h) {
      h.add("tokenizer.ggml.model", std::string_view("gpt2"));
      h.add("tokenizer.ggml.tokens", std::vector<std::string>(static_cast<size_t>(tokens), "x"));
      h.add("tokenizer.ggml.token_type", std::vector<int32_t>(static_cast<size_t>(types), 1));
      h.add("tokenizer.ggml.bos_token_id", bos);
    });
  };
  EXPECT_EQ(refusal(vocab(5, 5, 1)), "");
  EXPECT_EQ(refusal(vocab(5, 5, 0xffffffff)), "");
  EXPECT_REFUSED(vocab(6, 6, 1), "the vocabulary has 6 tokens, but the embedding has rows for 5");
  EXPECT_REFUSED(vocab(5, 4, 1), "5 tokens, but 4 token types");
  EXPECT_REFUSED(vocab(5, 5, 5), "the bos token is 5, but the vocabulary has 5");
  EXPECT_REFUSED(vocab(0, 0, 0), "vocabulary is empty");
  const auto fewer = Model::open(vocab(4, 4, 1));
  EXPECT(fewer.ok() && (*fewer)->notes().size() == 1);
  const auto bert = Model::open(withKeys([](GgufHeader& h) { h.add("tokenizer.ggml.model", std::string_view("bert")); }));
  EXPECT(bert.ok() && (*bert)->notes().size() == 1 && (*bert)->notes()[0].find("'bert'") != std::string::npos);
  EXPECT(!Model::openVocab(written("none.gguf", tinyLlamaText())).ok());
  const std::string vocabOnly = written("vocab.gguf", ggufText([](GgufHeader& h) { llamaKeys(h, {}); }, {}));
  EXPECT_REFUSED(vocabOnly, "holds no weights");
}

TEST(bytes_behind_the_last_tensor_are_noted) {
  EXPECT(Model::open(written("exact.gguf", tinyLlamaText())).value()->notes().empty());
  const auto m = Model::open(written("joined.gguf", tinyLlamaText() + std::string(1000, 'x')));
  EXPECT(m.ok() && (*m)->notes().size() == 1 && (*m)->notes()[0].find("bytes follow the last tensor") != std::string::npos);
}

TEST(not_finite_values_are_found) {
  std::vector<TinyTensor> t = llamaTensors({});
  t[6].values[19] = NAN;  // attn_output, row 2, column 3
  const auto m = Model::open(written("nan.gguf", ggufText([](GgufHeader& h) { llamaKeys(h, {}); }, t)));
  const Status s = (*m)->validateValues();
  EXPECT(!s.ok() && s.error().message.find("'blk.0.attn_output.weight'") != std::string::npos, s.ok() ? "" : s.error().message);
  EXPECT(s.error().message.find("row 2, column 3") != std::string::npos);
}

TEST(rows_of_q_and_k_are_unpermuted) {
  const TinyLlama c;
  const auto m = Model::open(written("permuted.gguf", tinyLlamaText()));
  const MasterTensor* q = (*m)->find(TensorRole::q, 0);
  EXPECT_EQ(q->unpermuteHeads, 2);
  EXPECT(!q->direct() && (*m)->find(TensorRole::v, 0)->direct());
  // In a head of 4 the file holds components 0 2 1 3 of the half-split order, so row 0 1 2 3 lies at 0 2 1 3.
  const std::vector<float> rows = decoded(**m, TensorRole::q, 0), stored = llamaTensors(c)[3].values;
  const int places[] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (int r = 0; r < 8; ++r)
    for (int col = 0; col < 8; ++col) EXPECT_EQ(rows[static_cast<size_t>(8 * r + col)], stored[static_cast<size_t>(8 * places[r] + col)]);
  EXPECT_EQ((*m)->find(TensorRole::k, 0)->storedRowOf(1), int64_t{2});
  // With two of four components rotated nothing moves: 0 and 1 are a pair in either order.
  const auto part = Model::open(withKeys([](GgufHeader& h) { h.add("llama.rope.dimension_count", uint32_t{2}); }));
  for (int r = 0; r < 8; ++r) EXPECT_EQ((*part)->find(TensorRole::q, 0)->storedRowOf(r), int64_t{r});
}

TEST(biases_of_q_are_unpermuted) {
  const auto m = Model::open(withTensors([](auto& t) { t.push_back(numbered("blk.0.attn_q.bias", {8}, 0)); }));
  const std::vector<float> bias = decoded(**m, TensorRole::qBias, 0);
  const int places[] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (int i = 0; i < 8; ++i) EXPECT_EQ(bias[static_cast<size_t>(i)], static_cast<float>(places[i]) / 64.0f);
}

TEST(rope_factors) {
  const auto with = [](std::vector<float> values) {
    return withTensors([&](auto& t) { t.push_back({"rope_freqs.weight", {static_cast<int64_t>(values.size())}, values}); });
  };
  const auto m = Model::open(with({1.0f, 8.0f}));
  EXPECT(m.ok() && (*m)->notes().empty());
  const auto f = ropeFrequencies((*m)->config().rope);
  EXPECT_NEAR(f[0], 1.0, 1e-7);
  EXPECT_NEAR(f[1], 0.01 / 8, 1e-9);
  EXPECT_REFUSED(with({1.0f, 8.0f, 1.0f}), "F32 of shape [2] was expected");
  EXPECT_REFUSED(with({1.0f, 0.0f}), "positive numbers were expected");
  const auto linear = Model::open(withKeys([](GgufHeader& h) {
    h.add("llama.rope.scaling.type", std::string_view("linear"));
    h.add("llama.rope.scaling.factor", 4.0f);
  }));
  EXPECT_NEAR(ropeFrequencies((*linear)->config().rope)[1], 0.01 / 4, 1e-9);
}

TEST(five_gigabytes_open_at_once) {
  TinyLlama c;
  c.layers = 32, c.hidden = 4096, c.heads = 32, c.kvHeads = 8, c.headDim = 128, c.ffn = 14336, c.vocab = 32000;
  GgufHeader h;
  llamaKeys(h, c);
  for (TinyTensor t : llamaTensors({c.layers})) {  // names; shapes follow
    const bool norm = t.name.find("norm") != std::string::npos;
    const auto is = [&](const char* part) { return t.name.find(part) != std::string::npos; };
    const int64_t rows = is("token_embd") ? c.vocab : is("gate") || is("up") ? c.ffn : is("attn_k") || is("attn_v") ? 1024 : 4096;
    h.addTensor(t.name, norm ? std::vector<int64_t>{4096} : std::vector<int64_t>{rows, is("down") ? c.ffn : 4096},
                norm ? DType::f32 : DType::q5_0);
  }
  const auto front = h.bytes();
  const std::string path = written("sparse.gguf", std::string(reinterpret_cast<const char*>(front.data()), front.size()));
  const off_t size = static_cast<off_t>(front.size()) + h.dataBytes();
  EXPECT(size > 4'600'000'000, size);
  struct stat info {};
  if (::truncate(path.c_str(), size) != 0 || ::stat(path.c_str(), &info) != 0 || info.st_blocks * 512 > 1 << 24)
    SKIP("no sparse files here");
  const auto begin = std::chrono::steady_clock::now();
  const auto m = Model::open(path);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT(m.ok(), m.ok() ? "" : m.error().message);
  EXPECT(seconds < 1.0, seconds);
  std::printf("  %.1f GB opened in %.1f ms\n", static_cast<double>(size) / 1e9, seconds * 1e3);
}
