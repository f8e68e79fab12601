// SPDX-License-Identifier: GPL-3.0-or-later
// Configuration and tensor names of GGUF files.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "engine/model/build.h"
#include "engine/model/decode.h"
#include "engine/model/gguf.h"
#include "engine/model/gguf_vocab.h"
#include "engine/model/message.h"

namespace winnow {
namespace {

constexpr int64_t kMost = std::numeric_limits<int>::max();

// Reads keys of one architecture and remembers the first thing that is wrong.
class Keys {
 public:
  Keys(const GgufFile& file, std::string architecture) : file_(file), prefix_(std::move(architecture) + ".") {}

  bool has(const std::string& key) const { return file_.value(prefix_ + key) != nullptr; }
  int integer(const std::string& key, std::optional<int64_t> missing = std::nullopt) {
    return static_cast<int>(keep(file_.integer(prefix_ + key, 0, kMost, missing), int64_t{0}));
  }
  float number(const std::string& key, std::optional<double> missing = std::nullopt) {
    return static_cast<float>(keep(file_.number(prefix_ + key, missing), 0.0));
  }
  std::string text(const std::string& key, std::string missing) {
    return keep(file_.text(prefix_ + key, std::move(missing)), std::string());
  }
  // A number, or a list that holds the same number for every layer.
  int sameInEveryLayer(const std::string& key, std::optional<int64_t> missing = std::nullopt) {
    const GgufValue* v = file_.value(prefix_ + key);
    if (!v || v->type != GgufType::array) return integer(key, missing);
    const std::vector<double> list = keep(file_.numbers(prefix_ + key), std::vector<double>());
    if (error_) return 0;
    const bool same = !list.empty() && std::all_of(list.begin(), list.end(), [&](double n) { return n == list[0]; });
    if (same && list[0] >= 0 && list[0] <= static_cast<double>(kMost)) return static_cast<int>(list[0]);
    error_ = badInput(file_.name(), ": ", prefix_, key, " differs between layers; models with one value for all layers are supported");
    return 0;
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  template <class T>
  T keep(Result<T> result, T otherwise) {
    if (result) return std::move(*result);
    if (!error_) error_ = result.error();
    return otherwise;
  }
  const GgufFile& file_;
  std::string prefix_;
  std::optional<Error> error_;
};

Status readRope(const GgufFile& file, Keys& keys, ModelConfig& c) {
  c.rope.dims = keys.integer("rope.dimension_count", c.headDim);
  c.rope.base = keys.number("rope.freq_base", 10000.0);
  std::string kind = keys.text("rope.scaling.type", "");
  const bool oldFactor = kind.empty() && keys.has("rope.scale_linear");
  if (kind.empty()) kind = oldFactor ? "linear" : "none";
  if (kind == "linear") {
    c.rope.factor = oldFactor ? keys.number("rope.scale_linear", 1.0) : keys.number("rope.scaling.factor", 1.0);
    if (c.rope.factor == 0.0f) c.rope.factor = 1.0f;  // files write 0 for "not scaled"
    if (c.rope.factor != 1.0f) c.rope.scaling = RopeScaling::linear;
  } else if (kind == "llama3") {
    c.rope.scaling = RopeScaling::llama3;
    c.rope.factor = keys.number("rope.scaling.factor", 8.0);
    c.rope.lowFreqFactor = keys.number("rope.scaling.low_freq_factor", 1.0);
    c.rope.highFreqFactor = keys.number("rope.scaling.high_freq_factor", 4.0);
    c.rope.originalContext = keys.integer("rope.scaling.original_context_length", 8192);
  } else if (kind != "none") {
    return badInput(file.name(), ": the RoPE scaling ", shown(kind), " is not supported, none, linear and llama3 are");
  }
  return Done{};
}

// Factors for each rotated pair, as Llama 3 files have them.
Status readRopeFactors(const GgufFile& file, ModelBuilder& builder) {
  SourceTensor* t = builder.source("rope_freqs.weight");
  RopeConfig& rope = builder.config().rope;
  if (!t || builder.config().position != PositionKind::rope) return Done{};
  if (t->type != DType::f32 || t->shape != std::vector<int64_t>{rope.dims / 2})
    return badInput(file.name(), ": tensor 'rope_freqs.weight' is ", t->typeName, " of shape ", shownShape(t->shape), ", F32 of shape [",
                    rope.dims / 2, "] was expected");
  t->used = true;
  rope.frequencyFactors.resize(static_cast<size_t>(rope.dims) / 2);
  decodeValues(DType::f32, t->data, rope.dims / 2, rope.frequencyFactors.data());
  if (std::all_of(rope.frequencyFactors.begin(), rope.frequencyFactors.end(), [](float f) { return f == 1.0f; }))
    rope.frequencyFactors.clear();
  if (rope.scaling == RopeScaling::llama3 && !rope.frequencyFactors.empty())
    rope.scaling = RopeScaling::none;  // the same thing, said twice
  return Done{};
}

Status readConfig(const GgufFile& file, ModelBuilder& builder) {
  ModelConfig& c = builder.config();
  Keys keys(file, c.architecture);
  const bool gpt2 = c.architecture == "gpt2";
  c.layers = keys.integer("block_count");
  c.hidden = keys.integer("embedding_length");
  c.context = keys.integer("context_length");
  c.ffn = keys.sameInEveryLayer("feed_forward_length");
  c.heads = keys.sameInEveryLayer("attention.head_count");
  c.kvHeads = keys.sameInEveryLayer("attention.head_count_kv", c.heads);
  if (keys.error()) return *keys.error();
  if (c.heads < 1) return badInput(file.name(), ": ", c.architecture, ".attention.head_count is ", c.heads, ", at least 1 was expected");
  const bool ownHeadDim = keys.has("attention.key_length");
  if (!ownHeadDim && c.hidden % c.heads != 0)
    return badInput(file.name(), ": the hidden size ", c.hidden, " cannot be divided by ", c.heads, " heads");
  c.headDim = keys.integer("attention.key_length", c.hidden / c.heads);
  const int valueDim = keys.integer("attention.value_length", c.headDim);
  if (valueDim != c.headDim)
    return badInput(file.name(), ": keys of ", c.headDim, " and values of ", valueDim,
                    " components are not supported, they must be the same");
  c.norm = gpt2 ? NormKind::layer : NormKind::rms;
  c.normEps = keys.number(gpt2 ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon");
  c.activation = gpt2 ? Activation::geluTanh : Activation::silu;
  c.gatedFfn = !gpt2;
  c.position = gpt2 ? PositionKind::learned : PositionKind::rope;
  c.qkNorm = c.architecture == "qwen3";
  c.slidingWindow = gpt2 ? 0 : keys.integer("attention.sliding_window", 0);
  if (keys.integer("expert_count", 0) > 0)
    return badInput(file.name(), ": this is a mixture of experts, which is not supported; dense ", supportedArchitectures(), " models are");
  if (!gpt2)
    if (Status s = readRope(file, keys, c); !s) return s;
  if (keys.error()) return *keys.error();
  return Done{};
}

}  // namespace

std::string ggufTensorName(TensorRole role, int layer) {
  constexpr std::array<std::string_view, static_cast<size_t>(TensorRole::count)> names = {
      "token_embd.weight", "position_embd.weight", "output_norm.weight", "output_norm.bias", "output.weight",
      "attn_norm.weight", "attn_norm.bias", "attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight",
      "attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias", "attn_q_norm.weight", "attn_k_norm.weight",
      "ffn_norm.weight", "ffn_norm.bias", "ffn_gate.weight", "ffn_up.weight", "ffn_down.weight",
      "ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"};
  const std::string name(names[static_cast<size_t>(role)]);
  return layer < 0 ? name : "blk." + std::to_string(layer) + "." + name;
}

namespace {

std::string ggufName(const std::string&, TensorRole role, int layer) { return ggufTensorName(role, layer); }
std::string ggufFusedQkv(int layer, bool bias) { return "blk." + std::to_string(layer) + (bias ? ".attn_qkv.bias" : ".attn_qkv.weight"); }

Status readVocab(const GgufFile& file, ModelBuilder& builder) {
  auto vocab = readGgufVocab(file);
  if (!vocab) return vocab.error();
  if (!vocab->unsupported.empty())
    builder.notes().push_back("the tokenizer " + shown(vocab->unsupported) + " is not supported: this model can be fed token ids only");
  builder.vocab() = std::move(vocab->data);
  ModelConfig& c = builder.config();
  const SourceTensor* embedding = builder.source("token_embd.weight");
  if (!embedding) return badInput(file.name(), ": this file holds no weights (the tensor 'token_embd.weight' is missing)");
  const int64_t rows = embedding->shape.size() == 2 ? embedding->shape[0] : 0;
  const int64_t tokens = static_cast<int64_t>(builder.vocab().tokens.size());
  if (rows < 1 || rows > (1 << 24))
    return badInput(file.name(), ": tensor 'token_embd.weight' has the shape ", shownShape(embedding->shape), ", [tokens, ", c.hidden,
                    "] was expected");
  if (tokens > rows) return badInput(file.name(), ": the vocabulary has ", tokens, " tokens, but the embedding has rows for ", rows);
  if (tokens > 0 && tokens < rows)
    builder.notes().push_back(sentence("the embedding has ", rows, " rows for a vocabulary of ", tokens, " tokens"));
  c.vocab = static_cast<int>(rows);
  return Done{};
}

void addSources(const GgufFile& file, ModelBuilder& builder) {
  for (const GgufTensor& t : file.tensors())
    builder.addSource({std::string(t.name), t.shape, t.type, ggufTensorTypeName(t.typeId), t.data, false});
}

void noteStoredTypes(ModelBuilder& builder) {
  const MasterTensor* head = builder.model->find(TensorRole::head);
  const MasterTensor* block = builder.model->find(TensorRole::q, 0);
  if (head && block && head->type != block->type)
    builder.notes().push_back(
        sentence("the head is stored in ", dtypeTraits(head->type).name, ", the blocks in ", dtypeTraits(block->type).name));
}

}  // namespace

Result<std::shared_ptr<const Model>> openGguf(const std::string& path) {
  auto map = MappedFile::open(path);
  if (!map) return map.error();
  const auto file = GgufFile::parse((*map)->bytes(), path);
  if (!file) return file.error();
  ModelBuilder builder(path, "gguf");
  builder.addFile(*map);
  builder.supportedTypes = supportedTensorTypes();
  const auto architecture = file->text("general.architecture", std::nullopt);
  if (!architecture) return architecture.error();
  const auto name = file->text("general.name", "");
  if (!name) return name.error();
  const auto parts = file->integer("split.count", 0, 65535, 0);
  if (!parts) return parts.error();
  if (*parts > 1) {
    Error e = badInput(path, ": this is one of the ", *parts, " parts of a split model, a single file was expected");
    e.hint = "Join the parts with llama-gguf-split --merge.";
    return e;
  }
  ModelConfig& c = builder.config();
  c.architecture = *architecture;
  c.name = *name;
  const bool known = c.architecture == "llama" || c.architecture == "qwen2" || c.architecture == "qwen3" || c.architecture == "gpt2";
  if (!known) return badInput(path, ": the architecture ", shown(c.architecture), " is not supported, ", supportedArchitectures(), " are");
  addSources(*file, builder);
  if (Status s = readConfig(*file, builder); !s) return s.error();
  if (Status s = readVocab(*file, builder); !s) return s.error();
  if (Status s = readRopeFactors(*file, builder); !s) return s.error();
  TensorNaming naming;
  naming.name = ggufName;
  naming.fusedQkv = c.architecture == "gpt2" ? ggufFusedQkv : nullptr;
  naming.permutedQk = c.architecture == "llama";
  if (Status s = builder.mapTensors(naming); !s) return s.error();
  noteStoredTypes(builder);
  if (file->trailingBytes() > 0)
    builder.notes().push_back(sentence(file->trailingBytes(), " bytes follow the last tensor and are not used: the file may be two that were joined"));
  return std::shared_ptr<const Model>(std::move(builder.model));
}

}  // namespace winnow
