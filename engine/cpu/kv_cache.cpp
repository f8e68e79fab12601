// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cpu/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "engine/cache/seal.h"
#include "engine/core/check.h"
#include "engine/cpu/isa.h"
#include "engine/cpu/kernels.h"

namespace winnow::cpu {

HostKvCache::HostKvCache(Ledger& ledger, const ModelConfig& model, int context) : KvCache(ledger, model, context) {
  pages_.resize(layers_.size());
  for (LayerPages& layer : pages_) layer.heads.resize(static_cast<size_t>(kvHeads_));
  view_.resize(static_cast<size_t>(kvHeads_));
}

void HostKvCache::reserve(int count) {
  int most = 0;
  for (int layer = 0; layer < layers(); ++layer)
    for (int h = 0; h < kvHeads_ && holds(layer); ++h) {
      const int wanted = slots(layer, h) + count;
      growPages(layer, h, wanted);
      most = std::max(most, wanted);
    }
  growSums(most);
}

void HostKvCache::growPages(int layer, int head, int slots) {
  HeadPages& own = pagesAt(layer, head);
  const size_t pages = pagesFor(slots);
  const auto grow = [&](Side& side) {
    side.owners.reserve(pages);
    side.pages.reserve(pages);
    side.forms.reserve(pages);
    while (side.owners.size() < pages) {
      side.owners.push_back(page());
      side.pages.push_back(side.owners.back().as<uint16_t>());
      side.forms.emplace_back();
    }
  };
  if (ownsKeys(layer)) grow(own.keys);
  grow(own.values);
  growPositions(at(layer, head), pages);
  growBounds(layer, head);
}

void HostKvCache::beginAs(const KvCache& other, int tokens) {
  const auto& source = static_cast<const HostKvCache&>(other);
  clear();
  KvCache::beginAs(other, tokens);
  unlike_ = source.unlike_;
  const auto shared = static_cast<size_t>(tokens / pageTokens_);
  const int rest = tokens % pageTokens_;
  const auto borrow = [&](Side& own, const Side& from) {
    const auto count = static_cast<std::ptrdiff_t>(shared);
    own.owners.resize(shared);  // owns none of these
    own.pages.assign(from.pages.begin(), from.pages.begin() + count);
    own.forms.assign(from.forms.begin(), from.forms.begin() + count);
  };
  const auto copyRest = [&](Side& own, const Side& from) {
    auto* to = own.owners[shared].as<uint16_t>();
    for (int slot = 0; slot < rest; ++slot, to += headDim_) readSlot(shape(), {from.pages[shared], &from.forms[shared], slot}, to);
  };
  for (int layer = 0; layer < layers(); ++layer)
    for (int h = 0; h < kvHeads_ && holds(layer); ++h) {
      HeadPages& own = pagesAt(layer, h);
      const HeadPages& from = source.pagesAt(layer, h);
      own = HeadPages();
      if (ownsKeys(layer)) borrow(own.keys, from.keys);
      borrow(own.values, from.values);
      growPages(layer, h, tokens);
      if (rest > 0 && ownsKeys(layer)) copyRest(own.keys, from.keys);
      if (rest > 0) copyRest(own.values, from.values);
    }
}

void HostKvCache::freePages(int layer, int head) {
  HeadPages& own = pagesAt(layer, head);
  const size_t pages = pagesFor(slots(layer, head));
  own.keys.resize(pages);
  own.values.resize(pages);
}

void HostKvCache::growSums(int slots) {
  if (!observed_.any() || slots <= sumStride_) return;
  const int64_t stride = std::max<int64_t>((slots + 255) / 256 * 256, sumStride_);
  std::vector<Buffer> larger;
  for (size_t i = 0; i < pages_.size(); ++i)
    larger.emplace_back(ledger_, MemoryTag::metadata, static_cast<size_t>(kvHeads_) * static_cast<size_t>(stride) * sizeof(float));
  for (size_t i = 0; i < pages_.size(); ++i) {
    if (larger[i].data() && sumStride_ > 0)
      for (int h = 0; h < kvHeads_; ++h)
        std::memcpy(larger[i].as<float>() + h * stride, pages_[i].sums.as<float>() + h * sumStride_, static_cast<size_t>(sumStride_) * sizeof(float));
    pages_[i].sums = std::move(larger[i]);
  }
  sumStride_ = stride;
}

void HostKvCache::append(int layer, const float* k, const float* v, int64_t stride, int count, int32_t first, ThreadPool& pool) {
  Layer& l = layers_[static_cast<size_t>(layer)];
  if (layer == firstHeld()) keptQueries(count);
  if (ledger_.planning()) {
    for (Head& head : l.heads) head.tokens += count;
    return;
  }
  CHECK(!k == !l.ownsKeys, layer, l.ownsKeys);
  const auto store = [&](int thread, int threads) {
    const auto range = ThreadPool::split(kvHeads_, 1, thread, threads);
    for (int64_t h = range.begin; h < range.end; ++h) {
      Head& head = l.heads[static_cast<size_t>(h)];
      HeadPages& own = pagesAt(layer, static_cast<int>(h));
      int32_t* positions = head.positions.as<int32_t>();
      for (int i = 0; i < count; ++i) {
        const int slot = head.tokens + i;
        const auto page = static_cast<size_t>(slot / pageTokens_);
        const int64_t in = int64_t{slot % pageTokens_} * headDim_;
        if (k) storeHalf(k + i * stride + h * headDim_, headDim_, own.keys.owners[page].as<uint16_t>() + in);
        storeHalf(v + i * stride + h * headDim_, headDim_, own.values.owners[page].as<uint16_t>() + in);
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

std::span<const KvHead> HostKvCache::view(int layer, int keyLayer) {
  for (int h = 0; h < kvHeads_; ++h) {
    const Head& head = at(layer, h);
    KvHead& out = view_[static_cast<size_t>(h)];
    const Side* keys = keyLayer < 0 ? nullptr : &pagesAt(keyLayer, h).keys;
    const Side& values = pagesAt(layer, h).values;
    out.keys = keys ? keys->pages.data() : nullptr;
    out.values = values.pages.data();
    out.keyForms = keys && (formOf(true, keyLayer).sealed() || keys->anySealed()) ? keys->forms.data() : nullptr;
    out.valueForms = formOf(false, layer).sealed() || values.anySealed() ? values.forms.data() : nullptr;
    out.tokens = head.tokens;
    out.positions = head.positions.as<int32_t>();
    CHECK(keyLayer < 0 || slots(keyLayer, h) == head.tokens, "leader and follower hold different slots", layer, keyLayer, h);
  }
  return view_;
}

void HostKvCache::dropLayer(int layer) {
  KvCache::dropLayer(layer);
  for (HeadPages& head : pages_[static_cast<size_t>(layer)].heads) head = HeadPages();
}

void HostKvCache::dropKeys(int layer) {
  KvCache::dropKeys(layer);
  for (HeadPages& head : pages_[static_cast<size_t>(layer)].heads) {
    head.keys = Side();
    head.bounds = Buffer();
    head.bounded = 0;
  }
}

// Slots move towards the front only, so runs are moved in ascending order, each piece within one source and one target page.
void HostKvCache::copySlots(const std::vector<const uint16_t*>& pages, int pageTokens, int headDim, std::span<const int32_t> slots) {
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

void HostKvCache::gather(int layer, int head, std::span<const int32_t> slots) {
  for (const bool keys : {true, false}) {
    Side& side = pagesAt(layer, head).side(keys);
    if (keys && !ownsKeys(layer)) continue;
    side.touched = 0;
    if (formOf(keys, layer).sealed() || side.anySealed())
      gatherSealed(side, formOf(keys, layer), slots);
    else
      copySlots(side.pages, pageTokens_, headDim_, slots);
  }
  if (!observed_.any()) return;
  float* sums = columnSums(layer) + head * sumStride_;
  for (size_t i = 0; i < slots.size(); ++i) sums[i] = sums[slots[i]];
  std::fill(sums + slots.size(), sums + this->slots(layer, head), 0.0f);
}

void HostKvCache::observe(ObservedQueries queries) {
  if (queries == observed_) return;
  observed_ = queries;
  queriesKept_ = 0;
  sumStride_ = 0;
  for (LayerPages& layer : pages_) {
    layer.sums = Buffer();
    layer.queries = queries.newest > 0 ? Buffer(ledger_, MemoryTag::metadata, queryBytes()) : Buffer();
  }
  int most = 0;
  for (int layer = 0; layer < layers(); ++layer) most = std::max(most, longest(layer));
  growSums(most);
}

void HostKvCache::keepQueries(int layer, const float* q, int64_t stride, int count, int64_t first) {
  auto* rows = pages_[static_cast<size_t>(layer)].queries.as<float>();
  for (int i = std::max(0, count - observed_.newest); i < count; ++i)
    std::memcpy(rows + (first + i) % observed_.newest * queryFloats_, q + i * stride, static_cast<size_t>(queryFloats_) * sizeof(float));
}

void HostKvCache::newestQueries(int layer, int count, float* out) const {
  CHECK(count <= queriesKept_, count, queriesKept_);
  const auto* rows = pages_[static_cast<size_t>(layer)].queries.as<float>();
  const int64_t newest = positions(layer, 0).back();
  for (int i = 0; i < count; ++i)
    std::memcpy(out + int64_t{i} * queryFloats_, rows + (newest - count + 1 + i) % observed_.newest * queryFloats_, static_cast<size_t>(queryFloats_) * sizeof(float));
}

void HostKvCache::readRows(int layer, int head, bool keys, float* out) const {
  const Side& side = pagesAt(layer, head).side(keys);
  const KernelTable& kernels = bestKernels();
  std::vector<uint16_t> unpacked(static_cast<size_t>(pageTokens_ * headDim_));
  const int held = slots(layer, head);
  for (int slot = 0; slot < held; slot += pageTokens_) {
    const auto page = static_cast<size_t>(slot / pageTokens_);
    const int count = std::min(pageTokens_, held - slot);
    const uint16_t* rows = side.pages[page];
    if (side.forms[page].sealed()) {
      kernels.unpackPage(shape(), side.forms[page], rows, 0, count, unpacked.data());
      rows = unpacked.data();
    }
    if (headDim_ % 16 == 0)  // whole vectors
      kernels.widenValues(rows, headDim_, count, headDim_, out);
    else
      widen({rows, static_cast<size_t>(count * headDim_)}, out);
    out += count * headDim_;
  }
}

std::span<const float> HostKvCache::columnSums(int layer, int head) const {
  if (!observed_.any()) return {};
  return {pages_[static_cast<size_t>(layer)].sums.as<float>() + head * sumStride_, static_cast<size_t>(slots(layer, head))};
}

void HostKvCache::clear() {
  KvCache::clear();
  for (LayerPages& layer : pages_) {
    layer.sums = Buffer();
    for (HeadPages& head : layer.heads) head = HeadPages();
  }
  sumStride_ = 0;
  unlike_ = false;
  chosenLayer_ = -1;
}

}  // namespace winnow::cpu
