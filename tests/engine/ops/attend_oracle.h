// SPDX-License-Identifier: GPL-3.0-or-later
// Attention in double over random pages, and how far a backend may be from it.
//
// The bounds, u = 2^-24. A score is a sum of n = headDim terms: off by at most e = (n + 12) u scale sum |q| |k|. A probability moves by the
// factor exp(+-2e); the exponential adds 2^-22 twice (numerator and, on average, denominator), merging and scaling by chunk or page
// as much again per change of the maximum, bounded here by 16 of them; the sum of `len` weights len u / 4 + 40 u. So
// |dp| <= p r with r = exp(2e) - 1 + 16 * 2^-22 + (len / 4 + 40) u, and |dout| <= sum p |v| (r + (len + 40) u).
//
// Turned keys (KeyTurns): each rotation of a pair, of rounded sines and cosines, moves a vector by at most 3 sqrt(2) u of its length, each of
// the levels of a Hadamard matrix by u; orthogonal matrices keep lengths, so a score is off by as many u |q| |k| besides.
#pragma once
#include "engine/cache/kv_format.h"
#include "engine/core/dtype.h"
#include "tests/engine/ops/harness.h"

namespace winnow::test {

struct AttendShape {
  int heads, kvHeads, headDim, queries, pageTokens, window;
  std::vector<int> tokens;  // per kv head
};

struct AttendHead {
  std::vector<std::unique_ptr<Guarded<uint16_t>>> pages;
  std::vector<const uint16_t*> keys, values;
  std::vector<int32_t> positions;
};

struct AttendSetup {
  AttendShape shape;
  std::vector<AttendHead> heads;
  std::vector<cpu::KvHead> kv;
  std::vector<float> q;
  int stride = 0;  // of probabilities
  std::vector<float> frequencies{};  // turns keys to positions within the cache
  bool hadamard = false;
  explicit AttendSetup(const AttendShape& s)
      : shape(s), heads(static_cast<size_t>(s.kvHeads)), q(static_cast<size_t>(s.queries * s.heads * s.headDim)) {
    std::mt19937 rng(4);
    fillNormal(q.data(), q.size(), 21);
    for (int h = 0; h < s.kvHeads; ++h) {
      AttendHead& head = heads[static_cast<size_t>(h)];
      const int tokens = s.tokens[static_cast<size_t>(h)];
      for (int i = 0, position = 0; i < tokens; ++i) head.positions.push_back(position += 1 + static_cast<int>(rng() % 3 == 0));
      for (int p = 0; p * s.pageTokens < tokens; ++p)
        for (auto* list : {&head.keys, &head.values}) {
          const size_t size = static_cast<size_t>(s.pageTokens * s.headDim),
                       used = static_cast<size_t>(std::min(s.pageTokens, tokens - p * s.pageTokens) * s.headDim);
          head.pages.push_back(std::make_unique<Guarded<uint16_t>>(size));
          std::vector<float> values(used);
          fillNormal(values.data(), used, static_cast<uint32_t>(rng()), 0.5f);
          for (size_t i = 0; i < size; ++i)
            (*head.pages.back())[i] = i < used ? floatToF16(values[i]) : uint16_t{0x7e00};  // NaN in unused slots
          list->push_back(head.pages.back()->data());
        }
      kv.push_back({head.keys.data(), head.values.data(), tokens, head.positions.data()});
      stride = std::max(stride, tokens + 5);
    }
  }
  float key(int h, int s, int c, bool value) const {
    const AttendHead& head = heads[static_cast<size_t>(h)];
    const auto& list = value ? head.values : head.keys;
    return f16ToFloat(list[static_cast<size_t>(s / shape.pageTokens)][s % shape.pageTokens * shape.headDim + c]);
  }
  static void hadamardInDouble(std::vector<double>& x) {
    const std::vector<double> from = x;
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = 0;
      for (size_t j = 0; j < x.size(); ++j) x[i] += (__builtin_popcountll(i & j) % 2 ? -from[j] : from[j]) / std::sqrt(static_cast<double>(x.size()));
    }
  }
  // A key as attention takes it, in double: n values after the gaps behind it are closed.
  std::vector<double> keyRow(int h, int s) const {
    std::vector<double> key;
    for (int c = 0; c < shape.headDim; ++c) key.push_back(this->key(h, s, c, false));
    if (frequencies.empty()) return key;
    const auto& at = heads[static_cast<size_t>(h)].positions;
    const int tokens = shape.tokens[static_cast<size_t>(h)], missing = at[static_cast<size_t>(tokens - 1)] - at[static_cast<size_t>(s)] - (tokens - 1 - s);
    if (hadamard) hadamardInDouble(key);
    const size_t half = frequencies.size();
    for (size_t c = 0; c < half; ++c) {
      const double a = key[c], b = key[half + c], cosine = std::cos(missing * static_cast<double>(frequencies[c])), sine = std::sin(missing * static_cast<double>(frequencies[c]));
      key[c] = a * cosine - b * sine;
      key[half + c] = a * sine + b * cosine;
    }
    if (hadamard) hadamardInDouble(key);
    return key;
  }
  bool sees(int h, int query, int s) const {
    const int own = shape.tokens[static_cast<size_t>(h)] - shape.queries + query;
    const auto& p = heads[static_cast<size_t>(h)].positions;
    if (!frequencies.empty() && shape.window > 0) return s <= own && s > own - shape.window;
    return s <= own && (shape.window == 0 || p[static_cast<size_t>(s)] > p[static_cast<size_t>(own)] - shape.window);
  }
};

struct AttendExpected {
  std::vector<double> out, outBound;   // [queries][heads][headDim]
  std::vector<double> p, pBound;       // [heads][queries][stride]
  std::vector<double> sums, sumBound;  // [kvHeads][stride]
};

// How a backend rounds what it multiplies: q and weights by a relative error, weights also by a share of the largest.
struct AttendRounding {
  double q = 0, weights = 0, floor = 0;
};
inline AttendExpected expectAttend(const AttendSetup& setup, const AttendRounding& rounding = {}) {
  const AttendShape& s = setup.shape;
  AttendExpected e;
  e.out.resize(setup.q.size());
  e.outBound = e.out;
  e.p.resize(static_cast<size_t>(s.heads * s.queries * setup.stride));
  e.pBound = e.p;
  e.sums.resize(static_cast<size_t>(s.kvHeads * setup.stride));
  e.sumBound = e.sums;
  const double scale = static_cast<float>(1 / std::sqrt(s.headDim)), u = 0x1p-24;
  const bool turned = !setup.frequencies.empty();
  const double turning = turned ? 3 * std::sqrt(2.0) + (setup.hadamard ? 2 * (std::log2(s.headDim) + 1) : 0) : 0;
  std::vector<std::vector<std::vector<double>>> keys(static_cast<size_t>(s.kvHeads));
  for (int h = 0; h < s.kvHeads; ++h)
    for (int t = 0; t < s.tokens[static_cast<size_t>(h)]; ++t) keys[static_cast<size_t>(h)].push_back(setup.keyRow(h, t));
  for (int head = 0; head < s.heads; ++head)
    for (int i = 0; i < s.queries; ++i) {
      const int h = head / (s.heads / s.kvHeads), tokens = s.tokens[static_cast<size_t>(h)];
      const float* q = setup.q.data() + (i * s.heads + head) * s.headDim;
      double* p = e.p.data() + static_cast<size_t>((head * s.queries + i) * setup.stride);
      double largest = -1e300, sum = 0, worst = 0;
      for (int t = 0; t < tokens; ++t) {
        double dot = 0, size = 0, q2 = 0, k2 = 0;
        for (int c = 0; c < s.headDim; ++c) {
          const double key = keys[static_cast<size_t>(h)][static_cast<size_t>(t)][static_cast<size_t>(c)];
          dot += q[c] * key * scale;
          size += std::fabs(q[c] * key) * scale;
          q2 += double{q[c]} * q[c];
          k2 += key * key;
        }
        if (turned) size = std::sqrt(q2 * k2) * scale;
        p[t] = setup.sees(h, i, t) ? dot : -1e300;
        if (setup.sees(h, i, t)) worst = std::max(worst, size);
        largest = std::max(largest, p[t]);
      }
      for (int t = 0; t < tokens; ++t) sum += p[t] = p[t] == -1e300 ? 0 : std::exp(p[t] - largest);
      const double r = std::expm1(2 * ((s.headDim + 12 + turning) * u + rounding.q) * worst) + rounding.weights + 0x1p-18 + (tokens / 4.0 + 40) * u;
      for (int t = 0; t < tokens; ++t) {
        p[t] /= sum;
        e.pBound[static_cast<size_t>((head * s.queries + i) * setup.stride + t)] = p[t] * r + 0x1p-125;  // exponentials below 2^-126 are 0
        e.sums[static_cast<size_t>(h * setup.stride + t)] += p[t];
        e.sumBound[static_cast<size_t>(h * setup.stride + t)] += p[t] * (r + s.queries * s.heads * u) + 0x1p-120;
        for (int c = 0; c < s.headDim; ++c) {
          e.out[static_cast<size_t>((i * s.heads + head) * s.headDim + c)] += p[t] * setup.key(h, t, c, true);
          e.outBound[static_cast<size_t>((i * s.heads + head) * s.headDim + c)] +=
              std::fabs(setup.key(h, t, c, true)) * (p[t] * (r + (tokens + 40) * u) + rounding.floor) + 0x1p-120;
        }
      }
    }
  return e;
}

inline double worstRatio(const float* found, const std::vector<double>& expected, const std::vector<double>& bound, size_t begin, size_t count,
                  double shift = 0) {
  double worst = 0;
  for (size_t i = 0; i < count; ++i) {
    const double error = std::fabs(static_cast<double>(found[i]) - shift - expected[begin + i]);
    // A slot that is not seen has probability exactly 0.
    const double ratio =
        expected[begin + i] == 0 && shift == 0 && bound[begin + i] < 1e-30 ? (found[i] == 0 ? 0 : 1e9) : error / bound[begin + i];
    worst = std::isnan(ratio) ? 1e9 : std::max(worst, ratio);
  }
  return worst;
}

// Column sums that were added to a quarter in each place.
inline double worstSumRatio(const float* found, const AttendExpected& e) {
  std::vector<double> bound = e.sumBound;
  for (double& b : bound) b += (0.25 + 40) * 0x1p-24;
  return worstRatio(found, e.sums, bound, 0, e.sums.size(), 0.25);
}

}  // namespace winnow::test
