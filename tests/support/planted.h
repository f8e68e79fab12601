// SPDX-License-Identifier: GPL-3.0-or-later
// A random model with a super weight in it, and a model whose activations have outliers that its weights undo.
#pragma once
#include "tests/support/engine.h"

namespace winnow::test {

constexpr int kPlantedLayer = 1, kPlantedRow = 17, kPlantedColumn = 9;
constexpr float kPlantedValue = 6;

// Writes values over those of a row in the file, which holds these bytes once.
inline void overwrite(std::string& file, const MasterTensor& tensor, int row, const std::vector<float>& values) {
  const std::string_view old(reinterpret_cast<const char*>(tensor.directRow(row)), values.size() * sizeof(float));
  const size_t at = file.find(old);
  if (at == std::string::npos) throw std::runtime_error("the row is not in the file");
  std::memcpy(file.data() + at, values.data(), old.size());
}

// One channel of layer 1 that is large whatever the text, and one weight that reads it.
inline std::string planted() {
  const std::string path = (scratch() / "planted.gguf").string();
  if (std::filesystem::exists(path)) return path;
  const auto model = value(Model::open(sharedData(kRandom)));
  std::string file = readFile(sharedData(kRandom));
  for (const TensorRole role : {TensorRole::gate, TensorRole::up}) {
    const MasterTensor& tensor = *model->find(role, kPlantedLayer);
    std::vector<float> row(static_cast<size_t>(tensor.cols));
    Model::decodeRows(tensor, kPlantedColumn, 1, row.data());
    for (float& w : row) w *= 40;
    overwrite(file, tensor, kPlantedColumn, row);
  }
  const MasterTensor& down = *model->find(TensorRole::down, kPlantedLayer);
  std::vector<float> row(static_cast<size_t>(down.cols));
  Model::decodeRows(down, kPlantedRow, 1, row.data());
  row[kPlantedColumn] = kPlantedValue;
  overwrite(file, down, kPlantedRow, row);
  std::ofstream(path, std::ios::binary) << file;
  return path;
}

// The same function as the f32 model `file`, but `factor` times as large in every 24th channel of what norms make: those gains are multiplied,
// and the columns that read them divided.
inline std::string withOutliers(const char* file, float factor) {
  const std::string path = (scratch() / "outliers.gguf").string();
  const auto model = value(Model::open(sharedData(file)));
  std::string bytes = readFile(sharedData(file));
  const auto& tensors = model->tensors();
  const size_t start = bytes.find(std::string_view(reinterpret_cast<const char*>(tensors[0].data), tensors[0].storedRowBytes));
  if (start == std::string::npos) throw std::runtime_error("the first tensor is not in the file");
  for (const MasterTensor& tensor : tensors) {
    const bool norm = tensor.role == TensorRole::attnNorm || tensor.role == TensorRole::ffnNorm;
    const bool reader = tensor.role == TensorRole::q || tensor.role == TensorRole::k || tensor.role == TensorRole::v || tensor.role == TensorRole::gate ||
                        tensor.role == TensorRole::up;
    if (!norm && !reader) continue;
    for (int64_t row = 0; row < tensor.rows; ++row)
      for (int64_t column = 3; column < tensor.cols; column += 24) {
        const std::ptrdiff_t at = tensor.data - tensors[0].data + static_cast<std::ptrdiff_t>(static_cast<size_t>(row) * tensor.storedRowBytes) + column * 4;
        float number;
        std::memcpy(&number, bytes.data() + static_cast<std::ptrdiff_t>(start) + at, sizeof number);
        number = norm ? number * factor : number / factor;
        std::memcpy(bytes.data() + static_cast<std::ptrdiff_t>(start) + at, &number, sizeof number);
      }
  }
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

}  // namespace winnow::test
