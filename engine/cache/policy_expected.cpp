// SPDX-License-Identifier: GPL-3.0-or-later
// Expected Attention (Devoto et al., 2025, arXiv 2510.00636): queries to come are taken as Gaussian, so what they would give a key is known
// in closed form, E exp(q k / sqrt(d)) = exp(m k / sqrt(d) + k' S k / (2 d)). m and S are mean and covariance of the head's queries without
// RoPE, turned by the mean rotation over the positions to come: an eighth of the tokens so far, at most 512. (The paper looks 512 ahead in
// texts of 4096; at 256 that turns the recent past, which the next tokens need most, into noise.) The score is the softmax of that over
// the keys, averaged over the group's query heads, times the norm of the value, as a logarithm. Sinks stay and count for nothing. The
// paper takes the queries of the whole prompt; here the newest 128, in mid-generation too. Followers of shared attention keep what is
// best by their leader's values.
#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <vector>

#include "engine/cache/kv_format.h"
#include "engine/cache/policies.h"
#include "engine/cache/query_rows.h"

namespace winnow {
namespace {

constexpr int kMostFuture = 512, kFutureShare = 8;
constexpr double kSingular = 1e-12;  // of the largest variance: what is left of one that others explain

class Expected final : public KvPolicy {
 public:
  explicit Expected(int future) : fixedFuture_(future) {}

  void score(const KvSlots& slots, const KvRequest& request, std::span<float> scores) const override {
    const auto sinks = static_cast<size_t>(std::ranges::lower_bound(slots.positions, request.sinks) - slots.positions.begin());
    const auto dim = static_cast<size_t>(slots.geometry.headDim);
    std::vector<double> shares(scores.size(), -std::numeric_limits<double>::infinity());
    for (int head = 0; head < slots.geometry.group; ++head) addSoftmax(exponents(slots, request, head), sinks, shares);
    for (size_t slot = 0; slot < scores.size(); ++slot) {
      double squares = 0;
      for (const float x : slots.values.subspan(slot * dim, dim)) squares += double{x} * x;
      scores[slot] = slot < sinks ? kAlways : static_cast<float>(shares[slot] - std::log(slots.geometry.group) + std::log(squares) / 2);
    }
  }

 private:
  // Queries as they would be on average over the positions to come, which begin `ahead` positions after the first of them: from position p,
  // R(f - p) for `future` positions f, whose mean is a rotation to the middle, shortened by sin(n a / 2) / (n sin(a / 2)) for an angle a per
  // position.
  void turn(const HeadGeometry& geometry, int64_t ahead, int future, std::span<float> queries /* [count, headDim] */) const {
    const auto dim = static_cast<size_t>(geometry.headDim), half = geometry.frequencies.size();
    const auto hadamard = [&] {
      for (size_t at = 0; geometry.hadamard && at < queries.size(); at += dim) rotateHadamard(queries.data() + at, geometry.headDim);
    };
    hadamard();
    for (size_t c = 0; c < half; ++c) {
      const double a = geometry.frequencies[c], sine = std::sin(a / 2);
      const double length = std::fabs(sine) > 1e-9 ? std::sin(future * a / 2) / (future * sine) : 1;
      const std::complex<double> step = std::polar(1.0, -a);
      std::complex<double> turned = std::polar(1.0, a * (static_cast<double>(ahead) + (future - 1) / 2.0)) * length;
      for (size_t at = 0; at < queries.size(); at += dim, turned *= step) {
        const std::complex<double> q = std::complex<double>(queries[at + c], queries[at + half + c]) * turned;
        queries[at + c] = static_cast<float>(q.real());
        queries[at + half + c] = static_cast<float>(q.imag());
      }
    }
    hadamard();
  }

  // Turned queries of a head as their mean and deviations from it, [1 + queries, headDim]; of sinks only where there are no others.
  std::vector<float> statistics(const KvSlots& slots, const KvRequest& request, int head) const {
    const KvQueries& queries = slots.queries;
    const auto dim = static_cast<size_t>(slots.geometry.headDim);
    const int64_t last = queries.first + queries.count - 1;
    const auto from = static_cast<int>(std::clamp<int64_t>(std::min<int64_t>(request.sinks, last) - queries.first, 0, queries.count));
    std::vector<float> rows(dim);
    for (int i = from; i < queries.count; ++i) {
      const float* q = queries.rows + i * queries.stride + static_cast<int64_t>(head) * slots.geometry.headDim;
      rows.insert(rows.end(), q, q + dim);
    }
    const auto share = static_cast<int>(std::clamp<int64_t>((last + 1) / kFutureShare, 1, kMostFuture));
    turn(slots.geometry, queries.count - from, fixedFuture_ > 0 ? fixedFuture_ : share, std::span(rows).subspan(dim));
    std::vector<double> mean(dim);
    for (size_t i = dim; i < rows.size(); ++i) mean[i % dim] += rows[i];
    const size_t count = rows.size() / dim - 1;
    for (size_t c = 0; c < dim && count > 0; ++c) rows[c] = static_cast<float>(mean[c] / static_cast<double>(count));
    for (size_t i = dim; i < rows.size(); ++i) rows[i] -= rows[i % dim];
    return rows;
  }

  // The mean, and rows whose products with k, squared, add up to k' S k: for S = L L' the columns of L, so that the i-th begins at channel i.
  static std::vector<float> factored(const std::vector<float>& rows /* mean and deviations */, size_t dim) {
    const size_t count = rows.size() / dim - 1;
    std::vector<double> s(dim * dim), row(dim);  // the lower triangle; then L, column by column
    for (size_t i = 1; i <= count; ++i) {
      std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(i * dim), dim, row.begin());
      for (size_t r = 0; r < dim; ++r)
        for (size_t c = 0; c <= r; ++c) s[r * dim + c] += row[r] * row[c];
    }
    double largest = 0;
    for (size_t c = 0; c < dim; ++c) largest = std::max(largest, s[c * dim + c]);
    std::vector<float> out(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(dim));
    out.resize((dim + 1) * dim);
    for (size_t c = 0; c < dim; ++c) {
      if (s[c * dim + c] <= largest * kSingular) continue;  // a direction without queries: a row of zeros
      const double factor = 1 / std::sqrt(s[c * dim + c]), share = 1 / std::sqrt(static_cast<double>(count));
      for (size_t r = c; r < dim; ++r) out[(c + 1) * dim + r] = static_cast<float>((row[r] = s[r * dim + c] * factor) * share);
      for (size_t r = c + 1; r < dim; ++r)
        for (size_t i = c + 1; i <= r; ++i) s[r * dim + i] -= row[r] * row[i];
    }
    return out;
  }

  // m k / sqrt(d) + k' S k / (2 d) of each slot. The last part is a sum of squares: of the products with the deviations, or where there are
  // fewer channels with the factor of S, whose rows begin later and later.
  std::vector<double> exponents(const KvSlots& slots, const KvRequest& request, int head) const {
    std::vector<float> rows = statistics(slots, request, head);
    const auto dim = static_cast<size_t>(slots.geometry.headDim);
    const size_t held = slots.positions.size(), count = rows.size() / dim - 1;
    const bool dense = count > dim;
    if (dense) rows = factored(rows, dim);
    const size_t all = rows.size() / dim;
    std::vector<double> out(held);
    std::vector<float> block(kProductRows * held), sums(held);  // of a block: the sum over blocks is in double
    const double factor = dense ? 0.5 : 0.5 / static_cast<double>(std::max<size_t>(count, 1));
    for (size_t first = 0; first < all; first += kProductRows) {
      std::vector<const float*> some;
      for (size_t row = first; row < std::min(all, first + kProductRows); ++row) some.push_back(rows.data() + row * dim);
      const int from = dense && first > 0 ? static_cast<int>(first) - 1 : 0;
      products(slots.keys, slots.geometry.headDim, from, some, 1.0f / std::sqrt(static_cast<float>(dim)), block.data());
      if (first == 0) std::copy_n(block.begin(), held, out.begin());
      std::ranges::fill(sums, 0.0f);
      for (size_t i = first == 0 ? 1 : 0; i < some.size(); ++i) {
        const float* x = block.data() + i * held;
        for (size_t slot = 0; slot < held; ++slot) sums[slot] += x[slot] * x[slot];
      }
      for (size_t slot = 0; slot < held; ++slot) out[slot] += sums[slot] * factor;
    }
    return out;
  }

  // Logarithms throughout: of keys as long as some models', most shares are too small for a float.
  static void addSoftmax(const std::vector<double>& exponents, size_t begin, std::vector<double>& shares) {
    if (begin >= exponents.size()) return;
    const double largest = *std::max_element(exponents.begin() + static_cast<std::ptrdiff_t>(begin), exponents.end());
    double sum = 0;
    for (size_t slot = begin; slot < exponents.size(); ++slot) sum += std::exp(exponents[slot] - largest);
    for (size_t slot = begin; slot < exponents.size(); ++slot) {
      const double own = exponents[slot] - largest - std::log(sum), most = std::max(own, shares[slot]), least = std::min(own, shares[slot]);
      shares[slot] = most + std::log1p(std::exp(least - most));
    }
  }

  int fixedFuture_;  // 0: a share of the text
};

}  // namespace

std::unique_ptr<KvPolicy> makeExpectedOver(int futurePositions) { return std::make_unique<Expected>(futurePositions); }
std::unique_ptr<KvPolicy> makeExpected() { return makeExpectedOver(0); }

}  // namespace winnow
