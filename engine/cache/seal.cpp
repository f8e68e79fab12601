// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cache/seal.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>
#include <vector>

#include "engine/cache/codes.h"
#include "engine/cache/outliers.h"
#include "engine/cache/planes.h"
#include "engine/core/check.h"
#include "engine/core/dtype.h"

namespace winnow {
namespace {

int setOf(const SlotSource& source) {
  int set = 0;
  while (source.slot >= source.form->ends[set]) ++set;
  return set;
}

// Where the parts of a sealed page begin.
template <class Byte, class Half, class Word>
struct Parts {
  Byte* codes;
  Half* scales;
  Word* outliers;
  Parts(const PageShape& shape, const PageForm& form, Byte* page)
      : codes(page), scales(reinterpret_cast<Half*>(page + shape.codeBytes(form.bits))),
        outliers(reinterpret_cast<Word*>(page + shape.codeBytes(form.bits) + shape.scaleBytes(form))) {}
};
using PageParts = Parts<uint8_t, uint16_t, uint32_t>;

struct RowParts : Parts<const uint8_t, const uint16_t, const uint32_t> {  // of a slot
  RowParts(const PageShape& shape, const SlotSource& source) : Parts(shape, *source.form, static_cast<const uint8_t*>(source.page)) {
    const PageForm& form = *source.form;
    codes += static_cast<size_t>(source.slot) * shape.rowBytes(form.bits);
    scales += int64_t{form.sets > 0 ? setOf(source) * shape.headDim : source.slot * shape.groups()} * 2;  // per channel those of its set
    outliers += source.slot * form.outliers;
  }
};

// Codes of a group: value = code * scale + min.
struct Grid {
  uint16_t scaleBits, minBits;
  float scale, min, top;
  Grid(float low, float high, int bits) : top(static_cast<float>((1 << bits) - 1)) {
    if (low > high) low = high = 0;  // all are outliers
    scaleBits = floatToF16((high - low) / top);
    minBits = floatToF16(low);  // exact: rows are f16
    scale = f16ToFloat(scaleBits);
    min = f16ToFloat(minBits);
  }
  uint8_t code(float value) const {
    const float steps = (value - min) / scale;
    if (!(steps > 0)) return 0;  // a constant group as well
    return static_cast<uint8_t>(std::nearbyintf(std::min(steps, top)));
  }
};

void packRow(const PageShape& shape, const uint8_t* codes, int bits, uint8_t* out) {
  std::memset(out, 0, shape.rowBytes(bits));
  for (int g = 0; g < shape.groups(); ++g, out += shape.group() * bits / 8)
    for (int i = 0; i < shape.group(); ++i) putCode(bits, out, shape.group(), i, *codes++);
}

bool isIn(std::span<const uint32_t> outliers, size_t component) {
  return std::ranges::any_of(outliers, [component](uint32_t outlier) { return outlier >> 16 == component; });
}

// A row is told from the others by groups of neighbours.
void pickFromRow(const PageShape& shape, std::span<const float> row, std::span<uint32_t> picked) {
  for (size_t i = 0; i < picked.size(); ++i) {
    OutlierChoice best;
    for (int begin = 0; begin < shape.headDim; begin += shape.group()) {
      RangeEnds ends;
      for (int c = begin; c < begin + shape.group(); ++c) {
        if (isIn(picked.first(i), static_cast<size_t>(c))) continue;
        best.fallBack(c);
        ends.add(row[static_cast<size_t>(c)], c);
      }
      best.offer(ends.lowAt, ends.withoutLow());
      best.offer(ends.highAt, ends.withoutHigh());
    }
    picked[i] = outlierWord(floatToF16(row[static_cast<size_t>(best.at)]), best.at);  // exact: rows are f16
  }
}

// All rows of a set pick one, then another: what one has picked no longer widens the channel.
void pickFromSet(size_t n, std::span<const float> values /* [slots, n] */, size_t each, uint32_t* picked /* [slots, each] */) {
  const size_t slots = values.size() / n;
  for (size_t round = 0; round < each; ++round) {
    std::vector<RangeEnds> ends(n);
    const auto taken = [&](size_t slot, size_t c) { return isIn({picked + slot * each, round}, c); };
    for (size_t slot = 0; slot < slots; ++slot)
      for (size_t c = 0; c < n; ++c)
        if (!taken(slot, c)) ends[c].add(values[slot * n + c], static_cast<int>(slot));
    for (size_t slot = 0; slot < slots; ++slot) {
      OutlierChoice best;
      for (size_t c = 0; c < n; ++c) {
        if (taken(slot, c)) continue;
        const auto at = static_cast<int>(c), own = static_cast<int>(slot);
        best.fallBack(at);
        if (ends[c].lowAt == own) best.offer(at, ends[c].withoutLow());
        if (ends[c].highAt == own) best.offer(at, ends[c].withoutHigh());
      }
      picked[slot * each + round] = outlierWord(floatToF16(values[slot * n + static_cast<size_t>(best.at)]), best.at);
    }
  }
}

void sealPerToken(const PageShape& shape, std::span<const SlotSource> slots, const PageForm& form, PageParts out) {
  const size_t rowBytes = shape.rowBytes(form.bits), scaleCount = static_cast<size_t>(shape.groups()) * 2, each = form.outliers;
  std::vector<uint16_t> row(static_cast<size_t>(shape.headDim));
  std::vector<float> values(row.size());
  std::vector<uint8_t> rounded(row.size());
  for (const SlotSource& source : slots) {
    if (source.form->bits == form.bits && source.form->sets == 0 && source.form->outliers == form.outliers) {
      const RowParts from(shape, source);
      std::memcpy(out.codes, from.codes, rowBytes);
      std::memcpy(out.scales, from.scales, scaleCount * sizeof(uint16_t));
      std::copy_n(from.outliers, each, out.outliers);
    } else {
      readSlot(shape, source, row.data());
      std::transform(row.begin(), row.end(), values.begin(), f16ToFloat);
      const std::span<uint32_t> picked(out.outliers, each);
      pickFromRow(shape, values, picked);
      for (int g = 0; g < shape.groups(); ++g) {
        float low = INFINITY, high = -INFINITY;
        for (int c = g * shape.group(); c < (g + 1) * shape.group(); ++c) {
          const float x = values[static_cast<size_t>(c)];
          if (isIn(picked, static_cast<size_t>(c))) continue;
          if (x < low) low = x;
          if (!(x < high)) high = x;  // the last of the largest
        }
        const Grid grid(low, high, form.bits);
        std::transform(values.begin() + g * shape.group(), values.begin() + (g + 1) * shape.group(), rounded.begin() + g * shape.group(),
                       [&](float x) { return grid.code(x); });
        out.scales[2 * g] = grid.scaleBits;
        out.scales[2 * g + 1] = grid.minBits;
      }
      packRow(shape, rounded.data(), form.bits, out.codes);
    }
    out.codes += rowBytes;
    out.scales += scaleCount;
    out.outliers += each;
  }
}

PlaneRuns runsOf(const PageShape& shape, const PageForm& form) { return {shape.tokens, shape.headDim, form.planes == Planes::byChannel}; }

void split(const PageShape& shape, std::span<const SlotSource> slots, const PageForm& form, uint8_t* out) {
  const PlaneRuns at = runsOf(shape, form);
  std::memset(out, 0, shape.bytes(form));
  std::vector<uint16_t> row(static_cast<size_t>(shape.headDim));
  for (int slot = 0; slot < shape.tokens; ++slot) {
    readSlot(shape, slots[static_cast<size_t>(slot)], row.data());
    for (int c = 0; c < shape.headDim; ++c) {
      const bool byChannel = form.planes == Planes::byChannel;
      const uint16_t value = row[static_cast<size_t>(c)];
      const int run = byChannel ? c : slot, i = byChannel ? slot : c, half = at.along / 2, shift = i < half ? 0 : 4;
      out[run * at.along + i] = static_cast<uint8_t>(value >> 8);
      uint8_t& middle = out[at.nibbles(run, false) + i % half];
      uint8_t& low = out[at.nibbles(run, true) + i % half];
      middle = static_cast<uint8_t>(middle | (value >> 4 & 15) << shift);
      low = static_cast<uint8_t>(low | (value & 15) << shift);
      uint8_t& largest = out[at.largest() + c];
      largest = std::max(largest, static_cast<uint8_t>(exponentOfHalf(value)));
    }
  }
}

// One set of fresh scales for some slots.
void sealSet(const PageShape& shape, std::span<const SlotSource> slots, const PageForm& form, PageParts out) {
  const auto n = static_cast<size_t>(shape.headDim);
  const size_t each = form.outliers;
  std::vector<uint16_t> rows(slots.size() * n);
  std::vector<float> values(rows.size()), low(n, INFINITY), high(n, -INFINITY);
  for (size_t s = 0; s < slots.size(); ++s) readSlot(shape, slots[s], rows.data() + s * n);
  std::ranges::transform(rows, values.begin(), f16ToFloat);
  pickFromSet(n, values, each, out.outliers);
  for (size_t s = 0; s < slots.size(); ++s) {
    const std::span<const uint32_t> picked(out.outliers + s * each, each);
    for (size_t c = 0; c < n; ++c) {
      if (isIn(picked, c)) continue;
      low[c] = std::min(low[c], values[s * n + c]);
      high[c] = std::max(high[c], values[s * n + c]);
    }
  }
  std::vector<Grid> grids;
  for (size_t c = 0; c < n; ++c) {
    grids.emplace_back(low[c], high[c], form.bits);
    out.scales[c] = grids[c].scaleBits;
    out.scales[n + c] = grids[c].minBits;
  }
  std::vector<uint8_t> rounded(n);
  for (size_t s = 0; s < slots.size(); ++s, out.codes += shape.rowBytes(form.bits)) {
    for (size_t c = 0; c < n; ++c) rounded[c] = grids[c].code(values[s * n + c]);
    packRow(shape, rounded.data(), form.bits, out.codes);
  }
}

}  // namespace

void readSlot(const PageShape& shape, const SlotSource& source, uint16_t* out) {
  const int n = shape.headDim, bits = source.form->bits;
  if (!source.form->sealed()) {
    std::memcpy(out, static_cast<const uint16_t*>(source.page) + int64_t{source.slot} * n, static_cast<size_t>(n) * sizeof(uint16_t));
    return;
  }
  if (bits == 16) {
    const PlaneRuns at = runsOf(shape, *source.form);
    const bool byChannel = source.form->planes == Planes::byChannel;
    for (int c = 0; c < n; ++c) out[c] = planeValue(static_cast<const uint8_t*>(source.page), at, byChannel ? c : source.slot, byChannel ? source.slot : c, 16);
    return;
  }
  const RowParts row(shape, source);
  const bool perChannel = source.form->sets > 0;
  for (int i = 0; i < n; ++i) {
    const int group = i / shape.group(), at = perChannel ? i : 2 * group;
    const int code = codeAt(bits, row.codes + group * shape.group() * bits / 8, shape.group(), i % shape.group());
    const float scale = f16ToFloat(row.scales[at]), min = f16ToFloat(row.scales[perChannel ? n + at : at + 1]);
    out[i] = floatToF16(static_cast<float>(code) * scale + min);  // the product is exact
  }
  for (int i = 0; i < source.form->outliers; ++i) out[row.outliers[i] >> 16] = static_cast<uint16_t>(row.outliers[i]);
}

void widen(std::span<const uint16_t> row, float* out) { std::ranges::transform(row, out, f16ToFloat); }

bool narrows(const PageForm& form, const PageForm& wanted) {
  return form.bits > wanted.bits || (form.bits == wanted.bits && form.outliers > wanted.outliers);
}
bool lostMore(const PageForm& form, const PageForm& wanted) {
  return std::tie(form.bits, form.outliers) < std::tie(wanted.bits, wanted.outliers) || (form.sets > 0) != (wanted.sets > 0);
}

SealPlan planSeal(const PageShape& shape, std::span<const SlotSource> slots, const PageForm& wanted) {
  CHECK(static_cast<int>(slots.size()) == shape.tokens, slots.size(), shape.tokens);
  const bool perChannel = wanted.sets > 0;
  SealPlan plan;
  plan.form.bits = wanted.bits;
  plan.form.outliers = wanted.outliers;
  plan.form.planes = wanted.planes;
  if (wanted.bits == 16) return plan;  // as they were
  const auto kept = [&](const SlotSource& s) {
    return s.form->bits == wanted.bits && (s.form->sets > 0) == perChannel && s.form->outliers == wanted.outliers;
  };
  for (const SlotSource& source : slots) plan.again += source.form->bits < 16 && !kept(source);
  if (!perChannel) return plan;
  const auto add = [&](size_t end, int from) {
    if (plan.form.sets < shape.mostSets()) {
      plan.from[plan.form.sets] = from;
      plan.form.ends[plan.form.sets] = static_cast<uint8_t>(end);
    }
    ++plan.form.sets;
  };
  for (size_t i = 0; i < slots.size();) {
    size_t end = i + 1;
    if (kept(slots[i])) {
      const int set = setOf(slots[i]);
      while (end < slots.size() && slots[end].page == slots[i].page && setOf(slots[end]) == set) ++end;
      add(end, set);
    } else {
      while (end < slots.size() && end - i < static_cast<size_t>(shape.setTokens()) && !kept(slots[end])) ++end;
      add(end, -1);
    }
    i = end;
  }
  if (plan.form.sets <= shape.mostSets()) return plan;
  plan.form.sets = 0;
  for (int end = shape.setTokens(); end <= shape.tokens; end += shape.setTokens()) add(static_cast<size_t>(end), -1);
  plan.again = static_cast<int>(std::ranges::count_if(slots, [](const SlotSource& s) { return s.form->bits < 16; }));
  return plan;
}

void seal(const PageShape& shape, std::span<const SlotSource> slots, const SealPlan& plan, void* out) {
  const PageForm& form = plan.form;
  if (form.bits == 16) return split(shape, slots, form, static_cast<uint8_t*>(out));
  const PageParts whole(shape, form, static_cast<uint8_t*>(out));
  if (form.sets == 0) return sealPerToken(shape, slots, form, whole);
  const size_t scaleCount = static_cast<size_t>(shape.headDim) * 2, rowBytes = shape.rowBytes(form.bits), each = form.outliers;
  size_t first = 0;
  for (size_t set = 0; set < form.sets; ++set) {
    const auto own = slots.subspan(first, form.ends[set] - first);
    PageParts to = whole;
    to.codes += first * rowBytes;
    to.scales += set * scaleCount;
    to.outliers += first * each;
    first = form.ends[set];
    if (plan.from[set] < 0) {
      sealSet(shape, own, form, to);
      continue;
    }
    std::memcpy(to.scales, RowParts(shape, own.front()).scales, scaleCount * sizeof(uint16_t));
    for (const SlotSource& source : own) {
      const RowParts from(shape, source);
      std::memcpy(to.codes, from.codes, rowBytes);
      std::copy_n(from.outliers, each, to.outliers);
      to.codes += rowBytes;
      to.outliers += each;
    }
  }
}

int64_t liveBytes(const PageShape& shape, std::span<const PageForm> pages, int held) {
  int64_t sum = 0, sealedSlots = 0;
  for (const PageForm& form : pages) {
    if (!form.sealed()) break;
    PageForm nominal = form;
    if (form.sets > 0) nominal.sets = static_cast<uint8_t>(shape.tokens / shape.setTokens());
    sum += static_cast<int64_t>(shape.bytes(nominal));
    sealedSlots += shape.tokens;
  }
  return sum + (held - sealedSlots) * shape.headDim * static_cast<int64_t>(sizeof(uint16_t));
}

}  // namespace winnow
