// SPDX-License-Identifier: GPL-3.0-or-later
// The output projection of a follower, fitted to the attention it gets (pruning_sharing_attribution.md, J5). With z the concatenated heads a layer
// computes from its own attention, s what it has of its leader's, W the projection and l = damping mean(diag S^T S):
// W' minimizes sum |W z - W' s|^2 + l |W' - W|^2, so W' (S^T S + l I) = W (Z^T S + l I). At W the second term is nothing, so that the first
// can't rise for any damping.
#pragma once
#include <cstdint>

#include "engine/core/progress.h"
#include "engine/core/threads.h"
#include "engine/weights/second_moments.h"

namespace winnow {

enum class Refit : uint8_t { done, cancelled, notPositive };

// `joint`: second moments of rows (z, s) side by side, 2 cols wide. weights, out: [rows, cols]. In double; the result does not depend on threads.
// notPositive: S^T S + l I can't be factored, even damped as much as InverseFactor does. Throws std::bad_alloc.
Refit refitOutput(const SecondMoments& joint, const float* weights, int rows, double damping, ThreadPool& pool, const Progress& progress, float* out);

// Sum over tokens of |W z - V s|^2; z, s [tokens, cols], W, V [rows, cols].
double outputDifference(const float* z, const float* w, const float* s, const float* v, int tokens, int rows, int cols, ThreadPool& pool);
// The same from the moments.
double outputDifference(const SecondMoments& joint, const float* w, const float* v, int rows, ThreadPool& pool);

}  // namespace winnow
