// SPDX-License-Identifier: GPL-3.0-or-later
// Tiny models made by hand: named tensors with values that can be told apart, written as GGUF or as a Hugging Face folder.
#pragma once
#include <functional>

#include "engine/model/gguf_writer.h"
#include "engine/model/model.h"
#include "tests/support/check.h"

namespace winnow::test {

struct TinyTensor {
  std::string name;
  std::vector<int64_t> shape;  // outermost first
  std::vector<float> values;
};
inline int64_t elements(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (const int64_t extent : shape) n *= extent;
  return n;
}
// Values 1000 * index + element, exact in f32.
inline TinyTensor numbered(const std::string& name, std::vector<int64_t> shape, int index) {
  TinyTensor t{name, std::move(shape), {}};
  for (int64_t i = 0; i < elements(t.shape); ++i) t.values.push_back(static_cast<float>(1000 * index + i) / 64.0f);
  return t;
}

struct TinyLlama {
  int layers = 1, hidden = 8, heads = 2, kvHeads = 1, headDim = 4, ffn = 12, vocab = 5, context = 16;
};
inline std::vector<TinyTensor> llamaTensors(const TinyLlama& c) {
  std::vector<TinyTensor> t;
  int n = 0;
  t.push_back(numbered("token_embd.weight", {c.vocab, c.hidden}, n++));
  t.push_back(numbered("output_norm.weight", {c.hidden}, n++));
  for (int l = 0; l < c.layers; ++l) {
    const std::string b = "blk." + std::to_string(l) + ".";
    t.push_back(numbered(b + "attn_norm.weight", {c.hidden}, n++));
    t.push_back(numbered(b + "attn_q.weight", {c.heads * c.headDim, c.hidden}, n++));
    t.push_back(numbered(b + "attn_k.weight", {c.kvHeads * c.headDim, c.hidden}, n++));
    t.push_back(numbered(b + "attn_v.weight", {c.kvHeads * c.headDim, c.hidden}, n++));
    t.push_back(numbered(b + "attn_output.weight", {c.hidden, c.heads * c.headDim}, n++));
    t.push_back(numbered(b + "ffn_norm.weight", {c.hidden}, n++));
    t.push_back(numbered(b + "ffn_gate.weight", {c.ffn, c.hidden}, n++));
    t.push_back(numbered(b + "ffn_up.weight", {c.ffn, c.hidden}, n++));
    t.push_back(numbered(b + "ffn_down.weight", {c.hidden, c.ffn}, n++));
  }
  return t;
}

inline void llamaKeys(GgufHeader& h, const TinyLlama& c) {
  const auto u = [](int v) { return static_cast<uint32_t>(v); };
  h.add("general.architecture", std::string_view("llama"));
  h.add("llama.block_count", u(c.layers));
  h.add("llama.embedding_length", u(c.hidden));
  h.add("llama.context_length", u(c.context));
  h.add("llama.feed_forward_length", u(c.ffn));
  h.add("llama.attention.head_count", u(c.heads));
  h.add("llama.attention.head_count_kv", u(c.kvHeads));
  h.add("llama.attention.key_length", u(c.headDim));
  h.add("llama.attention.value_length", u(c.headDim));
  h.add("llama.attention.layer_norm_rms_epsilon", 1e-5f);
}

inline std::string ggufText(const std::function<void(GgufHeader&)>& keys, const std::vector<TinyTensor>& tensors) {
  GgufHeader h;
  keys(h);
  for (const TinyTensor& t : tensors) h.addTensor(t.name, t.shape, DType::f32);
  const auto front = h.bytes();
  std::string out(reinterpret_cast<const char*>(front.data()), front.size());
  for (const TinyTensor& t : tensors) {
    out.append(reinterpret_cast<const char*>(t.values.data()), t.values.size() * 4);
    out.resize(GgufHeader::padded(out.size()));
  }
  return out;
}
inline std::string tinyLlamaText(const TinyLlama& c = {}) {
  return ggufText([&](GgufHeader& h) { llamaKeys(h, c); }, llamaTensors(c));
}

inline std::string written(const std::string& name, const std::string& bytes) {
  const std::filesystem::path path = scratch() / name;
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return path.string();
}

// The same tensors as one safetensors file, f32.
inline std::string safetensorsText(const std::vector<TinyTensor>& tensors, const std::string& before = "") {
  std::ostringstream header;
  std::string data;
  header << "{" << before;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TinyTensor& t = tensors[i];
    header << (i || !before.empty() ? "," : "") << "\"" << t.name << "\":{\"dtype\":\"F32\",\"shape\":[";
    for (size_t d = 0; d < t.shape.size(); ++d) header << (d ? "," : "") << t.shape[d];
    header << "],\"data_offsets\":[" << data.size() << "," << data.size() + t.values.size() * 4 << "]}";
    data.append(reinterpret_cast<const char*>(t.values.data()), t.values.size() * 4);
  }
  header << "}";
  const uint64_t length = header.str().size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header.str() + data;
}

inline std::vector<float> decoded(const Model& m, TensorRole role, int layer) {
  const MasterTensor* t = m.find(role, layer);
  if (!t) throw std::runtime_error("no tensor " + std::string(tensorRoleName(role)));
  std::vector<float> out(static_cast<size_t>(t->rows * t->cols));
  Model::decodeRows(*t, 0, t->rows, out.data());
  return out;
}

// The sentence that opening gives; empty when it opens.
inline std::string refusal(const std::string& path) {
  const auto m = Model::open(path);
  if (m) return "";
  EXPECT(m.error().message.find('\n') == std::string::npos && !m.error().message.empty(), m.error().message);
  return m.error().message;
}

}  // namespace winnow::test

#define EXPECT_REFUSED(path, part)                                                    \
  do {                                                                                \
    const std::string said_ = ::winnow::test::refusal(path);                          \
    EXPECT(said_.find(part) != std::string::npos, "said:", said_, "expected:", part); \
  } while (false)
