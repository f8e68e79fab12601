// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cpu/critical_blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/core/check.h"
#include "engine/cpu/context.h"

namespace winnow::cpu {
namespace {

// Largest and smallest value of each component.
struct Bounds {
  std::vector<float> high, low;
  explicit Bounds(int n) : high(static_cast<size_t>(n)), low(high.size()) { clear(); }
  void clear() {
    std::fill(high.begin(), high.end(), -std::numeric_limits<float>::infinity());
    std::fill(low.begin(), low.end(), std::numeric_limits<float>::infinity());
  }
  void add(const float* row) {
    for (size_t c = 0; c < high.size(); ++c) {
      high[c] = std::max(high[c], row[c]);
      low[c] = std::min(low[c], row[c]);
    }
  }
};

float dot(const float* a, const std::vector<float>& b) {
  float sum = 0;
  for (size_t c = 0; c < b.size(); ++c) sum += a[c] * b[c];
  return sum;
}

// Keys of one head as f32 rows.
class KeyRows {
 public:
  KeyRows(const KernelTable& kernels, const AttendArgs& args, const KvHead& head)
      : k_(kernels), shape_{args.pageTokens, args.headDim}, head_(head), padded_((args.headDim + 15) / 16 * 16), halves_(static_cast<size_t>(args.pageTokens * args.headDim)),
        rows_(static_cast<size_t>(args.pageTokens * padded_)) {}
  void add(int begin, int end, Bounds& bounds) {
    for (int to = begin; begin < end; begin = to) {
      const int page = begin / shape_.tokens, first = begin % shape_.tokens, count = std::min(end - begin, shape_.tokens - first);
      to = begin + count;
      const uint16_t* from = head_.keys[page] + first * shape_.headDim;
      if (head_.keyForms && head_.keyForms[page].sealed()) {
        k_.unpackPage(shape_, head_.keyForms[page], head_.keys[page], first, first + count, halves_.data());
        from = halves_.data();
      }
      k_.widenValues(from, shape_.headDim, count, padded_, rows_.data());
      for (int s = 0; s < count; ++s) bounds.add(rows_.data() + s * padded_);
    }
  }

 private:
  const KernelTable& k_;
  PageShape shape_;
  const KvHead& head_;
  int padded_;
  std::vector<uint16_t> halves_;  // f16 [pageTokens, headDim]
  std::vector<float> rows_;       // [pageTokens, padded]
};

}  // namespace

CriticalBlocks::CriticalBlocks(Ledger& ledger, int kvHeads, int context) : kvHeads_(kvHeads), stride_((context + kBlock - 1) / kBlock) {
  const size_t blocks = static_cast<size_t>(kvHeads) * static_cast<size_t>(stride_);
  worth_ = Buffer(ledger, MemoryTag::metadata, blocks * sizeof(float));
  fresh_ = Buffer(ledger, MemoryTag::metadata, blocks * sizeof(float));
  chosen_ = Buffer(ledger, MemoryTag::metadata, blocks);
}

// What each block is worth to a kv head, as a softmax over those before the segment. out: [blocks]
void CriticalBlocks::judge(Context& context, const AttendArgs& args, int kvHead, float* out) const {
  const int n = args.headDim, group = args.heads / args.kvHeads;
  std::vector<std::vector<float>> centers;
  Bounds bounds(n);
  for (int head = kvHead * group; head < (kvHead + 1) * group; ++head) {
    bounds.clear();
    for (int query = 0; query < args.queries; ++query) bounds.add(args.q + query * args.qStride + int64_t{head} * n);
    std::vector<float>& center = centers.emplace_back(static_cast<size_t>(n));
    for (size_t c = 0; c < center.size(); ++c) center[c] = (bounds.high[c] + bounds.low[c]) * 0.5f * args.scale;
  }
  KeyRows keys(context.impl().kernels, args, args.kv[kvHead]);
  float largest = -std::numeric_limits<float>::infinity();
  for (int block = 0; block < blocks(); ++block) {
    bounds.clear();
    keys.add(block * kBlock, std::min((block + 1) * kBlock, before_), bounds);
    float worth = 0;
    for (const auto& center : centers) worth += std::max(dot(center.data(), bounds.high), dot(center.data(), bounds.low));
    out[block] = worth / static_cast<float>(group);
    largest = std::max(largest, out[block]);
  }
  float sum = 0;
  for (int block = 0; block < blocks(); ++block) sum += out[block] = std::exp(out[block] - largest);
  for (int block = 0; block < blocks(); ++block) out[block] /= sum;
}

// The best `count` blocks from that of slot firstSeen on, and the first of all; of equals the earlier.
void CriticalBlocks::take(int kvHead, int count, int firstSeen) {
  uint8_t* taken = chosen(kvHead);
  const float* worths = worth(kvHead);
  std::fill_n(taken, blocks(), uint8_t{0});
  const int first = std::max(firstSeen / kBlock, 1);  // block 0 is taken anyhow
  std::vector<int> order(static_cast<size_t>(std::max(blocks() - first, 0)));
  std::iota(order.begin(), order.end(), first);
  const auto kept = std::min<int64_t>(std::max(count - 1, 0), static_cast<int64_t>(order.size()));
  std::nth_element(order.begin(), order.begin() + kept, order.end(), [&](int a, int b) { return worths[a] > worths[b] || (worths[a] == worths[b] && a < b); });
  for (int64_t i = 0; i < kept; ++i) taken[order[static_cast<size_t>(i)]] = 1;
  if (blocks() > 0) taken[0] = 1;
}

void CriticalBlocks::choose(Context& context, const AttendArgs& args, int budget) {
  before_ = args.kv[0].tokens - args.queries;
  CHECK(args.kvHeads == kvHeads_ && blocks() <= stride_, args.kvHeads, before_);
  const bool mixes = slots_ == before_;
  slots_ = before_;
  context.pool().run([&](int thread, int threads) {
    for (int head = thread; head < kvHeads_; head += threads) {
      CHECK(args.kv[head].tokens - args.queries == before_, head, args.kv[head].tokens);
      float *fresh = fresh_.as<float>() + int64_t{head} * stride_, *mixed = worth(head);
      judge(context, args, head, fresh);
      for (int block = 0; block < blocks(); ++block) mixed[block] = mixes ? kCriticalFromBelow * mixed[block] + (1 - kCriticalFromBelow) * fresh[block] : fresh[block];
      const int oldest = args.slidingWindow > 0 ? args.kv[head].positions[before_] - args.slidingWindow : -1;  // positions up to it nobody sees
      const int firstSeen = oldest < 0 ? 0 : static_cast<int>(std::upper_bound(args.kv[head].positions, args.kv[head].positions + before_, oldest) - args.kv[head].positions);
      take(head, std::max(budget / kBlock, 1), firstSeen);
    }
  });
}

int CriticalBlocks::runEnd(int kvHead, int slot, int end) const {
  const bool is = has(kvHead, slot);
  while (slot < end && has(kvHead, slot) == is) slot = slot >= before_ ? end : std::min((slot / kBlock + 1) * kBlock, before_);
  return std::min(slot, end);
}

int64_t CriticalBlocks::kept() const {
  int64_t slots = 0;
  for (int head = 0; head < kvHeads_; ++head)
    for (int block = 0; block < blocks(); ++block)
      if (chosen(head)[block]) slots += std::min((block + 1) * kBlock, before_) - block * kBlock;
  return slots;
}

}  // namespace winnow::cpu
