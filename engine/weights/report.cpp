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
  return role != TensorRole::tokenEmbedding && role != TensorRole::positionEmbedding && role != TensorRole::head && role != TensorRole::attnShortcut &&
         role != TensorRole::ffnShortcut;
}

// A matrix of a set and what it is held against: the master's values, in its directions where the stream is sliced.
class Compared {
 public:
  Compared(const WeightSet& set, size_t index, ThreadPool& pool) {
    const std::vector<MasterTensor>& tensors = set.model->tensors();
    const bool inFile = index < tensors.size();
    version_ = (inFile ? set.versions[index] : set.added[index - tensors.size()]).get();
    if (inFile) {
      master_ = tensors[index];
    } else if (const auto point = static_cast<int>(index - tensors.size()); point + 1 < version_->slice->points()) {
      sliced_ = SlicedTensor::shortcut(*version_->slice, point, pool);
    } else {  // a tied head: the same values in another role
      master_ = *set.model->find(TensorRole::tokenEmbedding);
      master_.role = TensorRole::head;
    }
    if (version_->slice && !sliced_) sliced_ = std::make_unique<SlicedTensor>(*set.model, master_, *version_->slice, pool);
    if (sliced_) master_ = sliced_->tensor();
  }
  const WeightVersion& version() const { return *version_; }
  const MasterTensor& master() const { return master_; }

 private:
  const WeightVersion* version_;
  MasterTensor master_;
  std::unique_ptr<SlicedTensor> sliced_;  // owner of the master's values
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

namespace {

// Norms of the input channels that a version has, [its columns]; empty where nothing is known of them.
std::vector<float> normsOf(const Calibration* calibration, TensorRole role, int layer, const WeightVersion& version) {
  if (!calibration || !linearOfBlock(role) || (version.folds && role == TensorRole::o)) return {};  // folded heads have other inputs
  std::vector<float> norms = calibration->columnNorms(layer, linearInputOf(role));
  if (!version.kept || norms.empty() || narrowsRows(role)) return norms;
  std::vector<float> left;
  for (const int channel : version.kept->list) left.push_back(norms[static_cast<size_t>(channel)]);
  return left;
}

TensorReport rowOf(size_t index, const Compared& compared, const Sums& sums) {
  const WeightVersion& version = compared.version();
  const Matrix& matrix = version.matrix;
  const ErrorFactors& error = version.error;
  const WeightVersion* bias = version.bias.get();
  const double values = static_cast<double>(matrix.rows) * matrix.cols;
  TensorReport row;
  row.tensor = static_cast<int>(index);
  row.role = compared.master().role;
  row.layer = compared.master().layer;
  row.name = compared.master().fileName;
  row.format = matrix.format.describe() + (error ? " + rank " + std::to_string(error.rank()) : "") + (bias ? " + bias" : "");
  row.rows = matrix.rows;
  row.cols = matrix.cols;
  row.bytes = static_cast<int64_t>(matrix.bytes()) + error.bytes() + static_cast<int64_t>(bias ? bias->matrix.bytes() : 0);
  row.bits = 8 * static_cast<double>(row.bytes) / values;
  row.sparsity = static_cast<double>(sums.zeros) / values;
  row.signal = sums.signal;
  row.noise = sums.noise;
  row.maxError = sums.maxError;
  if (sums.weightedSignal > 0) row.outputError = std::sqrt(sums.weightedNoise / sums.weightedSignal);
  return row;
}

}  // namespace

Result<WeightReport> reportWeights(const WeightSet& set, const Calibration* calibration, ThreadPool& pool, const Progress& progress) {
  const std::vector<MasterTensor>& tensors = set.model->tensors();
  WeightReport report;
  report.key = set.key;
  report.layers = set.model->config().layers;
  const auto inFile = [&](size_t i) { return i < tensors.size(); };
  const auto valuesOf = [&](size_t i) {
    const Matrix& added = set.added[i - tensors.size()]->matrix;
    return int64_t{added.rows} * added.cols;
  };
  const size_t all = tensors.size() + set.added.size();
  int64_t total = 0, seen = 0;
  for (size_t i = 0; i < all; ++i)
    if (!inFile(i) || isMatrix(tensors[i].role)) total += inFile(i) ? tensors[i].rows * tensors[i].cols : valuesOf(i);
  for (size_t i = 0; i < all; ++i) {
    if (inFile(i) && (!isMatrix(tensors[i].role) || set.versions[i]->matrix.rows == 0)) continue;  // or a part that was dropped
    const Compared compared(set, i, pool);
    const Matrix& matrix = compared.version().matrix;
    const std::vector<float> norms = normsOf(calibration, compared.master().role, compared.master().layer, compared.version());
    const auto sums = compare(compared.master(), compared.version(), norms.empty() ? nullptr : norms.data(), pool, progress);
    if (!sums) return cancelled();
    report.tensors.push_back(rowOf(i, compared, *sums));
    report.bytes += report.tensors.back().bytes;
    if (inFile(i)) report.masterBytes += storedBytes(tensors[i]);
    report.values += int64_t{matrix.rows} * matrix.cols;
    report.zeros += sums->zeros;
    seen += inFile(i) ? tensors[i].rows * tensors[i].cols : valuesOf(i);
    progress(static_cast<double>(seen) / static_cast<double>(total), "comparing the weights");
  }
  return report;
}

Result<WeightHistogram> weightHistogram(const WeightSet& set, int tensor, int bins, ThreadPool& pool, const Progress& progress) {
  CHECK(tensor >= 0 && static_cast<size_t>(tensor) < set.versions.size() + set.added.size() && bins > 0, tensor, bins);
  const auto index = static_cast<size_t>(tensor);
  if (index < set.versions.size() && set.versions[index]->matrix.rows == 0)
    return Error{ErrorCode::badInput, "Tensor " + set.model->tensors()[index].fileName + " was dropped: it has no values to count.", "Choose another matrix."};
  const Compared compared(set, index, pool);
  const MasterTensor& master = compared.master();
  const WeightVersion& version = compared.version();
  const Matrix& matrix = version.matrix;
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
