// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/kv_cache.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <numeric>

#include "engine/core/check.h"
#include "engine/cuda/checked.h"
#include "engine/cuda/selected.h"

namespace winnow::cuda {

DeviceKvCache::DeviceKvCache(Ledger& host, Ledger& device, const ModelConfig& model, int context, Stream stream, uint64_t serial)
    : KvCache(host, model, context), device_(device), stream_(stream), serial_(serial), pageStride_(static_cast<int>(pagesFor(context))),
      pages_(static_cast<size_t>(model.layers) * static_cast<size_t>(model.kvHeads)), bounded_(pages_.size()) {
  const size_t entries = pages_.size() * static_cast<size_t>(pageStride_);
  lengths_ = DeviceBuffer(device, MemoryTag::metadata, pages_.size() * sizeof(int32_t));
  positions_ = DeviceBuffer(device, MemoryTag::metadata, entries * static_cast<size_t>(pageTokens_) * sizeof(int32_t));
  for (DeviceBuffer& table : tables_) table = DeviceBuffer(device, MemoryTag::metadata, entries * sizeof(uint64_t));
  for (Buffer& table : hostTables_) table = Buffer(host, MemoryTag::metadata, entries * sizeof(uint64_t));
}

void DeviceKvCache::grow(size_t head, Side side, size_t pages) {
  PageList& list = pages_[head].sides[side];
  list.forms.reserve(pages);
  while (list.owners.size() < pages) {
    list.owners.push_back(page());
    list.forms.emplace_back();
    if (ledger_.planning()) continue;
    address({head, side, list.owners.size() - 1}) = reinterpret_cast<uint64_t>(list.owners.back().as<char>());
    tablesStale_ = true;
  }
}

void DeviceKvCache::reserve(int count) {
  for (int layer = 0; layer < layers(); ++layer)
    for (int h = 0; h < kvHeads_ && holds(layer); ++h) {
      Head& head = at(layer, h);
      const size_t pages = pagesFor(head.tokens + count);
      CHECK(pages <= static_cast<size_t>(pageStride_), pages, pageStride_);
      if (ownsKeys(layer)) grow(index(layer, h), keys, pages);
      grow(index(layer, h), values, pages);
      growPositions(head, pages);
    }
  growBounds();
}

std::vector<int32_t> DeviceKvCache::hostLengths() const {
  std::vector<int32_t> all;
  for (const Layer& layer : layers_)
    for (const Head& head : layer.heads) all.push_back(head.tokens);
  return all;
}

void DeviceKvCache::writeLengths(std::span<const int32_t> lengths) { lengths_.copyFrom(stream_, lengths.data(), lengths.size_bytes()); }

void DeviceKvCache::prepare() {
  if (ledger_.planning()) return;
  uploadTables();
  if (lengthsStale_) writeLengths(hostLengths());
  lengthsStale_ = false;
  if (sumsStale_) columnSums_.clear(stream_);
  sumsStale_ = false;
}

void DeviceKvCache::appended(int64_t first, int count) {
  keptQueries(count);
  newestPass_ = count;
  for (Layer& layer : layers_)
    for (Head& head : layer.heads) {
      if (!layer.held) break;
      if (!ledger_.planning()) std::iota(head.positions.as<int32_t>() + head.tokens, head.positions.as<int32_t>() + head.tokens + count, static_cast<int32_t>(first));
      head.tokens += count;
    }
}

int DeviceKvCache::mostSlots() const {
  int most = 0;
  for (int layer = 0; layer < layers(); ++layer) most = std::max(most, longest(layer));
  return most;
}

KvTables DeviceKvCache::tables(int layer, int keyLayer) const {
  const size_t first = index(layer, 0), stride = static_cast<size_t>(pageStride_);
  KvTables t;
  if (keyLayer >= 0) t.keys = tables_[keys].as<uint64_t>() + index(keyLayer, 0) * stride;
  t.values = tables_[values].as<uint64_t>() + first * stride;
  t.pageStride = pageStride_;
  t.pageTokens = pageTokens_;
  t.lengths = lengths_.as<int32_t>() + first;
  t.positionStride = columnStride();
  t.positions = positions_.as<int32_t>() + static_cast<int64_t>(first) * t.positionStride;
  if (!mayBeSealed()) return t;
  if (keyLayer >= 0) t.keyForms = forms(keyLayer, true);
  t.valueForms = forms(layer, false);
  return t;
}

// A page of the source that is taken in part is copied, or opened where it is sealed.
void DeviceKvCache::beginAs(const KvCache& other, int tokens) {
  const auto& source = static_cast<const DeviceKvCache&>(other);
  clear();
  KvCache::beginAs(other, tokens);
  unlike_ = source.unlike_;
  if (source.mayBeSealed()) makeFormTables();
  const auto shared = static_cast<size_t>(tokens / pageTokens_), slots = static_cast<size_t>(tokens);
  const size_t rest = static_cast<size_t>(tokens % pageTokens_) * static_cast<size_t>(headDim_) * sizeof(uint16_t);
  for (int layer = 0; layer < layers(); ++layer)
    for (int h = 0; h < kvHeads_ && holds(layer); ++h) {
      const size_t i = index(layer, h), first = i * static_cast<size_t>(pageStride_);
      for (const Side side : {keys, values}) {
        if (side == keys && !ownsKeys(layer)) continue;
        const PageList& from = source.pages_[i].sides[side];
        PageList& own = pages_[i].sides[side];
        const size_t taken = shared + (rest > 0 && from.forms[shared].sealed());
        own.owners.resize(taken);  // owns none of these
        own.forms.assign(from.forms.begin(), from.forms.begin() + static_cast<std::ptrdiff_t>(taken));
        std::copy_n(source.hostTables_[side].as<uint64_t>() + first, taken, hostTables_[side].as<uint64_t>() + first);
        grow(i, side, pagesFor(tokens));
        const auto* partial = reinterpret_cast<const char*>(source.hostTables_[side].as<uint64_t>()[first + shared]);
        if (rest > 0 && taken == shared) own.owners[shared].copyFromDevice(stream_, partial, rest);
      }
      const size_t at = first * static_cast<size_t>(pageTokens_);
      if (slots > 0) positions_.copyFromDevice(stream_, source.positions_.as<int32_t>() + at, slots * sizeof(int32_t), at * sizeof(int32_t));
    }
  tablesStale_ = true;
  openNewest();
  growBounds();
}

void DeviceKvCache::dropKeys(int layer) {
  KvCache::dropKeys(layer);
  for (int h = 0; h < kvHeads_; ++h) {
    pages_[index(layer, h)].sides[keys].clear();
    bounded_[index(layer, h)] = 0;
  }
}

void DeviceKvCache::dropLayer(int layer) {
  KvCache::dropLayer(layer);
  for (int h = 0; h < kvHeads_; ++h) pages_[index(layer, h)] = HeadPages();
}

void DeviceKvCache::clear() {
  KvCache::clear();
  for (HeadPages& head : pages_) head = HeadPages();
  bounds_ = DeviceBuffer();
  boundPages_ = 0;
  std::ranges::fill(bounded_, 0);
  unlike_ = false;
  if (!format_.seals()) formTables_ = {};
  newestPass_ = 0;
  sumsStale_ = lengthsStale_ = true;
}

// --- bounds of blocks that a query may choose (Quest) ----------------------------------------------------------------------

// For as many slots as a captured step serves, powers of two: bounds are made anew of the keys when it grows, which reads each of them twice in all.
void DeviceKvCache::growBounds() {
  size_t most = 0;
  for (int layer = kDenseLayers; layer < layers() && budget_ > 0; ++layer)
    for (int h = 0; h < kvHeads_; ++h) most = std::max(most, pages_[index(layer, h)].sides[keys].owners.size());
  if (most <= static_cast<size_t>(boundPages_)) return;
  bounds_ = DeviceBuffer();
  boundPages_ = 0;
  std::ranges::fill(bounded_, 0);
  const int pages = std::min(pageStride_, static_cast<int>(std::bit_ceil(std::max(most, pagesFor(kAttendChunk)))));
  const size_t blocks = static_cast<size_t>((layers() - kDenseLayers) * kvHeads_) * static_cast<size_t>(pages * (pageTokens_ / kBlock));
  bounds_ = DeviceBuffer(device_, MemoryTag::metadata, blocks * boundBytes());
  boundPages_ = pages;
}

void DeviceKvCache::select(double budget) {
  KvCache::select(budget);
  if (budget == 0) {
    bounds_ = DeviceBuffer();
    boundPages_ = 0;
    std::ranges::fill(bounded_, 0);
  }
  growBounds();
}

const uint16_t* DeviceKvCache::bounds(int layer) const {
  return bounds_.as<uint16_t>() + static_cast<int64_t>(layer - kDenseLayers) * kvHeads_ * blockStride() * 2 * headDim_;
}

void DeviceKvCache::takeBounds() {
  for (int layer = kDenseLayers; layer < layers() && budget_ > 0; ++layer) {
    if (!ownsKeys(layer) || !holds(layer)) continue;
    BoundArgs args;
    args.first = blockStride();
    for (int h = 0; h < kvHeads_; ++h) {
      const int full = slots(layer, h) / kBlock;
      int& known = bounded_[index(layer, h)];
      if (known >= full) continue;
      args.first = std::min(args.first, known);
      args.end = std::max(args.end, full);
      known = full;
    }
    if (args.first >= args.end) continue;
    args.kv = tables(layer, layer);
    args.kvHeads = kvHeads_;
    args.headDim = headDim_;
    args.bounds = const_cast<uint16_t*>(bounds(layer));
    args.blockStride = blockStride();
    cuda::takeBounds(stream_, args);
  }
}

// --- eviction ------------------------------------------------------------------------------------------------------------

void DeviceKvCache::shrink(HeadPages& head, size_t pages) {
  for (PageList& list : head.sides) list.shrink(pages);
}

void DeviceKvCache::gather(int layer, int head, std::span<const int32_t> slots) {
  HeadPages& own = pages_[index(layer, head)];
  CHECK(!own.pending, "a head is gathered twice before settle()", layer, head);
  own.pending = true;
  own.before = this->slots(layer, head);
  own.slots.assign(slots.begin(), slots.end());
}

// While slots wait to be gathered their pages are still read.
void DeviceKvCache::freePages(int layer, int head) {
  HeadPages& own = pages_[index(layer, head)];
  if (!own.pending) shrink(own, pagesFor(slots(layer, head)));
}

// Every head of a layer in which any loses slots goes through the gather; the others keep all of theirs.
void DeviceKvCache::gatherPending(std::span<const int32_t> kept) {
  const auto most = static_cast<size_t>(std::max(1, *std::max_element(kept.begin(), kept.end())));
  std::vector<int32_t> lists(kept.size() * (most + 1));  // [heads, most], then how many of each
  for (size_t i = 0; i < pages_.size(); ++i) {
    const auto to = lists.begin() + static_cast<std::ptrdiff_t>(i * most);
    if (pages_[i].pending)
      std::copy(pages_[i].slots.begin(), pages_[i].slots.end(), to);
    else
      std::iota(to, to + kept[i], 0);
  }
  std::copy(kept.begin(), kept.end(), lists.end() - static_cast<std::ptrdiff_t>(kept.size()));
  const size_t bytes = lists.size() * sizeof(int32_t);
  if (keepLists_.bytes() < bytes) {
    keepLists_ = DeviceBuffer();
    keepLists_ = DeviceBuffer(device_, MemoryTag::metadata, bytes);
  }
  keepLists_.copyFrom(stream_, lists.data(), bytes);
  for (int layer = 0; layer < layers(); ++layer) {
    const size_t first = index(layer, 0);
    const auto begin = pages_.begin() + static_cast<std::ptrdiff_t>(first);
    if (std::none_of(begin, begin + kvHeads_, [](const HeadPages& head) { return head.pending; })) continue;
    const bool packedKeys = gathersSealed(layer, keys), packedValues = gathersSealed(layer, values);
    gatherSealed(layer);
    GatherArgs args;
    args.kv = tables(layer, ownsKeys(layer) && !packedKeys ? layer : -1);
    if (packedValues) args.kv.values = nullptr;
    args.kvHeads = kvHeads_;
    args.headDim = headDim_;
    args.keep = keepLists_.as<int32_t>() + first * most;
    args.kept = keepLists_.as<int32_t>() + kept.size() * most + first;
    args.keepStride = static_cast<int64_t>(most);
    args.columnSums = deviceSums(layer);
    args.columnStride = columnStride();
    gatherSlots(stream_, args);
  }
}

void DeviceKvCache::settle() {
  fetched_ = {};
  if (std::none_of(pages_.begin(), pages_.end(), [](const HeadPages& head) { return head.pending; })) return;
  const std::vector<int32_t> kept = hostLengths();
  std::vector<int32_t> before = kept;
  for (size_t i = 0; i < pages_.size(); ++i)
    if (pages_[i].pending) before[i] = pages_[i].before;
  lengthsStale_ = true;  // until all of it has worked
  prepare();             // page tables
  writeLengths(before);
  gatherPending(kept);
  writeLengths(kept);
  wait(stream_);
  lengthsStale_ = false;
  for (size_t i = 0; i < pages_.size(); ++i) {
    if (pages_[i].pending) bounded_[i] = 0;
    pages_[i].pending = false;
    shrink(pages_[i], pagesFor(kept[i]));
  }
}

void DeviceKvCache::observe(ObservedQueries queries) {
  if (queries == observed_) return;
  observed_ = queries;
  queriesKept_ = 0;
  columnSums_ = DeviceBuffer();
  queries_ = DeviceBuffer();
  hostSums_ = Buffer();
  if (!queries.any()) return;
  const size_t bytes = pages_.size() * static_cast<size_t>(columnStride()) * sizeof(float);
  columnSums_ = DeviceBuffer(device_, MemoryTag::metadata, bytes);
  hostSums_ = Buffer(ledger_, MemoryTag::metadata, bytes);
  if (queries.newest > 0) queries_ = DeviceBuffer(device_, MemoryTag::metadata, layers_.size() * queryBytes());
  sumsStale_ = true;
}

float* DeviceKvCache::deviceQueries(int layer) const {
  return observed_.newest > 0 ? queries_.as<float>() + int64_t{layer} * observed_.newest * queryFloats_ : nullptr;
}

void DeviceKvCache::newestQueries(int layer, int count, DeviceBuffer& out) const {
  CHECK(count <= queriesKept_, count, queriesKept_);
  const size_t row = static_cast<size_t>(queryFloats_) * sizeof(float);
  const int first = (positions(layer, 0).back() - count + 1) % observed_.newest, whole = std::min(count, observed_.newest - first);
  const float* rows = deviceQueries(layer);
  out.copyFromDevice(stream_, rows + int64_t{first} * queryFloats_, static_cast<size_t>(whole) * row);
  if (whole < count) out.copyFromDevice(stream_, rows, static_cast<size_t>(count - whole) * row, static_cast<size_t>(whole) * row);
}

void DeviceKvCache::newestQueries(int layer, int count, float* out) const {
  CHECK(count <= queriesKept_, count, queriesKept_);
  const size_t row = static_cast<size_t>(queryFloats_), ring = static_cast<size_t>(layer) * queryBytes();
  const int first = (positions(layer, 0).back() - count + 1) % observed_.newest, whole = std::min(count, observed_.newest - first);
  queries_.copyTo(stream_, out, static_cast<size_t>(whole) * row * sizeof(float), ring + static_cast<size_t>(first) * row * sizeof(float));
  if (whole < count)
    queries_.copyTo(stream_, out + static_cast<size_t>(whole) * row, static_cast<size_t>(count - whole) * row * sizeof(float), ring);
}

// Rows of a 16-bit page that are not written yet are left where they are.
size_t DeviceKvCache::fetchedBytes(size_t head, Side side, size_t page, int held) const {
  const PageForm& form = pages_[head].sides[side].forms[page];
  if (form.sealed()) return shape().bytes(form);
  const int rows = std::min(pageTokens_, held - static_cast<int>(page) * pageTokens_);
  return static_cast<size_t>(rows) * shape().rowBytes(16);
}

void DeviceKvCache::fetchRows(int layer, bool ofKeys, bool ofValues) {
  for (const Side side : {keys, values}) {
    if (!(side == keys ? ofKeys : ofValues)) continue;
    size_t total = 0;
    const auto eachPage = [&](auto body) {
      for (int h = 0; h < kvHeads_; ++h)
        for (size_t page = 0; page < pagesFor(slots(layer, h)); ++page) body(index(layer, h), page, fetchedBytes(index(layer, h), side, page, slots(layer, h)));
    };
    eachPage([&](size_t, size_t, size_t bytes) { total += bytes; });
    fetched_[side] = Buffer(ledger_, MemoryTag::activations, total);
    char* to = fetched_[side].as<char>();
    eachPage([&](size_t head, size_t page, size_t bytes) {
      const uint64_t from = hostTables_[side].as<uint64_t>()[head * static_cast<size_t>(pageStride_) + page];
      throwIfFailed(cudaMemcpyAsync(to, reinterpret_cast<const void*>(from), bytes, cudaMemcpyDeviceToHost, stream_), "read the cache");
      to += bytes;
    });
  }
  wait(stream_);
}

void DeviceKvCache::readRows(int layer, int head, bool ofKeys, float* out) const {
  const Side side = ofKeys ? keys : values;
  const char* page = fetched_[side].as<char>();
  for (int h = 0; h < head; ++h)
    for (size_t p = 0; p < pagesFor(slots(layer, h)); ++p) page += fetchedBytes(index(layer, h), side, p, slots(layer, h));
  std::vector<uint16_t> row(static_cast<size_t>(headDim_));
  for (int slot = 0; slot < slots(layer, head); ++slot, out += headDim_) {
    const auto p = static_cast<size_t>(slot / pageTokens_);
    if (slot > 0 && slot % pageTokens_ == 0) page += fetchedBytes(index(layer, head), side, p - 1, slots(layer, head));
    readSlot(shape(), {page, &pages_[index(layer, head)].sides[side].forms[p], slot % pageTokens_}, row.data());
    widen(row, out);
  }
}

// Slots that keep() let go of are still there, until settle().
void DeviceKvCache::writeSums() {
  const std::vector<int32_t> kept = hostLengths();
  for (size_t head = 0; head < pages_.size(); ++head) {
    const size_t at = head * static_cast<size_t>(columnStride()) * sizeof(float);
    const int held = pages_[head].pending ? pages_[head].before : kept[head];
    if (held > 0) columnSums_.copyFrom(stream_, hostSums_.as<char>() + at, static_cast<size_t>(held) * sizeof(float), at);
  }
}

void DeviceKvCache::clearSums(int layer) {
  throwIfFailed(cudaMemsetAsync(deviceSums(layer), 0, static_cast<size_t>(kvHeads_ * columnStride()) * sizeof(float), stream_), "clear");
}

float* DeviceKvCache::deviceSums(int layer) const {
  return observed_.any() ? columnSums_.as<float>() + static_cast<int64_t>(index(layer, 0)) * columnStride() : nullptr;
}

void DeviceKvCache::readSums() {
  if (!observed_.any() || ledger_.planning()) return;
  prepare();
  for (int layer = 0; layer < layers(); ++layer)
    for (int h = 0; h < kvHeads_; ++h) {
      const size_t at = index(layer, h) * static_cast<size_t>(columnStride()) * sizeof(float);
      columnSums_.copyToLater(stream_, hostSums_.as<char>() + at, static_cast<size_t>(slots(layer, h)) * sizeof(float), at);
    }
  wait(stream_);
}

std::span<const float> DeviceKvCache::columnSums(int layer, int head) const {
  if (!observed_.any()) return {};
  return {hostSums_.as<float>() + index(layer, head) * static_cast<size_t>(columnStride()), static_cast<size_t>(slots(layer, head))};
}

}  // namespace winnow::cuda
