// SPDX-License-Identifier: GPL-3.0-or-later
// Keys and values in pages per (layer, kv head), each head with its own length and original positions. Pages are f16
// [pageTokens, headDim]; eviction gathers the kept slots and frees the pages behind them. Followers (attention sharing) own no keys.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/cache/policy.h"
#include "engine/core/memory.h"
#include "engine/core/threads.h"
#include "engine/cpu/ops.h"
#include "engine/model/config.h"

namespace winnow {

class KvCache {
 public:
  KvCache(Ledger& ledger, const ModelConfig& model, int context);
  static int pageTokensFor(int context) { return context < 2048 ? 16 : 64; }

  int pageTokens() const { return pageTokens_; }
  int layers() const { return static_cast<int>(layers_.size()); }
  int kvHeads() const { return kvHeads_; }

  // Room for `count` more slots in every head. Throws std::bad_alloc and changes nothing that is seen when memory is out.
  void reserve(int count);
  // The newest `count` slots of a layer, at original positions first, first + 1, ... k is null for a follower. Counted only under a
  // planning ledger.
  void append(int layer, const float* k /* [count, kvHeads, headDim] */, const float* v, int64_t stride, int count, int32_t first, ThreadPool& pool);
  // Undoes the appends since mark(), for a step that failed half-way.
  void mark();
  void rollback();
  // Forgets the newest slots of every head down to `tokens`; the pages stay for what comes. Without column sums only.
  void truncate(int tokens);
  // Begins as the first `tokens` slots of another cache of the same model and context. Its full pages are read in place: they have to stay as
  // they are. Without column sums only.
  void beginAs(const KvCache& other, int tokens);
  void keepForPlan(int count);  // under a planning ledger, where nothing says which

  // As kernels read a layer: keys of `keyLayer` (a follower's leader; keys null when it is -1), values of `layer`.
  std::span<const cpu::KvHead> view(int layer, int keyLayer);
  int longest(int layer) const;  // slots of the longest head
  int64_t slotsSeen(int layer) const;  // sum over kv heads

  bool ownsKeys(int layer) const { return layers_[static_cast<size_t>(layer)].ownsKeys; }
  void dropKeys(int layer);
  int slots(int layer, int head) const { return at(layer, head).tokens; }
  std::span<const int32_t> positions(int layer, int head) const;
  void keep(int layer, int head, std::span<const int32_t> slots);  // ascending; frees the pages behind

  // Attention mass per slot (H2O), made on demand and zero at first. [kvHeads, stride]
  void trackColumnSums(bool on);
  bool tracksColumnSums() const { return tracking_; }
  float* columnSums(int layer) { return layers_[static_cast<size_t>(layer)].sums.as<float>(); }
  int64_t columnStride() const { return sumStride_; }
  std::span<const float> columnSums(int layer, int head) const;

  int64_t allocatedBytes() const;
  int64_t liveBytes() const;
  int64_t readBytes(int layer, bool keys) const;  // live bytes of a layer's values, and of its keys
  void swap(KvCache& other) noexcept;             // of the same model and context
  void clear();                                   // no slots, no pages; followers own keys again

 private:
  struct Head {
    std::vector<Buffer> keys, values;           // pages
    std::vector<const uint16_t*> keyPages, valuePages;
    Buffer positions;                           // int32 [capacity]
    int tokens = 0;
  };
  struct Layer {
    std::vector<Head> heads;
    Buffer sums;                                // f32 [kvHeads, sumStride_]
    bool ownsKeys = true;
  };
  Head& at(int layer, int head) { return layers_[static_cast<size_t>(layer)].heads[static_cast<size_t>(head)]; }
  const Head& at(int layer, int head) const { return layers_[static_cast<size_t>(layer)].heads[static_cast<size_t>(head)]; }
  void growPages(Layer& layer, Head& head, int slots);
  void shrinkPages(Head& head);
  void growSums(int slots);
  size_t pageBytes() const { return static_cast<size_t>(pageTokens_) * static_cast<size_t>(headDim_) * sizeof(uint16_t); }
  static void copySlots(const std::vector<const uint16_t*>& pages, int pageTokens, int headDim, std::span<const int32_t> slots);

  Ledger& ledger_;
  int kvHeads_, headDim_, pageTokens_;
  bool tracking_ = false;
  int64_t sumStride_ = 0;
  std::vector<Layer> layers_;
  std::vector<cpu::KvHead> view_;
  std::vector<int> marked_;  // [layers, kvHeads] slots at mark()
};

}  // namespace winnow
