// SPDX-License-Identifier: GPL-3.0-or-later
// Pages of keys and values on the device. Lengths, positions and page tables live in device memory at addresses that never change, so
// that a captured step stays valid while the cache grows; the host mirrors lengths and positions and is right when they differ. In what
// form a page lies lies beside its address, as soon as pages are to be sealed; the host plans sealing, the device does it.
#pragma once
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "engine/cache/kv_cache.h"
#include "engine/cache/seal.h"
#include "engine/cuda/memory.h"
#include "engine/cuda/sealed.h"

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
  bool mayBeSealed() const { return formTables_[values].bytes() > 0; }  // pages are, or were, to be sealed: readers ask for their forms
  const PageForm* forms(int layer, bool ofKeys) const;                  // [kvHeads, pageStride]; when they may be sealed
  uint64_t formTables() const { return mayBeSealed() ? formTablesMade_ : 0; }  // tells tables apart that were let go and made again

  int32_t* unreadChunks(int layer) const;  // [kvHeads, unreadStride()], where attention writes down what it left; null where it reads everything
  int unreadStride() const { return (pageStride_ * pageTokens_ + kAttendChunk - 1) / kAttendChunk; }
  int64_t unread(int layer) const override;

  void select(double budget) override;
  void takeBounds();  // after prepare(), before kernels that choose: of the blocks before the one that the next token is in
  const uint16_t* bounds(int layer) const;  // f16 [kvHeads, blockStride()]{largest[headDim], smallest[headDim]}
  int blockStride() const { return boundPages_ * (pageTokens_ / kBlock); }
  int pageStride() const { return pageStride_; }

  void setFormat(const KvFormat& format, ThreadPool& pool) override;
  void seal(ThreadPool& pool) override;
  bool asFormatted() const override { return !unlike_; }
  int64_t unsealedBytes() const override;
  int64_t takeRegrouped() override { return std::exchange(regrouped_, 0); }

  void beginAs(const KvCache& other, int tokens) override;
  void dropKeys(int layer) override;
  void dropLayer(int layer) override;
  void clear() override;
  void settle() override;
  void observe(ObservedQueries queries) override;
  void readSums() override;
  std::span<const float> columnSums(int layer, int head) const override;
  PageForm form(int layer, int head, bool ofKeys, size_t page) const override { return pages_[index(layer, head)].sides[ofKeys ? keys : values].forms[page]; }
  float* deviceSums(int layer) const;  // [kvHeads, columnStride]; null when nobody is observed
  void clearSums(int layer);
  float* deviceQueries(int layer) const;  // [observed().newest, heads, headDim], that of position p in row p modulo their number; or null
  void newestQueries(int layer, int count, DeviceBuffer& out) const;  // [count, heads, headDim], the oldest first
  void newestQueries(int layer, int count, float* out) const override;
  void writeSums() override;
  void fetchRows(int layer, bool ofKeys, bool ofValues) override;
  void readRows(int layer, int head, bool ofKeys, float* out) const override;
  int64_t columnStride() const { return int64_t{pageStride_} * pageTokens_; }
  int64_t allocatedBytes() const override;

 private:
  enum Side { keys, values };
  struct PageList {
    std::vector<DeviceBuffer> owners;  // empty for pages of another cache
    std::vector<PageForm> forms;
    void shrink(size_t count);
    void clear() { shrink(0); }
    bool anySealed() const { return !forms.empty() && forms.front().sealed(); }  // the oldest pages are sealed first
  };
  struct HeadPages {
    std::array<PageList, 2> sides;  // keys, values
    int before = 0;               // slots when keep() came
    bool pending = false;
    std::vector<int32_t> slots;   // kept ones, until settle()
  };
  size_t index(int layer, int head) const { return static_cast<size_t>(layer) * static_cast<size_t>(kvHeads_) + static_cast<size_t>(head); }
  void grow(size_t head, Side side, size_t pages);
  void shrink(HeadPages& head, size_t pages);
  void gather(int layer, int head, std::span<const int32_t> slots) override;
  void freePages(int layer, int head) override;
  int64_t sideBytes(int layer, int head, bool ofKeys) const override;
  void lengthsChanged() override;
  void writeLengths(std::span<const int32_t> lengths);
  std::vector<int32_t> hostLengths() const;
  size_t fetchedBytes(size_t head, Side side, size_t page, int held) const;
  void gatherPending(std::span<const int32_t> kept);
  void growBounds();
  bool gathersSealed(int layer, Side side) const;  // page by page instead of slot by slot

  // kv_cache_sealed.cu: pages to be made of what the tables on the device say
  struct PagePlace {
    size_t head;
    Side side;
    size_t page;
  };
  struct PageWork {
    std::vector<PagePlace> places;
    std::vector<DeviceBuffer> pages;
    std::vector<PageTask> tasks;   // as places
    std::vector<int32_t> slots;
    std::vector<size_t> toSeal, toOpen;  // of tasks
  };
  template <class Body>
  void eachSide(Body body);  // body(head, side, slots of the head)
  size_t sealable(int slots) const { return slots > 0 ? static_cast<size_t>((slots - 1) / pageTokens_) : 0; }  // pages before the newest
  PageForm formOf(size_t head, Side side) const { return format_.form(side == keys, static_cast<int>(head) / kvHeads_, shape()); }  // of pages sealed from now on
  PageList& listAt(const PagePlace& at) { return pages_[at.head].sides[at.side]; }
  uint64_t& address(const PagePlace& at);
  DeviceBuffer page(const PageForm& form = {}) const { return DeviceBuffer(device_, MemoryTag::kv, shape().bytes(form)); }
  void replace(const PagePlace& at, DeviceBuffer page, const PageForm& form);
  void makeFormTables();
  void uploadTables();
  void add(PageWork& work, const PagePlace& at, std::span<const int32_t> slots, const SealPlan& plan);
  // How many slots are rounded again.
  int sealLater(PageWork& work, const PagePlace& at, std::span<const int32_t> slots, const PageForm& wanted);
  std::vector<int32_t> slotsOf(size_t page, int held) const;
  std::vector<int32_t> wholePage(size_t page) const { return slotsOf(page, static_cast<int>(page + 1) * pageTokens_); }
  void carryOut(PageWork& work, bool hadamard = false);
  void gatherSealed(int layer);
  void planGather(PageWork& work, size_t head, Side side);
  void planForms(size_t head, Side side, int slots);
  void rotateKeys(int layer);
  void openNewest();

  Ledger& device_;
  Stream stream_;
  uint64_t serial_;
  int pageStride_;
  std::vector<HeadPages> pages_;  // [layers, kvHeads]
  DeviceBuffer lengths_, positions_;
  std::array<DeviceBuffer, 2> tables_;    // addresses, [layers, kvHeads, pageStride]
  std::array<Buffer, 2> hostTables_;
  std::array<DeviceBuffer, 2> formTables_;  // PageForm, as tables_; none until a format quantizes
  uint64_t formTablesMade_ = 0;
  DeviceBuffer unread_;                   // [layers, kvHeads, unreadStride()], see unreadChunks()
  int newestPass_ = 0;                    // tokens of it
  bool tablesStale_ = false, lengthsStale_ = true, sumsStale_ = false;
  DeviceBuffer columnSums_;               // [layers, kvHeads, columnStride]
  DeviceBuffer queries_;                  // [layers, observed().newest, heads, headDim]
  Buffer hostSums_;                       // the same, as of readSums()
  DeviceBuffer bounds_;                   // [layers that choose, kvHeads, blockStride()], see bounds()
  int boundPages_ = 0;                    // it has room for, of a head
  std::vector<int> bounded_;              // [layers, kvHeads] blocks whose bounds are known
  DeviceBuffer keepLists_;                // of the last eviction
  std::array<Buffer, 2> fetched_;         // [kvHeads][pages], as they lie, of the layer of fetchRows()
  bool unlike_ = false;                   // pages were sealed in another format, until clear()
  int64_t regrouped_ = 0;
};

}  // namespace winnow::cuda
