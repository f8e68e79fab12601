// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cache/allocation.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <tuple>

#include "engine/core/check.h"

namespace winnow {
namespace {

constexpr double kOwnShare = 0.2;  // of a head's even share of the layer's budget

struct Named {
  const char* name;
  KvAllocation allocation;
};
constexpr Named kNamed[] = {{"pyramid", KvAllocation::pyramid}, {"adaptive", KvAllocation::adaptive}};

}  // namespace

std::vector<std::string> kvAllocationNames() {
  std::vector<std::string> names = {"auto", "even"};
  for (const Named& named : kNamed) names.push_back(named.name);
  return names;
}

KvAllocation kvAllocation(std::string_view name, KvAllocation own) {
  for (const Named& named : kNamed)
    if (name == named.name) return named.allocation;
  if (name == "auto") return own;
  CHECK(name == "even", "no allocation", name);
  return own == KvAllocation::perLayer ? own : KvAllocation::perHead;
}

std::vector<int> pyramidBudgets(int layers, int keep, int window, int held, double beta) {
  CHECK(layers > 0 && window >= 0 && window <= keep && keep <= held, layers, window, keep, held);
  const double older = keep - window, most = held - window;
  double least = older / beta, largest = 2 * older - least;
  if (largest > most) {
    largest = most;
    least = 2 * older - largest;
  }
  // Rounding what was dealt so far, not each budget, keeps the sum.
  std::vector<int> budgets;
  double dealt = 0;
  int64_t rounded = 0;
  for (int layer = 0; layer < layers; ++layer) {
    dealt += layers == 1 ? older : largest - (largest - least) * layer / (layers - 1);
    const auto now = static_cast<int64_t>(std::llround(dealt));
    budgets.push_back(std::clamp(window + static_cast<int>(now - rounded), 1, held));
    rounded = now;
  }
  return budgets;
}

void keepBest(std::span<const float> scores, int keep, std::vector<int32_t>& kept) {
  const auto newest = static_cast<int32_t>(scores.size()) - 1;
  CHECK(keep >= 1 && keep <= newest + 1, keep, newest);
  kept.resize(static_cast<size_t>(newest));
  std::iota(kept.begin(), kept.end(), 0);
  const auto better = [&](int32_t a, int32_t b) {
    const float x = scores[static_cast<size_t>(a)], y = scores[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  if (keep - 1 < newest) std::nth_element(kept.begin(), kept.begin() + (keep - 1), kept.end(), better);
  kept.resize(static_cast<size_t>(keep - 1));
  std::ranges::sort(kept);
  kept.push_back(newest);
}

void standardize(std::span<float> scores) {
  double sum = 0, squares = 0;
  int count = 0;
  for (const float score : scores)
    if (std::isfinite(score)) sum += score, ++count;
  const double mean = count > 0 ? sum / count : 0;
  for (const float score : scores)
    if (std::isfinite(score)) squares += (score - mean) * (score - mean);
  const double factor = squares > 0 ? 1 / std::sqrt(squares / count) : 0;
  for (float& score : scores)
    if (std::isfinite(score)) score = static_cast<float>((score - mean) * factor);
}

std::vector<int> adaptiveBudgets(std::span<const std::vector<float>> scores, int keep) {
  struct Candidate {
    float score;
    int32_t rank, head;  // rank within its head
  };
  std::vector<int> budgets;
  std::vector<Candidate> candidates;
  int64_t all = 0, own = 0;
  for (size_t head = 0; head < scores.size(); ++head) {
    const auto held = static_cast<int>(scores[head].size());
    const int floor = std::clamp(static_cast<int>(kOwnShare * keep), 1, held);
    std::vector<float> sorted = scores[head];
    sorted.back() = std::numeric_limits<float>::infinity();  // the newest stays
    std::ranges::sort(sorted, std::greater<>());
    for (int rank = floor; rank < held; ++rank) candidates.push_back({sorted[static_cast<size_t>(rank)], rank, static_cast<int32_t>(head)});
    budgets.push_back(floor);
    own += floor;
    all += held;
  }
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score > b.score : std::tie(a.rank, a.head) < std::tie(b.rank, b.head);
  };
  const int64_t total = std::min(all, static_cast<int64_t>(scores.size()) * keep);
  const auto rest = static_cast<std::ptrdiff_t>(std::clamp<int64_t>(total - own, 0, static_cast<int64_t>(candidates.size())));
  std::nth_element(candidates.begin(), candidates.begin() + rest, candidates.end(), better);
  for (auto it = candidates.begin(); it != candidates.begin() + rest; ++it) ++budgets[static_cast<size_t>(it->head)];
  return budgets;
}

}  // namespace winnow
