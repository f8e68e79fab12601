// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cache/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "engine/core/check.h"

namespace winnow {

KvCache::KvCache(Ledger& ledger, const ModelConfig& model, int context)
    : ledger_(ledger), kvHeads_(model.kvHeads), headDim_(model.headDim), pageTokens_(pageTokensFor(context)),
      queryFloats_(model.qRows()), group_(std::max(1, model.heads / std::max(1, model.kvHeads))), slidingWindow_(model.slidingWindow) {
  if (model.position == PositionKind::rope && model.rope.dims > 0) frequencies_ = ropeFrequencies(model.rope);
  layers_.resize(static_cast<size_t>(model.layers));
  for (Layer& layer : layers_) layer.heads.resize(static_cast<size_t>(kvHeads_));
}

// Eight bytes per page and token would be visible in a small model, so the room of positions follows the pages.
void KvCache::growPositions(Head& head, size_t pages) {
  const size_t bytes = pages * static_cast<size_t>(pageTokens_) * sizeof(int32_t);
  if (bytes <= head.positions.bytes()) return;
  Buffer larger(ledger_, MemoryTag::metadata, bytes);
  if (larger.data() && head.tokens > 0) std::memcpy(larger.data(), head.positions.data(), static_cast<size_t>(head.tokens) * sizeof(int32_t));
  head.positions = std::move(larger);
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
  queriesKept_ = 0;  // rows of those before may have been written over
  lengthsChanged();
}

void KvCache::truncate(int tokens) {
  CHECK(!observed_.any());
  for (Layer& layer : layers_)
    for (Head& head : layer.heads) head.tokens = std::min(head.tokens, tokens);
  lengthsChanged();
}

void KvCache::beginAs(const KvCache& other, int tokens) {
  format_ = other.format_;
  countsWithin_ = other.countsWithin_;
  budget_ = other.budget_;
  CHECK(!observed_.any() && !other.observed_.any() && pageTokens_ == other.pageTokens_ && layers_.size() == other.layers_.size());
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    Layer& l = layers_[layer];
    l.ownsKeys = other.layers_[layer].ownsKeys;
    l.held = other.layers_[layer].held;
    if (!l.held) continue;
    for (size_t h = 0; h < l.heads.size(); ++h) {
      Head& head = l.heads[h];
      const Head& from = other.layers_[layer].heads[h];
      CHECK(from.tokens >= tokens, from.tokens, tokens);
      head = Head();
      growPositions(head, pagesFor(tokens));
      if (tokens > 0) std::memcpy(head.positions.data(), from.positions.data(), static_cast<size_t>(tokens) * sizeof(int32_t));
      head.tokens = tokens;
    }
  }
  lengthsChanged();
}

void KvCache::keepForPlan(int layer, int count) {
  CHECK(ledger_.planning());
  for (int head = 0; head < kvHeads_; ++head) {
    at(layer, head).tokens = std::min(at(layer, head).tokens, count);
    freePages(layer, head);
  }
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

void KvCache::dropLayer(int layer) {
  Layer& dropped = layers_[static_cast<size_t>(layer)];
  dropped.held = false;
  for (Head& head : dropped.heads) head = Head();
  lengthsChanged();
}

int KvCache::heldLayers() const {
  return static_cast<int>(std::count_if(layers_.begin(), layers_.end(), [](const Layer& layer) { return layer.held; }));
}

int KvCache::firstHeld() const {
  return static_cast<int>(std::find_if(layers_.begin(), layers_.end(), [](const Layer& layer) { return layer.held; }) - layers_.begin());
}

void KvCache::dropKeys(int layer) { layers_[static_cast<size_t>(layer)].ownsKeys = false; }

std::span<const int32_t> KvCache::positions(int layer, int head) const {
  const Head& h = at(layer, head);
  return {h.positions.as<int32_t>(), static_cast<size_t>(h.tokens)};
}

void KvCache::keep(int layer, int head, std::span<const int32_t> slots) {
  Head& h = at(layer, head);
  CHECK(static_cast<int>(slots.size()) <= h.tokens, slots.size(), h.tokens);
  if (static_cast<int>(slots.size()) == h.tokens) return;
  gather(layer, head, slots);
  int32_t* positions = h.positions.as<int32_t>();
  for (size_t i = 0; i < slots.size(); ++i) positions[i] = positions[slots[i]];
  h.tokens = static_cast<int>(slots.size());
  freePages(layer, head);
}

void KvCache::fetchRows(int, bool, bool) {}

std::span<float> KvCache::carried(int layer, int head) {
  const std::span<const float> sums = columnSums(layer, head);
  return {const_cast<float*>(sums.data()), sums.size()};
}

void KvCache::setFormat(const KvFormat& format, ThreadPool&) { CHECK(!format.seals()); }
void KvCache::seal(ThreadPool&) {}

int64_t KvCache::sideBytes(int layer, int head, bool) const { return int64_t{slots(layer, head)} * headDim_ * static_cast<int64_t>(sizeof(uint16_t)); }

int64_t KvCache::heldBytes(int layer, bool keys) const {
  int64_t sum = 0;
  for (int head = 0; head < kvHeads_; ++head) {
    sum += sideBytes(layer, head, false);
    if (keys && ownsKeys(layer)) sum += sideBytes(layer, head, true);
  }
  return sum;
}

int64_t KvCache::unsealedBytesOf(int layer, int64_t tokens) const {
  if (!holds(layer)) return 0;
  const int64_t sides = (ownsKeys(layer) && format_.bits(true, layer) < 16) + (format_.bits(false, layer) < 16);
  return sides * kvHeads_ * static_cast<int64_t>(pagesFor(static_cast<int>(tokens)) * pageBytes());
}

int64_t KvCache::slotsRead(int layer, int queries) const {
  if (queries > 1 || !selects(layer)) return slotsSeen(layer);
  int64_t sum = 0;
  for (int head = 0; head < kvHeads_; ++head) sum += std::min(slots(layer, head), blocksRead(budget_, slots(layer, head)) * kBlock);
  return sum;
}

int64_t KvCache::readBytes(int layer, bool keys, int queries) const {
  const int64_t held = heldBytes(layer, keys), read = slotsRead(layer, queries), seen = slotsSeen(layer);
  if (read == seen) return held;
  int64_t bounds = 0;
  for (int head = 0; head < kvHeads_ && keys && ownsKeys(layer); ++head) bounds += static_cast<int64_t>(boundBytes()) * (blocksOf(slots(layer, head)) - 1);
  return held * read / seen + bounds;
}

void KvCache::leftUnread(int layer, int64_t bytes) {
  if (bytes > 0) unread_.resize(layers_.size());
  if (!unread_.empty()) unread_[static_cast<size_t>(layer)] = bytes;
}

int64_t KvCache::liveBytes() const {
  int64_t sum = 0;
  for (int layer = 0; layer < layers(); ++layer) sum += heldBytes(layer, true);
  return sum;
}

void KvCache::clear() {
  unread_.clear();
  queriesKept_ = 0;
  for (Layer& layer : layers_) {
    layer.ownsKeys = layer.held = true;
    for (Head& head : layer.heads) head = Head();
  }
}

}  // namespace winnow
