// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/core/check.h"

namespace winnow {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double z95 = 1.959963984540054;
constexpr int resamples = 10000;

// SplitMix64: small, and the same everywhere (std distributions differ between libraries).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  size_t below(size_t n) { return static_cast<size_t>((static_cast<__uint128_t>(next()) * n) >> 64); }

 private:
  uint64_t state_;
};

Interval percentiles(std::vector<double>& means) {
  std::sort(means.begin(), means.end());
  return {quantileOfSorted(means, 0.025), quantileOfSorted(means, 0.975)};
}

std::vector<double> thinned(std::span<const double> values, size_t limit) {
  if (values.size() <= limit) return {values.begin(), values.end()};
  std::vector<double> out(limit);
  for (size_t i = 0; i < limit; ++i) out[i] = values[i * values.size() / limit];
  return out;
}

}  // namespace

double quantileOfSorted(std::span<const double> sorted, double q) {
  if (sorted.empty()) return nan;
  CHECK(q >= 0 && q <= 1, q);
  const double at = q * static_cast<double>(sorted.size() - 1);
  const size_t low = static_cast<size_t>(at);
  if (low + 1 >= sorted.size()) return sorted.back();
  const double part = at - static_cast<double>(low);
  return part == 0 ? sorted[low] : sorted[low] + (sorted[low + 1] - sorted[low]) * part;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return quantileOfSorted(values, 0.5);
}

std::optional<Interval> quantileInterval(std::span<const double> sorted, double q) {
  const double n = static_cast<double>(sorted.size());
  const double reach = z95 * std::sqrt(n * q * (1 - q));
  const int64_t low = std::llround(n * q - reach), high = std::llround(n * q + reach) + 1;  // ranks from 1
  if (low < 1 || high > static_cast<int64_t>(sorted.size())) return std::nullopt;
  return Interval{sorted[static_cast<size_t>(low - 1)], sorted[static_cast<size_t>(high - 1)]};
}

Summary summarize(std::vector<double> values) {
  std::erase_if(values, [](double v) { return std::isnan(v); });
  std::sort(values.begin(), values.end());
  Summary s;
  s.n = static_cast<int64_t>(values.size());
  s.p5 = quantileOfSorted(values, 0.05);
  s.p50 = quantileOfSorted(values, 0.5);
  s.p95 = quantileOfSorted(values, 0.95);
  if (values.empty()) {
    s.mean = s.sd = s.min = s.max = nan;
    return s;
  }
  s.min = values.front();
  s.max = values.back();
  s.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(s.n);
  double squares = 0;
  for (const double v : values) squares += (v - s.mean) * (v - s.mean);
  s.sd = s.n > 1 ? std::sqrt(squares / static_cast<double>(s.n - 1)) : 0;
  s.p50Interval = quantileInterval(values, 0.5);
  s.p95Interval = quantileInterval(values, 0.95);
  return s;
}

std::optional<Interval> bootstrapMean(std::span<const double> values) { return blockBootstrapMean(values, 1); }

std::optional<Interval> blockBootstrapMean(std::span<const double> values, int block) {
  const size_t n = values.size();
  if (n < 2) return std::nullopt;
  const size_t length = std::clamp<size_t>(static_cast<size_t>(std::max(block, 1)), 1, n / 2);
  // Sums of blocks from prefix sums: one addition per block instead of one per value. Blocks wrap around, so that every value
  // is as likely as any other.
  std::vector<double> prefix(2 * n + 1, 0);
  for (size_t i = 0; i < 2 * n; ++i) prefix[i + 1] = prefix[i] + values[i % n];
  Random random(20240607);
  std::vector<double> means(resamples);
  for (double& mean : means) {
    double sum = 0;
    for (size_t filled = 0; filled < n;) {
      const size_t take = std::min(length, n - filled), start = random.below(n);
      sum += prefix[start + take] - prefix[start];
      filled += take;
    }
    mean = sum / static_cast<double>(n);
  }
  return percentiles(means);
}

std::optional<Shift> shiftBetween(std::span<const double> a, std::span<const double> b) {
  if (a.size() < 4 || b.size() < 4) return std::nullopt;
  const std::vector<double> left = thinned(a, 1000), right = thinned(b, 1000);
  std::vector<double> differences;
  differences.reserve(left.size() * right.size());
  for (const double y : right)
    for (const double x : left) differences.push_back(y - x);
  const double m = static_cast<double>(left.size()), n = static_cast<double>(right.size()), pairs = m * n;
  // Ranks of the differences that bound the shift: the Mann-Whitney statistic's normal limits.
  const double reach = z95 * std::sqrt(pairs * (m + n + 1) / 12);
  const auto rank = [&](double r) { return static_cast<size_t>(std::clamp(std::llround(r), 1LL, static_cast<long long>(pairs)) - 1); };
  const auto pick = [&](size_t k) {
    std::nth_element(differences.begin(), differences.begin() + static_cast<ptrdiff_t>(k), differences.end());
    return differences[k];
  };
  Shift shift;
  const size_t count = differences.size();
  shift.value = count % 2 ? pick(count / 2) : (pick(count / 2 - 1) + pick(count / 2)) / 2;
  shift.interval = {pick(rank(pairs / 2 - reach)), pick(rank(pairs / 2 + reach + 1))};
  return shift;
}

Verdict verdictOf(double baseline, const Shift& shift, double smallestShare) {
  if (!std::isfinite(shift.value) || !std::isfinite(baseline)) return Verdict::notComparable;
  if (shift.interval.low <= 0 && shift.interval.high >= 0) return Verdict::withinNoise;
  if (std::fabs(shift.value) < smallestShare * std::fabs(baseline)) return Verdict::withinNoise;
  return shift.value < 0 ? Verdict::better : Verdict::worse;
}

Interval shareInterval(int64_t hits, int64_t n) {
  const double z = 1.96, count = static_cast<double>(n), share = static_cast<double>(hits) / count;
  const double middle = (share + z * z / (2 * count)) / (1 + z * z / count);
  const double half = z * std::sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count);
  return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

PerplexityEstimate perplexityOf(double nllSum, double nllSquaredSum, int64_t count) {
  if (count <= 0) return {nan, nan, 0};
  const double n = static_cast<double>(count), mean = nllSum / n;
  PerplexityEstimate e{std::exp(mean), 0, count};
  if (count > 1) e.stderror = e.value * std::sqrt(std::max(0.0, nllSquaredSum / n - mean * mean) / (n - 1));
  return e;
}

}  // namespace winnow
