// SPDX-License-Identifier: GPL-3.0-or-later
// Sealed pages of the host's cache: sealing after a step, another format, eviction.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "engine/cache/seal.h"
#include "engine/core/check.h"
#include "engine/core/dtype.h"
#include "engine/cpu/kv_cache.h"

namespace winnow::cpu {

void HostKvCache::Side::resize(size_t count) {
  touched = std::min(touched, count);
  if (pages.size() <= count) return;
  owners.erase(owners.begin() + static_cast<std::ptrdiff_t>(count), owners.end());
  pages.resize(count);
  forms.resize(count);
}

void HostKvCache::Side::replace(size_t page, Buffer buffer, const PageForm& form) {
  touched = std::min(touched, page);
  owners[page] = std::move(buffer);
  pages[page] = owners[page].as<uint16_t>();
  forms[page] = form;
}

template <class Body>
void HostKvCache::eachSide(Body body) {
  for (int layer = 0; layer < layers(); ++layer)
    for (int head = 0; head < kvHeads_; ++head)
      for (const bool keys : {true, false})
        if (!keys || ownsKeys(layer)) body(pagesAt(layer, head).side(keys), formOf(keys, layer), slots(layer, head));
}

int HostKvCache::sealSide(Side& side, const PageForm& wanted, size_t page, std::span<const int32_t> slots) {
  std::vector<SlotSource> sources;
  for (const int32_t slot : slots) {
    const auto from = static_cast<size_t>(slot / pageTokens_);
    sources.push_back({side.pages[from], &side.forms[from], slot % pageTokens_});
  }
  const SealPlan plan = planSeal(shape(), sources, wanted);
  Buffer packed = this->page(plan.form);
  winnow::seal(shape(), sources, plan, packed.data());
  side.replace(page, std::move(packed), plan.form);
  return plan.again;
}

// Sources lie at or behind the page, so rows of an f16 page move within it.
void HostKvCache::openPage(Side& side, size_t page, std::span<const int32_t> slots) {
  const bool inPlace = !side.forms[page].sealed() && side.owners[page].bytes() > 0;
  Buffer fresh = inPlace ? Buffer() : this->page();
  uint16_t* to = inPlace ? side.owners[page].as<uint16_t>() : fresh.as<uint16_t>();
  std::vector<uint16_t> row(static_cast<size_t>(headDim_));
  for (const int32_t slot : slots) {
    const auto from = static_cast<size_t>(slot / pageTokens_);
    readSlot(shape(), {side.pages[from], &side.forms[from], slot % pageTokens_}, row.data());
    std::memcpy(to, row.data(), row.size() * sizeof(uint16_t));
    to += headDim_;
  }
  if (!inPlace) side.replace(page, std::move(fresh), {});
}

void HostKvCache::gatherSealed(Side& side, const PageForm& wanted, std::span<const int32_t> slots) {
  const auto tokens = static_cast<size_t>(pageTokens_);
  size_t toSeal = wanted.sealed() ? sealable(static_cast<int>(slots.size())) : 0;
  while (sealingHeld_ && toSeal > 0 && !side.forms[static_cast<size_t>(slots[toSeal * tokens - 1]) / tokens].sealed()) --toSeal;
  for (size_t page = 0; page * tokens < slots.size(); ++page) {
    const auto own = slots.subspan(page * tokens, std::min(tokens, slots.size() - page * tokens));
    const bool moves = own.back() != static_cast<int32_t>(page * tokens + own.size() - 1);  // ascending: then all are where they were
    if (page < toSeal) {
      if (moves || !side.forms[page].sealed()) regrouped_.fetch_add(sealSide(side, wanted, page, own), std::memory_order_relaxed);
    } else if (moves || (side.forms[page].sealed() && page >= sealable(static_cast<int>(slots.size())))) {
      openPage(side, page, own);
    }
  }
}

void HostKvCache::planForms(Side& side, const PageForm& wanted, int slots) {
  for (size_t page = 0; page < side.pages.size(); ++page) {
    const PageForm form = page < sealable(slots) ? wanted : PageForm();
    if (side.owners[page].bytes() != shape().bytes(form)) side.replace(page, this->page(form), form);
  }
}

void HostKvCache::sealDue(Side& side, const PageForm& wanted, int slots) {
  std::vector<int32_t> own(static_cast<size_t>(pageTokens_));
  for (size_t page = sealable(slots); page-- > 0 && !side.forms[page].sealed();) {
    std::iota(own.begin(), own.end(), static_cast<int32_t>(page) * pageTokens_);
    sealSide(side, wanted, page, own);
  }
}

void HostKvCache::seal(ThreadPool& pool) {
  if (!format_.seals()) return;
  if (ledger_.planning())
    return eachSide([&](Side& side, const PageForm& wanted, int slots) {
      if (wanted.sealed()) planForms(side, wanted, slots);
    });
  struct Due {
    Side* side;
    PageForm wanted;
    int slots;
  };
  std::vector<Due> due;
  eachSide([&](Side& side, const PageForm& wanted, int slots) {
    const size_t full = sealable(slots);
    if (wanted.sealed() && full > 0 && !side.forms[full - 1].sealed()) due.push_back({&side, wanted, slots});
  });
  if (due.empty()) return;
  pool.run([&](int thread, int threads) {
    const auto range = ThreadPool::split(static_cast<int64_t>(due.size()), 1, thread, threads);
    for (int64_t i = range.begin; i < range.end; ++i) {
      const Due& one = due[static_cast<size_t>(i)];
      sealDue(*one.side, one.wanted, one.slots);
    }
  });
}

void HostKvCache::reseal(Side& side, const PageForm& wanted) {
  std::vector<int32_t> own(static_cast<size_t>(pageTokens_));
  for (size_t page = 0; page < side.pages.size() && side.forms[page].sealed(); ++page) {
    if (narrows(side.forms[page], wanted)) {
      std::iota(own.begin(), own.end(), static_cast<int32_t>(page) * pageTokens_);
      sealSide(side, wanted, page, own);
    }
    else if (side.forms[page].planes != Planes::none && !wanted.sealed()) {
      std::iota(own.begin(), own.end(), static_cast<int32_t>(page) * pageTokens_);
      openPage(side, page, own);
    }
    unlike_ = unlike_ || lostMore(side.forms[page], wanted);
  }
}

// All keys of a cache are rotated or none is: queries are so as a whole.
void HostKvCache::rotateKeys(Side& side) {
  const PageForm f16;
  std::vector<float> row(static_cast<size_t>(headDim_));
  for (size_t page = 0; page < side.pages.size(); ++page) {
    const PageForm was = side.forms[page];
    Buffer open = this->page();
    auto* to = open.as<uint16_t>();
    std::vector<SlotSource> sources;
    for (int slot = 0; slot < pageTokens_; ++slot, to += headDim_) {
      readSlot(shape(), {side.pages[page], &was, slot}, to);
      std::transform(to, to + headDim_, row.begin(), f16ToFloat);
      rotateHadamard(row.data(), headDim_);
      std::transform(row.begin(), row.end(), to, floatToF16);
      sources.push_back({open.data(), &f16, slot});
    }
    if (!was.sealed()) {
      side.replace(page, std::move(open), f16);
      continue;
    }
    const SealPlan plan = planSeal(shape(), sources, was);
    Buffer packed = this->page(plan.form);
    winnow::seal(shape(), sources, plan, packed.data());
    side.replace(page, std::move(packed), plan.form);
  }
}

void HostKvCache::setFormat(const KvFormat& format, ThreadPool& pool) {
  if (format == format_) return;
  const bool turn = format.rotateKeys != format_.rotateKeys;
  format_ = format;
  if (ledger_.planning()) return;
  unlike_ = false;
  if (turn) queriesKept_ = 0;  // remembered ones are of the other kind
  for (int layer = 0; turn && layer < layers(); ++layer)
    for (int head = 0; head < kvHeads_ && ownsKeys(layer); ++head) {
      unlike_ = unlike_ || pagesAt(layer, head).keys.anySealed();  // sealed keys were rounded as they lay
      rotateKeys(pagesAt(layer, head).keys);
    }
  eachSide([&](Side& side, const PageForm& wanted, int) { reseal(side, wanted); });
  if (!sealingHeld_) seal(pool);
}

int64_t HostKvCache::sideBytes(int layer, int head, bool keys) const {
  return winnow::liveBytes(shape(), pagesAt(layer, head).side(keys).forms, slots(layer, head));
}

int64_t HostKvCache::allocatedBytes() const {
  int64_t sum = 0;
  for (const LayerPages& layer : pages_)
    for (const HeadPages& head : layer.heads)
      for (const bool keys : {true, false})
        for (const Buffer& page : head.side(keys).owners) sum += static_cast<int64_t>(page.bytes());
  return sum;
}

int64_t HostKvCache::unsealedBytes() const {
  int64_t sum = 0;
  for (int layer = 0; layer < layers(); ++layer)
    for (int head = 0; head < kvHeads_; ++head)
      for (const bool keys : {true, false}) {
        const Side& side = pagesAt(layer, head).side(keys);
        if (format_.bits(keys, layer) == 16) continue;
        for (size_t page = 0; page < side.owners.size(); ++page)
          if (!side.forms[page].sealed()) sum += static_cast<int64_t>(side.owners[page].bytes());
      }
  return sum;
}

// Slots were forgotten: a page that was sealed and is no longer full has to take new ones.
void HostKvCache::lengthsChanged() {
  for (int layer = 0; layer < layers(); ++layer)
    for (int head = 0; head < kvHeads_; ++head) {
      HeadPages& own = pagesAt(layer, head);
      own.bounded = std::min(own.bounded, slots(layer, head) / kBlock);
      for (const bool keys : {true, false}) {
        Side& side = own.side(keys);
        const int held = slots(layer, head), rest = held % pageTokens_;
        size_t full = static_cast<size_t>(held / pageTokens_);
        if (full < side.pages.size() && side.forms[full].sealed() && rest > 0) {
          std::vector<int32_t> kept(static_cast<size_t>(rest));
          std::iota(kept.begin(), kept.end(), static_cast<int32_t>(full) * pageTokens_);
          openPage(side, full, kept);
        }
        full = pagesFor(held);
        if (full < side.pages.size() && side.forms[full].sealed()) side.resize(full);
      }
    }
}

}  // namespace winnow::cpu
