// SPDX-License-Identifier: GPL-3.0-or-later
// What is asked of rows of logits: likelihood, entropy, arg-max, divergence. One block to a row; a thread's part is summed in f32 (some
// hundred terms at most), the parts in double and in the order of the threads.
#pragma once
#include "engine/cuda/logits_row.cuh"

namespace winnow::cuda {

struct RowSums {
  float largest;
  int best;
  double sum, weighted;  // of exp(x - largest), and of that times (x - largest)
};
struct RowScratch {
  SharedArray<uint64_t, kLogitsWarps>& best;
  SharedArray<double, kLogitsWarps>&sums, &weights;
};

__device__ inline RowSums sumRow(Pointer<const float> x, int vocab, const RowScratch& scratch) {
  const uint64_t best = bestOfRow(x, vocab, scratch.best);
  RowSums row;
  row.largest = floatOfOrder(static_cast<uint32_t>(best >> 32));
  row.best = idOfRank(best);
  float sum = 0, weighted = 0;
  for (int i = static_cast<int>(threadIdx.x); i < vocab; i += kLogitsThreads) {
    const float d = fmaxf(x[i] - row.largest, -1e4f), e = expf(d);  // 0 * -inf would be NaN
    sum += e;
    weighted = fmaf(e, d, weighted);
  }
  row.sum = blockSum<kLogitsWarps>(static_cast<double>(sum), scratch.sums);
  row.weighted = blockSum<kLogitsWarps>(static_cast<double>(weighted), scratch.weights);
  return row;
}

__global__ void __launch_bounds__(kLogitsThreads)
scoreRows(Pointer<const float> logits, int64_t stride, int vocab, Pointer<const int32_t> targets, Pointer<TokenScore> out) {
  __shared__ SharedArray<uint64_t, kLogitsWarps> best;
  __shared__ SharedArray<double, kLogitsWarps> sums, weights;
  const int t = static_cast<int>(blockIdx.x);
  Pointer<const float> x = logits + t * stride;
  const RowSums row = sumRow(x, vocab, {best, sums, weights});
  if (threadIdx.x != 0) return;
  const double logSum = log(row.sum);
  out[t] = TokenScore{logSum - (static_cast<double>(x[targets[t]]) - row.largest), logSum - row.weighted / row.sum, row.best};
}

__global__ void __launch_bounds__(kLogitsThreads)
compareRows(Pointer<const float> base, Pointer<const float> other, int64_t stride, int vocab, Pointer<const int32_t> targets,
            Pointer<Divergence> out) {
  __shared__ SharedArray<uint64_t, kLogitsWarps> bestA, bestB;
  __shared__ SharedArray<double, kLogitsWarps> sumsA, sumsB, weightsA, weightsB, terms;
  const int t = static_cast<int>(blockIdx.x), target = targets[t];
  Pointer<const float> p = base + t * stride, q = other + t * stride;
  const RowSums a = sumRow(p, vocab, {bestA, sumsA, weightsA}), b = sumRow(q, vocab, {bestB, sumsB, weightsB});
  const float shift = a.largest - b.largest;
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < vocab; i += kLogitsThreads) {
    const float x = p[i], y = q[i];
    sum = fmaf(expf(x - a.largest), (x - y) - shift, sum);
  }
  const double total = blockSum<kLogitsWarps>(static_cast<double>(sum), terms);
  if (threadIdx.x != 0) return;
  // Never negative; rounding could make it so where the rows nearly agree.
  const double kld = fmax(total / a.sum + log(b.sum / a.sum), 0.0);
  out[t] = Divergence{kld, a.best == b.best, static_cast<float>(exp(static_cast<double>(p[target]) - a.largest) / a.sum),
                           static_cast<float>(exp(static_cast<double>(q[target]) - b.largest) / b.sum)};
}

}  // namespace winnow::cuda
