// SPDX-License-Identifier: GPL-3.0-or-later
// A rounding method turns the f32 rows of one matrix into packed codes. One method is one file and one line in registry.cpp.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/weights/matrix.h"
#include "engine/weights/method_input.h"

namespace winnow {

// Matrices that read one input, as the file has them, and the input over the calibration text.
struct ScaleSearch {
  struct Source {
    int rows;
    std::function<void(int row, int count, float* out)> decode;  // out [count, cols]
  };
  std::vector<Source> matrices;
  std::span<const float> meanMagnitudes, meanSquares, largestMagnitudes;  // [cols]
  WeightFormat format;                                                    // they are to be rounded to
  double strength = 0;                                                    // weights.smoothing, 0..1
};

struct QuantizeMethod {
  std::string name;   // value of weights.method
  std::string title;  // for a person
  std::string paper;  // source, section
  InputNeeds needs{};
  // Quantizes rows [firstRow, firstRow + count) (firstRow a multiple of 16) of `out`; rows is f32 [count, cols]. Deterministic, thread-safe
  // across tiles. Matrices outside the blocks have no input: what was asked for is null there.
  void (*quantizeRows)(const float* rows, int firstRow, int count, const MethodInput& input, Matrix& out) = nullptr;
  // Of a method that scales inputs: [cols], positive. Deterministic; when stopped the result has no meaning.
  std::vector<float> (*searchScales)(const ScaleSearch& search, ThreadPool& pool, const Progress& progress) = nullptr;
  int bits = 0;  // of a method that has symmetric codes of this width alone; 0 = any width
  // What naming the method alone means; 0 = nothing.
  int usualBits = 0;
  int usualRank = 0;            // of weights.error_rank
  bool usualInt8 = false;       // activations in 8 bits
  bool clips = false;           // groups (MethodOptions::clip)
  bool scalesNormed = false;    // of a method that scales inputs: only those that a norm makes
};

std::span<const QuantizeMethod> quantizeMethods();
const QuantizeMethod* findQuantizeMethod(std::string_view name);

}  // namespace winnow
