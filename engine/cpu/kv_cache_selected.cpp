// SPDX-License-Identifier: GPL-3.0-or-later
// Quest (Tang et al., ICML 2024, arXiv 2406.10774, algorithm 1): of every block of 16 keys the largest and the smallest value of each channel
// bound what a query can score there: U = sum over c of max(q_c largest_c, q_c smallest_c) >= q . k. A query reads the blocks of the
// highest bounds and the one being filled, at least three; the first two layers and prompts read everything. Query heads that share keys
// read the same blocks, by the largest of their bounds. Bounds are of the keys as they are read, so those of sealed pages are taken anew.
#include <algorithm>
#include <cmath>

#include "engine/cache/allocation.h"
#include "engine/cache/seal.h"
#include "engine/core/check.h"
#include "engine/core/dtype.h"
#include "engine/cpu/context.h"
#include "engine/cpu/kv_cache.h"

namespace winnow::cpu {

void HostKvCache::select(double budget) {
  KvCache::select(budget);
  chosenLayer_ = -1;
  for (int layer = 0; layer < layers(); ++layer)
    for (int head = 0; head < kvHeads_; ++head) {
      HeadPages& own = pagesAt(layer, head);
      if (!selects(layer)) own.bounds = Buffer(), own.bounded = 0;
      growBounds(layer, head);
    }
}

void HostKvCache::growBounds(int layer, int head) {
  if (!selects(layer) || !ownsKeys(layer) || !holds(layer)) return;
  HeadPages& own = pagesAt(layer, head);
  const size_t bytes = own.keys.pages.size() * static_cast<size_t>(pageTokens_ / kBlock) * boundBytes();
  if (bytes <= own.bounds.bytes()) return;
  Buffer larger(ledger_, MemoryTag::metadata, bytes);
  if (larger.data() && own.bounded > 0) std::copy_n(own.bounds.as<uint16_t>(), static_cast<size_t>(own.bounded) * boundBytes() / sizeof(uint16_t), larger.as<uint16_t>());
  own.bounds = std::move(larger);
}

// Of the blocks that are full and not the newest, as far as they are not known.
void HostKvCache::takeBounds(Context& context, int layer, int head) {
  HeadPages& own = pagesAt(layer, head);
  const int perPage = pageTokens_ / kBlock, full = blocksOf(slots(layer, head)) - 1;
  if (own.keys.touched < own.keys.pages.size()) own.bounded = std::min(own.bounded, static_cast<int>(own.keys.touched) * perPage);
  own.keys.touched = SIZE_MAX;
  std::vector<uint16_t> tile(static_cast<size_t>(kBlock * headDim_));
  for (; own.bounded < full; ++own.bounded) {
    const uint16_t* rows = blockRows(context, own.keys, own.bounded, kBlock, tile.data());
    uint16_t* out = own.bounds.as<uint16_t>() + int64_t{own.bounded} * 2 * headDim_;
    for (int c = 0; c < headDim_; ++c) {
      float largest = -INFINITY, smallest = INFINITY;
      for (int slot = 0; slot < kBlock; ++slot) {
        const float x = f16ToFloat(rows[slot * headDim_ + c]);
        largest = std::max(largest, x);
        smallest = std::min(smallest, x);
      }
      out[c] = floatToF16(largest);  // exact
      out[headDim_ + c] = floatToF16(smallest);
    }
  }
}

// A block's rows where they lie, or unpacked.
const uint16_t* HostKvCache::blockRows(Context& context, const Side& side, int block, int slots, uint16_t* tile) const {
  const auto page = static_cast<size_t>(block * kBlock / pageTokens_);
  const int begin = block * kBlock % pageTokens_;
  if (!side.forms[page].sealed()) return side.pages[page] + int64_t{begin} * headDim_;
  context.impl().kernels.unpackPage(shape(), side.forms[page], side.pages[page], begin, begin + slots, tile);
  return tile;
}

// The bounds of all blocks are one product: what is positive of the query with the largest values, what is negative with the smallest.
std::vector<float> HostKvCache::blockBounds(Context& context, int layer, int head, const float* q, int first) {
  takeBounds(context, layer, head);
  const int count = blocksOf(slots(layer, head)) - 1 - first;
  if (count <= 0) return {};
  std::vector<float> parts(static_cast<size_t>(group_ * 2 * headDim_)), all(static_cast<size_t>(group_ * count));
  for (int g = 0; g < group_; ++g)
    for (int c = 0; c < headDim_; ++c) {
      const float x = q[(head * group_ + g) * headDim_ + c];
      parts[static_cast<size_t>(2 * g * headDim_ + c)] = std::max(x, 0.0f);
      parts[static_cast<size_t>((2 * g + 1) * headDim_ + c)] = std::min(x, 0.0f);
    }
  const uint16_t* bounds = pagesAt(layer, head).bounds.as<uint16_t>() + int64_t{first} * 2 * headDim_;
  context.impl().kernels.scores({&bounds, &bounds, count, 2 * headDim_}, parts.data(), group_, 1.0f, 0, count, all.data(), count);
  for (int g = 1; g < group_; ++g)
    for (int block = 0; block < count; ++block) all[static_cast<size_t>(block)] = std::max(all[static_cast<size_t>(block)], all[static_cast<size_t>(g * count + block)]);
  all.resize(static_cast<size_t>(count));
  return all;
}

std::span<const KvHead> HostKvCache::selected(Context& context, int layer, const float* q) {
  chosenLayer_ = -1;
  if (!selects(layer)) return {};
  bool all = true;
  for (int head = 0; head < kvHeads_; ++head) all = all && blocksRead(budget_, slots(layer, head)) == blocksOf(slots(layer, head));
  if (all) return {};
  chosen_.resize(static_cast<size_t>(kvHeads_));
  if (!ledger_.planning())
    context.pool().run([&](int thread, int threads) {
      const auto range = ThreadPool::split(kvHeads_, 1, thread, threads);
      for (auto head = static_cast<int>(range.begin); head < range.end; ++head) {
        int first = 0;  // block that can be seen
        const auto held = positions(layer, head);
        if (slidingWindow_ > 0) first = static_cast<int>(std::upper_bound(held.begin(), held.end(), held.back() - slidingWindow_) - held.begin()) / kBlock;
        std::vector<float> bounds = blockBounds(context, layer, head, q, first);
        bounds.push_back(0);  // of the newest block, which stays whatever it is
        std::vector<int32_t>& blocks = chosen_[static_cast<size_t>(head)].blocks;
        keepBest(bounds, std::min(static_cast<int>(bounds.size()), blocksRead(budget_, slots(layer, head))), blocks);
        for (int32_t& block : blocks) block += first;
      }
    });
  chosenLayer_ = layer;
  return blocksView(context, layer, layer);
}

std::span<const KvHead> HostKvCache::selectedAlike(Context& context, int layer, int keyLayer) {
  return chosenLayer_ < 0 ? std::span<const KvHead>() : blocksView(context, layer, keyLayer);
}

std::span<const KvHead> HostKvCache::blocksView(Context& context, int layer, int keyLayer) {
  // Rows of sealed pages are unpacked for the step: as many as are read.
  bool packed = format_.seals();
  for (int head = 0; head < kvHeads_; ++head) packed = packed || pagesAt(layer, head).values.anySealed() || (keyLayer >= 0 && pagesAt(keyLayer, head).keys.anySealed());
  size_t most = 0;
  for (int head = 0; head < kvHeads_; ++head) most = std::max(most, static_cast<size_t>(blocksRead(budget_, slots(layer, head))));
  const size_t blockFloats = static_cast<size_t>(kBlock * headDim_), side = most * blockFloats;
  uint16_t* tiles = packed ? context.impl().selected.need<uint16_t>(2 * static_cast<size_t>(kvHeads_) * side) : nullptr;
  if (ledger_.planning()) return view(layer, keyLayer);
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(kvHeads_, 1, thread, threads);
    for (auto h = static_cast<int>(range.begin); h < range.end; ++h) {
      Chosen& own = chosen_[static_cast<size_t>(h)];
      const int held = slots(layer, h);
      const auto at = positions(layer, h);
      uint16_t* tile = tiles ? tiles + 2 * static_cast<size_t>(h) * side : nullptr;
      own.keys.clear(), own.values.clear(), own.positions.clear();
      for (const int32_t block : own.blocks) {
        const int count = std::min(kBlock, held - block * kBlock);
        if (keyLayer >= 0) own.keys.push_back(blockRows(context, pagesAt(keyLayer, h).keys, block, count, tile));
        own.values.push_back(blockRows(context, pagesAt(layer, h).values, block, count, tile ? tile + side : nullptr));
        if (tile) tile += blockFloats;
        if (slidingWindow_ > 0) own.positions.insert(own.positions.end(), at.begin() + block * kBlock, at.begin() + block * kBlock + count);
      }
      KvHead& out = view_[static_cast<size_t>(h)];
      out = {};
      out.keys = keyLayer >= 0 ? own.keys.data() : nullptr;
      out.values = own.values.data();
      out.tokens = static_cast<int>(own.blocks.size()) * kBlock - (kBlock - 1 - (held - 1) % kBlock);
      out.positions = slidingWindow_ > 0 ? own.positions.data() : nullptr;
    }
  });
  return view_;
}

}  // namespace winnow::cpu
