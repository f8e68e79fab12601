// SPDX-License-Identifier: GPL-3.0-or-later
// How one page of keys or values lies in memory: f16 rows [tokens, headDim], or *sealed*: unsigned codes, value = code * scale + min, with
// f16 scales and minimums after the codes. Included by kernel files, so nothing of std::.
//   codes       [tokens][groups][group * bits / 8]: engine/cache/codes.h
//   per token   [tokens][groups]{scale, min}: groups of min(32, headDim) neighbouring values of a row
//   per channel [sets]{scales[headDim], mins[headDim]}: a set serves consecutive slots, as many as were sealed together (KIVI)
//   outliers    [tokens][outliers] words: an f16 value and, above it, the component it stands for whatever the code there says
// or whole as bit planes: engine/cache/planes.h.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace winnow {

constexpr int kMostSets = 8, kMostOutliers = 16;

enum class Planes : uint8_t { none, byChannel, byToken };  // byChannel: of keys

struct PageForm {
  uint8_t bits = 16;             // 16: f16 rows, or planes
  Planes planes = Planes::none;
  uint8_t sets = 0;              // 0: per token
  uint8_t ends[kMostSets] = {};  // set i serves the slots from ends[i - 1] to before ends[i]
  uint16_t outliers = 0;         // of a row
  bool sealed() const { return bits < 16 || planes != Planes::none; }
};

struct PageShape {
  int tokens, headDim;
  int group() const { return headDim < 32 ? headDim : 32; }         // values of a row that share a scale
  int groups() const { return headDim / group(); }
  int setTokens() const { return tokens < 32 ? tokens : 32; }       // slots sealed at once that share the scales of a channel
  // Eviction leaves slots of several sets in one page. Up to here they keep their codes; beyond, the page is grouped anew.
  int mostSets() const { return tokens < 32 ? 4 : kMostSets; }
  size_t rowBytes(int bits) const { return static_cast<size_t>(headDim) * static_cast<size_t>(bits) / 8; }
  size_t codeBytes(int bits) const { return static_cast<size_t>(tokens) * rowBytes(bits); }
  size_t scaleBytes(const PageForm& form) const {
    const int scales = form.sets > 0 ? form.sets * headDim : tokens * groups();
    return static_cast<size_t>(scales) * 2 * sizeof(uint16_t);
  }
  size_t bytes(const PageForm& form) const {
    if (form.bits == 16) return codeBytes(16) + (form.sealed() ? static_cast<size_t>(headDim) : 0);
    return codeBytes(form.bits) + scaleBytes(form) + static_cast<size_t>(tokens) * form.outliers * sizeof(uint32_t);
  }
};

}  // namespace winnow
