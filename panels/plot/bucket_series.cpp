// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/plot/bucket_series.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/core/check.h"
#include "experiments/statistics.h"

namespace winnow {

void BucketSeries::append(double x, double y) {
  CHECK(x_.empty() || x >= x_.back(), "points come in ascending x:", x, "after", x_.back());
  x_.push_back(x);
  y_.push_back(y);
}

void BucketSeries::clear() {
  x_.clear();
  y_.clear();
  levels_.clear();
}

size_t BucketSeries::lowerIndex(double value) const {
  return static_cast<size_t>(std::lower_bound(x_.begin(), x_.end(), value) - x_.begin());
}

double BucketSeries::nearest(double x, double reach) const {
  const size_t at = lowerIndex(x);
  double best = std::numeric_limits<double>::quiet_NaN(), distance = reach;
  for (size_t i = at > 0 ? at - 1 : 0; i < std::min(at + 1, size()); ++i)
    if (std::fabs(x_[i] - x) <= distance) {
      distance = std::fabs(x_[i] - x);
      best = y_[i];
    }
  return best;
}

int BucketSeries::levelFor(double unitsPerPixel) {
  if (!(unitsPerPixel > 1)) return 0;
  return static_cast<int>(std::ceil(std::log2(2 * unitsPerPixel)));
}

BucketSeries::Bucket BucketSeries::makeBucket(size_t first, size_t last, double width) const {
  std::vector<double> values;
  values.reserve(last - first);
  for (size_t i = first; i < last; ++i)
    if (!std::isnan(y_[i])) values.push_back(y_[i]);
  std::sort(values.begin(), values.end());
  Bucket b;
  b.x = (std::floor(x_[first] / width) + 0.5) * width;
  b.n = static_cast<int64_t>(values.size());
  b.p5 = quantileOfSorted(values, 0.05);
  b.p50 = quantileOfSorted(values, 0.5);
  b.p95 = quantileOfSorted(values, 0.95);
  b.max = values.empty() ? b.p50 : values.back();
  return b;
}

std::vector<BucketSeries::Bucket> BucketSeries::buckets(int level, double lower, double upper) const {
  CHECK(level >= 1 && level < 62, level);
  const double width = std::exp2(level);
  const auto cell = [&](size_t i) { return std::floor(x_[i] / width); };
  Level& l = levels_[level];
  for (size_t i = l.next + 1; i < size(); ++i)
    if (cell(i) != cell(l.next)) {
      l.done.push_back(makeBucket(l.next, i, width));
      l.next = i;
    }
  const auto first = std::lower_bound(l.done.begin(), l.done.end(), lower - width / 2, [](const Bucket& b, double x) { return b.x < x; });
  std::vector<Bucket> out;
  for (auto it = first; it != l.done.end() && it->x <= upper + width / 2; ++it) out.push_back(*it);
  if (l.next < size()) {
    const Bucket open = makeBucket(l.next, size(), width);
    if (open.x >= lower - width / 2 && open.x <= upper + width / 2) out.push_back(open);
  }
  return out;
}

}  // namespace winnow
