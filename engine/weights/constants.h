// SPDX-License-Identifier: GPL-3.0-or-later
// A constant per output of a linear layer (pruning_sharing_attribution.md, J1): what the output lacks on average over a calibration text once the
// weights are stored, (W0 - W) mean(x), with what inputs that went altogether gave it, W0[:, P] mean(x_P). It is added to the bias, so that the mean
// error of every output is zero. A layer whose model has no bias gets one.
#pragma once
#include <vector>

#include "engine/weights/error_factors.h"

namespace winnow {

TensorRole biasOf(TensorRole linear);  // of a linear layer of a block; CHECKs that it is one
TensorRole linearOf(TensorRole bias);  // and back; count: no bias of one

constexpr WeightFormat kBiasFormat{};  // f32
// That the bias takes which holds the constants of a matrix: a new one, or the model's own, which is no longer read in its file. 0 without constants.
int64_t biasBytes(const Recipe& recipe, int rows);

// W mean(x) of a master, [rows], in double; not all of it when stopped.
std::vector<double> meanOutputs(const MasterTensor& tensor, std::span<const double> means, ThreadPool& pool, const Progress& progress);

// Of a matrix that was stored, with what lies beside it; inputs.means are there. [rows] Super weights, which are exact or meant to be gone, lack
// nothing. Deterministic whatever the threads.
Converted fitConstants(const MasterTensor& tensor, const MethodInputs& inputs, const Matrix& stored, const ErrorFactors& error, ThreadPool& pool, const ConvertProgress& progress,
                       std::vector<float>& out);

}  // namespace winnow
