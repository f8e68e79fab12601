// SPDX-License-Identifier: GPL-3.0-or-later
// Summaries with their doubt. No normality is assumed: intervals of medians and quantiles come from order statistics, those of
// means from a bootstrap with a fixed seed.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace winnow {

struct Interval {
  double low = 0, high = 0;
};

// Linear interpolation between the order statistics (type 7); NaN for no values. `sorted` ascending.
double quantileOfSorted(std::span<const double> sorted, double q);
double median(std::vector<double> values);

// 95 % interval of the q-quantile: the order statistics with ranks n·q ± 1.96·√(n·q·(1−q)). Unset when n is too small to hold it.
std::optional<Interval> quantileInterval(std::span<const double> sorted, double q);

struct Summary {
  int64_t n = 0;
  double mean = 0, sd = 0, min = 0, max = 0, p5 = 0, p50 = 0, p95 = 0;
  std::optional<Interval> p50Interval, p95Interval;
  double variation() const { return mean != 0 ? sd / mean : 0; }  // coefficient of variation
};
// NaN values are left out. n = 0: all figures NaN.
Summary summarize(std::vector<double> values);

// 95 % percentile interval of the mean, 10 000 resamples. Needs two values.
std::optional<Interval> bootstrapMean(std::span<const double> values);
// Same, resampling runs of neighbours: for paired differences per window, which are correlated with their neighbours.
std::optional<Interval> blockBootstrapMean(std::span<const double> values, int block);

// Hodges-Lehmann shift of b against a (the median of all b − a) with its 95 % interval. Needs at least 4 values on each side.
// More than 1 000 values a side are thinned evenly.
struct Shift {
  double value = 0;
  Interval interval;
};
std::optional<Shift> shiftBetween(std::span<const double> a, std::span<const double> b);

enum class Verdict { notComparable, withinNoise, better, worse };
// Lower is better. Within noise: the interval holds 0 or the change is below the smallest that matters (a share of the baseline).
Verdict verdictOf(double baseline, const Shift& shift, double smallestShare = 0.01);

// 95 % interval of a share by Wilson's score, which keeps to 0..1 and holds for few trials. n > 0.
Interval shareInterval(int64_t hits, int64_t n);

// Perplexity from sums: exponentiated once, at the end. half = 1.96 standard errors, by the delta method (0 for fewer than 2 predictions).
struct PerplexityEstimate {
  double value = 0, stderror = 0;
  int64_t count = 0;
};
PerplexityEstimate perplexityOf(double nllSum, double nllSquaredSum, int64_t count);

}  // namespace winnow
