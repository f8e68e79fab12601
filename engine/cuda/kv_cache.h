// SPDX-License-Identifier: GPL-3.0-or-later
// Pages of keys and values on the device, the counterpart of engine/cache/kv_cache.h. Lengths, positions and page tables live in device
// memory at addresses that never change, so that a captured step stays valid while the cache grows; the host mirrors the lengths.
#pragma once
#include <span>
#include <vector>

#include "engine/cuda/memory.h"
#include "engine/model/config.h"

namespace winnow::cuda {

class DeviceKvCache {
 public:
  DeviceKvCache(Ledger& ledger, const ModelConfig& model, int context, Stream stream);

  int pageTokens() const { return pageTokens_; }
  // Room for `count` more slots in every head. Throws std::bad_alloc and changes nothing that is seen when the device is full.
  void reserve(int count, Stream stream);
  void advanced(int count);  // the device's lengths have been advanced: so are the host's
  int32_t* lengths() const { return lengths_.as<int32_t>(); }  // [layers, kvHeads]
  int heads() const { return static_cast<int>(heads_.size()); }  // layers * kvHeads

  // Keys of `keyLayer` (a follower's leader; none when it is -1), values, lengths and positions of `layer`.
  KvTables tables(int layer, int keyLayer) const;
  int slots(int layer, int head) const { return heads_[index(layer, head)].tokens; }
  int longest() const;
  int longest(int layer) const;
  void dropKeys(int layer);
  std::vector<int32_t> positions(int layer, int head, Stream stream) const;

  void trackColumnSums(bool on, Stream stream);
  float* columnSums(int layer) const;  // [kvHeads, columnStride]; null when they are not tracked
  int64_t columnStride() const { return pageStride_ * pageTokens_; }

  // keep[head]: ascending slots of every head of a layer; frees the pages behind.
  void keep(int layer, std::span<const std::vector<int32_t>> keep, Stream stream);
  int64_t allocatedBytes() const;

 private:
  struct Head {
    std::vector<DeviceBuffer> keys, values;
    int tokens = 0;
    bool ownsKeys = true;
  };
  size_t index(int layer, int head) const { return static_cast<size_t>(layer) * static_cast<size_t>(kvHeads_) + static_cast<size_t>(head); }
  size_t pageBytes() const { return static_cast<size_t>(pageTokens_) * static_cast<size_t>(headDim_) * sizeof(uint16_t); }
  int pagesFor(int tokens) const { return (tokens + pageTokens_ - 1) / pageTokens_; }
  void writeTable(DeviceBuffer& table, size_t head, std::span<const DeviceBuffer> pages, size_t first, Stream stream);

  Ledger& ledger_;
  int kvHeads_, headDim_, pageTokens_, pageStride_;
  std::vector<Head> heads_;  // [layers, kvHeads]
  DeviceBuffer lengths_, positions_, keyTable_, valueTable_;
  DeviceBuffer columnSums_;  // [layers, kvHeads, columnStride]
  bool tracking_ = false;
};

}  // namespace winnow::cuda
