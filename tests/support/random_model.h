// SPDX-License-Identifier: GPL-3.0-or-later
// Small models with random weights, one of each family the engine knows, written as GGUF and opened: no file of another program and no
// reader of JSON is needed. A hollow model has its tensors' shapes and no bytes on the disk: for work whose weights are made elsewhere.
#pragma once
#include <unistd.h>

#include <filesystem>
#include <random>
#include <stdexcept>

#include "engine/model/build.h"
#include "engine/model/encode.h"
#include "engine/model/gguf_writer.h"
#include "tests/support/check.h"

namespace winnow::test {

inline const std::vector<std::string>& families() {
  static const std::vector<std::string> names = {"llama3", "llama-linear", "mistral", "qwen2", "qwen3", "gpt2"};
  return names;
}

// Every size is odd in some way: groups that are cut off, heads that are no multiple of 32.
inline ModelConfig familyConfig(const std::string& family) {
  ModelConfig c;
  const bool gpt2 = family == "gpt2";
  c.architecture = family == "qwen2" || family == "qwen3" || gpt2 ? family : "llama";
  c.name = "random-" + family;
  c.layers = 3;
  c.hidden = gpt2 ? 96 : 160;
  c.heads = 6;
  c.kvHeads = gpt2 || family == "mistral" ? 6 : family == "qwen3" ? 1 : 2;
  c.headDim = gpt2 ? 16 : family == "qwen3" ? 64 : 32;
  c.ffn = gpt2 ? 384 : 224;
  c.vocab = 607;
  c.context = 1024;
  c.rope.dims = c.headDim;
  c.tiedHead = family != "llama3" && family != "mistral";
  if (family == "llama3") c.rope.scaling = RopeScaling::llama3, c.rope.factor = 8, c.rope.originalContext = 256, c.rope.base = 500000;
  if (family == "llama-linear") c.rope.scaling = RopeScaling::linear, c.rope.factor = 4;
  if (family == "mistral") c.slidingWindow = 16;
  return c;
}

namespace detail {

inline std::vector<TensorRole> rolesOf(const ModelConfig& c) {
  using R = TensorRole;
  if (c.architecture == "gpt2")
    return {R::attnNorm, R::attnNormBias, R::q, R::qBias, R::o, R::oBias, R::ffnNorm, R::ffnNormBias, R::up, R::upBias, R::down, R::downBias};
  std::vector<TensorRole> roles = {R::attnNorm, R::q, R::k, R::v, R::o, R::ffnNorm, R::gate, R::up, R::down};
  if (c.architecture == "qwen2") roles.insert(roles.end(), {R::qBias, R::kBias, R::vBias});
  if (c.architecture == "qwen3") roles.insert(roles.end(), {R::qNorm, R::kNorm});
  return roles;
}

struct RandomTensor {
  std::string name;
  TensorRole role;
  int64_t rows, cols;
  DType type;
};

inline std::vector<RandomTensor> tensorsOf(const ModelConfig& c, DType type) {
  std::vector<RandomTensor> all;
  const auto add = [&](TensorRole role, int layer) {
    RoleShape s = roleShape(c, role);
    std::string name = ggufTensorName(role, layer);
    if (c.architecture == "gpt2" && (role == TensorRole::q || role == TensorRole::qBias)) {  // q, k and v in one
      name = "blk." + std::to_string(layer) + (role == TensorRole::q ? ".attn_qkv.weight" : ".attn_qkv.bias");
      (role == TensorRole::q ? s.rows : s.cols) = c.qRows() + 2 * c.kvRows();
    }
    all.push_back({name, role, s.rows, s.cols, isMatrix(role) ? type : DType::f32});
  };
  add(TensorRole::tokenEmbedding, -1);
  if (c.architecture == "gpt2") add(TensorRole::positionEmbedding, -1);
  add(TensorRole::outputNorm, -1);
  if (c.architecture == "gpt2") add(TensorRole::outputNormBias, -1);
  if (!c.tiedHead) add(TensorRole::head, -1);
  for (int layer = 0; layer < c.layers; ++layer)
    for (TensorRole role : rolesOf(c)) add(role, layer);
  return all;
}

inline void describeModel(const ModelConfig& c, GgufHeader& h) {
  const std::string a = c.architecture + ".";
  const auto n = [](int value) { return static_cast<uint32_t>(value); };
  h.add("general.architecture", c.architecture);
  h.add("general.name", c.name);
  h.add(a + "context_length", n(c.context));
  h.add(a + "embedding_length", n(c.hidden));
  h.add(a + "block_count", n(c.layers));
  h.add(a + "feed_forward_length", n(c.ffn));
  h.add(a + "attention.head_count", n(c.heads));
  h.add(a + "attention.head_count_kv", n(c.kvHeads));
  h.add(a + "attention.key_length", n(c.headDim));
  h.add(a + "attention.value_length", n(c.headDim));
  h.add(a + (c.architecture == "gpt2" ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"), c.normEps);
  if (c.slidingWindow > 0) h.add(a + "attention.sliding_window", n(c.slidingWindow));
  if (c.architecture == "gpt2") return;
  h.add(a + "rope.dimension_count", n(c.rope.dims));
  h.add(a + "rope.freq_base", c.rope.base);
  if (c.rope.scaling == RopeScaling::none) return;
  h.add(a + "rope.scaling.type", std::string_view(c.rope.scaling == RopeScaling::linear ? "linear" : "llama3"));
  h.add(a + "rope.scaling.factor", c.rope.factor);
  if (c.rope.scaling == RopeScaling::llama3) h.add(a + "rope.scaling.original_context_length", n(c.rope.originalContext));
}

// Gains about 1, biases small, matrices N(0, 1 / sqrt(cols)).
inline std::vector<float> randomValues(const RandomTensor& t, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  const bool bias = !isMatrix(t.role) && t.name.ends_with(".bias"), gain = !isMatrix(t.role) && !bias;
  const float sigma = isMatrix(t.role) ? 1.0f / std::sqrt(static_cast<float>(t.cols)) : 0.1f;
  std::vector<float> values(static_cast<size_t>(t.rows * t.cols));
  for (float& v : values) v = normal(rng) * sigma + (gain ? 1.0f : 0.0f);
  return values;
}

}  // namespace detail

inline void writeRandomModel(const ModelConfig& config, DType type, const std::string& path, bool hollow = false) {
  const auto must = [](const Status& s) {
    if (!s) throw std::runtime_error(s.error().message);
  };
  const auto tensors = detail::tensorsOf(config, type);
  GgufHeader header;
  detail::describeModel(config, header);
  for (const auto& t : tensors) header.addTensor(t.name, isMatrix(t.role) ? std::vector<int64_t>{t.rows, t.cols} : std::vector<int64_t>{t.cols}, t.type);
  const std::vector<std::byte> front = header.bytes();
  auto file = OutputFile::create(path, static_cast<int64_t>(front.size()) + (hollow ? 0 : header.dataBytes()));
  if (!file) throw std::runtime_error(file.error().message);
  must(file->write(front));
  for (size_t i = 0; i < tensors.size() && !hollow; ++i) {
    const auto& t = tensors[i];
    const std::vector<float> values = detail::randomValues(t, static_cast<uint32_t>(i + 1));
    const auto traits = dtypeTraits(t.type);
    const size_t bytes = values.size() / static_cast<size_t>(traits.blockValues) * static_cast<size_t>(traits.blockBytes);
    std::vector<std::byte> data(GgufHeader::padded(bytes));
    encodeValues(t.type, values.data(), static_cast<int64_t>(values.size()), data.data());
    must(file->write(data));
  }
  must(file->commit());
  if (hollow) std::filesystem::resize_file(path, front.size() + static_cast<size_t>(header.dataBytes()));
}

// Opened and already unlinked.
inline std::shared_ptr<const Model> randomModel(const ModelConfig& config, DType type = DType::f32, bool hollow = false) {
  const std::string path = (scratch() / (config.name + "-" + std::string(dtypeTraits(type).name) + ".gguf")).string();
  writeRandomModel(config, type, path, hollow);
  auto model = Model::open(path);
  std::filesystem::remove(path);
  if (!model) throw std::runtime_error(model.error().message);
  return *model;
}

}  // namespace winnow::test
