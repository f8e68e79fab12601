// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cache/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "engine/core/check.h"

namespace winnow {

KvCache::KvCache(Ledger& ledger, const ModelConfig& model, int context)
    : ledger_(ledger), kvHeads_(model.kvHeads), headDim_(model.headDim), pageTokens_(pageTokensFor(context)) {
  layers_.resize(static_cast<size_t>(model.layers));
  for (Layer& layer : layers_) layer.heads.resize(static_cast<size_t>(kvHeads_));
  view_.resize(static_cast<size_t>(kvHeads_));
}

void KvCache::growPages(Layer& layer, Head& head, int slots) {
  const size_t pages = (static_cast<size_t>(slots) + static_cast<size_t>(pageTokens_) - 1) / static_cast<size_t>(pageTokens_);
  const auto grow = [&](std::vector<Buffer>& owners, std::vector<const uint16_t*>& pointers) {
    owners.reserve(pages);
    pointers.reserve(pages);
    while (owners.size() < pages) {
      owners.emplace_back(ledger_, MemoryTag::kv, pageBytes());
      pointers.push_back(owners.back().as<uint16_t>());
    }
  };
  if (layer.ownsKeys) grow(head.keys, head.keyPages);
  grow(head.values, head.valuePages);
  // Positions: eight bytes per page and token would be visible in a small model, so their room follows the pages.
  const size_t bytes = pages * static_cast<size_t>(pageTokens_) * sizeof(int32_t);
  if (bytes > head.positions.bytes()) {
    Buffer larger(ledger_, MemoryTag::metadata, bytes);
    if (larger.data() && head.tokens > 0) std::memcpy(larger.data(), head.positions.data(), static_cast<size_t>(head.tokens) * sizeof(int32_t));
    head.positions = std::move(larger);
  }
}

void KvCache::shrinkPages(Head& head) {
  const size_t pages = (static_cast<size_t>(head.tokens) + static_cast<size_t>(pageTokens_) - 1) / static_cast<size_t>(pageTokens_);
  const auto shrink = [&](std::vector<Buffer>& owners, std::vector<const uint16_t*>& pointers) {
    if (owners.size() <= pages) return;
    owners.erase(owners.begin() + static_cast<std::ptrdiff_t>(pages), owners.end());
    pointers.resize(pages);
  };
  shrink(head.keys, head.keyPages);
  shrink(head.values, head.valuePages);
}

void KvCache::growSums(int slots) {
  if (!tracking_ || slots <= sumStride_) return;
  const int64_t stride = std::max<int64_t>((slots + 255) / 256 * 256, sumStride_);
  std::vector<Buffer> larger;
  for (size_t i = 0; i < layers_.size(); ++i)
    larger.emplace_back(ledger_, MemoryTag::metadata, static_cast<size_t>(kvHeads_) * static_cast<size_t>(stride) * sizeof(float));
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (larger[i].data() && sumStride_ > 0)
      for (int h = 0; h < kvHeads_; ++h)
        std::memcpy(larger[i].as<float>() + h * stride, layers_[i].sums.as<float>() + h * sumStride_, static_cast<size_t>(sumStride_) * sizeof(float));
    layers_[i].sums = std::move(larger[i]);
  }
  sumStride_ = stride;
}

void KvCache::reserve(int count) {
  int most = 0;
  for (Layer& layer : layers_)
    for (Head& head : layer.heads) {
      growPages(layer, head, head.tokens + count);
      most = std::max(most, head.tokens + count);
    }
  growSums(most);
}

void KvCache::append(int layer, const float* k, const float* v, int64_t stride, int count, int32_t first, ThreadPool& pool) {
  Layer& l = layers_[static_cast<size_t>(layer)];
  if (ledger_.planning()) {
    for (Head& head : l.heads) head.tokens += count;
    return;
  }
  CHECK(!k == !l.ownsKeys, layer, l.ownsKeys);
  const auto store = [&](int thread, int threads) {
    const auto range = ThreadPool::split(kvHeads_, 1, thread, threads);
    for (int64_t h = range.begin; h < range.end; ++h) {
      Head& head = l.heads[static_cast<size_t>(h)];
      int32_t* positions = head.positions.as<int32_t>();
      for (int i = 0; i < count; ++i) {
        const int slot = head.tokens + i;
        const auto page = static_cast<size_t>(slot / pageTokens_);
        const int64_t in = int64_t{slot % pageTokens_} * headDim_;
        if (k) cpu::storeHalf(k + i * stride + h * headDim_, headDim_, head.keys[page].as<uint16_t>() + in);
        cpu::storeHalf(v + i * stride + h * headDim_, headDim_, head.values[page].as<uint16_t>() + in);
        positions[slot] = first + i;
      }
      head.tokens += count;
    }
  };
  // One token's keys and values are stored sooner than another thread is woken.
  if (count == 1)
    store(0, 1);
  else
    pool.run(store);
}

void KvCache::mark() {
  marked_.clear();
  for (const Layer& layer : layers_)
    for (const Head& head : layer.heads) marked_.push_back(head.tokens);
}

void KvCache::rollback() {
  size_t i = 0;
  for (Layer& layer : layers_)
    for (Head& head : layer.heads) head.tokens = marked_[i++];
}

void KvCache::truncate(int tokens) {
  CHECK(!tracking_);
  for (Layer& layer : layers_)
    for (Head& head : layer.heads) head.tokens = std::min(head.tokens, tokens);
}

void KvCache::beginAs(const KvCache& other, int tokens) {
  CHECK(!tracking_ && !other.tracking_ && pageTokens_ == other.pageTokens_ && layers_.size() == other.layers_.size());
  const auto shared = static_cast<size_t>(tokens / pageTokens_);
  const size_t rest = static_cast<size_t>(tokens % pageTokens_) * static_cast<size_t>(headDim_) * sizeof(uint16_t);
  const auto borrow = [&](std::vector<Buffer>& owners, std::vector<const uint16_t*>& pointers, const std::vector<const uint16_t*>& from) {
    owners.resize(shared);  // owns none of these
    pointers.assign(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(shared));
  };
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    Layer& l = layers_[layer];
    l.ownsKeys = other.layers_[layer].ownsKeys;
    for (size_t h = 0; h < l.heads.size(); ++h) {
      Head& head = l.heads[h];
      const Head& from = other.layers_[layer].heads[h];
      CHECK(from.tokens >= tokens, from.tokens, tokens);
      head = Head();
      if (l.ownsKeys) borrow(head.keys, head.keyPages, from.keyPages);
      borrow(head.values, head.valuePages, from.valuePages);
      growPages(l, head, tokens);
      if (tokens > 0) std::memcpy(head.positions.data(), from.positions.data(), static_cast<size_t>(tokens) * sizeof(int32_t));
      if (rest > 0 && l.ownsKeys) std::memcpy(head.keys[shared].data(), from.keyPages[shared], rest);
      if (rest > 0) std::memcpy(head.values[shared].data(), from.valuePages[shared], rest);
      head.tokens = tokens;
    }
  }
}

void KvCache::keepForPlan(int count) {
  CHECK(ledger_.planning());
  for (Layer& layer : layers_)
    for (Head& head : layer.heads) {
      head.tokens = std::min(head.tokens, count);
      shrinkPages(head);
    }
}

std::span<const cpu::KvHead> KvCache::view(int layer, int keyLayer) {
  for (int h = 0; h < kvHeads_; ++h) {
    const Head& head = at(layer, h);
    cpu::KvHead& out = view_[static_cast<size_t>(h)];
    out.keys = keyLayer < 0 ? nullptr : at(keyLayer, h).keyPages.data();
    out.values = head.valuePages.data();
    out.tokens = head.tokens;
    out.positions = head.positions.as<int32_t>();
    CHECK(keyLayer < 0 || at(keyLayer, h).tokens == head.tokens, "leader and follower hold different slots", layer, keyLayer, h);
  }
  return view_;
}

int KvCache::longest(int layer) const {
  int most = 0;
  for (int h = 0; h < kvHeads_; ++h) most = std::max(most, slots(layer, h));
  return most;
}

int64_t KvCache::slotsSeen(int layer) const {
  int64_t sum = 0;
  for (int h = 0; h < kvHeads_; ++h) sum += slots(layer, h);
  return sum;
}

void KvCache::dropKeys(int layer) {
  Layer& l = layers_[static_cast<size_t>(layer)];
  l.ownsKeys = false;
  for (Head& head : l.heads) {
    head.keys.clear();
    head.keyPages.clear();
  }
}

std::span<const int32_t> KvCache::positions(int layer, int head) const {
  const Head& h = at(layer, head);
  return {h.positions.as<int32_t>(), static_cast<size_t>(h.tokens)};
}

// Slots move towards the front only, so runs are moved in ascending order, each piece within one source and one target page.
void KvCache::copySlots(const std::vector<const uint16_t*>& pages, int pageTokens, int headDim, std::span<const int32_t> slots) {
  for (size_t to = 0; to < slots.size();) {
    const int from = slots[to];
    size_t run = 1;
    while (to + run < slots.size() && slots[to + run] == from + static_cast<int>(run)) ++run;
    if (static_cast<size_t>(from) == to) {
      to += run;
      continue;
    }
    const int toSlot = static_cast<int>(to);
    const int piece = std::min({static_cast<int>(run), pageTokens - from % pageTokens, pageTokens - toSlot % pageTokens});
    auto* target = const_cast<uint16_t*>(pages[static_cast<size_t>(toSlot / pageTokens)]) + int64_t{toSlot % pageTokens} * headDim;
    const uint16_t* source = pages[static_cast<size_t>(from / pageTokens)] + int64_t{from % pageTokens} * headDim;
    std::memmove(target, source, static_cast<size_t>(piece) * static_cast<size_t>(headDim) * sizeof(uint16_t));
    to += static_cast<size_t>(piece);
  }
}

void KvCache::keep(int layer, int head, std::span<const int32_t> slots) {
  Layer& l = layers_[static_cast<size_t>(layer)];
  Head& h = l.heads[static_cast<size_t>(head)];
  CHECK(static_cast<int>(slots.size()) <= h.tokens, slots.size(), h.tokens);
  if (static_cast<int>(slots.size()) == h.tokens) return;
  if (l.ownsKeys) copySlots(h.keyPages, pageTokens_, headDim_, slots);
  copySlots(h.valuePages, pageTokens_, headDim_, slots);
  int32_t* positions = h.positions.as<int32_t>();
  float* sums = tracking_ ? l.sums.as<float>() + head * sumStride_ : nullptr;
  for (size_t i = 0; i < slots.size(); ++i) {
    positions[i] = positions[slots[i]];
    if (sums) sums[i] = sums[slots[i]];
  }
  if (sums) std::fill(sums + slots.size(), sums + h.tokens, 0.0f);
  h.tokens = static_cast<int>(slots.size());
  shrinkPages(h);
}

void KvCache::trackColumnSums(bool on) {
  if (on == tracking_) return;
  tracking_ = on;
  sumStride_ = 0;
  for (Layer& layer : layers_) layer.sums = Buffer();
  int most = 0;
  for (int layer = 0; layer < layers(); ++layer) most = std::max(most, longest(layer));
  growSums(most);
}

std::span<const float> KvCache::columnSums(int layer, int head) const {
  if (!tracking_) return {};
  return {layers_[static_cast<size_t>(layer)].sums.as<float>() + head * sumStride_, static_cast<size_t>(slots(layer, head))};
}

int64_t KvCache::allocatedBytes() const {
  size_t pages = 0;
  for (const Layer& layer : layers_)
    for (const Head& head : layer.heads) pages += head.keys.size() + head.values.size();
  return static_cast<int64_t>(pages * pageBytes());
}

int64_t KvCache::readBytes(int layer, bool keys) const {
  const int sides = keys && ownsKeys(layer) ? 2 : 1;
  return slotsSeen(layer) * headDim_ * static_cast<int64_t>(sizeof(uint16_t)) * sides;
}

int64_t KvCache::liveBytes() const {
  int64_t sum = 0;
  for (int layer = 0; layer < layers(); ++layer) sum += readBytes(layer, true);
  return sum;
}

void KvCache::swap(KvCache& other) noexcept {
  std::swap(tracking_, other.tracking_);
  std::swap(sumStride_, other.sumStride_);
  layers_.swap(other.layers_);
}

void KvCache::clear() {
  for (Layer& layer : layers_) {
    layer.ownsKeys = true;
    layer.sums = Buffer();
    for (Head& head : layer.heads) head = Head();
  }
  sumStride_ = 0;
}

}  // namespace winnow
