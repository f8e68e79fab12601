// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cache/seal.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "engine/cache/codes.h"
#include "engine/cache/kv_format.h"
#include "engine/core/check.h"
#include "engine/core/dtype.h"

namespace winnow {
namespace {

int setOf(const SlotSource& source) {
  int set = 0;
  while (source.slot >= source.form->ends[set]) ++set;
  return set;
}

const uint8_t* codesOf(const PageShape& shape, const SlotSource& source) {
  return static_cast<const uint8_t*>(source.page) + static_cast<size_t>(source.slot) * shape.rowBytes(source.form->bits);
}
const uint16_t* scalesOf(const PageShape& shape, const SlotSource& source) {  // per token: of this slot; per channel: of its set
  const auto* scales = reinterpret_cast<const uint16_t*>(static_cast<const uint8_t*>(source.page) + shape.codeBytes(source.form->bits));
  const int at = source.form->sets > 0 ? setOf(source) * shape.headDim : source.slot * shape.groups();
  return scales + int64_t{at} * 2;
}

// Codes of a group: value = code * scale + min.
struct Grid {
  uint16_t scaleBits, minBits;
  float scale, min, top;
  Grid(float low, float high, int bits) : top(static_cast<float>((1 << bits) - 1)) {
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

void sealPerToken(const PageShape& shape, std::span<const SlotSource> slots, int bits, uint8_t* codes, uint16_t* scales) {
  const size_t rowBytes = shape.rowBytes(bits), scaleCount = static_cast<size_t>(shape.groups()) * 2;
  std::vector<uint16_t> row(static_cast<size_t>(shape.headDim));
  std::vector<float> values(row.size());
  std::vector<uint8_t> rounded(row.size());
  for (const SlotSource& source : slots) {
    if (source.form->bits == bits && source.form->sets == 0) {
      std::memcpy(codes, codesOf(shape, source), rowBytes);
      std::memcpy(scales, scalesOf(shape, source), scaleCount * sizeof(uint16_t));
    } else {
      readSlot(shape, source, row.data());
      std::transform(row.begin(), row.end(), values.begin(), f16ToFloat);
      for (int g = 0; g < shape.groups(); ++g) {
        const auto begin = values.begin() + g * shape.group(), end = begin + shape.group();
        const auto [low, high] = std::minmax_element(begin, end);
        const Grid grid(*low, *high, bits);
        std::transform(begin, end, rounded.begin() + g * shape.group(), [&](float x) { return grid.code(x); });
        scales[2 * g] = grid.scaleBits;
        scales[2 * g + 1] = grid.minBits;
      }
      packRow(shape, rounded.data(), bits, codes);
    }
    codes += rowBytes;
    scales += scaleCount;
  }
}

// One set of fresh scales for some slots.
void sealSet(const PageShape& shape, std::span<const SlotSource> slots, int bits, uint8_t* codes, uint16_t* scales) {
  const auto n = static_cast<size_t>(shape.headDim);
  std::vector<uint16_t> row(n);
  std::vector<float> values(slots.size() * n), low(n, INFINITY), high(n, -INFINITY);
  for (size_t s = 0; s < slots.size(); ++s) {
    readSlot(shape, slots[s], row.data());
    for (size_t c = 0; c < n; ++c) {
      const float x = values[s * n + c] = f16ToFloat(row[c]);
      low[c] = std::min(low[c], x);
      high[c] = std::max(high[c], x);
    }
  }
  std::vector<Grid> grids;
  for (size_t c = 0; c < n; ++c) {
    grids.emplace_back(low[c], high[c], bits);
    scales[c] = grids[c].scaleBits;
    scales[n + c] = grids[c].minBits;
  }
  std::vector<uint8_t> rounded(n);
  for (size_t s = 0; s < slots.size(); ++s, codes += shape.rowBytes(bits)) {
    for (size_t c = 0; c < n; ++c) rounded[c] = grids[c].code(values[s * n + c]);
    packRow(shape, rounded.data(), bits, codes);
  }
}

}  // namespace

void readSlot(const PageShape& shape, const SlotSource& source, uint16_t* out) {
  const int n = shape.headDim, bits = source.form->bits;
  if (!source.form->sealed()) {
    std::memcpy(out, static_cast<const uint16_t*>(source.page) + int64_t{source.slot} * n, static_cast<size_t>(n) * sizeof(uint16_t));
    return;
  }
  const uint8_t* codes = codesOf(shape, source);
  const uint16_t* scales = scalesOf(shape, source);
  const bool perChannel = source.form->sets > 0;
  for (int i = 0; i < n; ++i) {
    const int group = i / shape.group(), at = perChannel ? i : 2 * group;
    const int code = codeAt(bits, codes + group * shape.group() * bits / 8, shape.group(), i % shape.group());
    const float scale = f16ToFloat(scales[at]), min = f16ToFloat(scales[perChannel ? n + at : at + 1]);
    out[i] = floatToF16(static_cast<float>(code) * scale + min);  // the product is exact
  }
}

void widen(std::span<const uint16_t> row, float* out) { std::ranges::transform(row, out, f16ToFloat); }

SealPlan planSeal(const PageShape& shape, std::span<const SlotSource> slots, int bits, bool perChannel) {
  CHECK(static_cast<int>(slots.size()) == shape.tokens, slots.size(), shape.tokens);
  SealPlan plan;
  plan.form.bits = static_cast<uint8_t>(bits);
  const auto kept = [&](const SlotSource& s) { return s.form->bits == bits && (s.form->sets > 0) == perChannel; };
  for (const SlotSource& source : slots) plan.again += source.form->sealed() && !kept(source);
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
  plan.again = static_cast<int>(std::ranges::count_if(slots, [](const SlotSource& s) { return s.form->sealed(); }));
  return plan;
}

void seal(const PageShape& shape, std::span<const SlotSource> slots, const SealPlan& plan, void* out) {
  const int bits = plan.form.bits;
  auto* codes = static_cast<uint8_t*>(out);
  auto* scales = reinterpret_cast<uint16_t*>(codes + shape.codeBytes(bits));
  if (plan.form.sets == 0) return sealPerToken(shape, slots, bits, codes, scales);
  const size_t scaleCount = static_cast<size_t>(shape.headDim) * 2, rowBytes = shape.rowBytes(bits);
  size_t first = 0;
  for (size_t set = 0; set < plan.form.sets; ++set, scales += scaleCount) {
    const auto own = slots.subspan(first, plan.form.ends[set] - first);
    uint8_t* to = codes + first * rowBytes;
    first = plan.form.ends[set];
    if (plan.from[set] < 0) {
      sealSet(shape, own, bits, to, scales);
      continue;
    }
    std::memcpy(scales, scalesOf(shape, own.front()), scaleCount * sizeof(uint16_t));
    for (const SlotSource& source : own) {
      std::memcpy(to, codesOf(shape, source), rowBytes);
      to += rowBytes;
    }
  }
}

int64_t liveBytes(const PageShape& shape, std::span<const PageForm> pages, int held) {
  int64_t sum = 0, sealedSlots = 0;
  for (const PageForm& form : pages) {
    if (!form.sealed()) break;
    KvFormat nominal;
    nominal.keyBits = form.bits;
    nominal.keysPerChannel = form.sets > 0;
    sum += static_cast<int64_t>(shape.bytes(nominal.form(true, shape)));
    sealedSlots += shape.tokens;
  }
  return sum + (held - sealedSlots) * shape.headDim * static_cast<int64_t>(sizeof(uint16_t));
}

}  // namespace winnow
