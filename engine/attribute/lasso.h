// SPDX-License-Identifier: GPL-3.0-or-later
// Sparse linear regression by coordinate descent.
#pragma once
#include <vector>

namespace winnow {

struct LassoFit {
  std::vector<double> weights;  // [columns]; 0 for a constant column
  double intercept = 0;
  double predict(const std::vector<double>& row) const;
};

// Minimizes 1/(2 M) |y - b - Z w|^2 + alpha |w|_1 over the M rows, Z being the columns standardised (population deviation); weights are
// those of the columns as given.
LassoFit lasso(const std::vector<std::vector<double>>& rows /* [M][columns] */, const std::vector<double>& y /* [M] */, double alpha);

}  // namespace winnow
