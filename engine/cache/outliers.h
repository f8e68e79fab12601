// SPDX-License-Identifier: GPL-3.0-or-later
// Which values a sealed row keeps as they are, so that the codes of the others step through a narrower range (the dense-and-sparse split of
// KVQuant, Hooper et al., NeurIPS 2024, arXiv 2401.18079, section 3.4). Every row keeps as many, so that it can move to another page; of its
// values those go first that narrow the range they share a scale with the most. Included by kernel files, so nothing of std::.
#pragma once
#include "engine/cache/codes.h"

namespace winnow {

WINNOW_HOST_DEVICE inline uint32_t outlierWord(uint16_t value, int component) { return value | static_cast<uint32_t>(component) << 16; }

// The ends of a range, and where it would end without them.
struct RangeEnds {
  float low = __builtin_inff(), lowNext = __builtin_inff(), high = -__builtin_inff(), highNext = -__builtin_inff();
  int lowAt = -1, highAt = -1;

  WINNOW_HOST_DEVICE void add(float x, int at) {
    if (x < low) {
      lowNext = low;
      low = x;
      lowAt = at;
    } else if (x < lowNext) {
      lowNext = x;
    }
    if (x > high) {
      highNext = high;
      high = x;
      highAt = at;
    } else if (x > highNext) {
      highNext = x;
    }
  }
  // How much narrower, in squares, as rounding errors are; without sums of products, which a compiler may fuse. 0 for the only value.
  WINNOW_HOST_DEVICE float withoutLow() const { return lowNext > high ? 0.0f : (lowNext - low) * (high - low + (high - lowNext)); }
  WINNOW_HOST_DEVICE float withoutHigh() const { return highNext < low ? 0.0f : (high - highNext) * (high - low + (highNext - low)); }
};

// The best of what was offered: the first unless another gains more.
struct OutlierChoice {
  int at = -1;
  float gain = 0;
  WINNOW_HOST_DEVICE void fallBack(int value) {
    if (at < 0) at = value;
  }
  WINNOW_HOST_DEVICE void offer(int value, float gained) {
    if (!(gained > gain)) return;
    at = value;
    gain = gained;
  }
};

}  // namespace winnow
