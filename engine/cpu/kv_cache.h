// SPDX-License-Identifier: GPL-3.0-or-later
// Pages of keys and values in host memory, as the CPU's attention reads them.
#pragma once
#include "engine/cache/kv_cache.h"
#include "engine/core/threads.h"
#include "engine/cpu/ops.h"

namespace winnow::cpu {

class HostKvCache final : public KvCache {
 public:
  HostKvCache(Ledger& ledger, const ModelConfig& model, int context);

  void reserve(int count) override;
  // The newest `count` slots of a layer, at original positions first, first + 1, ... k is null for a follower. Counted only under a
  // planning ledger.
  void append(int layer, const float* k /* [count, kvHeads, headDim] */, const float* v, int64_t stride, int count, int32_t first, ThreadPool& pool);

  // As kernels read a layer: keys of `keyLayer` (a follower's leader; keys null when it is -1), values of `layer`.
  std::span<const KvHead> view(int layer, int keyLayer);
  float* columnSums(int layer) { return pages_[static_cast<size_t>(layer)].sums.as<float>(); }  // [kvHeads, columnStride]
  int64_t columnStride() const { return sumStride_; }

  void beginAs(const KvCache& other, int tokens) override;
  void dropKeys(int layer) override;
  void clear() override;
  void observe(ObservedQueries queries) override;
  // Remembers queries of tokens at positions first, first + 1, ... as far as they are among the newest.
  void keepQueries(int layer, const float* q /* [count, heads * headDim] */, int64_t stride, int count, int64_t first);
  void newestQueries(int layer, int count, float* out /* [count, heads * headDim], the oldest first */) const;
  std::span<const float> columnSums(int layer, int head) const override;
  int64_t allocatedBytes() const override;

 private:
  struct HeadPages {
    std::vector<Buffer> keys, values;
    std::vector<const uint16_t*> keyPages, valuePages;
  };
  struct LayerPages {
    std::vector<HeadPages> heads;
    Buffer sums;     // f32 [kvHeads, sumStride_]
    Buffer queries;  // f32 [observed().newest, heads * headDim], that of position p in row p modulo their number
  };
  HeadPages& pagesAt(int layer, int head) { return pages_[static_cast<size_t>(layer)].heads[static_cast<size_t>(head)]; }
  void growPages(int layer, int head, int slots);
  void growSums(int slots);
  void gather(int layer, int head, std::span<const int32_t> slots) override;
  void freePages(int layer, int head) override;
  static void copySlots(const std::vector<const uint16_t*>& pages, int pageTokens, int headDim, std::span<const int32_t> slots);

  int64_t sumStride_ = 0;
  std::vector<LayerPages> pages_;
  std::vector<KvHead> view_;
};

}  // namespace winnow::cpu
