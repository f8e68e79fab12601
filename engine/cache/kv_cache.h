// SPDX-License-Identifier: GPL-3.0-or-later
// Keys and values in pages per (layer, kv head), each head with its own length and original positions. Eviction gathers the kept slots
// and frees the pages behind them. Followers (attention sharing) own no keys, layers that read another's (CLA) nothing. Pages lie where the backend computes
// (engine/cpu/kv_cache.h, engine/cuda/kv_cache.h), f16 [pageTokens, headDim] or, but for the newest of a head, sealed in the cache's
// format; lengths and positions are known here.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/cache/blocks_read.h"
#include "engine/cache/kv_format.h"
#include "engine/cache/policy.h"
#include "engine/core/memory.h"
#include "engine/core/threads.h"
#include "engine/model/config.h"

namespace winnow {

// Whose attention columnSums() holds.
struct ObservedQueries {
  int newest = 0;    // of so many newest queries, as of Backend::observe()
  bool all = false;  // of every query so far
  bool any() const { return all || newest > 0; }
  bool operator==(const ObservedQueries&) const = default;
};
inline constexpr ObservedQueries kNobody{}, kEverybody{0, true};
constexpr ObservedQueries newestQueries(int count) { return {count, false}; }

class KvCache {
 public:
  virtual ~KvCache() = default;
  static int pageTokensFor(int context) { return context < 2048 ? 16 : 64; }

  int pageTokens() const { return pageTokens_; }
  int layers() const { return static_cast<int>(layers_.size()); }
  int kvHeads() const { return kvHeads_; }
  int longest(int layer) const;        // slots of the longest head
  int64_t slotsSeen(int layer) const;  // sum over kv heads
  bool ownsKeys(int layer) const { return layers_[static_cast<size_t>(layer)].ownsKeys; }
  int slots(int layer, int head) const { return at(layer, head).tokens; }
  std::span<const int32_t> positions(int layer, int head) const;  // original ones, ascending
  virtual PageForm form(int layer, int head, bool keys, size_t page) const = 0;  // of a page that holds slots

  // Room for `count` more slots in every head. Throws std::bad_alloc and changes nothing that is seen when memory is out.
  virtual void reserve(int count) = 0;
  // Undoes what was appended since mark(), for a step that failed half-way.
  void mark();
  void rollback();
  // Forgets the newest slots of every head down to `tokens`; the pages stay for what comes. Without column sums only.
  void truncate(int tokens);
  // Begins as the first `tokens` slots of another cache of the same kind, model and context. Its full pages are read in place: they have to
  // stay as they are. Without column sums only.
  virtual void beginAs(const KvCache& other, int tokens);
  virtual void dropKeys(int layer);
  // The layer does not attend, or reads another's: it holds nothing and gets nothing, until clear().
  virtual void dropLayer(int layer);
  bool holds(int layer) const { return layers_[static_cast<size_t>(layer)].held; }
  int heldLayers() const;
  int firstHeld() const;
  virtual void clear();  // no slots, no pages; followers own keys again, dropped layers are held

  // Rows of a layer as they are stored: fetchRows() on the session's thread, then readRows() from any, until settle().
  virtual void fetchRows(int layer, bool keys, bool values);
  virtual void readRows(int layer, int head, bool keys, float* out /* [slots, headDim] */) const = 0;
  HeadGeometry geometry() const { return {headDim_, group_, slidingWindow_, format_.rotateKeys, frequencies_}; }
  Buffer scratch(size_t floats) const { return Buffer(ledger_, MemoryTag::activations, floats * sizeof(float)); }

  // Positions within the cache (StreamingLLM, kv.positions): to attention each slot lies right before the next one that is held, however many
  // tokens are gone between them. Rows stay as they are; attention turns what it reads.
  void countWithin(bool on) { countsWithin_ = on; }
  bool countsWithin() const { return countsWithin_; }

  // Quest: a single query reads the blocks of kBlock slots that fit `budget` (as kv.budget), chosen by it anew in every layer but the first
  // kDenseLayers. 0: all of them. A prompt is read whole.
  static constexpr int kDenseLayers = 2, kBlock = kBlockSlots;
  virtual void select(double budget) { budget_ = budget; }
  double selection() const { return budget_; }
  bool selects(int layer) const { return budget_ > 0 && layer >= kDenseLayers; }

  // Eviction: readSums(), then keep() for each head that loses slots (several heads at once from several threads), then settle(), which
  // leaves the pages as kept.
  virtual void readSums() {}
  void keep(int layer, int head, std::span<const int32_t> slots);  // ascending
  virtual void settle() {}
  void keepForPlan(int layer, int count);  // under a planning ledger, where nothing says which

  // How pages are sealed from now on; sealed ones of more bits are sealed again in fewer, those of fewer stay as they are.
  const KvFormat& format() const { return format_; }
  virtual void setFormat(const KvFormat& format, ThreadPool& pool);
  virtual void seal(ThreadPool& pool);  // pages that are full and not the newest, after each step; only the memory under a planning ledger
  // While a prompt is read its attention sees 16 bits: what came since stays so, through evictions and setFormat(), until seal().
  void holdSealing(bool on) { sealingHeld_ = on; }
  virtual bool asFormatted() const { return true; }      // no page lost more, or otherwise, than the present format would have it
  virtual int64_t unsealedBytes() const { return 0; }    // of allocatedBytes(): f16 pages beside sealed ones
  int64_t unsealedBytesOf(int layer, int64_t tokens) const;  // of so many slots in each head, were none of their pages sealed; of those that are to be
  virtual int64_t takeRegrouped() { return 0; }          // slots that evictions rounded once more, since the last call

  // Attention mass per slot: a policy's eyes. Zero at first.
  virtual void observe(ObservedQueries queries) = 0;
  const ObservedQueries& observed() const { return observed_; }
  int queriesKept() const { return queriesKept_; }  // newest queries at hand, at most observed().newest
  virtual std::span<const float> columnSums(int layer, int head) const = 0;  // as of readSums(); empty when nobody is observed
  std::span<float> carried(int layer, int head);  // the same, for a policy that keeps scores of its own there: lasting as of writeSums()
  virtual void writeSums() {}
  int64_t queryFloats() const { return queryFloats_; }
  virtual void newestQueries(int layer, int count, float* out /* [count, heads, headDim], the oldest first */) const = 0;

  virtual int64_t allocatedBytes() const = 0;
  int64_t liveBytes() const;
  // What a pass of so many queries reads of a layer: slots, summed over kv heads, and bytes of its values and of its keys.
  int64_t slotsRead(int layer, int queries) const;
  int64_t readBytes(int layer, bool keys, int queries) const;
  // Of what a single query reads of a layer, the bytes that the newest one left (KvFormat::aligned); 0 after a prompt.
  virtual int64_t unread(int layer) const { return unread_.empty() ? 0 : unread_[static_cast<size_t>(layer)]; }
  void leftUnread(int layer, int64_t bytes);

 protected:
  KvCache(Ledger& ledger, const ModelConfig& model, int context);
  size_t queryBytes() const { return static_cast<size_t>(observed_.newest) * static_cast<size_t>(queryFloats_) * sizeof(float); }  // of a layer
  void keptQueries(int count) { queriesKept_ = std::min(queriesKept_ + count, observed_.newest); }
  struct Head {
    Buffer positions;  // int32 [capacity]
    int tokens = 0;
  };
  struct Layer {
    std::vector<Head> heads;
    bool ownsKeys = true, held = true;
  };
  Head& at(int layer, int head) { return layers_[static_cast<size_t>(layer)].heads[static_cast<size_t>(head)]; }
  const Head& at(int layer, int head) const { return layers_[static_cast<size_t>(layer)].heads[static_cast<size_t>(head)]; }
  size_t pagesFor(int tokens) const { return (static_cast<size_t>(tokens) + static_cast<size_t>(pageTokens_) - 1) / static_cast<size_t>(pageTokens_); }
  PageShape shape() const { return {pageTokens_, headDim_}; }
  size_t boundBytes() const { return 2 * static_cast<size_t>(headDim_) * sizeof(uint16_t); }  // of a block that may be chosen
  size_t pageBytes() const { return shape().bytes({}); }
  virtual int64_t sideBytes(int layer, int head, bool keys) const;  // live bytes of a head's keys or values
  int64_t heldBytes(int layer, bool keys) const;                    // of a layer's values, and of its keys
  void growPositions(Head& head, size_t pages);
  // Slots `slots` become the first ones of a head; its length and positions are still the old ones.
  virtual void gather(int layer, int head, std::span<const int32_t> slots) = 0;
  virtual void freePages(int layer, int head) = 0;  // those behind the head's length
  virtual void lengthsChanged() {}                  // otherwise than by appending and keeping

  Ledger& ledger_;
  int kvHeads_, headDim_, pageTokens_, queryFloats_;  // queryFloats_: of a token, heads * headDim
  int group_, slidingWindow_;
  std::vector<float> frequencies_;
  KvFormat format_;
  ObservedQueries observed_;
  int queriesKept_ = 0;
  bool countsWithin_ = false, sealingHeld_ = false;
  double budget_ = 0;  // of a query; 0: it reads everything
  std::vector<Layer> layers_;

 private:
  std::vector<int> marked_;  // [layers, kvHeads] slots at mark()
  std::vector<int64_t> unread_;  // [layers]; none before anything is
};

}  // namespace winnow
