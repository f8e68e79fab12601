// SPDX-License-Identifier: GPL-3.0-or-later
// Sealed pages of the device's cache: sealing after a step, another format, eviction. Pages are made in fresh memory from those the tables
// on the device name, many at once; then they take their places.
#include <algorithm>
#include <numeric>

#include "engine/core/check.h"
#include "engine/cuda/kv_cache.h"

namespace winnow::cuda {

void DeviceKvCache::PageList::shrink(size_t count) {
  if (owners.size() <= count) return;
  owners.erase(owners.begin() + static_cast<std::ptrdiff_t>(count), owners.end());
  forms.resize(count);
}

template <class Body>
void DeviceKvCache::eachSide(Body body) {
  for (int layer = 0; layer < layers(); ++layer)
    for (int head = 0; head < kvHeads_; ++head)
      for (const Side side : {keys, values})
        if (side == values || ownsKeys(layer)) body(index(layer, head), side, slots(layer, head));
}

uint64_t& DeviceKvCache::address(const PagePlace& at) {
  return hostTables_[at.side].as<uint64_t>()[at.head * static_cast<size_t>(pageStride_) + at.page];
}

void DeviceKvCache::replace(const PagePlace& at, DeviceBuffer page, const PageForm& form) {
  PageList& list = listAt(at);
  list.owners[at.page] = std::move(page);
  list.forms[at.page] = form;
  if (at.side == keys) bounded_[at.head] = std::min(bounded_[at.head], static_cast<int>(at.page) * (pageTokens_ / kBlock));
  if (ledger_.planning()) return;
  address(at) = reinterpret_cast<uint64_t>(list.owners[at.page].as<char>());
  tablesStale_ = true;
}

void DeviceKvCache::makeFormTables() {
  const size_t chunks = pages_.size() * static_cast<size_t>(unreadStride()) * sizeof(int32_t);
  if (format_.aligned > 0 && unread_.bytes() == 0) unread_ = DeviceBuffer(device_, MemoryTag::metadata, chunks);
  if (mayBeSealed()) return;
  const size_t bytes = pages_.size() * static_cast<size_t>(pageStride_) * sizeof(PageForm);
  ++formTablesMade_;
  for (DeviceBuffer& table : formTables_)
    table = DeviceBuffer(device_, MemoryTag::metadata, bytes);
  tablesStale_ = true;
}

const PageForm* DeviceKvCache::forms(int layer, bool ofKeys) const {
  return formTables_[ofKeys ? keys : values].as<PageForm>() + index(layer, 0) * static_cast<size_t>(pageStride_);
}

int32_t* DeviceKvCache::unreadChunks(int layer) const {
  return format_.aligned > 0 ? unread_.as<int32_t>() + index(layer, 0) * static_cast<size_t>(unreadStride()) : nullptr;
}

// Of a layer whose blocks are chosen (Quest) nothing is told: what is chosen is read whole.
int64_t DeviceKvCache::unread(int layer) const {
  if (format_.aligned == 0 || newestPass_ != 1 || selects(layer) || ledger_.planning()) return 0;
  const auto stride = static_cast<size_t>(unreadStride());
  std::vector<int32_t> chunks(static_cast<size_t>(kvHeads_) * stride);
  unread_.copyTo(stream_, chunks.data(), chunks.size() * sizeof(int32_t), index(layer, 0) * stride * sizeof(int32_t));
  int64_t sum = 0;
  for (int head = 0; head < kvHeads_; ++head)
    for (int chunk = 0; chunk * kAttendChunk < slots(layer, head); ++chunk) sum += chunks[static_cast<size_t>(head) * stride + static_cast<size_t>(chunk)];
  return sum;
}

void DeviceKvCache::uploadTables() {
  if (!tablesStale_) return;
  std::vector<PageForm> forms;
  for (const Side side : {keys, values}) {
    tables_[side].copyFrom(stream_, hostTables_[side].data(), hostTables_[side].bytes());
    if (!mayBeSealed()) continue;
    forms.assign(pages_.size() * static_cast<size_t>(pageStride_), PageForm());
    for (size_t head = 0; head < pages_.size(); ++head)
      std::ranges::copy(pages_[head].sides[side].forms, forms.data() + head * static_cast<size_t>(pageStride_));
    formTables_[side].copyFrom(stream_, forms.data(), formTables_[side].bytes());
  }
  tablesStale_ = false;
}

// --- making pages --------------------------------------------------------------------------------------------------------

void DeviceKvCache::add(PageWork& work, const PagePlace& at, std::span<const int32_t> slots, const SealPlan& plan) {
  work.pages.push_back(page(plan.form));
  work.places.push_back(at);
  PageTask task;
  task.to = reinterpret_cast<uint64_t>(work.pages.back().as<char>());
  task.keys = at.side == keys;
  task.firstEntry = static_cast<int32_t>(at.head) * pageStride_;
  task.firstSlot = static_cast<int32_t>(work.slots.size());
  task.count = static_cast<int32_t>(slots.size());
  task.form = plan.form;
  std::ranges::copy(plan.from, task.from);
  (plan.form.sealed() ? work.toSeal : work.toOpen).push_back(work.tasks.size());
  work.tasks.push_back(task);
  work.slots.insert(work.slots.end(), slots.begin(), slots.end());
}

int DeviceKvCache::sealLater(PageWork& work, const PagePlace& at, std::span<const int32_t> slots, const PageForm& wanted) {
  std::vector<SlotSource> sources;
  for (const int32_t slot : slots) {
    const auto from = static_cast<size_t>(slot / pageTokens_);
    sources.push_back({reinterpret_cast<const void*>(address({at.head, at.side, from})), &listAt(at).forms[from], slot % pageTokens_});
  }
  const SealPlan plan = planSeal(shape(), sources, wanted);
  add(work, at, slots, plan);
  return plan.again;
}

std::vector<int32_t> DeviceKvCache::slotsOf(size_t page, int held) const {
  const int first = static_cast<int>(page) * pageTokens_;
  std::vector<int32_t> slots(static_cast<size_t>(std::clamp(held - first, 0, pageTokens_)));
  std::iota(slots.begin(), slots.end(), first);
  return slots;
}

void DeviceKvCache::carryOut(PageWork& work, bool hadamard) {
  if (work.tasks.empty()) return;
  std::vector<PageTask> ordered;
  for (const auto* list : {&work.toSeal, &work.toOpen})
    for (const size_t task : *list) ordered.push_back(work.tasks[task]);
  const size_t taskBytes = ordered.size() * sizeof(PageTask), slotBytes = work.slots.size() * sizeof(int32_t);
  const DeviceBuffer tasks(device_, MemoryTag::metadata, taskBytes), slots(device_, MemoryTag::metadata, slotBytes);
  tasks.copyFrom(stream_, ordered.data(), taskBytes);
  slots.copyFrom(stream_, work.slots.data(), slotBytes);
  PageArgs args;
  args.keys = tables_[keys].as<uint64_t>();
  args.values = tables_[values].as<uint64_t>();
  args.keyForms = formTables_[keys].as<PageForm>();
  args.valueForms = formTables_[values].as<PageForm>();
  args.pageTokens = pageTokens_;
  args.headDim = headDim_;
  args.slots = slots.as<int32_t>();
  args.tasks = tasks.as<PageTask>();
  if (!work.toSeal.empty()) sealPages(stream_, args, static_cast<int>(work.toSeal.size()));
  args.tasks += work.toSeal.size();
  if (!work.toOpen.empty()) openPages(stream_, args, static_cast<int>(work.toOpen.size()), hadamard);
  wait(stream_);  // what it read may now be freed
  for (size_t i = 0; i < work.places.size(); ++i) replace(work.places[i], std::move(work.pages[i]), work.tasks[i].form);
  work = PageWork();
}

// --- after a step, after an eviction -------------------------------------------------------------------------------------

void DeviceKvCache::planForms(size_t head, Side side, int slots) {
  const PageList& list = pages_[head].sides[side];
  const PageForm wanted = formOf(head, side);
  for (size_t p = 0; p < list.owners.size(); ++p) {
    const PageForm form = p < sealable(slots) ? wanted : PageForm();
    if (list.owners[p].bytes() != shape().bytes(form)) replace({head, side, p}, page(form), form);
  }
}

void DeviceKvCache::seal(ThreadPool&) {
  if (!format_.seals()) return;
  PageWork work;
  eachSide([&](size_t head, Side side, int held) {
    const PageForm wanted = formOf(head, side);
    if (!wanted.sealed()) return;
    if (ledger_.planning()) return planForms(head, side, held);
    for (size_t p = sealable(held); p-- > 0 && !pages_[head].sides[side].forms[p].sealed();)
      sealLater(work, {head, side, p}, slotsOf(p, held), wanted);
  });
  if (work.tasks.empty()) return;
  uploadTables();
  carryOut(work);
}

bool DeviceKvCache::gathersSealed(int layer, Side side) const {
  if (format_.form(side == keys, layer, shape()).sealed()) return true;
  const auto begin = pages_.begin() + static_cast<std::ptrdiff_t>(index(layer, 0));
  return std::any_of(begin, begin + kvHeads_, [&](const HeadPages& head) { return head.sides[side].anySealed(); });
}

void DeviceKvCache::planGather(PageWork& work, size_t head, Side side) {
  const std::vector<int32_t>& kept = pages_[head].slots;
  const auto tokens = static_cast<size_t>(pageTokens_);
  const PageForm wanted = formOf(head, side);
  const size_t full = sealable(static_cast<int>(kept.size()));
  size_t toSeal = wanted.sealed() ? full : 0;
  while (sealingHeld_ && toSeal > 0 && !pages_[head].sides[side].forms[static_cast<size_t>(kept[toSeal * tokens - 1]) / tokens].sealed()) --toSeal;
  for (size_t p = 0; p * tokens < kept.size(); ++p) {
    const auto own = std::span(kept).subspan(p * tokens, std::min(tokens, kept.size() - p * tokens));
    const bool moves = own.back() != static_cast<int32_t>(p * tokens + own.size() - 1);  // ascending: then all are where they were
    const bool sealed = pages_[head].sides[side].forms[p].sealed();
    if (p < toSeal) {
      if (!moves && sealed) continue;
      regrouped_ += sealLater(work, {head, side, p}, own, wanted);
    } else if (moves || (sealed && p >= full)) {
      add(work, {head, side, p}, own, SealPlan());
    }
  }
}

void DeviceKvCache::gatherSealed(int layer) {
  PageWork work;
  for (const Side side : {keys, values}) {
    if ((side == keys && !ownsKeys(layer)) || !gathersSealed(layer, side)) continue;
    for (int h = 0; h < kvHeads_; ++h)
      if (pages_[index(layer, h)].pending) planGather(work, index(layer, h), side);
  }
  carryOut(work);
}

// Slots were forgotten, or pages of another cache taken: one that is sealed and not full has to take new ones.
void DeviceKvCache::openNewest() {
  if (ledger_.planning() || !mayBeSealed()) return;
  PageWork work;
  eachSide([&](size_t head, Side side, int held) {
    PageList& list = pages_[head].sides[side];
    const auto full = static_cast<size_t>(held / pageTokens_);
    if (full < list.forms.size() && list.forms[full].sealed() && held % pageTokens_ > 0)
      add(work, {head, side, full}, slotsOf(full, held), SealPlan());
    const size_t used = pagesFor(held);
    if (used < list.forms.size() && list.forms[used].sealed()) list.shrink(used);
  });
  if (work.tasks.empty()) return;
  uploadTables();
  carryOut(work);
}

void DeviceKvCache::lengthsChanged() {
  lengthsStale_ = true;
  for (int layer = 0; layer < layers(); ++layer)
    for (int h = 0; h < kvHeads_; ++h) bounded_[index(layer, h)] = std::min(bounded_[index(layer, h)], slots(layer, h) / kBlock);
  openNewest();
}

// --- another format ------------------------------------------------------------------------------------------------------

// All keys of a cache are rotated or none is: queries are so as a whole.
void DeviceKvCache::rotateKeys(int layer) {
  PageWork open, again;
  std::vector<PagePlace> places;
  std::vector<PageForm> before;
  for (int h = 0; h < kvHeads_; ++h) {
    const size_t head = index(layer, h);
    const PageList& list = pages_[head].sides[keys];
    for (size_t p = 0; p < list.forms.size(); ++p) {
      const std::vector<int32_t> own = slotsOf(p, slots(layer, h));
      if (own.empty()) break;
      places.push_back({head, keys, p});
      before.push_back(list.forms[p]);
      add(open, places.back(), own, SealPlan());
    }
  }
  uploadTables();
  carryOut(open, true);
  for (size_t i = 0; i < places.size(); ++i)
    if (before[i].sealed()) sealLater(again, places[i], wholePage(places[i].page), before[i]);
  uploadTables();
  carryOut(again);
}

void DeviceKvCache::setFormat(const KvFormat& format, ThreadPool& pool) {
  if (format == format_) return;
  const bool turn = format.rotateKeys != format_.rotateKeys;
  format_ = format;
  if (format.seals()) makeFormTables();
  if (ledger_.planning()) return;
  unlike_ = false;
  if (turn) {
    queriesKept_ = 0;  // remembered ones are of the other kind
    for (int layer = 0; layer < layers(); ++layer) {
      if (!ownsKeys(layer)) continue;
      for (int h = 0; h < kvHeads_; ++h)  // sealed ones were rounded as they lay
        unlike_ = unlike_ || pages_[index(layer, h)].sides[keys].anySealed();
      rotateKeys(layer);
    }
  }
  PageWork work;
  eachSide([&](size_t head, Side side, int) {
    const PageList& list = pages_[head].sides[side];
    const PageForm wanted = formOf(head, side);
    for (size_t p = 0; p < list.forms.size() && list.forms[p].sealed(); ++p) {
      const bool narrower = narrows(list.forms[p], wanted);
      if (narrower) sealLater(work, {head, side, p}, wholePage(p), wanted);
      else if (list.forms[p].planes != Planes::none && !wanted.sealed()) add(work, {head, side, p}, wholePage(p), SealPlan());
      unlike_ = unlike_ || lostMore(narrower ? work.tasks.back().form : list.forms[p], wanted);
    }
  });
  uploadTables();
  carryOut(work);
  if (!sealingHeld_) seal(pool);
}

// --- figures -------------------------------------------------------------------------------------------------------------

int64_t DeviceKvCache::sideBytes(int layer, int head, bool ofKeys) const {
  return winnow::liveBytes(shape(), pages_[index(layer, head)].sides[ofKeys ? keys : values].forms, slots(layer, head));
}

int64_t DeviceKvCache::allocatedBytes() const {
  int64_t sum = 0;
  for (const HeadPages& head : pages_)
    for (const PageList& list : head.sides)
      for (const DeviceBuffer& page : list.owners) sum += static_cast<int64_t>(page.bytes());
  return sum;
}

int64_t DeviceKvCache::unsealedBytes() const {
  int64_t sum = 0;
  for (size_t head = 0; head < pages_.size(); ++head)
    for (const Side side : {keys, values}) {
      const PageList& list = pages_[head].sides[side];
      if (formOf(head, side).bits == 16) continue;
      for (size_t p = 0; p < list.owners.size(); ++p)
        if (!list.forms[p].sealed()) sum += static_cast<int64_t>(list.owners[p].bytes());
    }
  return sum;
}

}  // namespace winnow::cuda
