// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <cmath>

#include "engine/cpu/context.h"

namespace winnow::cpu {
void scoreLogits(Context& context, const float* logits, int64_t stride, int vocab, const int32_t* targets, int tokens, TokenScore* out) {
  const KernelTable& k = context.impl().kernels;
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(tokens, 1, thread, threads);
    for (int64_t t = range.begin; t < range.end; ++t) {
      const float* x = logits + t * stride;
      LogitsRow row;
      k.logits(x, vocab, &row);
      const double logSum = std::log(row.sum);
      out[t] = {logSum - (static_cast<double>(x[targets[t]]) - row.largest), logSum - row.weighted / row.sum, row.best};
    }
  });
}

void compareLogits(Context& context, const float* base, const float* other, int64_t stride, int vocab, const int32_t* targets, int tokens,
                   Divergence* out) {
  const KernelTable& k = context.impl().kernels;
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(tokens, 1, thread, threads);
    for (int64_t t = range.begin; t < range.end; ++t) {
      const float *p = base + t * stride, *q = other + t * stride;
      LogitsRow a, b;
      k.logits(p, vocab, &a);
      k.logits(q, vocab, &b);
      // The divergence is never negative; rounding could make it so where the rows nearly agree.
      const double kld = k.divergence(p, a.largest, q, b.largest, vocab) / a.sum + std::log(b.sum / a.sum);
      const int32_t target = targets[t];
      out[t] = {std::max(kld, 0.0), a.best == b.best, static_cast<float>(std::exp(static_cast<double>(p[target]) - a.largest) / a.sum),
                static_cast<float>(std::exp(static_cast<double>(q[target]) - b.largest) / b.sum)};
    }
  });
}

}  // namespace winnow::cpu
