// SPDX-License-Identifier: GPL-3.0-or-later
// Packing rows into sealed pages and back, row by row; kernels read sealed pages a page at a time. Rounding is to nearest even with the
// scale as it is stored (f16), so |x - x'| <= scale / 2 plus the f16 rounding of scale and result; outliers, and rows in planes, are as they were.
#pragma once
#include <array>
#include <cstdint>
#include <span>

#include "engine/cache/page_form.h"

namespace winnow {

// A slot of a page, sealed or not.
struct SlotSource {
  const void* page;
  const PageForm* form;
  int slot;
};

void readSlot(const PageShape& shape, const SlotSource& source, uint16_t* out /* f16 [headDim] */);
void widen(std::span<const uint16_t> row, float* out /* [row.size()] */);  // f16; nvcc knows no _Float16

// What becomes of the slots of a full page. Slots that are sealed in the same form already keep their codes and scales; only where that
// would need more sets than a page may have (mostSets) are all of them grouped anew.
struct SealPlan {
  PageForm form;
  std::array<int, kMostSets> from{};  // set of the source that is kept, or -1
  int again = 0;                      // slots rounded though they had been rounded before
};
// `wanted`: the form of a page sealed at once, or one that was.
SealPlan planSeal(const PageShape& shape, std::span<const SlotSource> slots /* [tokens] */, const PageForm& wanted);
void seal(const PageShape& shape, std::span<const SlotSource> slots, const SealPlan& plan, void* out /* bytes(plan.form) */);

// Of a sealed page: fewer bits take hold of what is there; more bits would only store the same loss in more bytes.
bool narrows(const PageForm& form, const PageForm& wanted);
bool lostMore(const PageForm& form, const PageForm& wanted);  // or otherwise

// Of the `held` slots of a head's keys or values, whose oldest pages are sealed first; sealed ones with as many sets as a fresh page has.
int64_t liveBytes(const PageShape& shape, std::span<const PageForm> pages, int held);

}  // namespace winnow
