// SPDX-License-Identifier: GPL-3.0-or-later
// A growing series that can be shown at any width: raw points, and per power-of-two bucket of x the quantiles of what fell into
// it. Finished buckets are computed once, so a frame costs what is new and what is visible.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace winnow {

class BucketSeries {
 public:
  struct Bucket {
    double x = 0;  // centre
    double p5 = 0, p50 = 0, p95 = 0, max = 0;
    int64_t n = 0;
  };

  void append(double x, double y);  // x not below the last one; NaN y is a gap and is left out of buckets
  void clear();
  bool empty() const { return x_.empty(); }
  size_t size() const { return x_.size(); }
  std::span<const double> x() const { return x_; }
  std::span<const double> y() const { return y_; }
  // Index of the first point with x >= value.
  size_t lowerIndex(double value) const;
  // The value at the point nearest to x, NaN if none within `reach`.
  double nearest(double x, double reach) const;

  // Buckets of 2^level x units that touch [lower, upper], aligned to multiples of their width.
  std::vector<Bucket> buckets(int level, double lower, double upper) const;
  // Level whose buckets are at least two pixels wide; 0 = show the points themselves.
  static int levelFor(double unitsPerPixel);

 private:
  struct Level {
    std::vector<Bucket> done;  // ascending; all but the one the newest point is in
    size_t next = 0;           // first raw index not in `done`
  };
  Bucket makeBucket(size_t first, size_t last, double width) const;
  std::vector<double> x_, y_;
  mutable std::map<int, Level> levels_;
};

}  // namespace winnow
