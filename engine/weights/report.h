// SPDX-License-Identifier: GPL-3.0-or-later
// What a weight set lost against the untouched master, matrix by matrix. Rows stream: no copy of the model is made. Sums are taken in
// double, tile after tile in order, so the figures do not depend on threads.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/progress.h"
#include "engine/core/result.h"
#include "engine/core/threads.h"
#include "engine/weights/store.h"

namespace winnow {

struct TensorReport {
  int tensor = -1;            // of Model::tensors(), behind them of WeightSet::added
  TensorRole role{};
  int layer = -1;
  std::string name, format;   // in the file; as stored now
  int rows = 0, cols = 0;     // as stored now: of a narrowed feed-forward fewer than in the file
  int64_t bytes = 0;          // of the version, scales, minimums and error factors included
  double bits = 0;            // of those, per weight
  double sparsity = 0;        // share of zeros, error factors included
  double signal = 0, noise = 0;  // sum of W^2, of (W - W')^2
  double maxError = 0;
  // Of the inputs of a calibration text: sqrt(sum of ((W - W')_ij ||X_j||)^2) over the same of W. What the error makes of the output where
  // input channels do not correlate.
  std::optional<double> outputError;

  bool exact() const { return noise == 0; }
  double sqnr() const;           // dB; infinite when exact
  double relativeError() const;  // ||W - W'|| / ||W||; 0 when exact
};

struct WeightReport {
  std::string key;          // WeightSet::key
  std::vector<TensorReport> tensors;  // matrices, in the order of the model, then those of a sliced stream's own; those that were dropped are left out
  int64_t bytes = 0, masterBytes = 0;  // of these matrices; as the file stores them
  int64_t values = 0, zeros = 0;       // of the weights that are left
  int layers = 0;
};

// `calibration` may be null. Errors: cancelled; of the histogram also a matrix that was dropped.
Result<WeightReport> reportWeights(const WeightSet& set, const Calibration* calibration, ThreadPool& pool, const Progress& progress);

// Values before and after in shared bins. What lies beyond the range is counted in the outermost bins.
struct WeightHistogram {
  int tensor = -1;
  std::string name, format;
  double low = 0, high = 0;              // of the first and last bin's outer edges
  std::vector<int64_t> before, after;    // [bins]
  int64_t beyond = 0;                    // values of the master outside the range
  std::vector<int64_t> codes;            // how often each code is used; empty where values are not packed
};
Result<WeightHistogram> weightHistogram(const WeightSet& set, int tensor, int bins, ThreadPool& pool, const Progress& progress);

// Master row and present row of a matrix version that lies in host memory; of a narrowed feed-forward what the master has of it. Error factors are in the present row. Where a method scaled inputs,
// it is what it means to the unscaled ones: how a model computes does not change by scaling, only by what rounding does to it.
class RowPair {
 public:
  RowPair(const MasterTensor& tensor, const WeightVersion& version);
  int rowsPerBand() const { return band_; }  // a multiple of 16
  // Decodes rows [first, first + count), count at most a band.
  void read(int first, int count);
  const float* master(int row) const { return master_.data() + static_cast<size_t>(row - first_) * cols_; }  // [cols]
  const float* now(int row) const { return now_.data() + static_cast<size_t>(row - first_) * cols_; }

 private:
  void readMaster(int first, int count);

  const MasterTensor& tensor_;
  const WeightVersion& version_;
  int band_, first_ = 0;
  size_t cols_;
  const std::vector<int>*rowsLeft_ = nullptr, *columnsLeft_ = nullptr;  // of the master, ascending; null: all
  std::vector<float> master_, now_, whole_;  // whole: a row of the master
};

}  // namespace winnow
