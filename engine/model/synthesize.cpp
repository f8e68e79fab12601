// SPDX-License-Identifier: GPL-3.0-or-later
// Values come from a table of 65536 normal quantiles indexed by 16 random bits: four values a random word. Each row has a
// generator of its own, so the file does not depend on the number of threads.
#include "engine/model/synthesize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <thread>

#include "engine/core/check.h"
#include "engine/core/threads.h"
#include "engine/model/build.h"
#include "engine/model/encode.h"
#include "engine/model/gguf_writer.h"
#include "engine/model/message.h"
#include "engine/model/synthetic_vocab.h"

namespace winnow {
namespace {

constexpr size_t kPieceBytes = size_t{16} << 20;

struct Dimensions {
  int layers, hidden, heads, kvHeads, headDim, ffn, vocab, context;
};
NamedShape shape(const char* name, const char* modelledOn, const char* architecture, const Dimensions& d, float ropeBase, bool tied) {
  NamedShape out{name, modelledOn, {}};
  ModelConfig& c = out.config;
  c.architecture = architecture;
  c.name = std::string("random-") + name;
  c.layers = d.layers;
  c.hidden = d.hidden;
  c.heads = d.heads;
  c.kvHeads = d.kvHeads;
  c.headDim = d.headDim;
  c.ffn = d.ffn;
  c.vocab = d.vocab;
  c.context = d.context;
  c.rope.dims = d.headDim;
  c.rope.base = ropeBase;
  c.tiedHead = tied;
  return out;
}
NamedShape llama3Shape(const char* name, const char* modelledOn, const Dimensions& d, float factor, bool tied) {
  NamedShape out = shape(name, modelledOn, "llama", d, 500000.0f, tied);
  out.config.rope.scaling = RopeScaling::llama3;
  out.config.rope.factor = factor;
  out.config.rope.originalContext = 8192;
  return out;
}

std::vector<TensorRole> blockRoles(const ModelConfig& c) {
  std::vector<TensorRole> roles = {TensorRole::attnNorm, TensorRole::q, TensorRole::k, TensorRole::v, TensorRole::o,
                                   TensorRole::ffnNorm, TensorRole::gate, TensorRole::up, TensorRole::down};
  if (c.architecture == "qwen2") roles.insert(roles.end(), {TensorRole::qBias, TensorRole::kBias, TensorRole::vBias});
  return roles;
}

struct Planned {
  std::string name;
  TensorRole role;
  int64_t rows, cols;
  DType type;
};
std::vector<Planned> planTensors(const ModelConfig& c, DType type) {
  std::vector<Planned> out;
  const auto add = [&](TensorRole role, int layer) {
    const RoleShape s = roleShape(c, role);
    out.push_back({ggufTensorName(role, layer), role, s.rows, s.cols, isMatrix(role) ? type : DType::f32});
  };
  add(TensorRole::tokenEmbedding, -1);
  add(TensorRole::outputNorm, -1);
  if (!c.tiedHead) add(TensorRole::head, -1);
  for (int layer = 0; layer < c.layers; ++layer)
    for (const TensorRole role : blockRoles(c)) add(role, layer);
  return out;
}

int64_t countParameters(const ModelConfig& c) {
  int64_t n = 0;
  for (const Planned& t : planTensors(c, DType::f32)) n += t.rows * t.cols;
  return n;
}

double normalQuantile(double p) {  // bisection on the complementary error function
  double low = -8.0, high = 8.0;
  for (int i = 0; i < 48; ++i) {
    const double middle = 0.5 * (low + high);
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return 0.5 * (low + high);
}
std::vector<float> normalTable() {
  std::vector<float> table(65536);
  for (size_t i = 0; i < 32768; ++i) {
    table[65535 - i] = static_cast<float>(-normalQuantile((static_cast<double>(i) + 0.5) / 65536.0));
    table[i] = -table[65535 - i];
  }
  return table;
}

uint64_t mixed(uint64_t z) {  // the finalizer of splitmix64
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

class RowSource {
 public:
  RowSource(uint64_t seed, size_t tensor, const Planned& t, const std::vector<float>& table)
      : key_(mixed(seed ^ mixed(tensor + 1))), table_(table), cols_(t.cols) {
    if (isMatrix(t.role)) scale_ = 1.0f / std::sqrt(static_cast<float>(t.cols));
    else if (t.role == TensorRole::qBias || t.role == TensorRole::kBias || t.role == TensorRole::vBias) scale_ = 0.1f;
    else scale_ = 0.1f, offset_ = 1.0f;  // norm weights
  }
  void fill(int64_t row, float* out) const {
    uint64_t counter = mixed(key_ + static_cast<uint64_t>(row) * 0x9e3779b97f4a7c15ull);
    for (int64_t c = 0; c < cols_; c += 4) {
      const uint64_t word = mixed(counter += 0x9e3779b97f4a7c15ull);
      const int64_t n = std::min<int64_t>(4, cols_ - c);
      for (int64_t i = 0; i < n; ++i) out[c + i] = table_[word >> (16 * i) & 0xffff] * scale_ + offset_;
    }
  }

 private:
  uint64_t key_;
  const std::vector<float>& table_;
  int64_t cols_;
  float scale_ = 0.0f, offset_ = 0.0f;
};

void describe(const ModelConfig& c, DType type, GgufHeader& header) {
  const std::string a = c.architecture + ".";
  const auto n = [](int value) { return static_cast<uint32_t>(value); };
  constexpr std::array<std::pair<DType, uint32_t>, 5> fileTypes = {
      {{DType::f32, 0}, {DType::f16, 1}, {DType::q4_0, 2}, {DType::q8_0, 7}, {DType::bf16, 32}}};
  header.add("general.architecture", c.architecture);
  header.add("general.name", c.name);
  for (const auto& [t, id] : fileTypes)
    if (t == type) header.add("general.file_type", id);
  header.add("general.quantization_version", uint32_t{2});
  header.add(a + "context_length", n(c.context));
  header.add(a + "embedding_length", n(c.hidden));
  header.add(a + "block_count", n(c.layers));
  header.add(a + "feed_forward_length", n(c.ffn));
  header.add(a + "attention.head_count", n(c.heads));
  header.add(a + "attention.head_count_kv", n(c.kvHeads));
  header.add(a + "attention.key_length", n(c.headDim));
  header.add(a + "attention.value_length", n(c.headDim));
  header.add(a + "attention.layer_norm_rms_epsilon", c.normEps);
  header.add(a + "rope.dimension_count", n(c.rope.dims));
  header.add(a + "rope.freq_base", c.rope.base);
  header.add(a + "vocab_size", n(c.vocab));
}

void addVocab(const SyntheticVocab& v, GgufHeader& header) {
  header.add("tokenizer.ggml.model", std::string_view("gpt2"));
  header.add("tokenizer.ggml.pre", std::string_view("gpt-2"));
  header.add("tokenizer.ggml.tokens", v.tokens);
  header.add("tokenizer.ggml.token_type", v.types);
  header.add("tokenizer.ggml.merges", v.merges);
  header.add("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(v.endOfText));
  header.add("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(v.endOfText));
  header.add("tokenizer.ggml.add_bos_token", false);
}

// Divisors that turn plain frequencies into those of Llama 3; empty without such scaling.
std::vector<float> frequencyFactors(const RopeConfig& rope) {
  if (rope.scaling != RopeScaling::llama3) return {};
  RopeConfig plain = rope;
  plain.scaling = RopeScaling::none;
  std::vector<float> factors = ropeFrequencies(plain);
  const std::vector<float> scaled = ropeFrequencies(rope);
  for (size_t i = 0; i < factors.size(); ++i) factors[i] /= scaled[i];
  return factors;
}

Error cancelled(const std::string& path) { return problem(ErrorCode::cancelled, path + ": writing was cancelled, nothing is left of it"); }

// Writes one tensor in pieces of whole rows; the threads share the rows of a piece.
class TensorWriter {
 public:
  TensorWriter(OutputFile& file, const Progress& progress, const std::string& path, int64_t total)
      : file_(file),
        progress_(progress),
        path_(path),
        total_(total),
        pool_(static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))) {}

  Status write(const Planned& t, const RowSource& source) {
    const DTypeTraits traits = dtypeTraits(t.type);
    const size_t rowBytes = static_cast<size_t>(t.cols / traits.blockValues * traits.blockBytes);
    const int64_t most = std::max<int64_t>(1, static_cast<int64_t>(kPieceBytes / rowBytes));
    for (int64_t row = 0; row < t.rows; row += most) {
      if (progress_.stopped()) return cancelled(path_);
      const int64_t count = std::min(most, t.rows - row);
      const size_t bytes = rowBytes * static_cast<size_t>(count);
      piece_.resize(std::max(piece_.size(), bytes + GgufHeader::kAlignment));
      pool_.run([&](int thread, int threads) {
        const auto range = ThreadPool::split(count, 1, thread, threads);
        std::vector<float> values(static_cast<size_t>(t.cols));
        for (int64_t r = range.begin; r < range.end; ++r) {
          source.fill(row + r, values.data());
          encodeValues(t.type, values.data(), t.cols, piece_.data() + static_cast<size_t>(r) * rowBytes);
        }
      });
      const size_t padding =
          row + count == t.rows ? GgufHeader::padded(rowBytes * static_cast<size_t>(t.rows)) - rowBytes * static_cast<size_t>(t.rows) : 0;
      std::fill_n(piece_.begin() + static_cast<ptrdiff_t>(bytes), padding, std::byte{0});
      if (Status s = file_.write(std::span(piece_).first(bytes + padding)); !s) return s;
      written_ += static_cast<int64_t>(bytes + padding);
      progress_(static_cast<double>(written_) / static_cast<double>(total_), t.name);
    }
    return Done{};
  }

 private:
  OutputFile& file_;
  const Progress& progress_;
  const std::string& path_;
  int64_t total_, written_ = 0;
  ThreadPool pool_;
  std::vector<std::byte> piece_;
};

}  // namespace

const std::vector<NamedShape>& namedShapes() {
  static const std::vector<NamedShape> shapes = [] {
    std::vector<NamedShape> all = {
        shape("starter", "a small Llama", "llama", {10, 384, 6, 2, 64, 960, 4096, 2048}, 10000.0f, true),
        shape("0.1b", "SmolLM2-135M", "llama", {30, 576, 9, 3, 64, 1536, 49152, 8192}, 100000.0f, true),
        shape("0.3b", "SmolLM2-360M", "llama", {32, 960, 15, 5, 64, 2560, 49152, 8192}, 100000.0f, true),
        shape("0.5b", "Qwen2.5-0.5B", "qwen2", {24, 896, 14, 2, 64, 4864, 151936, 32768}, 1000000.0f, true),
        llama3Shape("1b", "Llama-3.2-1B", {16, 2048, 32, 8, 64, 8192, 128256, 131072}, 32.0f, true),
        llama3Shape("3b", "Llama-3.2-3B", {28, 3072, 24, 8, 128, 8192, 128256, 131072}, 32.0f, true),
        llama3Shape("8b", "Llama-3.1-8B", {32, 4096, 32, 8, 128, 14336, 128256, 131072}, 8.0f, false)};
    for (NamedShape& s : all) s.config.parameters = countParameters(s.config);
    return all;
  }();
  return shapes;
}

Status synthesize(const NamedShape& shape, std::string_view type, uint64_t seed, const std::string& path, const Progress& progress) {
  const ModelConfig& c = shape.config;
  DType dtype = DType::count;
  for (const DType t : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0})
    if (dtypeTraits(t).name == type) dtype = t;
  if (dtype == DType::count)
    return problem(ErrorCode::usage, "the type " + shown(type) + " cannot be synthesized; f32, f16, bf16, q8_0 and q4_0 can");
  const std::vector<Planned> tensors = planTensors(c, dtype);
  for (const Planned& t : tensors)
    if (t.cols % dtypeTraits(t.type).blockValues != 0)
      return problem(ErrorCode::usage, sentence("rows of ", t.cols, " values (", t.name, ") cannot be stored as ", type, ", a multiple of ",
                                              dtypeTraits(t.type).blockValues, " was expected"));
  const auto vocab = syntheticVocab(c.vocab);
  if (!vocab) return vocab.error();
  GgufHeader header;
  describe(c, dtype, header);
  addVocab(*vocab, header);
  const std::vector<float> factors = frequencyFactors(c.rope);
  if (!factors.empty()) header.addTensor("rope_freqs.weight", {static_cast<int64_t>(factors.size())}, DType::f32);
  for (const Planned& t : tensors)
    header.addTensor(t.name, isMatrix(t.role) ? std::vector<int64_t>{t.rows, t.cols} : std::vector<int64_t>{t.cols}, t.type);
  const std::vector<std::byte> front = header.bytes();
  auto file = OutputFile::create(path, static_cast<int64_t>(front.size()) + header.dataBytes());
  if (!file) return file.error();
  if (Status s = file->write(front); !s) return s;
  std::vector<float> padded(GgufHeader::padded(factors.size() * 4) / 4);
  std::copy(factors.begin(), factors.end(), padded.begin());
  if (Status s = file->write(std::as_bytes(std::span(padded))); !s) return s;
  const std::vector<float> table = normalTable();
  TensorWriter writer(*file, progress, path, header.dataBytes());
  for (size_t i = 0; i < tensors.size(); ++i)
    if (Status s = writer.write(tensors[i], RowSource(seed, i, tensors[i], table)); !s) return s;
  if (progress.stopped()) return cancelled(path);
  return file->commit();
}

}  // namespace winnow
