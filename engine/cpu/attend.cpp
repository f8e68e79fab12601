// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/core/check.h"
#include "engine/core/dtype.h"
#include "engine/cpu/context.h"

namespace winnow::cpu {
namespace {

// Slots [first, end) that query i of a head sees.
struct Visible {
  int first, end;
};
Visible visible(const AttendArgs& args, const KvHead& kv, int query) {
  const int end = kv.tokens - args.queries + query + 1;
  if (args.slidingWindow <= 0) return {0, end};
  const int32_t oldest = kv.positions[end - 1] - args.slidingWindow;  // positions <= oldest are out of sight
  return {static_cast<int>(std::upper_bound(kv.positions, kv.positions + end, oldest) - kv.positions), end};
}

void attendHead(const AttendArgs& args, int head, int query, float* p) {
  const int kvHead = head / (args.heads / args.kvHeads), n = args.headDim;
  const KvHead& kv = args.kv[kvHead];
  const Visible seen = visible(args, kv, query);
  float* kept = args.probabilities ? args.probabilities + (int64_t{head} * args.queries + query) * args.probabilityStride : nullptr;
  if (args.reuse) {
    std::copy_n(args.reuse + (int64_t{head} * args.queries + query) * args.probabilityStride, seen.end, p);
  } else {
    const float* q = args.q + query * args.qStride + int64_t{head} * n;
    float largest = -INFINITY;
    for (int s = 0; s < seen.end; ++s) {
      if (s < seen.first) {
        p[s] = 0;
        continue;
      }
      const uint16_t* k = kv.keys[s / args.pageTokens] + int64_t{s % args.pageTokens} * n;
      float dot = 0;
      for (int c = 0; c < n; ++c) dot += q[c] * f16ToFloat(k[c]);
      p[s] = dot * args.scale;
      largest = std::max(largest, p[s]);
    }
    double sum = 0;
    for (int s = seen.first; s < seen.end; ++s) sum += p[s] = std::exp(p[s] - largest);
    const float inverse = static_cast<float>(1.0 / sum);
    for (int s = seen.first; s < seen.end; ++s) p[s] *= inverse;
  }
  float* out = args.out + query * args.outStride + int64_t{head} * n;
  std::fill_n(out, n, 0.0f);
  for (int s = 0; s < seen.end; ++s) {
    const uint16_t* v = kv.values[s / args.pageTokens] + int64_t{s % args.pageTokens} * n;
    for (int c = 0; c < n; ++c) out[c] += p[s] * f16ToFloat(v[c]);
  }
  if (kept) {
    std::copy_n(p, seen.end, kept);
    std::fill(kept + seen.end, kept + args.probabilityStride, 0.0f);
  }
  if (args.columnSums)
    for (int s = 0; s < seen.end; ++s) args.columnSums[kvHead * args.columnStride + s] += p[s];
}

}  // namespace

void attend(Context& context, const AttendArgs& args) {
  CHECK(args.kvHeads > 0 && args.heads % args.kvHeads == 0, args.heads, args.kvHeads);
  int longest = 0;
  for (int h = 0; h < args.kvHeads; ++h) {
    CHECK(args.kv[h].tokens >= args.queries, h, args.kv[h].tokens, args.queries);
    longest = std::max(longest, args.kv[h].tokens);
  }
  const int group = args.heads / args.kvHeads;
  float* work = context.impl().attention.need<float>(static_cast<size_t>(longest) * static_cast<size_t>(context.pool().threads()));
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(args.kvHeads, 1, thread, threads);
    for (int64_t h = range.begin * group; h < range.end * group; ++h)
      for (int query = 0; query < args.queries; ++query) attendHead(args, static_cast<int>(h), query, work + int64_t{thread} * longest);
  });
}

}  // namespace winnow::cpu
