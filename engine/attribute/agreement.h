// SPDX-License-Identifier: GPL-3.0-or-later
// How well scores agree with exact ones.
#pragma once
#include <cstddef>
#include <limits>
#include <optional>
#include <vector>

namespace winnow {

struct Source;

constexpr double kUnscored = -std::numeric_limits<double>::max();  // ranks last

std::vector<double> scoresOf(const std::vector<Source>& sources);  // kUnscored where there is none

// Rank correlation with average ranks for ties; 0 when either side is constant.
double spearman(const std::vector<double>& a, const std::vector<double>& b);
double pearson(const std::vector<double>& a, const std::vector<double>& b);

// Sources whose exact score is an outlier: more than z population deviations above the mean; the best one when there is none.
std::vector<bool> outliers(const std::vector<double>& exact, double z = 2.0);
std::vector<bool> best(const std::vector<double>& scores, size_t count);  // ties by index
// Mean over the relevant items of the precision at their rank; ties by index.
double averagePrecision(const std::vector<bool>& relevant, const std::vector<double>& scores);
double topOverlap(const std::vector<double>& exact, const std::vector<double>& scores, size_t count);  // share of the best `count` in common

}  // namespace winnow
