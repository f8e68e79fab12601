// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/support/check.h"

#include "engine/model/model.h"

using namespace winnow;

namespace {

std::string golden(const std::string& name) { return std::string(WINNOW_TESTS_DIR) + "/golden/hf/" + name; }

std::shared_ptr<const Model> opened(const std::string& path) {
#ifndef WINNOW_HAS_HUGGINGFACE
  SKIP("built without nlohmann-json");
#endif
  auto model = Model::open(path);
  if (!model) throw std::runtime_error(model.error().message);
  return *model;
}

}  // namespace

TEST(llama3_scaling) {
  const auto m = opened(golden("llama3"));
  const ModelConfig& c = m->config();
  EXPECT_EQ(c.architecture, "llama");
  EXPECT_EQ(c.headDim, 8);
  EXPECT(c.rope.scaling == RopeScaling::llama3);
  EXPECT_EQ(c.rope.base, 500.0f);
  EXPECT_EQ(c.rope.factor, 8.0f);
  EXPECT_EQ(c.rope.originalContext, 16);
  EXPECT(!c.tiedHead);
  EXPECT_EQ(m->format(), "safetensors");
  EXPECT_EQ(c.parameters, 2 * 272 * 32 + 32 + 3 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 44 * 32 + 64));
  EXPECT(m->notes().empty(), m->notes().empty() ? "" : m->notes()[0]);
}

TEST(linear_scaling_and_tied_head) {
  const auto m = opened(golden("llama-linear"));
  EXPECT(m->config().rope.scaling == RopeScaling::linear);
  EXPECT_EQ(m->config().rope.factor, 2.0f);
  EXPECT(m->config().tiedHead);
  EXPECT(m->find(TensorRole::head) == nullptr);
  EXPECT_EQ(m->config().parameters, 272 * 32 + 32 + 3 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 44 * 32 + 64));
}

TEST(mistral_window_and_head_size) {
  const auto m = opened(golden("mistral"));
  EXPECT_EQ(m->config().architecture, "llama");
  EXPECT_EQ(m->config().slidingWindow, 20);
  EXPECT_EQ(m->config().headDim, 12);
  EXPECT_EQ(m->find(TensorRole::o, 0)->cols, 48);
}

TEST(qwen2_biases) {
  const auto m = opened(golden("qwen2"));
  EXPECT_EQ(m->config().architecture, "qwen2");
  EXPECT_EQ(m->config().slidingWindow, 0);
  EXPECT(m->find(TensorRole::qBias, 2) && m->find(TensorRole::vBias, 0) && !m->find(TensorRole::oBias, 0));
}

TEST(qwen3_shards_and_norms) {
  const auto m = opened(golden("qwen3"));
  EXPECT(m->config().qkNorm);
  EXPECT(m->find(TensorRole::qNorm, 1) && m->find(TensorRole::kNorm, 1));
  const auto one = opened(golden("qwen3/model-00002-of-00004.safetensors"));  // a part opens the whole
  EXPECT_EQ(one->config().parameters, m->config().parameters);
  EXPECT_EQ(m->tensors().size(), one->tensors().size());
}

TEST(gpt2_transposes) {
  const auto m = opened(golden("gpt2"));
  const ModelConfig& c = m->config();
  EXPECT(c.position == PositionKind::learned && c.activation == Activation::geluTanh && c.tiedHead);
  EXPECT_EQ(c.ffn, 128);
  // Element (out, in) of W lies at (in, out) of what is stored; k begins at column 32 of c_attn.
  const MasterTensor* k = m->find(TensorRole::k, 1);
  EXPECT(k->transposed && !k->direct());
  std::vector<float> rows(static_cast<size_t>(5 * 32));
  Model::decodeRows(*k, 3, 5, rows.data());
  for (int r = 0; r < 5; ++r)
    for (int in = 0; in < 32; ++in) {
      float stored;
      std::memcpy(&stored, k->data + (in * 96 + 32 + 3 + r) * 4, 4);
      EXPECT_EQ(rows[static_cast<size_t>(r * 32 + in)], stored);
    }
  const MasterTensor* down = m->find(TensorRole::down, 0);
  EXPECT_EQ(down->rows, 32);
  EXPECT_EQ(down->cols, 128);
  EXPECT(m->validateValues().ok());
}

TEST(tokenizer_json) {
  const auto m = opened(golden("qwen3"));
  const VocabData& v = m->vocab();
  EXPECT(v.kind == VocabData::Kind::bpe);
  EXPECT_EQ(v.tokens.size(), size_t{272});
  EXPECT_EQ(v.tokens[0], "<|endoftext|>");
  EXPECT(v.types[0] == VocabData::TokenType::control);
  EXPECT_EQ(v.merges.size(), size_t{15});
  EXPECT_EQ(v.splitPatterns.size(), size_t{1});
  EXPECT_EQ(v.eos, 0);
  EXPECT(!v.addBos);
}

TEST(tokenizer_folders) {
#ifndef WINNOW_HAS_HUGGINGFACE
  SKIP("built without nlohmann-json");
#endif
  const auto gpt2 = Model::openVocab(test::sharedData("tokenizers/gpt2"));
  EXPECT(gpt2.ok(), gpt2.ok() ? "" : gpt2.error().message);
  const auto gguf = Model::openVocab(test::sharedData("tokenizers/ggml-vocab-gpt-2.gguf"));
  EXPECT(gguf.ok());
  if (gpt2 && gguf) {
    EXPECT(gpt2->tokens == gguf->tokens);
    EXPECT(gpt2->merges == gguf->merges);
    EXPECT_EQ(gpt2->pre, gguf->pre);
    EXPECT(gpt2->types == gguf->types);
    EXPECT_EQ(gpt2->eos, gguf->eos);
  }
  const auto qwen = Model::openVocab(test::sharedData("tokenizers/qwen2.5"));
  EXPECT(qwen.ok(), qwen.ok() ? "" : qwen.error().message);
  if (qwen) {
    EXPECT_EQ(qwen->pre, "qwen2");
    EXPECT_EQ(qwen->tokens.size(), size_t{151665});
    EXPECT_EQ(qwen->tokens[151645], "<|im_end|>");
    EXPECT_EQ(qwen->eos, 151645);
    EXPECT_EQ(qwen->merges.size(), size_t{151387});
    EXPECT(!qwen->addBos && qwen->chatTemplate.size() > 100);
  }
}

TEST(tokenizer_models) {
  const auto llama2 = Model::openVocab(test::sharedData("tokenizers/llama2_tokenizer.model"));
  const auto gguf = Model::openVocab(test::sharedData("tokenizers/ggml-vocab-llama-spm.gguf"));
  EXPECT(llama2.ok(), llama2.ok() ? "" : llama2.error().message);
  EXPECT(gguf.ok());
  if (llama2 && gguf) {
    EXPECT(llama2->tokens == gguf->tokens);
    EXPECT(llama2->scores == gguf->scores);
    EXPECT(llama2->types == gguf->types);
    EXPECT_EQ(llama2->bos, gguf->bos);
    EXPECT_EQ(llama2->eos, gguf->eos);
    EXPECT_EQ(llama2->addBos, gguf->addBos);
    EXPECT_EQ(llama2->addPrefixSpace, gguf->addPrefixSpace);
  }
  const auto llama3 = Model::openVocab(test::sharedData("tokenizers/llama3_tokenizer.model"));
  EXPECT(llama3.ok(), llama3.ok() ? "" : llama3.error().message);
  if (llama3) {
    EXPECT_EQ(llama3->tokens.size(), size_t{128256});
    EXPECT_EQ(llama3->tokens[128009], "<|eot_id|>");
    EXPECT_EQ(llama3->tokens[128255], "<|reserved_special_token_250|>");
    EXPECT_EQ(llama3->merges[0], "\xc4\xa0 \xc4\xa0");
    EXPECT(llama3->merges.size() > 127000);
  }
}
