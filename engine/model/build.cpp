// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/model/build.h"

#include <algorithm>

#include "engine/core/check.h"
#include "engine/model/message.h"

namespace winnow {
namespace {

enum class Need { absent, optional, required };

bool isBias(TensorRole role) {
  switch (role) {
    case TensorRole::qBias: case TensorRole::kBias: case TensorRole::vBias: case TensorRole::oBias:
    case TensorRole::gateBias: case TensorRole::upBias: case TensorRole::downBias:
    case TensorRole::outputNormBias: case TensorRole::attnNormBias: case TensorRole::ffnNormBias: return true;
    default: return false;
  }
}

Need needOf(const ModelConfig& config, TensorRole role) {
  const bool gpt2 = config.architecture == "gpt2";
  switch (role) {
    case TensorRole::head: return Need::optional;
    case TensorRole::positionEmbedding: return gpt2 ? Need::required : Need::absent;
    case TensorRole::gate: return config.gatedFfn ? Need::required : Need::absent;
    case TensorRole::gateBias: return config.gatedFfn && config.architecture == "llama" ? Need::optional : Need::absent;
    case TensorRole::qNorm: case TensorRole::kNorm: return config.qkNorm ? Need::required : Need::absent;
    case TensorRole::qBias: case TensorRole::kBias: case TensorRole::vBias:
      return gpt2 || config.architecture == "qwen2" ? Need::required : Need::optional;
    case TensorRole::oBias: return gpt2 ? Need::required : Need::optional;
    case TensorRole::upBias: case TensorRole::downBias:
      return gpt2 ? Need::required : config.architecture == "llama" ? Need::optional : Need::absent;
    case TensorRole::outputNormBias: case TensorRole::attnNormBias: case TensorRole::ffnNormBias:
      return config.norm == NormKind::layer ? Need::required : Need::absent;
    default: return Need::required;
  }
}

constexpr TensorRole kOuterRoles[] = {TensorRole::tokenEmbedding, TensorRole::positionEmbedding, TensorRole::outputNorm,
                                      TensorRole::outputNormBias, TensorRole::head};
constexpr TensorRole kBlockRoles[] = {
    TensorRole::attnNorm, TensorRole::attnNormBias, TensorRole::q, TensorRole::k, TensorRole::v, TensorRole::o,
    TensorRole::qBias, TensorRole::kBias, TensorRole::vBias, TensorRole::oBias, TensorRole::qNorm, TensorRole::kNorm,
    TensorRole::ffnNorm, TensorRole::ffnNormBias, TensorRole::gate, TensorRole::up, TensorRole::down,
    TensorRole::gateBias, TensorRole::upBias, TensorRole::downBias};

bool isQkv(TensorRole role) {
  return role == TensorRole::q || role == TensorRole::k || role == TensorRole::v || role == TensorRole::qBias ||
         role == TensorRole::kBias || role == TensorRole::vBias;
}
size_t rowBytes(DType type, int64_t cols) {
  const DTypeTraits traits = dtypeTraits(type);
  return static_cast<size_t>(cols / traits.blockValues) * static_cast<size_t>(traits.blockBytes);
}
size_t elementAlignment(DType type) { return type == DType::f32 ? 4 : 2; }

}  // namespace

std::string supportedArchitectures() { return "llama, qwen2, qwen3, gpt2"; }

RoleShape roleShape(const ModelConfig& c, TensorRole role) {
  switch (role) {
    case TensorRole::tokenEmbedding: case TensorRole::head: return {c.vocab, c.hidden};
    case TensorRole::positionEmbedding: return {c.context, c.hidden};
    case TensorRole::q: return {c.qRows(), c.hidden};
    case TensorRole::k: case TensorRole::v: return {c.kvRows(), c.hidden};
    case TensorRole::o: return {c.hidden, c.qRows()};
    case TensorRole::qBias: return {1, c.qRows()};
    case TensorRole::kBias: case TensorRole::vBias: return {1, c.kvRows()};
    case TensorRole::qNorm: case TensorRole::kNorm: return {1, c.headDim};
    case TensorRole::gate: case TensorRole::up: return {c.ffn, c.hidden};
    case TensorRole::down: return {c.hidden, c.ffn};
    case TensorRole::gateBias: case TensorRole::upBias: return {1, c.ffn};
    default: return {1, c.hidden};
  }
}

ModelBuilder::ModelBuilder(std::string path, std::string format) : model(std::make_shared<Model>()) {
  model->path_ = std::move(path);
  model->format_ = std::move(format);
}

void ModelBuilder::addFile(std::shared_ptr<const MappedFile> file) {
  model->fileBytes_ += static_cast<int64_t>(file->bytes().size());
  model->files_.push_back(std::move(file));
}
void ModelBuilder::addSource(SourceTensor tensor) {
  index_.emplace(tensor.name, sources.size());
  sources.push_back(std::move(tensor));
}
SourceTensor* ModelBuilder::source(const std::string& name) {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &sources[it->second];
}

void ModelBuilder::setSources(std::vector<SourceTensor> tensors) {
  sources.clear();
  index_.clear();
  for (SourceTensor& t : tensors) addSource(std::move(t));
}
void ModelBuilder::dropSource(const std::string& name) {
  if (SourceTensor* t = source(name)) t->used = true;
  index_.erase(name);
}

Status ModelBuilder::checkConfig() const {
  const ModelConfig& c = model->config_;
  const std::string& path = model->path_;
  struct Extent {
    std::string_view name;
    int value, most;
  };
  for (const Extent& e : {Extent{"number of layers", c.layers, 4096}, Extent{"hidden size", c.hidden, 1 << 20},
                          Extent{"number of attention heads", c.heads, 1 << 16}, Extent{"number of key/value heads", c.kvHeads, 1 << 16},
                          Extent{"head size", c.headDim, 1 << 16}, Extent{"feed-forward size", c.ffn, 1 << 24},
                          Extent{"vocabulary size", c.vocab, 1 << 24}, Extent{"context length", c.context, 1 << 30}})
    if (e.value < 1 || e.value > e.most)
      return badInput(path, ": the ", e.name, " is ", e.value, ", a number from 1 to ", e.most, " was expected");
  if (c.heads % c.kvHeads != 0)
    return badInput(path, ": ", c.heads, " attention heads cannot share ", c.kvHeads, " key/value heads evenly");
  if (static_cast<int64_t>(c.heads) * c.headDim > (1 << 24))
    return badInput(path, ": ", c.heads, " heads of size ", c.headDim, " are more than this program can hold");
  if (c.position == PositionKind::rope && (c.rope.dims < 2 || c.rope.dims > c.headDim || c.rope.dims % 2 != 0))
    return badInput(path, ": RoPE rotates ", c.rope.dims, " components of a head, an even number from 2 to ", c.headDim, " was expected");
  if (c.position == PositionKind::rope && !(c.rope.base > 0.0f && c.rope.factor > 0.0f))
    return badInput(path, ": the RoPE base ", c.rope.base, " and factor ", c.rope.factor, " must be greater than 0");
  for (const float f : c.rope.frequencyFactors)
    if (!(f > 0.0f && f < 1e30f)) return badInput(path, ": the RoPE frequency factors hold ", f, ", positive numbers were expected");
  if (!c.rope.frequencyFactors.empty() && c.rope.frequencyFactors.size() * 2 != static_cast<size_t>(c.rope.dims))
    return badInput(path, ": there are ", c.rope.frequencyFactors.size(), " RoPE frequency factors, ", c.rope.dims / 2, " were expected");
  if (!(c.normEps >= 0.0f && c.normEps < 1.0f))
    return badInput(path, ": the norm's epsilon is ", c.normEps, ", a number from 0 to 1 was expected");
  return Done{};
}

Status ModelBuilder::checkType(const SourceTensor& tensor) const {
  if (tensor.type) return Done{};
  Error e = badInput(model->path_, ": tensor ", shown(tensor.name), " is of type ", tensor.typeName,
                     ", which this program cannot read; it reads ", supportedTypes);
  e.hint = "Use a file in one of these types.";
  return e;
}

Status ModelBuilder::checkShape(const SourceTensor& tensor, const std::vector<int64_t>& expected) const {
  // Extents of 1 in front do not change what a tensor is.
  std::vector<int64_t> found = tensor.shape;
  while (found.size() > expected.size() && found.front() == 1) found.erase(found.begin());
  if (found == expected) return Done{};
  return badInput(model->path_, ": tensor ", shown(tensor.name), " has the shape ", shownShape(tensor.shape), ", ", shownShape(expected),
                  " was expected from the configuration");
}

void ModelBuilder::keep(SourceTensor& from, MasterTensor tensor) {
  from.used = true;
  tensor.fileName = from.name;
  tensor.type = *from.type;
  model->config_.parameters += tensor.rows * tensor.cols;
  model->tensors_.push_back(std::move(tensor));
}

Status ModelBuilder::mapOne(const TensorNaming& naming, TensorRole role, int layer, bool required) {
  const std::string name = naming.name(config().architecture, role, layer);
  SourceTensor* from = source(name);
  if (!from && !required) return Done{};
  if (!from) {
    return badInput(model->path_, ": the tensor ", shown(name), " is missing; a ", config().architecture, " model of ", config().layers,
                    " layers needs it");
  }
  if (Status s = checkType(*from); !s) return s;
  const RoleShape shape = roleShape(config(), role);
  MasterTensor t;
  t.role = role;
  t.layer = layer;
  t.rows = shape.rows;
  t.cols = shape.cols;
  t.data = from->data;
  t.transposed = naming.transposedLinears && layer >= 0 && isMatrix(role);
  if (naming.permutedQk && (role == TensorRole::q || role == TensorRole::qBias)) t.unpermuteHeads = config().heads;
  if (naming.permutedQk && (role == TensorRole::k || role == TensorRole::kBias)) t.unpermuteHeads = config().kvHeads;
  t.unpermuteDims = t.unpermuteHeads ? config().rope.dims : 0;
  std::vector<int64_t> expected = {t.rows, t.cols};
  if (t.transposed) std::swap(expected[0], expected[1]);
  if (!isMatrix(role)) expected = {t.cols};
  if (Status s = checkShape(*from, expected); !s) return s;
  t.storedRowBytes = rowBytes(*from->type, expected.back());
  keep(*from, std::move(t));
  return Done{};
}

// q, k or v out of a tensor that holds the three of them, one after the other.
Status ModelBuilder::mapFusedPart(const TensorNaming& naming, TensorRole role, int layer) {
  const bool bias = isBias(role);
  const std::string name = naming.fusedQkv(layer, bias);
  SourceTensor* from = source(name);
  if (!from)
    return badInput(model->path_, ": the tensor ", shown(name), " is missing; a ", config().architecture, " model of ", config().layers,
                    " layers needs it");
  if (Status s = checkType(*from); !s) return s;
  const ModelConfig& c = config();
  const int64_t all = c.qRows() + 2 * int64_t{c.kvRows()};
  const bool isQ = role == TensorRole::q || role == TensorRole::qBias, isK = role == TensorRole::k || role == TensorRole::kBias;
  const int64_t first = isQ ? 0 : isK ? c.qRows() : c.qRows() + c.kvRows();
  MasterTensor t;
  t.role = role;
  t.layer = layer;
  t.rows = roleShape(c, role).rows;
  t.cols = roleShape(c, role).cols;
  t.data = from->data;
  t.transposed = !bias && naming.transposedLinears;
  const std::vector<int64_t> expected =
      bias ? std::vector<int64_t>{all} : t.transposed ? std::vector<int64_t>{t.cols, all} : std::vector<int64_t>{all, t.cols};
  if (Status s = checkShape(*from, expected); !s) return s;
  t.storedRowBytes = rowBytes(*from->type, expected.back());
  if (t.transposed) {
    t.firstStoredCol = first;
  } else if (bias) {
    if (first % dtypeTraits(*from->type).blockValues != 0)
      return badInput(model->path_, ": tensor ", shown(name), " of type ", from->typeName, " cannot be divided into q, k and v");
    t.data += rowBytes(*from->type, first);
    t.storedRowBytes = rowBytes(*from->type, t.cols);
  } else {
    t.firstStoredRow = first;
  }
  keep(*from, std::move(t));
  return Done{};
}

Status ModelBuilder::mapTensors(const TensorNaming& naming) {
  if (Status s = checkConfig(); !s) return s;
  for (SourceTensor& t : sources) {  // elements must lie on their own boundaries; a file that puts them elsewhere is copied
    if (!t.type || reinterpret_cast<uintptr_t>(t.data) % elementAlignment(*t.type) == 0) continue;
    size_t bytes = rowBytes(*t.type, t.shape.back());
    for (size_t i = 0; i + 1 < t.shape.size(); ++i) bytes *= static_cast<size_t>(t.shape[i]);
    model->owned_.emplace_back(t.data, t.data + bytes);
    t.data = model->owned_.back().data();
  }
  const auto map = [&](TensorRole role, int layer) -> Status {
    const Need need = needOf(config(), role);
    if (need == Need::absent) return Done{};
    if (naming.fusedQkv && isQkv(role)) return mapFusedPart(naming, role, layer);
    return mapOne(naming, role, layer, need == Need::required);
  };
  for (const TensorRole role : kOuterRoles)
    if (Status s = map(role, -1); !s) return s;
  for (int layer = 0; layer < config().layers; ++layer)
    for (const TensorRole role : kBlockRoles)
      if (Status s = map(role, layer); !s) return s;
  config().tiedHead = !model->find(TensorRole::head);
  std::vector<const SourceTensor*> extra;
  for (const SourceTensor& t : sources)
    if (!t.used) extra.push_back(&t);
  if (!extra.empty())
    notes().push_back(sentence(extra.size(), extra.size() == 1 ? " tensor of the file is" : " tensors of the file are",
                               " not used by this architecture, the first is ", shown(extra.front()->name)));
  return Done{};
}

}  // namespace winnow
