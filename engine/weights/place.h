// SPDX-License-Identifier: GPL-3.0-or-later
// Weight versions and where they live: in host memory and the mapped file, or on a device. The pointers of a version are good where its
// place is.
#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "engine/core/memory.h"
#include "engine/core/threads.h"
#include "engine/model/model.h"
#include "engine/weights/channel_major.h"
#include "engine/weights/convert.h"
#include "engine/weights/error_factors.h"
#include "engine/weights/matrix.h"
#include "engine/weights/recipe.h"

namespace winnow {

// Bytes of the file that are read in place, posted while the version lives.
class MappedBytes {
 public:
  MappedBytes() = default;
  MappedBytes(Ledger& ledger, int64_t bytes) : ledger_(&ledger), bytes_(bytes) { ledger.post(MemoryTag::weightsMapped, bytes); }
  MappedBytes(MappedBytes&& other) noexcept { *this = std::move(other); }
  MappedBytes& operator=(MappedBytes&& other) noexcept {
    std::swap(ledger_, other.ledger_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedBytes() {
    if (ledger_) ledger_->post(MemoryTag::weightsMapped, -bytes_);
  }
  int64_t bytes() const { return bytes_; }

 private:
  Ledger* ledger_ = nullptr;
  int64_t bytes_ = 0;
};

struct WeightVersion {
  Matrix matrix;  // norms and biases are f32 [1, n]
  MappedBytes mapped;
  std::shared_ptr<const PruneScores> scores;  // kept so that another ratio needs no more than them
  std::vector<WeightCorrection> corrections;  // by row and column; products add delta times the input
  ErrorFactors error;                         // what the matrix lacks; without a rank: nothing
  std::vector<float> constants;               // [rows] that outputs of the matrix get by the model's own bias, or that are in this one; empty: none
  std::shared_ptr<const WeightVersion> bias;  // made of those, where the model has no bias; null: it has, or there are none
  Channels kept;       // of the block, which the rows or columns are; null: all
  std::shared_ptr<const HeadFolds> folds;  // by which the master was folded; null: it was not
  Bases slice;         // whose directions of the stream it reads or makes; null: the master's
  double damping = 0;  // of the second moments it was made with, where that is more than was asked for
  std::vector<float> columns, divisors;  // the scaling that is in the matrix (InputScaling); empty where there is none
  std::shared_ptr<const void> memory;  // owner of what the matrix points to, where that is neither the matrix nor the file
};

struct WeightWork {
  const MasterTensor& tensor;
  const Recipe& recipe;
  const MethodInputs& inputs;
  ThreadPool& pool;
  ConvertProgress& progress;
  std::shared_ptr<const PruneScores> scores{};  // of earlier weights pruned by the same; null when there are none
};

class WeightPlace {
 public:
  virtual ~WeightPlace() = default;
  virtual bool planning() const = 0;
  // Throws std::bad_alloc when memory is out. On a planning ledger memory is counted only.
  virtual Converted make(const WeightWork& work, WeightVersion& out) = 0;
  virtual int64_t bytes(const MasterTensor& tensor, const Recipe& recipe) const = 0;  // that make() allocates
  // Channels of a matrix of this place, beside it; null when it was stopped. Throws std::bad_alloc when memory is out.
  virtual std::shared_ptr<const ChannelMajor> makeChannels(const Matrix& matrix, bool columns, ThreadPool& pool, const Progress& progress) = 0;
  // A matrix of this place where the host can read it: itself, or `copy`, which becomes one. [any thread]
  virtual const Matrix& onHost(const Matrix& matrix, Matrix& copy) const = 0;
};

// Plain values of the right type are read in the file, everything else is made in memory.
class HostPlace final : public WeightPlace {
 public:
  explicit HostPlace(Ledger& ledger) : ledger_(ledger) {}
  bool planning() const override { return ledger_.planning(); }
  Converted make(const WeightWork& work, WeightVersion& out) override;
  int64_t bytes(const MasterTensor& tensor, const Recipe& recipe) const override;
  std::shared_ptr<const ChannelMajor> makeChannels(const Matrix& matrix, bool columns, ThreadPool& pool, const Progress& progress) override;
  const Matrix& onHost(const Matrix& matrix, Matrix&) const override { return matrix; }

 private:
  Ledger& ledger_;
};

// What lies beside a matrix that was stored in host memory, fitted to it: factors that were allocated, and constants where the recipe adds them.
Converted fitBeside(const WeightWork& work, const Matrix& stored, ErrorFactors& error, std::vector<float>& constants);

// Whether the file's own bytes are what a recipe wants, row after row.
bool usableInPlace(const MasterTensor& tensor, const Recipe& recipe);

}  // namespace winnow
