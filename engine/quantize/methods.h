// SPDX-License-Identifier: GPL-3.0-or-later
// The rounding methods of this folder, for registry.cpp.
#pragma once
#include "engine/quantize/method.h"

namespace winnow {

void quantizeRtn(const float* rows, int firstRow, int count, const MethodInput& input, Matrix& out);
void quantizeGptq(const float* rows, int firstRow, int count, const MethodInput& input, Matrix& out);
void quantizeAwq(const float* rows, int firstRow, int count, const MethodInput& input, Matrix& out);
void quantizeTernaryMean(const float* rows, int firstRow, int count, const MethodInput& input, Matrix& out);
void quantizeTernaryMedian(const float* rows, int firstRow, int count, const MethodInput& input, Matrix& out);
std::vector<float> searchAwqScales(const ScaleSearch& search, ThreadPool& pool, const Progress& progress);
std::vector<float> smoothingScales(const ScaleSearch& search, ThreadPool& pool, const Progress& progress);

}  // namespace winnow
