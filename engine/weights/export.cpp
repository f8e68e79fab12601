// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/export.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include "engine/core/check.h"
#include "engine/model/encode.h"
#include "engine/model/gguf.h"
#include "engine/model/gguf_writer.h"
#include "engine/model/mapped_file.h"
#include "engine/model/message.h"

namespace winnow {
namespace {

constexpr int kTile = WeightFormat::kTileRows;
constexpr size_t kPieceBytes = 8u << 20;

// One tensor of the file: the matrices it holds, in the order of its rows (a fused one holds three), and how it is written.
struct Planned {
  const GgufTensor* source = nullptr;
  std::vector<size_t> parts;  // indices of Model::tensors(); empty: no matrix of the model
  std::vector<int64_t> shape;  // outermost first
  bool copied = true;
  DType type{};
  int64_t rows = 0, cols = 0;
};

// Nothing but the form it always has: the file's own values. A device may have none for blocks, and reads them as f16.
bool untouched(const MasterTensor& tensor, const Recipe& recipe) {
  const std::string key = recipe.key();
  return key == (isMatrix(tensor.role) ? ownFormat(tensor) : WeightFormat{}).describe() || (isBlockType(tensor.type) && key == "f16");
}

class Exporter {
 public:
  Exporter(const WeightSet& set, const WeightTarget& target, const std::string& settings, const std::string& path, ThreadPool& pool, const Progress& progress)
      : set_(set), target_(target), settings_(settings), path_(path), pool_(pool), progress_(progress) {}

  Result<ExportSummary> run(const GgufFile& source) {
    if (Status planned = plan(source); !planned) return planned.error();
    const std::vector<std::byte> front = header(source);
    auto file = OutputFile::create(path_, static_cast<int64_t>(front.size()) + dataBytes_);
    if (!file) return file.error();
    summary_.bytes = static_cast<int64_t>(front.size()) + dataBytes_;
    if (Status s = file->write(front); !s) return s.error();
    for (const Planned& each : planned_) {
      if (Status s = each.copied ? copy(*file, each) : encode(*file, each); !s) return s.error();
      if (progress_.stopped()) return cancelled();
    }
    if (Status s = file->commit(); !s) return s.error();
    for (const auto& [format, count] : asValues_)
      summary_.notes.push_back(format + ", stored as plain values (" + std::to_string(count) + (count == 1 ? " tensor)." : " tensors)."));
    return summary_;
  }

 private:
  Error cancelled() const { return problem(ErrorCode::cancelled, path_ + ": writing was cancelled, nothing is left of it"); }
  const MasterTensor& master(size_t i) const { return set_.model->tensors()[i]; }
  const Matrix& matrix(size_t i) const { return set_.versions[i]->matrix; }

  Status plan(const GgufFile& source) {
    std::map<std::string, std::vector<size_t>, std::less<>> parts;
    for (size_t i = 0; i < set_.versions.size(); ++i) parts[master(i).fileName].push_back(i);
    for (const GgufTensor& tensor : source.tensors()) {
      Planned each;
      each.source = &tensor;
      each.shape = tensor.shape;
      if (!tensor.type) return badInput(path_, ": tensor ", shown(tensor.name), " of type ", ggufTensorTypeName(tensor.typeId), " can't be copied");
      each.type = *tensor.type;
      if (const auto found = parts.find(tensor.name); found != parts.end())
        if (Status s = choose(found->second, each); !s) return s;
      planned_.push_back(std::move(each));
    }
    return Done{};
  }

  Status choose(std::vector<size_t> parts, Planned& each) {
    for (const size_t part : parts) each.copied &= untouched(master(part), target_.recipes[part]) && !set_.versions[part]->kept && set_.versions[part]->constants.empty();
    if (each.copied) return Done{};
    std::ranges::sort(parts, {}, [&](size_t part) { return std::pair(master(part).data, master(part).firstStoredRow); });
    each.cols = matrix(parts[0]).cols;
    int64_t stored = 0;  // rows of the file's tensor
    bool narrowed = false;
    for (const size_t part : parts) {
      const MasterTensor& t = master(part);
      const bool apart = isMatrix(t.role) ? t.firstStoredRow != stored : t.data != master(parts[0]).data + static_cast<size_t>(stored) * t.storedRowBytes;
      if (t.transposed || matrix(part).cols != each.cols || apart || (t.rows == 1 && t.unpermuteHeads > 0))
        return badInput(path_, ": the changed tensor ", shown(t.fileName), " can't be put back where it lies in ", set_.model->path());
      stored += t.rows;
      each.rows += matrix(part).rows;
      narrowed |= set_.versions[part]->kept != nullptr;
    }
    if (narrowed) each.shape = each.shape.size() == 1 ? std::vector<int64_t>{each.cols} : std::vector<int64_t>{each.rows, each.cols};
    each.type = typeOf(parts);
    each.parts = std::move(parts);
    return Done{};
  }

  // One type for all parts: their plain type, the block type that holds them, else f32.
  DType typeOf(const std::vector<size_t>& parts) {
    std::optional<DType> common;
    for (const size_t part : parts) {
      const Matrix& m = matrix(part);
      std::optional<DType> type;
      switch (m.format.storage) {
        case Storage::f32: type = DType::f32; break;
        case Storage::f16: type = DType::f16; break;
        case Storage::bf16: type = DType::bf16; break;
        case Storage::packed: type = exactBlockType(m.format, m.cols); break;
      }
      if (!type) ++asValues_[m.format.describe() + (m.cols % 32 == 0 ? " has no block type that holds it exactly" : " in rows of " + std::to_string(m.cols) + " values makes no whole blocks of 32")];
      if (!type || (common && *common != *type)) return DType::f32;
      common = type;
    }
    return *common;
  }

  std::vector<std::byte> header(const GgufFile& source) {
    GgufHeader header;
    std::vector<std::string_view> keys = source.keys();
    std::ranges::sort(keys, {}, [](std::string_view key) { return std::pair(key != "general.architecture", key); });
    std::map<std::string, int, std::less<>> extents = narrowExtents(source);
    for (const std::string_view key : keys)
      if (const auto extent = extents.find(key); extent != extents.end()) {
        header.add(key, static_cast<uint32_t>(extent->second));
        extents.erase(extent);
      } else if (key != "general.alignment" && key != "general.file_type" && key != "general.quantization_version" && key != "winnow.settings") {
        header.add(key, *source.value(key));
      }
    for (const auto& [key, extent] : extents) header.add(key, static_cast<uint32_t>(extent));  // what the source left unsaid
    header.add("general.file_type", fileType());
    header.add("general.quantization_version", uint32_t{2});
    header.add("winnow.settings", std::string_view(settings_));
    for (const Planned& each : planned_) header.addTensor(each.source->name, each.shape, each.type);
    dataBytes_ = header.dataBytes();
    return header.bytes();
  }

  // Keys of what is narrower than in the source. Where heads are left out their size is no longer what the hidden size and their number say.
  std::map<std::string, int, std::less<>> narrowExtents(const GgufFile& source) const {
    const ModelConfig shape = *exportedShape(set_), &whole = set_.model->config();
    std::string prefix;
    for (const std::string_view key : source.keys())
      if (key.ends_with(".block_count")) prefix = key.substr(0, key.size() - std::strlen("block_count"));
    std::map<std::string, int, std::less<>> out;
    if (shape.ffn != whole.ffn) out[prefix + "feed_forward_length"] = shape.ffn;
    if (!set_.narrowShape) return out;
    out[prefix + "attention.head_count"] = shape.heads;
    out[prefix + "attention.head_count_kv"] = shape.kvHeads;
    out[prefix + "attention.key_length"] = out[prefix + "attention.value_length"] = shape.headDim;
    if (shape.rope.dims > 0) out[prefix + "rope.dimension_count"] = shape.rope.dims;
    return out;
  }

  // What most bytes are in, as llama.cpp numbers it.
  uint32_t fileType() const {
    constexpr std::pair<DType, uint32_t> ids[] = {{DType::f32, 0},  {DType::f16, 1},   {DType::q4_0, 2},  {DType::q4_1, 3},  {DType::q8_0, 7}, {DType::q5_0, 8},
                                                  {DType::q5_1, 9}, {DType::q2_k, 10}, {DType::q3_k, 12}, {DType::q4_k, 15}, {DType::q5_k, 17}, {DType::q6_k, 18},
                                                  {DType::bf16, 32}, {DType::mxfp4, 38}};
    std::map<DType, int64_t> bytes;
    for (const Planned& each : planned_) bytes[each.type] += byteCount(each);
    const auto most = std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
    for (const auto& [type, id] : ids)
      if (most != bytes.end() && type == most->first) return id;
    return 0;
  }

  static int64_t byteCount(const Planned& each) {
    int64_t values = 1;
    for (const int64_t extent : each.shape) values *= extent;
    const DTypeTraits traits = dtypeTraits(each.type);
    return values / traits.blockValues * traits.blockBytes;
  }

  Status wrote(OutputFile& file, std::span<const std::byte> bytes) {
    if (progress_.stopped()) return cancelled();
    if (Status s = file.write(bytes); !s) return s;
    written_ += static_cast<int64_t>(bytes.size());
    progress_(static_cast<double>(written_) / static_cast<double>(std::max<int64_t>(1, dataBytes_)), "writing the model");
    return Done{};
  }
  Status pad(OutputFile& file, int64_t bytes) {
    const std::byte zeros[GgufHeader::kAlignment] = {};
    const auto size = static_cast<size_t>(bytes);
    return wrote(file, std::span(zeros).first(GgufHeader::padded(size) - size));
  }

  Status copy(OutputFile& file, const Planned& each) {
    ++summary_.copied;
    std::span<const std::byte> rest(each.source->data, each.source->bytes);
    while (!rest.empty()) {
      const auto piece = rest.first(std::min(rest.size(), kPieceBytes));
      if (Status s = wrote(file, piece); !s) return s;
      rest = rest.subspan(piece.size());
    }
    return pad(file, static_cast<int64_t>(each.source->bytes));
  }

  Status encode(OutputFile& file, const Planned& each) {
    ++(isBlockType(each.type) ? summary_.blocks : summary_.plain);
    const DTypeTraits traits = dtypeTraits(each.type);
    const size_t rowBytes = static_cast<size_t>(each.cols / traits.blockValues * traits.blockBytes);
    std::vector<std::byte> piece;
    for (const size_t part : each.parts) {
      const MasterTensor& t = master(part);
      const Matrix& m = matrix(part);
      // Permuted rows are put in their places in a piece that holds them all.
      const int tiles = static_cast<int>(std::max<size_t>(1, kPieceBytes / (rowBytes * kTile)));
      const int most = t.unpermuteHeads > 0 ? m.rows : tiles * kTile;
      for (int first = 0; first < m.rows; first += most) {
        const int count = std::min(most, m.rows - first);
        piece.resize(rowBytes * static_cast<size_t>(count));
        encodeRows(t, m, each.type, first, count, rowBytes, piece.data());
        if (Status s = wrote(file, piece); !s) return s;
      }
    }
    return pad(file, static_cast<int64_t>(rowBytes) * each.rows);
  }

  void encodeRows(const MasterTensor& whole, const Matrix& m, DType type, int first, int count, size_t rowBytes, std::byte* out) {
    MasterTensor t = whole;  // where rows of heads go when there are fewer of them
    if (t.unpermuteHeads > 0) t.unpermuteHeads = static_cast<int>(t.unpermuteHeads * m.rows / t.rows), t.rows = m.rows;
    pool_.run([&](int thread, int threads) {
      const auto range = ThreadPool::split(count, kTile, thread, threads);
      std::vector<std::byte> rows(rowBytes * kTile);
      std::vector<float> values(static_cast<size_t>(m.cols));
      for (int64_t begin = range.begin; begin < range.end; begin += kTile) {
        const int row = first + static_cast<int>(begin), n = static_cast<int>(std::min<int64_t>(kTile, range.end - begin));
        if (isBlockType(type)) {
          encodeBlocks(m, type, row, n, rows.data());
        } else {
          for (int r = 0; r < n; ++r) {
            dequantizeRow(m, row + r, values.data());
            encodeValues(type, values.data(), m.cols, rows.data() + rowBytes * static_cast<size_t>(r));
          }
        }
        for (int r = 0; r < n; ++r) {
          const int64_t place = t.storedRowOf(row + r) - t.firstStoredRow - first;
          std::memcpy(out + rowBytes * static_cast<size_t>(place), rows.data() + rowBytes * static_cast<size_t>(r), rowBytes);
        }
      }
    });
  }

  const WeightSet& set_;
  const WeightTarget& target_;
  const std::string& settings_;
  const std::string& path_;
  ThreadPool& pool_;
  const Progress& progress_;
  std::vector<Planned> planned_;
  std::map<std::string, int> asValues_;
  int64_t dataBytes_ = 0, written_ = 0;
  ExportSummary summary_;
};

}  // namespace

Status placesForBiases(const WeightSet& set) {
  for (size_t i = 0; i < set.versions.size(); ++i)
    if (set.versions[i]->bias)
      return Error{ErrorCode::badInput, "Recovery gave " + set.model->tensors()[i].fileName + " a bias, for which a file of this architecture has no place.",
                   "Set prune.recovery to scale, least-squares or admm to export."};
  return Done{};
}

Error slicedRefusal() {
  return {ErrorCode::badInput, "A sliced residual stream goes through a matrix of its own beside every part of a layer, and no model file has a place for those.", "Set prune.slice=0 to export."};
}

Result<int> commonWidth(const WeightSet& set) {
  const int whole = set.model->config().ffn;
  const auto widthOf = [&](const Channels& kept) { return kept ? static_cast<int>(kept->list.size()) : whole; };
  const int width = set.channels.empty() ? whole : widthOf(set.channels.front());
  if (std::ranges::all_of(set.channels, [&](const Channels& kept) { return widthOf(kept) == width; })) return width;
  return Error{ErrorCode::badInput, "The feed-forwards of the layers have different widths, and a model file has one for all of them.",
               "Set prune.width=0, or prune.width_method=minitron, which leaves all layers alike, to export."};
}

Result<ModelConfig> exportedShape(const WeightSet& set) {
  const auto width = commonWidth(set);
  if (!width) return width.error();
  ModelConfig shape = set.shape();
  shape.ffn = *width;
  if (shape.headDim != set.model->config().headDim)
    return Error{ErrorCode::badInput, "Narrowed heads turn by frequencies of their own, which no model file can say.",
                 "Set prune.head_dim=0 to export."};
  if (set.narrowShape && shape.architecture == "gpt2")
    return Error{ErrorCode::badInput, "The heads of a GPT-2 file fill its hidden size, and this model has lost some.", "Set prune.heads=0 to export."};
  return shape;
}

Result<ExportSummary> exportGguf(const WeightSet& set, const WeightTarget& target, const std::string& settings, const std::string& path, ThreadPool& pool, const Progress& progress) {
  const std::string& source = set.model->path();
  CHECK(set.versions.size() == target.recipes.size(), set.versions.size(), target.recipes.size());
  if (set.model->format() != "gguf")
    return Error{ErrorCode::badInput, source + " is a " + set.model->format() + " model: only GGUF models are exported.", "Convert it to GGUF with llama.cpp first."};
  std::error_code ignored;
  if (std::filesystem::equivalent(source, path, ignored))
    return Error{ErrorCode::badInput, path + " is the model that is open: it can't be replaced by its own compressed form.", "Choose another name."};
  for (const LayerWeights& layer : set.layers)
    if (layer.downCorrections)
      return Error{ErrorCode::badInput, "Super weights that are kept exact lie beside the packed weights, and a GGUF file has no place for them.",
                   "Set weights.super=off to export."};
  if (set.sliceWidth > 0) return slicedRefusal();
  if (const Status places = placesForBiases(set); !places) return places.error();
  if (set.parts != allParts(set.model->config().layers))
    return Error{ErrorCode::badInput, "Layers or parts of layers that are dropped or merged would stay in the file: its tensors keep their names and places.",
                 "Set prune.layers=0 to export."};
  if (const auto shape = exportedShape(set); !shape) return shape.error();
  for (const auto& version : set.versions)
    if (version->error)
      return Error{ErrorCode::badInput, "Low-rank factors that make up for rounding lie beside the packed weights, and a GGUF file has no place for them.",
                   "Set weights.error_rank=0, and weights.method=rtn in place of aser, to export."};
  auto map = MappedFile::open(source);
  if (!map) return map.error();
  const auto file = GgufFile::parse((*map)->bytes(), source);
  if (!file) return file.error();
  return Exporter(set, target, settings, path, pool, progress).run(*file);
}

}  // namespace winnow
