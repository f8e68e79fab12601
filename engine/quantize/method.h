// SPDX-License-Identifier: GPL-3.0-or-later
// A rounding method turns the f32 rows of one matrix into packed codes. One method is one file and one line in registry.cpp.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/weights/matrix.h"

namespace winnow {

// What a method may know of one matrix. `rows` is f32, [count][cols]; count <= 16 except in the last call of a method that
// asked for whole matrices (none does yet).
struct QuantizeMethod {
  std::string name;   // value of weights.method
  std::string title;  // for a person
  std::string paper;  // source, section
  // Quantizes rows [firstRow, firstRow + count) (firstRow a multiple of 16) of `out`. Deterministic, thread-safe across tiles.
  void (*quantizeRows)(const float* rows, int firstRow, int count, Matrix& out);
};

std::span<const QuantizeMethod> quantizeMethods();
const QuantizeMethod* findQuantizeMethod(std::string_view name);

}  // namespace winnow
