// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/support/check.h"

#include "engine/model/model.h"

using namespace winnow;

namespace {

std::shared_ptr<const Model> opened(const std::string& relative) {
  auto model = Model::open(test::sharedData("models/" + relative));
  EXPECT(model.ok(), model.ok() ? "" : model.error().message);
  if (!model) throw std::runtime_error("cannot open " + relative);
  return *model;
}

}  // namespace

TEST(stories260k) {
  const auto m = opened("stories260K-f32.gguf");
  const ModelConfig& c = m->config();
  EXPECT_EQ(c.architecture, "llama");
  EXPECT_EQ(c.layers, 5);
  EXPECT_EQ(c.hidden, 64);
  EXPECT_EQ(c.heads, 8);
  EXPECT_EQ(c.kvHeads, 4);
  EXPECT_EQ(c.headDim, 8);
  EXPECT_EQ(c.ffn, 172);
  EXPECT_EQ(c.vocab, 512);
  EXPECT_EQ(c.context, 128);
  EXPECT_EQ(c.rope.dims, 8);
  EXPECT_EQ(c.rope.base, 10000.0f);
  EXPECT(c.rope.scaling == RopeScaling::none);
  EXPECT(!c.tiedHead);
  EXPECT_EQ(c.parameters, 2 * 512 * 64 + 64 + 5 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 172 + 128));
  EXPECT_EQ(m->typeSummary(), "f32");
  const VocabData& v = m->vocab();
  EXPECT(v.kind == VocabData::Kind::spm);
  EXPECT_EQ(v.tokens.size(), size_t{512});
  EXPECT_EQ(v.bos, 1);
  EXPECT_EQ(v.eos, 2);
  EXPECT_EQ(v.unk, 0);
  EXPECT_EQ(v.pad, -1);
  EXPECT(v.addBos && !v.addEos && v.addPrefixSpace);
  EXPECT(m->validateValues().ok());
}

TEST(gpt2_is_sliced) {
  const auto m = opened("tinystories-instruct-3m-chat-f32.gguf");
  const ModelConfig& c = m->config();
  EXPECT_EQ(c.architecture, "gpt2");
  EXPECT(c.norm == NormKind::layer && c.activation == Activation::geluTanh && !c.gatedFfn && c.position == PositionKind::learned);
  EXPECT_EQ(c.kvHeads, 16);
  EXPECT_EQ(c.context, 256);
  const MasterTensor *q = m->find(TensorRole::q, 3), *k = m->find(TensorRole::k, 3), *v = m->find(TensorRole::v, 3);
  EXPECT(q && k && v && q->data == k->data && k->data == v->data);
  EXPECT_EQ(q->firstStoredRow, 0);
  EXPECT_EQ(k->firstStoredRow, 128);
  EXPECT_EQ(v->firstStoredRow, 256);
  EXPECT_EQ(v->rows, 128);
  const MasterTensor *qb = m->find(TensorRole::qBias, 3), *vb = m->find(TensorRole::vBias, 3);
  EXPECT_EQ(vb->data - qb->data, ptrdiff_t{256 * 4});
  EXPECT(m->vocab().kind == VocabData::Kind::bpe);
  EXPECT_EQ(m->vocab().pre, "gpt-2");
  EXPECT(m->validateValues().ok());
}

TEST(configurations_of_the_shared_models) {
  struct Row {
    const char* file;
    int layers, hidden, heads, kvHeads, headDim, ffn, vocab, context;
    const char* types;
  };
  const Row rows[] = {{"llama2xs-280k-f32", 5, 64, 8, 4, 8, 192, 512, 128, "f32"},
                      {"stories260K-f32", 5, 64, 8, 4, 8, 172, 512, 128, "f32"},
                      {"tinystories-instruct-3m-chat-f32", 8, 128, 16, 16, 8, 512, 14019, 256, "f32"},
                      {"tinystories-instruct-3m-chat-q8_0", 8, 128, 16, 16, 8, 512, 14019, 256, "q8_0 + f32"},
                      {"tinystories-instruct-3m-chat-q4_0", 8, 128, 16, 16, 8, 512, 14019, 256, "q8_0 + q4_0 + f32"},
                      {"random-llama-256-f32", 4, 256, 4, 2, 64, 768, 512, 512, "f32"},
                      {"random-llama-256-F16", 4, 256, 4, 2, 64, 768, 512, 512, "f16 + f32"},
                      {"random-llama-256-Q5_1", 4, 256, 4, 2, 64, 768, 512, 512, "q5_1 + f32"},
                      {"random-llama-256-Q2_K", 4, 256, 4, 2, 64, 768, 512, 512, "q2_k + f32"},
                      {"random-llama-256-Q6_K", 4, 256, 4, 2, 64, 768, 512, 512, "q6_k + f32"}};
  for (const Row& row : rows) {
    const auto m = opened(std::string(row.file) + ".gguf");
    const ModelConfig& c = m->config();
    EXPECT(c.layers == row.layers && c.hidden == row.hidden && c.heads == row.heads && c.kvHeads == row.kvHeads, row.file);
    EXPECT(c.headDim == row.headDim && c.ffn == row.ffn && c.vocab == row.vocab && c.context == row.context, row.file);
    EXPECT(m->typeSummary() == row.types, row.file, m->typeSummary());
  }
}

// Quantizations of one model lie around its f32 values. A wrong layout would be off by 100 %.
TEST(quantized_files_are_near_their_origin) {
  const auto exact = opened("random-llama-256-f32.gguf");
  const std::pair<const char*, double> bounds[] = {{"F16", 4e-4}, {"Q8_0", 0.008}, {"Q6_K", 0.025}, {"Q5_K", 0.045}, {"Q5_1", 0.045},
                                                   {"Q5_0", 0.06}, {"Q4_K", 0.09},  {"Q4_1", 0.1},  {"Q4_0", 0.12},   {"Q3_K", 0.2},
                                                   {"Q2_K", 0.4}};
  for (const auto& [type, bound] : bounds) {
    const auto m = opened(std::string("random-llama-256-") + type + ".gguf");
    double error = 0, power = 0;
    for (const MasterTensor& t : exact->tensors()) {
      if (!isMatrix(t.role)) continue;
      const MasterTensor* q = m->find(t.role, t.layer);
      std::vector<float> a(static_cast<size_t>(t.rows * t.cols)), b(a.size());
      Model::decodeRows(t, 0, t.rows, a.data());
      Model::decodeRows(*q, 0, q->rows, b.data());
      for (size_t i = 0; i < a.size(); ++i) {
        error += (a[i] - b[i]) * (a[i] - b[i]);
        power += a[i] * a[i];
      }
    }
    EXPECT(std::sqrt(error / power) < bound, type, std::sqrt(error / power));
  }
}

TEST(every_shared_model_opens) {
  for (const auto& entry : std::filesystem::directory_iterator(test::sharedData("models"))) {
    if (entry.path().extension() != ".gguf") continue;
    const auto m = Model::open(entry.path().string());
    EXPECT(m.ok(), entry.path(), m.ok() ? "" : m.error().message);
    if (m) EXPECT((*m)->validateValues().ok());
  }
}

TEST(every_shared_vocabulary_opens) {
  for (const auto& entry : std::filesystem::directory_iterator(test::sharedData("tokenizers"))) {
    if (entry.path().extension() != ".gguf") continue;
    const auto v = Model::openVocab(entry.path().string());
    EXPECT(v.ok(), entry.path(), v.ok() ? "" : v.error().message);
    if (v) EXPECT(v->tokens.size() > 1000);
  }
}
