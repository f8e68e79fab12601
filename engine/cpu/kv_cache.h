// SPDX-License-Identifier: GPL-3.0-or-later
// Pages of keys and values in host memory, as the CPU's attention reads them.
#pragma once
#include <atomic>

#include "engine/cache/kv_cache.h"
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
  // Of view(), the blocks of kBlock slots that this query reads, as attend() takes them with pageTokens = kBlock (engine/cpu/kv_cache_selected.cpp).
  // Empty: all slots of all heads.
  std::span<const KvHead> selected(Context& context, int layer, const float* q /* [heads, headDim] */);
  // The same blocks of a layer that follows the one chosen for last; keys null when keyLayer is -1.
  std::span<const KvHead> selectedAlike(Context& context, int layer, int keyLayer);
  // What no query head of a group can score above in a block, q . k not scaled, [blocks before the newest].
  std::vector<float> blockBounds(Context& context, int layer, int head, const float* q /* [heads, headDim] */, int first = 0);
  void select(double budget) override;
  float* columnSums(int layer) { return pages_[static_cast<size_t>(layer)].sums.as<float>(); }  // [kvHeads, columnStride]
  int64_t columnStride() const { return sumStride_; }

  void setFormat(const KvFormat& format, ThreadPool& pool) override;
  void seal(ThreadPool& pool) override;
  bool asFormatted() const override { return !unlike_; }
  int64_t unsealedBytes() const override;
  int64_t takeRegrouped() override { return regrouped_.exchange(0, std::memory_order_relaxed); }

  void beginAs(const KvCache& other, int tokens) override;
  void dropKeys(int layer) override;
  void dropLayer(int layer) override;
  void clear() override;
  void observe(ObservedQueries queries) override;
  // Remembers queries of tokens at positions first, first + 1, ... as far as they are among the newest.
  void keepQueries(int layer, const float* q /* [count, heads * headDim] */, int64_t stride, int count, int64_t first);
  void newestQueries(int layer, int count, float* out) const override;
  void readRows(int layer, int head, bool keys, float* out) const override;
  std::span<const float> columnSums(int layer, int head) const override;
  PageForm form(int layer, int head, bool keys, size_t page) const override { return pagesAt(layer, head).side(keys).forms[page]; }
  int64_t allocatedBytes() const override;

 private:
  struct Side {  // the pages of a head's keys or values
    std::vector<Buffer> owners;  // empty for pages of another cache
    std::vector<const uint16_t*> pages;
    std::vector<PageForm> forms;
    size_t touched = SIZE_MAX;  // the first page that changed since bounds were taken of its rows
    void resize(size_t count);
    void replace(size_t page, Buffer buffer, const PageForm& form);
    bool anySealed() const { return !forms.empty() && forms.front().sealed(); }  // the oldest pages are sealed first
  };
  struct HeadPages {
    Side keys, values;
    Buffer bounds;      // f16 [blocks]{largest[headDim], smallest[headDim]} of keys, where queries choose
    int bounded = 0;    // blocks
    Side& side(bool key) { return key ? keys : values; }
    const Side& side(bool key) const { return key ? keys : values; }
  };
  struct LayerPages {
    std::vector<HeadPages> heads;
    Buffer sums;     // f32 [kvHeads, sumStride_]
    Buffer queries;  // f32 [observed().newest, heads * headDim], that of position p in row p modulo their number
  };
  HeadPages& pagesAt(int layer, int head) { return pages_[static_cast<size_t>(layer)].heads[static_cast<size_t>(head)]; }
  const HeadPages& pagesAt(int layer, int head) const { return pages_[static_cast<size_t>(layer)].heads[static_cast<size_t>(head)]; }
  PageForm formOf(bool keys, int layer) const { return format_.form(keys, layer, shape()); }  // of pages sealed from now on
  Buffer page(const PageForm& form = {}) const { return Buffer(ledger_, MemoryTag::kv, shape().bytes(form)); }
  void growPages(int layer, int head, int slots);
  void growSums(int slots);
  void gather(int layer, int head, std::span<const int32_t> slots) override;
  void freePages(int layer, int head) override;
  void lengthsChanged() override;
  int64_t sideBytes(int layer, int head, bool keys) const override;
  static void copySlots(const std::vector<const uint16_t*>& pages, int pageTokens, int headDim, std::span<const int32_t> slots);

  // kv_cache_selected.cpp
  void growBounds(int layer, int head);
  void takeBounds(Context& context, int layer, int head);
  const uint16_t* blockRows(Context& context, const Side& side, int block, int slots, uint16_t* tile) const;
  std::span<const KvHead> blocksView(Context& context, int layer, int keyLayer);

  // kv_cache_sealed.cpp
  template <class Body>
  void eachSide(Body body);  // body(side, the form its pages are sealed in, slots of the head)
  size_t sealable(int slots) const { return slots > 0 ? static_cast<size_t>((slots - 1) / pageTokens_) : 0; }  // pages before the newest
  int sealSide(Side& side, const PageForm& wanted, size_t page, std::span<const int32_t> slots);  // slots of the head; how many were rounded again
  void openPage(Side& side, size_t page, std::span<const int32_t> slots);  // as f16 rows
  void gatherSealed(Side& side, const PageForm& wanted, std::span<const int32_t> slots);
  void reseal(Side& side, const PageForm& wanted);
  void rotateKeys(Side& side);
  void planForms(Side& side, const PageForm& wanted, int slots);
  void sealDue(Side& side, const PageForm& wanted, int slots);

  int64_t sumStride_ = 0;
  std::vector<LayerPages> pages_;
  std::vector<KvHead> view_;
  struct Chosen {
    std::vector<int32_t> blocks;                // ascending
    std::vector<const uint16_t*> keys, values;  // [blocks]
    std::vector<int32_t> positions;             // [slots], with a sliding window
  };
  std::vector<Chosen> chosen_;  // [kvHeads], for the layer below
  int chosenLayer_ = -1;        // -1: it reads everything
  bool unlike_ = false;  // pages were sealed in another format, until clear()
  std::atomic<int64_t> regrouped_{0};
};

}  // namespace winnow::cpu
