// SPDX-License-Identifier: GPL-3.0-or-later
// The leading eigenvectors of C = E G E^T, where E [rows, cols] is the error of a matrix and G the second moments of its inputs: the
// directions of the output in which the error is largest. C is never made for many rows: blocks of vectors are multiplied by E^T, G and E in
// turn (subspace iteration with a Rayleigh-Ritz step, Saad, Numerical Methods for Large Eigenvalue Problems, 2011, section 5.2).
#pragma once
#include <vector>

#include "engine/core/progress.h"
#include "engine/core/threads.h"
#include "engine/weights/dense_square.h"

namespace winnow {

struct Directions {
  std::vector<float> vectors;    // [count, rows], orthonormal, by falling energy
  std::vector<double> energies;  // [count] v C v^T, in the units of `moments`
};

// `error` is [rows, moments.stride()], zero beyond its columns. `count` is at most rows. Exact up to rounding where rows are few or most
// directions are asked for; else until another step adds less than 1e-4 of what is found. Deterministic whatever the threads; false when stopped.
bool leadingDirections(const std::vector<float>& error, int rows, const DenseSquare& moments, int count, ThreadPool& pool, const Progress& progress,
                       Directions& out);

// Eigenvectors of a symmetric matrix [n, n] by Jacobi rotations: rows of `vectors`, by falling eigenvalue.
struct Eigen {
  std::vector<double> values, vectors;  // [n], [n, n]
};
Eigen symmetricEigen(std::vector<double> matrix, int n);

}  // namespace winnow
