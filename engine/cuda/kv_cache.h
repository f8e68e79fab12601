// SPDX-License-Identifier: GPL-3.0-or-later
// Pages of keys and values on the device. Lengths, positions and page tables live in device memory at addresses that never change, so
// that a captured step stays valid while the cache grows; the host mirrors lengths and positions and is right when they differ.
#pragma once
#include <array>
#include <span>
#include <vector>

#include "engine/cache/kv_cache.h"
#include "engine/cuda/memory.h"

namespace winnow::cuda {

class DeviceKvCache final : public KvCache {
 public:
  // `serial` tells caches apart whose addresses may be the same one after the other.
  DeviceKvCache(Ledger& host, Ledger& device, const ModelConfig& model, int context, Stream stream, uint64_t serial = 0);

  uint64_t serial() const { return serial_; }
  void reserve(int count) override;
  void prepare();  // before kernels: brings page tables and lengths on the device up to date
  void appended(int64_t first, int count);  // kernels stored positions first, first + 1, ... and advanced the device's lengths

  int32_t* lengths() const { return lengths_.as<int32_t>(); }  // [layers, kvHeads]
  int heads() const { return static_cast<int>(pages_.size()); }  // layers * kvHeads
  int mostSlots() const;  // of any head
  // Keys of `keyLayer` (a follower's leader; none when it is -1), values, lengths and positions of `layer`.
  KvTables tables(int layer, int keyLayer) const;

  void beginAs(const KvCache& other, int tokens) override;
  void dropKeys(int layer) override;
  void dropLayer(int layer) override;
  void clear() override;
  void settle() override;
  void observe(ObservedQueries queries) override;
  void readSums() override;
  std::span<const float> columnSums(int layer, int head) const override;
  float* deviceSums(int layer) const;  // [kvHeads, columnStride]; null when nobody is observed
  void clearSums(int layer);
  float* deviceQueries(int layer) const;  // [observed().newest, heads, headDim], that of position p in row p modulo their number; or null
  void newestQueries(int layer, int count, DeviceBuffer& out) const;  // [count, heads, headDim], the oldest first
  int64_t columnStride() const { return int64_t{pageStride_} * pageTokens_; }
  int64_t allocatedBytes() const override;

 private:
  enum Side { keys, values };
  struct HeadPages {
    std::array<std::vector<DeviceBuffer>, 2> sides;  // keys, values
    int before = 0;               // slots when keep() came
    bool pending = false;
    std::vector<int32_t> slots;   // kept ones, until settle()
  };
  size_t index(int layer, int head) const { return static_cast<size_t>(layer) * static_cast<size_t>(kvHeads_) + static_cast<size_t>(head); }
  void grow(size_t head, Side side, size_t pages);
  void shrink(HeadPages& head, size_t pages);
  void gather(int layer, int head, std::span<const int32_t> slots) override;
  void freePages(int layer, int head) override;
  void lengthsChanged() override { lengthsStale_ = true; }
  void writeLengths(std::span<const int32_t> lengths);
  std::vector<int32_t> hostLengths() const;
  void gatherPending(std::span<const int32_t> kept);

  Ledger& device_;
  Stream stream_;
  uint64_t serial_;
  int pageStride_;
  std::vector<HeadPages> pages_;  // [layers, kvHeads]
  DeviceBuffer lengths_, positions_;
  std::array<DeviceBuffer, 2> tables_;    // addresses, [layers, kvHeads, pageStride]
  std::array<Buffer, 2> hostTables_;
  bool tablesStale_ = false, lengthsStale_ = true, sumsStale_ = false;
  DeviceBuffer columnSums_;               // [layers, kvHeads, columnStride]
  DeviceBuffer queries_;                  // [layers, observed().newest, heads, headDim]
  Buffer hostSums_;                       // the same, as of readSums()
  DeviceBuffer keepLists_;                // of the last eviction
};

}  // namespace winnow::cuda
