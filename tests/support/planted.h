// SPDX-License-Identifier: GPL-3.0-or-later
// A random model with a super weight in it.
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

}  // namespace winnow::test
