// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/report.h"

#include "engine/weights/head_folds.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <thread>

#include "engine/core/check.h"
#include "engine/weights/narrowed_tensor.h"

namespace winnow {
namespace {

constexpr int kTile = WeightFormat::kTileRows;

struct Sums {
  double signal = 0, noise = 0, weightedSignal = 0, weightedNoise = 0, maxError = 0, maxMagnitude = 0;
  int64_t zeros = 0;
};

Sums sumsOf(const float* master, const float* now, int cols, const float* norms) {
  Sums s;
  for (int c = 0; c < cols; ++c) {
    const double was = master[c], error = was - static_cast<double>(now[c]);
    s.signal += was * was;
    s.noise += error * error;
    s.maxError = std::max(s.maxError, std::fabs(error));
    s.maxMagnitude = std::max(s.maxMagnitude, std::fabs(was));
    s.zeros += now[c] == 0.0f;
    if (!norms) continue;
    const double norm = norms[c];
    s.weightedSignal += was * norm * was * norm;
    s.weightedNoise += error * norm * error * norm;
  }
  return s;
}

void add(Sums& to, const Sums& s) {
  to.signal += s.signal;
  to.noise += s.noise;
  to.weightedSignal += s.weightedSignal;
  to.weightedNoise += s.weightedNoise;
  to.maxError = std::max(to.maxError, s.maxError);
  to.maxMagnitude = std::max(to.maxMagnitude, s.maxMagnitude);
  to.zeros += s.zeros;
}

Error cancelled() { return {ErrorCode::cancelled, "Comparing the weights was cancelled.", ""}; }

// Bands of rows, spread over the pool: work(thread, rows, first, count). False when stopped.
bool eachBand(const MasterTensor& tensor, const WeightVersion& version, ThreadPool& pool, const Progress& progress,
              const std::function<void(int thread, RowPair& rows, int first, int count)>& work) {
  std::atomic<int> next{0};
  const Matrix& matrix = version.matrix;
  pool.run([&](int thread, int) {
    RowPair rows(tensor, version);
    const int band = rows.rowsPerBand();
    for (int first = next.fetch_add(band); first < matrix.rows && !progress.stopped(); first = next.fetch_add(band)) {
      const int count = std::min(band, matrix.rows - first);
      rows.read(first, count);
      work(thread, rows, first, count);
      std::this_thread::yield();
    }
  });
  return !progress.stopped();
}

// Sums of each band, added in order: the same for any number of threads.
std::optional<Sums> compare(const MasterTensor& tensor, const WeightVersion& version, const float* norms, ThreadPool& pool, const Progress& progress) {
  const Matrix& matrix = version.matrix;
  std::vector<Sums> rowSums(static_cast<size_t>(matrix.rows));
  const bool whole = eachBand(tensor, version, pool, progress, [&](int, const RowPair& rows, int first, int count) {
    for (int r = first; r < first + count; ++r) rowSums[static_cast<size_t>(r)] = sumsOf(rows.master(r), rows.now(r), matrix.cols, norms);
  });
  if (!whole) return std::nullopt;
  Sums all;
  for (const Sums& each : rowSums) add(all, each);
  return all;
}

bool linearOfBlock(TensorRole role) {
  return role != TensorRole::tokenEmbedding && role != TensorRole::positionEmbedding && role != TensorRole::head;
}

// What a version is held against: the master's values, in its directions where the stream is sliced.
class Turned {
 public:
  Turned(const Model& model, const MasterTensor& whole, const WeightVersion& version, ThreadPool& pool) : whole_(whole) {
    if (version.slice) sliced_.emplace(model, whole, *version.slice, pool);
  }
  const MasterTensor& master() const { return sliced_ ? sliced_->tensor() : whole_; }

 private:
  const MasterTensor& whole_;
  std::optional<SlicedTensor> sliced_;
};

int64_t storedBytes(const MasterTensor& t) {
  const DTypeTraits traits = dtypeTraits(t.type);
  return t.rows * t.cols / traits.blockValues * traits.blockBytes;
}

}  // namespace

RowPair::RowPair(const MasterTensor& tensor, const WeightVersion& version)
    : tensor_(tensor), version_(version), band_(tensor.transposed ? 8 * kTile : kTile), cols_(static_cast<size_t>(version.matrix.cols)),
      master_(cols_ * static_cast<size_t>(band_)), now_(master_.size()) {
  if (version.kept) (narrowsRows(tensor.role) ? rowsLeft_ : columnsLeft_) = &version.kept->list;
  if (version.kept) whole_.resize(static_cast<size_t>(tensor.cols));
  const auto left = [](const std::vector<int>* kept, int64_t all) { return kept ? static_cast<int64_t>(kept->size()) : all; };
  CHECK(version.folds || (left(rowsLeft_, tensor.rows) == version.matrix.rows && left(columnsLeft_, tensor.cols) == version.matrix.cols), tensor.fileName);
}

void RowPair::readMaster(int first, int count) {
  if (version_.folds) return readFolded(tensor_, *version_.folds, first, count, master_.data());
  if (!rowsLeft_ && !columnsLeft_) return Model::decodeRows(tensor_, first, count, master_.data());
  for (int r = 0; r < count; ++r) {
    float* row = master_.data() + static_cast<size_t>(r) * cols_;
    Model::decodeRows(tensor_, rowsLeft_ ? (*rowsLeft_)[static_cast<size_t>(first + r)] : first + r, 1, columnsLeft_ ? whole_.data() : row);
    for (size_t c = 0; columnsLeft_ && c < cols_; ++c) row[c] = whole_[static_cast<size_t>((*columnsLeft_)[c])];
  }
}

void RowPair::read(int first, int count) {
  CHECK(count <= band_, count);
  first_ = first;
  readMaster(first, count);
  for (int r = 0; r < count; ++r) {
    float* row = now_.data() + static_cast<size_t>(r) * cols_;
    dequantizeRow(version_.matrix, first + r, row);
    if (version_.error) version_.error.addRow(first + r, row);
    for (size_t c = 0; c < version_.columns.size(); ++c) row[c] /= version_.columns[c];
    if (version_.divisors.empty()) continue;
    for (size_t c = 0; c < cols_; ++c) row[c] *= version_.divisors[static_cast<size_t>(first + r)];
  }
}

double TensorReport::sqnr() const { return exact() ? std::numeric_limits<double>::infinity() : 10 * std::log10(signal / noise); }
double TensorReport::relativeError() const { return exact() ? 0 : std::sqrt(noise / signal); }

Result<WeightReport> reportWeights(const WeightSet& set, const Calibration* calibration, ThreadPool& pool, const Progress& progress) {
  const std::vector<MasterTensor>& tensors = set.model->tensors();
  WeightReport report;
  report.key = set.key;
  report.layers = set.model->config().layers;
  int64_t total = 0, seen = 0;
  for (const MasterTensor& t : tensors)
    if (isMatrix(t.role)) total += t.rows * t.cols;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const MasterTensor& tensor = tensors[i];
    if (!isMatrix(tensor.role)) continue;
    const Matrix& matrix = set.versions[i]->matrix;
    if (!matrix.data) continue;  // a part that was dropped
    std::vector<float> norms;
    if (calibration && linearOfBlock(tensor.role)) norms = calibration->columnNorms(tensor.layer, linearInputOf(tensor.role));
    if (const Channels& kept = set.versions[i]->kept; kept && !norms.empty() && !narrowsRows(tensor.role)) {
      std::vector<float> left;
      for (const int channel : kept->list) left.push_back(norms[static_cast<size_t>(channel)]);
      norms = std::move(left);
    }
    if (set.versions[i]->folds && tensor.role == TensorRole::o) norms.clear();  // of other inputs
    const Turned turned(*set.model, tensor, *set.versions[i], pool);
    const auto sums = compare(turned.master(), *set.versions[i], norms.empty() ? nullptr : norms.data(), pool, progress);
    if (!sums) return cancelled();
    TensorReport row;
    row.tensor = static_cast<int>(i);
    row.role = tensor.role;
    row.layer = tensor.layer;
    row.name = tensor.fileName;
    const ErrorFactors& error = set.versions[i]->error;
    const WeightVersion* bias = set.versions[i]->bias.get();
    row.format = matrix.format.describe() + (error ? " + rank " + std::to_string(error.rank()) : "") + (bias ? " + bias" : "");
    row.rows = matrix.rows;
    row.cols = matrix.cols;
    const int64_t values = int64_t{matrix.rows} * matrix.cols;
    row.bytes = static_cast<int64_t>(matrix.bytes()) + error.bytes() + static_cast<int64_t>(bias ? bias->matrix.bytes() : 0);
    row.bits = 8 * static_cast<double>(row.bytes) / static_cast<double>(values);
    row.sparsity = static_cast<double>(sums->zeros) / static_cast<double>(values);
    row.signal = sums->signal;
    row.noise = sums->noise;
    row.maxError = sums->maxError;
    if (sums->weightedSignal > 0) row.outputError = std::sqrt(sums->weightedNoise / sums->weightedSignal);
    report.bytes += row.bytes;
    report.masterBytes += storedBytes(tensor);
    report.values += values;
    report.zeros += sums->zeros;
    report.tensors.push_back(std::move(row));
    progress(static_cast<double>(seen += tensor.rows * tensor.cols) / static_cast<double>(total), "comparing the weights");
  }
  return report;
}

Result<WeightHistogram> weightHistogram(const WeightSet& set, int tensor, int bins, ThreadPool& pool, const Progress& progress) {
  CHECK(tensor >= 0 && static_cast<size_t>(tensor) < set.versions.size() && bins > 0, tensor, bins);
  const MasterTensor& file = set.model->tensors()[static_cast<size_t>(tensor)];
  const WeightVersion& version = *set.versions[static_cast<size_t>(tensor)];
  const Matrix& matrix = version.matrix;
  if (!matrix.data) return Error{ErrorCode::badInput, "Tensor " + file.fileName + " was dropped: it has no values to count.", "Choose another matrix."};
  const Turned turned(*set.model, file, version, pool);
  const MasterTensor& master = turned.master();
  const auto sums = compare(master, version, nullptr, pool, progress);
  if (!sums) return cancelled();
  WeightHistogram out;
  out.tensor = tensor;
  out.name = master.fileName;
  out.format = matrix.format.describe();
  // Six standard deviations hold all but outliers, which would squeeze the rest into a few bins.
  const double rms = std::sqrt(sums->signal / (static_cast<double>(matrix.rows) * matrix.cols));
  out.high = std::max(std::min(sums->maxMagnitude, 6 * rms), 1e-30);
  out.low = -out.high;
  struct Counts {
    std::vector<int64_t> before, after, codes;
    int64_t beyond = 0;
  };
  const int codes = matrix.format.storage == Storage::packed ? 1 << matrix.format.bits : 0;
  std::vector<Counts> counts(static_cast<size_t>(pool.threads()));
  for (Counts& c : counts) c = {std::vector<int64_t>(static_cast<size_t>(bins)), std::vector<int64_t>(static_cast<size_t>(bins)), std::vector<int64_t>(static_cast<size_t>(codes)), 0};
  const auto bin = [&](float value) {
    const double place = (static_cast<double>(value) - out.low) / (out.high - out.low) * bins;
    return static_cast<size_t>(std::clamp(place, 0.0, bins - 1.0));
  };
  const bool whole = eachBand(master, version, pool, progress, [&](int thread, const RowPair& rows, int first, int count) {
    Counts& mine = counts[static_cast<size_t>(thread)];
    for (int r = first; r < first + count; ++r)
      for (int c = 0; c < matrix.cols; ++c) {
        const float was = rows.master(r)[c];
        ++mine.before[bin(was)];
        ++mine.after[bin(rows.now(r)[c])];
        mine.beyond += std::fabs(static_cast<double>(was)) > out.high;
      }
    if (codes == 0) return;
    std::vector<uint8_t> q(static_cast<size_t>(kTile) * static_cast<size_t>(matrix.cols));
    for (int tile = first / kTile; tile * kTile < first + count; ++tile) {
      unpackTile(matrix, tile, q.data());
      const int64_t values = static_cast<int64_t>(std::min(kTile, matrix.rows - tile * kTile)) * matrix.cols;
      for (int64_t i = 0; i < values; ++i) ++mine.codes[q[static_cast<size_t>(i)]];
    }
  });
  if (!whole) return cancelled();
  const auto sum = [&](std::vector<int64_t> Counts::*part, size_t size) {
    std::vector<int64_t> all(size);
    for (const Counts& c : counts)
      for (size_t i = 0; i < size; ++i) all[i] += (c.*part)[i];
    return all;
  };
  out.before = sum(&Counts::before, static_cast<size_t>(bins));
  out.after = sum(&Counts::after, static_cast<size_t>(bins));
  out.codes = sum(&Counts::codes, static_cast<size_t>(codes));
  for (const Counts& c : counts) out.beyond += c.beyond;
  return out;
}

}  // namespace winnow
