// SPDX-License-Identifier: GPL-3.0-or-later
// A weight set as a folder of Hugging Face: plain values, in the smallest type that holds them all.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>

#include "engine/core/check.h"
#include "engine/model/encode.h"
#include "engine/model/gguf_writer.h"
#include "engine/model/message.h"
#include "engine/weights/export.h"
#ifdef WINNOW_HAS_HUGGINGFACE
#include "engine/model/huggingface_write.h"
#endif

namespace winnow {

#ifdef WINNOW_HAS_HUGGINGFACE

namespace {

namespace fs = std::filesystem;

constexpr size_t kPieceBytes = 8u << 20;
constexpr double kChoosing = 0.3;  // of the work, by progress

// One tensor of the file: the matrices that make it, one after the other.
struct Planned {
  std::vector<size_t> parts;  // indices of Model::tensors()
  SafetensorsEntry entry;
  bool transposed = false, vector = false;
};

// A folder that gets its name when all is in it, and is gone otherwise.
class StagedFolder {
 public:
  explicit StagedFolder(fs::path folder) : folder_(std::move(folder)), staging_(folder_.string() + ".partial-" + std::to_string(static_cast<long>(::getpid()))) {}
  ~StagedFolder() {
    std::error_code ignored;
    if (made_) fs::remove_all(staging_, ignored);
  }
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  Status create() {
    std::error_code error;
    if (fs::exists(folder_, error) && !(fs::is_directory(folder_, error) && fs::is_empty(folder_, error)))
      return problem(ErrorCode::badInput,
                     sentence(folder_.string(), fs::is_directory(folder_, error) ? ": other files are in this folder, which" : ": this is a file, which",
                              " is not overwritten; a model of Hugging Face is a folder of its own"),
                     "Name a folder that is new or empty.");
    made_ = fs::create_directory(staging_, error);
    if (made_) return Done{};
    const std::string reason = error == std::errc::no_such_file_or_directory ? "the folder it would be in does not exist"
                               : error                                      ? error.message()
                                                                            : "a folder of this name is there";
    return problem(ErrorCode::failed, sentence(staging_.string(), ": making this folder failed, ", reason), "Choose another folder.");
  }
  std::string file(const std::string& name) const { return (staging_ / name).string(); }
  Status commit() {
    std::error_code error;
    fs::rename(staging_, folder_, error);  // an empty folder may be there
    if (error) return problem(ErrorCode::failed, sentence(folder_.string(), ": giving the folder its name failed, ", error.message()));
    made_ = false;
    return Done{};
  }

 private:
  fs::path folder_, staging_;
  bool made_ = false;
};

class Exporter {
 public:
  Exporter(const WeightSet& set, const WeightTarget& target, const std::string& settings, const std::string& path, ThreadPool& pool, const Progress& progress)
      : set_(set), target_(target), settings_(settings), path_(path), pool_(pool), progress_(progress) {}

  Result<ExportSummary> run() {
    const fs::path wanted = fs::path(path_).lexically_normal();
    const bool named = wanted.extension() == ".safetensors";
    fs::path folder = named || !wanted.has_filename() ? wanted.parent_path() : wanted;
    if (folder.empty()) folder = ".";
    StagedFolder staged(folder);
    if (Status made = staged.create(); !made) return made.error();
    plan();
    if (Status chosen = chooseTypes(); !chosen) return chosen.error();
    const auto files = huggingFaceFiles(*set_.model, *exportedShape(set_), widest(), summary_.notes);
    if (!files) return files.error();
    for (const NamedText& file : *files)
      if (Status s = writeText(staged.file(file.name), file.text); !s) return s.error();
    if (Status s = writeWeights(staged.file(named ? wanted.filename().string() : "model.safetensors")); !s) return s.error();
    if (Status s = staged.commit(); !s) return s.error();
    for (const auto& [format, count] : asF32_)
      summary_.notes.push_back(format + " has values that no 16-bit type holds, stored as f32 (" + std::to_string(count) + (count == 1 ? " matrix)." : " matrices)."));
    if (added_ > 0)
      summary_.notes.push_back("What lies beside " + std::to_string(added_) + " packed matrices (factors of an error, super weights) was added to their values.");
    return summary_;
  }

 private:
  Error cancelled() const { return problem(ErrorCode::cancelled, path_ + ": writing was cancelled, nothing is left of it"); }
  const MasterTensor& master(size_t i) const { return set_.model->tensors()[i]; }
  const WeightVersion& version(size_t i) const { return *set_.versions[i]; }
  const Matrix& matrix(size_t i) const { return version(i).matrix; }
  bool beside(size_t i) const { return version(i).error || !version(i).corrections.empty(); }

  void plan() {
    std::map<std::string, size_t> places;
    for (size_t i = 0; i < set_.versions.size(); ++i) {
      const MasterTensor& t = master(i);
      const HuggingFacePlace place = huggingFacePlace(set_.model->config(), t.role, t.layer);
      const auto [at, fresh] = places.emplace(place.name, planned_.size());
      if (fresh) planned_.push_back({{}, {place.name, DType::f32, {}}, place.transposed, !isMatrix(t.role)});
      planned_[at->second].parts.push_back(i);
    }
    for (Planned& each : planned_) {
      int64_t rows = 0, cols = 0;
      for (const size_t part : each.parts) {
        rows += each.vector ? 0 : matrix(part).rows;
        cols = each.vector ? cols + matrix(part).cols : matrix(part).cols;
        values_ += int64_t{matrix(part).rows} * matrix(part).cols;
      }
      each.entry.shape = each.vector ? std::vector<int64_t>{cols} : each.transposed ? std::vector<int64_t>{cols, rows} : std::vector<int64_t>{rows, cols};
    }
  }

  // The values that products see: what lies beside packed ones is added, in f32.
  void rowOf(size_t part, int row, float* out) const {
    dequantizeRow(matrix(part), row, out);
    if (version(part).error) version(part).error.addRow(row, out);
    for (const WeightCorrection& c : version(part).corrections)
      if (c.row == row) out[c.column] += c.delta;
  }

  static bool holds(DType type, const float* values, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const float back = type == DType::f16 ? f16ToFloat(floatToF16(values[i])) : bf16ToFloat(floatToBf16(values[i]));
      if (std::memcmp(&back, values + i, sizeof back) != 0) return false;
    }
    return true;
  }

  // Plain matrices keep their type, by which activations are rounded; the rest takes the first of these that holds every value. Norms and biases are
  // computed in f32 whatever they are stored as, and go with the matrices.
  Status chooseTypes() {
    std::map<DType, int64_t> plain;
    const auto typeOf = [](Storage storage) { return storage == Storage::f16 ? DType::f16 : storage == Storage::bf16 ? DType::bf16 : DType::f32; };
    for (size_t i = 0; i < set_.versions.size(); ++i)
      if (isMatrix(master(i).role) && matrix(i).format.storage != Storage::packed) plain[typeOf(matrix(i).format.storage)] += int64_t{matrix(i).rows} * matrix(i).cols;
    const bool brain = plain[DType::bf16] > plain[DType::f16];
    const bool noSixteen = plain[DType::bf16] + plain[DType::f16] == 0 && plain[DType::f32] > 0;
    for (Planned& each : planned_) {
      std::vector<DType> candidates = {brain ? DType::bf16 : DType::f16, brain ? DType::f16 : DType::bf16};
      if (each.vector && noSixteen) candidates.clear();
      DType type = DType::f32;
      bool kept = !each.vector;
      const Storage storage = matrix(each.parts[0]).format.storage;
      for (const size_t part : each.parts) kept &= matrix(part).format.storage == storage && storage != Storage::packed && !beside(part);
      if (kept) {
        type = typeOf(storage);
        for (const size_t part : each.parts) looked(part);
      } else {
        const auto common = smallest(each.parts, candidates);
        if (!common) return common.error();
        type = *common;
        if (type == DType::f32 && !each.vector) ++asF32_[matrix(each.parts[0]).format.describe()];
      }
      each.entry.type = type;
      for (const size_t part : each.parts) added_ += beside(part);
      bool unchanged = true;
      for (const size_t part : each.parts) unchanged &= master(part).type == type && unprocessed(part);
      ++(unchanged ? summary_.copied : summary_.plain);
    }
    return Done{};
  }

  bool unprocessed(size_t i) const { return target_.recipes[i].key() == (isMatrix(master(i).role) ? ownFormat(master(i)) : WeightFormat{}).describe(); }

  Result<DType> smallest(const std::vector<size_t>& parts, const std::vector<DType>& candidates) {
    std::array<std::atomic<bool>, 2> fits = {true, true};
    for (const size_t part : parts) {
      const Matrix& m = matrix(part);
      pool_.run([&](int thread, int threads) {
        const auto range = ThreadPool::split(m.rows, WeightFormat::kTileRows, thread, threads);
        std::vector<float> values(static_cast<size_t>(m.cols));
        for (int64_t row = range.begin; row < range.end && (fits[0] || fits[1]) && !progress_.stopped(); ++row) {
          rowOf(part, static_cast<int>(row), values.data());
          for (size_t c = 0; c < candidates.size(); ++c)
            if (fits[c] && !holds(candidates[c], values.data(), m.cols)) fits[c] = false;
        }
      });
      looked(part);
      if (progress_.stopped()) return cancelled();
    }
    for (size_t c = 0; c < candidates.size(); ++c)
      if (fits[c]) return candidates[c];
    return DType::f32;
  }

  void looked(size_t part) {
    done_ += int64_t{matrix(part).rows} * matrix(part).cols;
    progress_(kChoosing * static_cast<double>(done_) / static_cast<double>(std::max<int64_t>(1, values_)), "choosing types");
  }

  DType widest() const {
    const DType first = planned_.front().entry.type;
    return std::ranges::all_of(planned_, [&](const Planned& each) { return each.entry.type == first; }) ? first : DType::f32;
  }

  Status writeText(const std::string& path, const std::string& text) {
    auto file = OutputFile::create(path, static_cast<int64_t>(text.size()));
    if (!file) return file.error();
    if (Status s = file->write(std::as_bytes(std::span(text.data(), text.size()))); !s) return s;
    summary_.bytes += static_cast<int64_t>(text.size());
    return file->commit();
  }

  Status writeWeights(const std::string& path) {
    std::vector<SafetensorsEntry> entries;
    for (const Planned& each : planned_) entries.push_back(each.entry);
    const std::string header = safetensorsHeader(entries, settings_);
    for (const SafetensorsEntry& entry : entries) dataBytes_ += entry.bytes();
    auto file = OutputFile::create(path, static_cast<int64_t>(header.size()) + dataBytes_);
    if (!file) return file.error();
    summary_.bytes += static_cast<int64_t>(header.size()) + dataBytes_;
    if (Status s = file->write(std::as_bytes(std::span(header.data(), header.size()))); !s) return s;
    for (const Planned& each : planned_)
      if (Status s = each.transposed ? writeTransposed(*file, each) : writeRows(*file, each); !s) return s;
    return file->commit();
  }

  Status wrote(OutputFile& file, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      if (progress_.stopped()) return cancelled();
      const auto piece = bytes.first(std::min(bytes.size(), kPieceBytes));
      if (Status s = file.write(piece); !s) return s;
      bytes = bytes.subspan(piece.size());
      written_ += static_cast<int64_t>(piece.size());
      progress_(kChoosing + (1 - kChoosing) * static_cast<double>(written_) / static_cast<double>(std::max<int64_t>(1, dataBytes_)), "writing the model");
    }
    return Done{};
  }

  // body(row, values) for rows [first, first + count) of a part, on all threads.
  template <class Body>
  void eachRow(size_t part, int first, int count, Body body) {
    pool_.run([&](int thread, int threads) {
      const auto range = ThreadPool::split(count, WeightFormat::kTileRows, thread, threads);
      std::vector<float> values(static_cast<size_t>(matrix(part).cols));
      for (int64_t row = range.begin; row < range.end; ++row) {
        rowOf(part, first + static_cast<int>(row), values.data());
        body(row, values.data());
      }
    });
  }

  Status writeRows(OutputFile& file, const Planned& each) {
    std::vector<std::byte> piece;
    for (const size_t part : each.parts) {
      const Matrix& m = matrix(part);
      const size_t rowBytes = static_cast<size_t>(m.cols) * static_cast<size_t>(dtypeTraits(each.entry.type).blockBytes);
      const int most = static_cast<int>(std::max<size_t>(1, kPieceBytes / rowBytes));
      for (int first = 0; first < m.rows; first += most) {
        const int count = std::min(most, m.rows - first);
        piece.resize(rowBytes * static_cast<size_t>(count));
        eachRow(part, first, count, [&](int64_t row, const float* values) {
          encodeValues(each.entry.type, values, m.cols, piece.data() + rowBytes * static_cast<size_t>(row));
        });
        if (Status s = wrote(file, piece); !s) return s;
      }
    }
    return Done{};
  }

  // [in][out of all parts]; rows of the parts become columns.
  Status writeTransposed(OutputFile& file, const Planned& each) {
    const auto width = static_cast<size_t>(each.entry.shape[1]), bytes = static_cast<size_t>(dtypeTraits(each.entry.type).blockBytes);
    std::vector<std::byte> all(static_cast<size_t>(each.entry.bytes()));
    size_t before = 0;
    for (const size_t part : each.parts) {
      const Matrix& m = matrix(part);
      eachRow(part, 0, m.rows, [&](int64_t row, const float* values) {
        std::vector<std::byte> encoded(static_cast<size_t>(m.cols) * bytes);
        encodeValues(each.entry.type, values, m.cols, encoded.data());
        for (size_t k = 0; k < static_cast<size_t>(m.cols); ++k)
          std::memcpy(all.data() + (k * width + before + static_cast<size_t>(row)) * bytes, encoded.data() + k * bytes, bytes);
      });
      before += static_cast<size_t>(m.rows);
    }
    return wrote(file, all);
  }

  const WeightSet& set_;
  const WeightTarget& target_;
  const std::string& settings_;
  const std::string& path_;
  ThreadPool& pool_;
  const Progress& progress_;
  std::vector<Planned> planned_;
  std::map<std::string, int> asF32_;
  int added_ = 0;
  int64_t values_ = 0, done_ = 0, dataBytes_ = 0, written_ = 0;
  ExportSummary summary_;
};

}  // namespace

Result<ExportSummary> exportSafetensors(const WeightSet& set, const WeightTarget& target, const std::string& settings, const std::string& path, ThreadPool& pool,
                                        const Progress& progress) {
  CHECK(set.versions.size() == target.recipes.size(), set.versions.size(), target.recipes.size());
  if (set.parts != allParts(set.model->config().layers))
    return Error{ErrorCode::badInput, "Layers or parts of layers that are dropped or merged would leave gaps that a configuration of Hugging Face can't say.",
                 "Set prune.layers=0 to export."};
  if (set.sliceWidth > 0) return slicedRefusal();
  if (const Status places = placesForBiases(set); !places) return places.error();
  if (const auto shape = exportedShape(set); !shape) return shape.error();
  return Exporter(set, target, settings, path, pool, progress).run();
}

#else

Result<ExportSummary> exportSafetensors(const WeightSet&, const WeightTarget&, const std::string&, const std::string& path, ThreadPool&, const Progress&) {
  return Error{ErrorCode::failed, path + ": this program was built without nlohmann-json and can't write folders of Hugging Face.", "Export as GGUF: --out NAME.gguf."};
}

#endif

}  // namespace winnow
