// SPDX-License-Identifier: GPL-3.0-or-later
// All eigenvectors of large symmetric matrices in double: Householder's reduction in panels, the implicit QL algorithm and products of blocks
// (Golub and Van Loan, Matrix Computations, 4th edition, sections 5.2.3 and 8.3), spread over a pool. symmetricEigen in leading_directions.h is simpler
// and serves small ones.
#pragma once
#include <vector>

#include "engine/core/progress.h"
#include "engine/core/threads.h"
#include "engine/weights/leading_directions.h"

namespace winnow {

// By falling eigenvalue; errors are about 1e-15 of the largest. `matrix` [n, n], both triangles. Nothing when stopped. The result does not depend on
// threads. Takes three times the memory of the matrix.
Eigen largeSymmetricEigen(const std::vector<double>& matrix, int n, ThreadPool& pool, const Progress& progress);

}  // namespace winnow
