// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/summed_tensor.h"

#include <algorithm>

#include "engine/core/check.h"

namespace winnow {

SummedTensor::SummedTensor(const Model& model, const MasterTensor& like, std::span<const LayerShare> sum, ThreadPool& pool)
    : values_(static_cast<size_t>(like.rows * like.cols)) {
  constexpr int64_t kRows = 16;
  std::vector<const MasterTensor*> parts;
  for (const LayerShare& share : sum) {
    parts.push_back(model.find(like.role, share.layer));
    CHECK(parts.back() && parts.back()->rows == like.rows && parts.back()->cols == like.cols, like.fileName, share.layer);
  }
  pool.run([&](int thread, int threads) {
    std::vector<float> decoded(static_cast<size_t>(kRows * like.cols));
    const auto range = ThreadPool::split(like.rows, kRows, thread, threads);
    for (int64_t row = range.begin; row < range.end; row += kRows) {
      const int64_t count = std::min(kRows, range.end - row);
      float* out = values_.data() + row * like.cols;
      for (size_t part = 0; part < parts.size(); ++part) {
        Model::decodeRows(*parts[part], row, count, decoded.data());
        for (int64_t i = 0; i < count * like.cols; ++i) out[i] += sum[part].weight * decoded[static_cast<size_t>(i)];
      }
    }
  });
  tensor_ = masterOf(like, values_.data());
}

MasterTensor masterOf(const MasterTensor& like, const float* values) {
  MasterTensor out;
  out.role = like.role;
  out.layer = like.layer;
  out.fileName = like.fileName;
  out.type = DType::f32;
  out.rows = like.rows;
  out.cols = like.cols;
  out.data = reinterpret_cast<const std::byte*>(values);
  out.storedRowBytes = static_cast<size_t>(like.cols) * sizeof(float);
  return out;
}

}  // namespace winnow
