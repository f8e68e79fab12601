// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/kv_cache.h"

#include <algorithm>

#include "engine/cache/kv_cache.h"
#include "engine/core/check.h"

namespace winnow::cuda {

DeviceKvCache::DeviceKvCache(Ledger& ledger, const ModelConfig& model, int context, Stream stream)
    : ledger_(ledger), kvHeads_(model.kvHeads), headDim_(model.headDim), pageTokens_(KvCache::pageTokensFor(context)),
      pageStride_(pagesFor(context)), heads_(static_cast<size_t>(model.layers) * static_cast<size_t>(model.kvHeads)) {
  const size_t tables = heads_.size() * static_cast<size_t>(pageStride_);
  lengths_ = DeviceBuffer(ledger, MemoryTag::metadata, heads_.size() * sizeof(int32_t));
  positions_ = DeviceBuffer(ledger, MemoryTag::metadata, tables * static_cast<size_t>(pageTokens_) * sizeof(int32_t));
  keyTable_ = DeviceBuffer(ledger, MemoryTag::metadata, tables * sizeof(uint64_t));
  valueTable_ = DeviceBuffer(ledger, MemoryTag::metadata, tables * sizeof(uint64_t));
  lengths_.clear(stream);
}

void DeviceKvCache::writeTable(DeviceBuffer& table, size_t head, std::span<const DeviceBuffer> pages, size_t first, Stream stream) {
  if (ledger_.planning() || first >= pages.size()) return;
  std::vector<uint64_t> addresses;
  for (size_t i = first; i < pages.size(); ++i) addresses.push_back(reinterpret_cast<uint64_t>(pages[i].as<char>()));
  table.copyFrom(stream, addresses.data(), addresses.size() * sizeof(uint64_t),
                 (head * static_cast<size_t>(pageStride_) + first) * sizeof(uint64_t));
}

void DeviceKvCache::reserve(int count, Stream stream) {
  for (size_t h = 0; h < heads_.size(); ++h) {
    Head& head = heads_[h];
    const int pages = pagesFor(head.tokens + count);
    CHECK(pages <= pageStride_, pages, pageStride_);
    const auto grow = [&](std::vector<DeviceBuffer>& owners, DeviceBuffer& table) {
      const size_t before = owners.size();
      while (static_cast<int>(owners.size()) < pages) owners.emplace_back(ledger_, MemoryTag::kv, pageBytes());
      writeTable(table, h, owners, before, stream);
    };
    if (head.ownsKeys) grow(head.keys, keyTable_);
    grow(head.values, valueTable_);
  }
}

void DeviceKvCache::advanced(int count) {
  for (Head& head : heads_) head.tokens += count;
}

KvTables DeviceKvCache::tables(int layer, int keyLayer) const {
  const size_t first = index(layer, 0), stride = static_cast<size_t>(pageStride_);
  KvTables t;
  if (keyLayer >= 0) t.keys = keyTable_.as<uint64_t>() + index(keyLayer, 0) * stride;
  t.values = valueTable_.as<uint64_t>() + first * stride;
  t.pageStride = pageStride_;
  t.pageTokens = pageTokens_;
  t.lengths = lengths_.as<int32_t>() + first;
  t.positionStride = columnStride();
  t.positions = positions_.as<int32_t>() + static_cast<int64_t>(first) * t.positionStride;
  return t;
}

int DeviceKvCache::longest() const {
  int most = 0;
  for (const Head& head : heads_) most = std::max(most, head.tokens);
  return most;
}

int DeviceKvCache::longest(int layer) const {
  int most = 0;
  for (int h = 0; h < kvHeads_; ++h) most = std::max(most, slots(layer, h));
  return most;
}

void DeviceKvCache::dropKeys(int layer) {
  for (int h = 0; h < kvHeads_; ++h) {
    Head& head = heads_[index(layer, h)];
    head.ownsKeys = false;
    head.keys.clear();
  }
}

std::vector<int32_t> DeviceKvCache::positions(int layer, int head, Stream stream) const {
  std::vector<int32_t> out(static_cast<size_t>(slots(layer, head)));
  positions_.copyTo(stream, out.data(), out.size() * sizeof(int32_t),
                    index(layer, head) * static_cast<size_t>(columnStride()) * sizeof(int32_t));
  return out;
}

void DeviceKvCache::trackColumnSums(bool on, Stream stream) {
  if (on == tracking_) return;
  tracking_ = on;
  columnSums_ =
      on ? DeviceBuffer(ledger_, MemoryTag::metadata, heads_.size() * static_cast<size_t>(columnStride()) * sizeof(float)) : DeviceBuffer();
  columnSums_.clear(stream);
}

float* DeviceKvCache::columnSums(int layer) const {
  return tracking_ ? columnSums_.as<float>() + static_cast<int64_t>(index(layer, 0)) * columnStride() : nullptr;
}

void DeviceKvCache::keep(int layer, std::span<const std::vector<int32_t>> keep, Stream stream) {
  CHECK(static_cast<int>(keep.size()) == kvHeads_, keep.size());
  size_t most = 1;
  for (const auto& list : keep) most = std::max(most, list.size());
  std::vector<int32_t> lists(most * keep.size()), kept;
  for (size_t h = 0; h < keep.size(); ++h) {
    std::copy(keep[h].begin(), keep[h].end(), lists.begin() + static_cast<std::ptrdiff_t>(h * most));
    kept.push_back(static_cast<int32_t>(keep[h].size()));
  }
  DeviceBuffer deviceLists(ledger_, MemoryTag::metadata, lists.size() * sizeof(int32_t)),
      deviceKept(ledger_, MemoryTag::metadata, kept.size() * sizeof(int32_t));
  deviceLists.copyFrom(stream, lists.data(), lists.size() * sizeof(int32_t));
  deviceKept.copyFrom(stream, kept.data(), kept.size() * sizeof(int32_t));
  GatherArgs args;
  args.kv = tables(layer, heads_[index(layer, 0)].ownsKeys ? layer : -1);
  args.kvHeads = kvHeads_;
  args.headDim = headDim_;
  args.keep = deviceLists.as<int32_t>();
  args.kept = deviceKept.as<int32_t>();
  args.keepStride = static_cast<int64_t>(most);
  args.columnSums = columnSums(layer);
  args.columnStride = columnStride();
  gatherSlots(stream, args);
  lengths_.copyFrom(stream, kept.data(), kept.size() * sizeof(int32_t), index(layer, 0) * sizeof(int32_t));
  deviceKept.copyTo(stream, kept.data(), kept.size() * sizeof(int32_t));  // waits: pages and lists are freed below
  for (int h = 0; h < kvHeads_; ++h) {
    Head& head = heads_[index(layer, h)];
    head.tokens = kept[static_cast<size_t>(h)];
    const auto pages = static_cast<size_t>(pagesFor(head.tokens));
    for (auto* owners : {&head.keys, &head.values})
      if (owners->size() > pages) owners->erase(owners->begin() + static_cast<std::ptrdiff_t>(pages), owners->end());
  }
}

int64_t DeviceKvCache::allocatedBytes() const {
  size_t pages = 0;
  for (const Head& head : heads_) pages += head.keys.size() + head.values.size();
  return static_cast<int64_t>(pages * pageBytes());
}

}  // namespace winnow::cuda
