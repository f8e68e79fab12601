// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/attribute/agreement.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/attribute/attribute.h"

namespace winnow {
namespace {

std::vector<size_t> ranking(const std::vector<double>& scores) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  return order;
}

std::vector<double> averageRanks(const std::vector<double>& values) {
  const std::vector<size_t> order = ranking(values);
  std::vector<double> ranks(values.size());
  for (size_t first = 0; first < order.size();) {
    size_t last = first;
    while (last + 1 < order.size() && values[order[last + 1]] == values[order[first]]) ++last;
    for (size_t i = first; i <= last; ++i) ranks[order[i]] = static_cast<double>(first + last) / 2;
    first = last + 1;
  }
  return ranks;
}

double mean(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size()); }

}  // namespace

std::vector<double> scoresOf(const std::vector<Source>& sources) {
  std::vector<double> out;
  for (const Source& source : sources) out.push_back(source.score.value_or(kUnscored));
  return out;
}

double pearson(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.empty()) return 0;
  const double meanA = mean(a), meanB = mean(b);
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - meanA) * (b[i] - meanB);
    aa += (a[i] - meanA) * (a[i] - meanA);
    bb += (b[i] - meanB) * (b[i] - meanB);
  }
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 0;
}

double spearman(const std::vector<double>& a, const std::vector<double>& b) { return pearson(averageRanks(a), averageRanks(b)); }

std::vector<bool> outliers(const std::vector<double>& exact, double z) {
  std::vector<bool> out(exact.size(), false);
  if (exact.empty()) return out;
  const double middle = mean(exact);
  double squares = 0;
  for (const double score : exact) squares += (score - middle) * (score - middle);
  const double bound = middle + z * std::sqrt(squares / static_cast<double>(exact.size()));
  for (size_t i = 0; i < exact.size(); ++i) out[i] = exact[i] > bound;
  return std::ranges::count(out, true) > 0 ? out : best(exact, 1);
}

std::vector<bool> best(const std::vector<double>& scores, size_t count) {
  std::vector<bool> out(scores.size(), false);
  const std::vector<size_t> order = ranking(scores);
  for (size_t i = 0; i < std::min(count, order.size()); ++i) out[order[i]] = true;
  return out;
}

double averagePrecision(const std::vector<bool>& relevant, const std::vector<double>& scores) {
  double found = 0, total = 0;
  const std::vector<size_t> order = ranking(scores);
  for (size_t i = 0; i < order.size(); ++i)
    if (relevant[order[i]]) total += ++found / static_cast<double>(i + 1);
  return found > 0 ? total / found : 0;
}

double topOverlap(const std::vector<double>& exact, const std::vector<double>& scores, size_t count) {
  const std::vector<bool> a = best(exact, count), b = best(scores, count);
  double both = 0, all = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    both += a[i] && b[i] ? 1 : 0;
    all += a[i] ? 1 : 0;
  }
  return all > 0 ? both / all : 0;
}

}  // namespace winnow
