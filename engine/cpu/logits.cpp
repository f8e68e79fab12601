// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <cmath>

#include "engine/cpu/context.h"

namespace winnow::cpu {
namespace {

struct Row {
  int32_t best = 0;
  float largest = 0;
  double sum = 0;       // of exp(x - largest)
  double weighted = 0;  // of exp(x - largest) * (x - largest)
  double logSum() const { return largest + std::log(sum); }
};

Row reduce(const float* x, int vocab) {
  Row row;
  row.largest = x[0];
  for (int i = 1; i < vocab; ++i)
    if (x[i] > row.largest) {
      row.largest = x[i];
      row.best = i;
    }
  for (int i = 0; i < vocab; ++i) {
    const double d = static_cast<double>(x[i]) - row.largest, e = std::exp(d);
    row.sum += e;
    row.weighted += e * d;
  }
  return row;
}

}  // namespace

void scoreLogits(Context& context, const float* logits, int64_t stride, int vocab, const int32_t* targets, int tokens, TokenScore* out) {
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(tokens, 1, thread, threads);
    for (int64_t t = range.begin; t < range.end; ++t) {
      const float* x = logits + t * stride;
      const Row row = reduce(x, vocab);
      out[t] = {row.logSum() - x[targets[t]], std::log(row.sum) - row.weighted / row.sum, row.best};
    }
  });
}

void compareLogits(Context& context, const float* base, const float* other, int64_t stride, int vocab, const int32_t* targets, int tokens,
                   Divergence* out) {
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(tokens, 1, thread, threads);
    for (int64_t t = range.begin; t < range.end; ++t) {
      const float *p = base + t * stride, *q = other + t * stride;
      const Row a = reduce(p, vocab), b = reduce(q, vocab);
      double sum = 0;  // of exp(p - max p) * ((p - max p) - (q - max q))
      for (int i = 0; i < vocab; ++i) {
        const double dp = static_cast<double>(p[i]) - a.largest, dq = static_cast<double>(q[i]) - b.largest;
        sum += std::exp(dp) * (dp - dq);
      }
      const double kld = sum / a.sum + (std::log(b.sum) - std::log(a.sum));
      const int32_t target = targets[t];
      out[t] = {std::max(kld, 0.0), a.best == b.best, static_cast<float>(std::exp(p[target] - a.logSum())),
                static_cast<float>(std::exp(q[target] - b.logSum()))};
    }
  });
}

}  // namespace winnow::cpu
