// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/convert.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/core/check.h"
#include "engine/cpu/isa.h"
#include "engine/prune/method.h"
#include "engine/quantize/method.h"
#include "engine/weights/blocks.h"

namespace winnow {
namespace {

constexpr int kTile = WeightFormat::kTileRows;
constexpr int64_t kCachedValues = 4096;  // plain rows pass through the first-level cache so many floats at a time

// A recovery may share work between rows: it gets whole tiles.
int rowsTogether(const Recipe& recipe, const Matrix& out) {
  const bool plain = out.format.storage != Storage::packed && recipe.recovery.empty();
  return plain ? static_cast<int>(std::clamp<int64_t>(kCachedValues / out.cols, 1, kTile)) : kTile;
}

// Whole rows of the master's own blocks, pruned weights at the code of zero.
class BlockRows {
 public:
  BlockRows(const MasterTensor& tensor, const Pruner* pruner) : tensor_(tensor), pruner_(pruner) {}

  void write(int firstRow, int count, Matrix& out) {
    const std::byte* blocks = tensor_.directRow(firstRow);
    if (!tensor_.direct()) {  // un-permuted: the rows are gathered first
      gathered_.resize(tensor_.storedRowBytes * static_cast<size_t>(count));
      for (int r = 0; r < count; ++r)
        std::memcpy(gathered_.data() + static_cast<size_t>(r) * tensor_.storedRowBytes,
                    tensor_.data + static_cast<size_t>(tensor_.storedRowOf(firstRow + r)) * tensor_.storedRowBytes, tensor_.storedRowBytes);
      blocks = gathered_.data();
    }
    const bool packed = packBlocksExactly(tensor_.type, blocks, tensor_.storedRowBytes, count, firstRow, out);
    CHECK(packed, tensor_.fileName);
    if (pruner_) prune(firstRow, count, out);
  }

 private:
  void prune(int firstRow, int count, Matrix& out) {
    const size_t values = static_cast<size_t>(count) * static_cast<size_t>(out.cols);
    rows_.resize(values);
    codes_.resize(static_cast<size_t>(kTile) * static_cast<size_t>(out.cols));
    Model::decodeRows(tensor_, firstRow, count, rows_.data());
    pruner_->apply(rows_.data(), firstRow, count);
    unpackTile(out, firstRow / kTile, codes_.data());
    for (size_t i = 0; i < values; ++i)
      if (rows_[i] == 0.0f) codes_[i] = static_cast<uint8_t>(out.format.zeroCode());
    packTile(out, firstRow / kTile, codes_.data());
  }

  const MasterTensor& tensor_;
  const Pruner* pruner_;
  std::vector<std::byte> gathered_;
  std::vector<float> rows_;
  std::vector<uint8_t> codes_;
};

// Super weights of a matrix: those that stay exact are taken out of the rows before rounding and missed afterwards.
class KeptWeights {
 public:
  KeptWeights(const Recipe& recipe, const MethodInputs& inputs, const Matrix& out, std::vector<WeightCorrection>* corrections)
      : keep_(recipe.super == SuperWeights::keep), weights_(inputs.super), out_(out), corrections_(corrections) {}

  // The exact values in rows [first, first + count), each of which becomes the median of its group; nothing and zero where they are to go.
  std::vector<WeightCorrection> take(float* rows, int first, int count) const {
    std::vector<WeightCorrection> exact;
    for (const SuperWeight& weight : weights_) {
      if (weight.row < first || weight.row >= first + count) continue;
      float* row = rows + int64_t{weight.row - first} * out_.cols;
      float& value = row[weight.column];
      if (!keep_) value = 0;
      if (!keep_ || !corrections_) continue;
      exact.push_back({weight.row, weight.column, value});
      const int group = out_.format.groupCols(out_.cols), begin = weight.column / group * group;
      std::vector<float> values(row + begin, row + std::min(begin + group, out_.cols));
      std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
      value = values[values.size() / 2];
    }
    return exact;
  }
  void correct(const std::vector<WeightCorrection>& exact) {
    std::vector<float> row(exact.empty() ? 0 : static_cast<size_t>(out_.cols));
    for (const WeightCorrection& weight : exact) {
      dequantizeRow(out_, weight.row, row.data());
      const std::scoped_lock lock(mutex_);
      corrections_->push_back({weight.row, weight.column, weight.delta - row[static_cast<size_t>(weight.column)]});
    }
  }
  void finish() {
    if (corrections_)
      std::sort(corrections_->begin(), corrections_->end(), [](const auto& a, const auto& b) { return std::pair(a.row, a.column) < std::pair(b.row, b.column); });
  }

 private:
  const bool keep_;
  const std::vector<SuperWeight>& weights_;
  const Matrix& out_;
  std::vector<WeightCorrection>* corrections_;
  std::mutex mutex_;
};

void writePlain(const float* rows, int64_t firstRow, int64_t count, Matrix& out) {
  const int64_t values = count * out.cols;
  if (out.format.storage == Storage::f32) {
    std::copy_n(rows, values, out.codes.as<float>() + firstRow * out.cols);
    return;
  }
  uint16_t* to = out.codes.as<uint16_t>() + firstRow * out.cols;
  if (out.format.storage == Storage::f16) return cpu::bestKernels().toHalf(rows, values, to);
  if (cpu::bestKernels().allFinite(rows, values)) return cpu::bestKernels().toBf16(rows, values, to);
  for (int64_t i = 0; i < values; ++i) to[i] = floatToBf16(rows[i]);  // NaN stays NaN
}

}  // namespace

void decodeScaled(const MasterTensor& tensor, int64_t row, int64_t count, const InputScaling& scaling, float* out) {
  if (tensor.type == DType::bf16 && tensor.direct() && reinterpret_cast<uintptr_t>(tensor.directRow(row)) % alignof(uint16_t) == 0)
    cpu::bestKernels().widenBf16(reinterpret_cast<const uint16_t*>(tensor.directRow(row)), count * tensor.cols, out);
  else
    Model::decodeRows(tensor, row, count, out);
  if (scaling.columns.empty() && scaling.divisors.empty()) return;
  for (int64_t r = 0; r < count; ++r)
    for (int64_t c = 0; c < tensor.cols; ++c) {
      float& value = out[r * tensor.cols + c];
      if (!scaling.columns.empty()) value *= scaling.columns[static_cast<size_t>(c)];
      if (!scaling.divisors.empty()) value /= scaling.divisors[static_cast<size_t>(isMatrix(tensor.role) ? row + r : c)];
    }
}

Converted convert(const MasterTensor& tensor, const Recipe& recipe, const Pruner* pruner, const MethodInputs& inputs, ThreadPool& pool,
                  ConvertProgress& progress, Matrix& out, std::vector<WeightCorrection>* corrections) {
  const QuantizeMethod* method = recipe.method.empty() ? nullptr : findQuantizeMethod(recipe.method);
  CHECK(recipe.method.empty() || method, recipe.method);
  const bool blocks = !method && out.format.storage == Storage::packed;
  // A transposed master is read a band at a time: wide bands touch each page of the file fewer times.
  const int rowsPerClaim = tensor.transposed ? 8 * kTile : kTile, rowsAtOnce = rowsTogether(recipe, out), rowsPerBand = tensor.transposed ? rowsPerClaim : rowsAtOnce;
  std::atomic<int64_t> next{0};
  std::atomic<bool> damaged{false};
  KeptWeights kept(recipe, inputs, out, corrections);
  pool.run([&](int thread, int) {
    std::vector<float> rows;
    BlockRows blockRows(tensor, pruner);
    for (;;) {
      const int64_t first = next.fetch_add(rowsPerClaim);
      if (first >= tensor.rows || progress.stopped() || damaged.load(std::memory_order_relaxed)) return;
      const int64_t end = std::min<int64_t>(first + rowsPerClaim, tensor.rows);
      for (int64_t band = first; band < end; band += rowsPerBand) {
        const int64_t bandEnd = std::min(band + rowsPerBand, end);
        if (!blocks) {
          rows.resize(static_cast<size_t>((bandEnd - band) * tensor.cols));
          decodeScaled(tensor, band, bandEnd - band, inputs.scaling, rows.data());
          if ((method || pruner) && !cpu::bestKernels().allFinite(rows.data(), static_cast<int64_t>(rows.size()))) damaged.store(true, std::memory_order_relaxed);  // rounding would hide it
        }
        for (int64_t row = band; row < bandEnd; row += rowsAtOnce) {
          const int count = static_cast<int>(std::min<int64_t>(rowsAtOnce, bandEnd - row));
          float* tile = rows.data() + (row - band) * tensor.cols;
          if (blocks) {
            blockRows.write(static_cast<int>(row), count, out);
            continue;
          }
          const auto exact = kept.take(tile, static_cast<int>(row), count);
          if (pruner) pruner->apply(tile, static_cast<int>(row), count);
          if (method)
            method->quantizeRows(tile, static_cast<int>(row), count, inputs.quantize, out);
          else
            writePlain(tile, row, count, out);
          kept.correct(exact);
        }
      }
      progress.count((end - first) * tensor.cols);
      if (thread == 0) progress.report();
      std::this_thread::yield();
    }
  });
  kept.finish();
  progress.report();
  return damaged ? Converted::damaged : progress.stopped() ? Converted::cancelled : Converted::done;
}

}  // namespace winnow
