// SPDX-License-Identifier: GPL-3.0-or-later
// Keys and values as attention reads them: as they lie, unpacked for many queries, turned to positions within the cache, or the blocks that a
// query chose. One layer is at hand at a time.
#include <numeric>

#include "engine/core/check.h"
#include "engine/cuda/forward.h"
#include "engine/cuda/turned.h"

namespace winnow::cuda {

bool Forward::chooses(const DeviceKvCache& cache, int queries, int slots) {
  return queries == 1 && cache.selection() > 0 && mostBlocksRead(cache.selection(), slots) < blocksOf(slots);
}

size_t Forward::unpackedBytes(const DeviceKvCache& cache, int slots, bool tables) const {
  const size_t page = static_cast<size_t>(cache.pageTokens()) * static_cast<size_t>(model_.headDim) * sizeof(uint16_t);
  return unpackedPages(model_.kvHeads, cache.pageTokens(), slots) * (tables ? sizeof(uint64_t) : page);
}

void Forward::makeReadable(const DeviceKvCache& cache, int queries, int slots) {
  if (unpacks(cache, queries)) {
    need(unpacked_, MemoryTag::activations, unpackedBytes(cache, slots, false));
    need(unpackedTables_, MemoryTag::metadata, unpackedBytes(cache, slots, true));
  }
  const auto heads = static_cast<size_t>(model_.kvHeads);
  if (turns(cache)) {
    const size_t entries = heads * static_cast<size_t>(cache.pageStride());
    need(turned_.rows, MemoryTag::activations, unpackedBytes(cache, slots, false) / 2);  // of keys alone
    need(turned_.table, MemoryTag::metadata, entries * sizeof(uint64_t));
    if (cache.mayBeSealed()) need(turned_.forms, MemoryTag::metadata, entries * sizeof(PageForm));
    const size_t bytes = model_.slidingWindow > 0 ? static_cast<size_t>(slots) * sizeof(int32_t) : 0;
    if (turned_.within.bytes() < bytes) {
      need(turned_.within, MemoryTag::metadata, bytes);
      std::vector<int32_t> all(static_cast<size_t>(slots));
      std::iota(all.begin(), all.end(), 0);
      if (!device_.planning()) turned_.within.copyFrom(stream_, all.data(), bytes);
    }
  }
  if (!chooses(cache, queries, slots)) return;
  const size_t most = heads * static_cast<size_t>(mostBlocksRead(cache.selection(), slots)), rows = most * kBlockSlots;
  need(chosen_.scores, MemoryTag::activations, heads * static_cast<size_t>(blocksOf(slots)) * sizeof(float));
  need(chosen_.blocks, MemoryTag::metadata, most * sizeof(int32_t));
  need(chosen_.slots, MemoryTag::metadata, heads * sizeof(int32_t));
  need(chosen_.tables, MemoryTag::metadata, 2 * most * sizeof(uint64_t));
  if (model_.slidingWindow > 0) need(chosen_.positions, MemoryTag::metadata, rows * sizeof(int32_t));
  if (cache.mayBeSealed()) need(chosen_.rows, MemoryTag::activations, 2 * rows * static_cast<size_t>(model_.headDim) * sizeof(uint16_t));
}

KvTables Forward::readable(const DeviceKvCache& cache, int layer, int keyLayer, int queries, int added, int slots) {
  KvTables kv = cache.tables(layer, keyLayer);
  if (turns(cache)) {
    TurnArgs args;
    args.kv = kv;
    args.kvHeads = model_.kvHeads;
    args.headDim = model_.headDim;
    args.added = added;
    args.mostTokens = slots;
    args.frequencies = frequencies_.as<float>();
    args.half = model_.rope.dims / 2;
    args.hadamard = cache.format().rotateKeys;
    args.rows = turned_.rows.as<void>();
    args.table = turned_.table.as<uint64_t>();
    args.forms = turned_.forms.as<PageForm>();
    args.within = turned_.within.as<int32_t>();
    kv = turnPages(stream_, args);
  }
  if (!unpacks(cache, queries)) return kv;
  CHECK(unpacked_.bytes() >= unpackedBytes(cache, slots, false), slots);
  UnpackArgs args;
  args.kv = kv;
  args.kvHeads = model_.kvHeads;
  args.headDim = model_.headDim;
  args.added = added;
  args.mostTokens = slots;
  args.rows = unpacked_.as<void>();
  args.tables = unpackedTables_.as<uint64_t>();
  return unpackPages(stream_, args);
}

Selection Forward::selection(const DeviceKvCache& cache) const {
  return {chosen_.blocks.as<int32_t>(), chosen_.slots.as<int32_t>(), mostBlocksRead(cache.selection(), slots_)};
}

void Forward::choose(const DeviceKvCache& cache, int layer, const float* q) {
  SelectArgs args;
  args.q = q;
  args.heads = model_.heads;
  args.kvHeads = model_.kvHeads;
  args.headDim = model_.headDim;
  args.kv = cache.tables(layer, layer);
  args.added = 1;
  args.mostTokens = slots_;
  args.slidingWindow = model_.slidingWindow;
  args.budget = cache.selection();
  args.bounds = cache.bounds(layer);
  args.blockStride = cache.blockStride();
  args.scores = chosen_.scores.as<float>();
  args.tickets = tickets_.as<uint32_t>();
  args.chosen = selection(cache);
  selectBlocks(stream_, args);
}

void Forward::readChosen(const DeviceKvCache& cache, int layer, int keyLayer, AttendArgs& attend) {
  PlaceArgs args;
  args.kv = cache.tables(layer, keyLayer);
  args.kvHeads = model_.kvHeads;
  args.headDim = model_.headDim;
  args.chosen = selection(cache);
  args.rows = chosen_.rows.as<void>();
  args.tables = chosen_.tables.as<uint64_t>();
  args.positions = chosen_.positions.as<int32_t>();
  attend.kv = placeBlocks(stream_, args);
  attend.added = 0;  // its lengths count them
  attend.mostTokens = args.chosen.most * kBlockSlots;
}

}  // namespace winnow::cuda
