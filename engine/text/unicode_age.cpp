// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/text/unicode_age.h"

#include <algorithm>
#include <cstdint>

#include "engine/text/utf8.h"

namespace winnow {
namespace {

// What stands in for a category beyond U+FFFF. None of them is listed by name in any split pattern.
constexpr uint32_t letter = 0x10000, mark = 0x1d165, number = 0x1d7ce, punctuation = 0x10100, symbol = 0x1f300;

struct Range {
  uint32_t first, last, older;
};
constexpr Range newer[] = {
    {0x0cf3, 0x0cf3, 0x0cbe},  // a Kannada mark
    {0x0ece, 0x0ece, 0x0ecd},  // a Lao mark
    {0x2ffc, 0x2fff, 0x2ff0},  // ideographic description
    {0x31ef, 0x31ef, 0x2ff0},
    {0x10efd, 0x10eff, mark},
    {0x1123f, 0x11240, letter},
    {0x11241, 0x11241, mark},
    {0x11b00, 0x11b09, punctuation},
    {0x11f00, 0x11f01, mark},
    {0x11f02, 0x11f02, letter},
    {0x11f03, 0x11f03, mark},
    {0x11f04, 0x11f10, letter},
    {0x11f12, 0x11f33, letter},
    {0x11f34, 0x11f3a, mark},
    {0x11f3e, 0x11f42, mark},
    {0x11f43, 0x11f4f, punctuation},
    {0x11f50, 0x11f59, number},
    {0x13440, 0x13440, mark},
    {0x13441, 0x13446, letter},
    {0x13447, 0x13455, mark},
    {0x1b132, 0x1b132, letter},
    {0x1b155, 0x1b155, letter},
    {0x1d2c0, 0x1d2d3, number},
    {0x1df25, 0x1df2a, letter},
    {0x1e030, 0x1e06d, letter},
    {0x1e08f, 0x1e08f, mark},
    {0x1e4d0, 0x1e4eb, letter},
    {0x1e4ec, 0x1e4ef, mark},
    {0x1e4f0, 0x1e4f9, number},
    {0x1f6dc, 0x1f6dc, symbol},
    {0x1f774, 0x1f776, symbol},
    {0x1f77b, 0x1f77f, symbol},
    {0x1f7d9, 0x1f7d9, symbol},
    {0x1fa75, 0x1fa77, symbol},
    {0x1fa87, 0x1fa88, symbol},
    {0x1faad, 0x1faaf, symbol},
    {0x1fabb, 0x1fabd, symbol},
    {0x1fabf, 0x1fabf, symbol},
    {0x1face, 0x1facf, symbol},
    {0x1fada, 0x1fadb, symbol},
    {0x1fae8, 0x1fae8, symbol},
    {0x1faf7, 0x1faf8, symbol},
    {0x2b739, 0x2b739, 0x2b738},  // Han, extension C
    {0x2ebf0, 0x2ee5d, letter},   // Han, extensions I and H, which the patterns count among letters only
    {0x31350, 0x323af, letter},
};

uint32_t olderCharacter(uint32_t c) {
  const auto* range = std::ranges::lower_bound(newer, c, {}, &Range::last);
  return range != std::end(newer) && c >= range->first ? range->older : c;
}

// By their first two bytes, the places where a newer character may stand.
bool worthDecoding(std::string_view text, size_t i) {
  const auto first = static_cast<uint8_t>(text[i]), second = static_cast<uint8_t>(text[i + 1]);
  if (first == 0xf0) return true;
  return (first == 0xe0 && (second == 0xb3 || second == 0xbb)) || (first == 0xe2 && second == 0xbf) || (first == 0xe3 && second == 0x87);
}

}  // namespace

std::string_view withOlderCharacters(std::string_view text, std::string& copy) {
  bool copied = false;
  for (size_t i = 0; i + 2 < text.size(); ++i) {
    if (static_cast<uint8_t>(text[i]) < 0xe0 || !worthDecoding(text, i)) continue;
    const Utf8Char c = utf8Char(text.substr(i));
    const uint32_t older = olderCharacter(c.codePoint);
    if (older == c.codePoint) continue;
    if (!copied) copy = text;
    copied = true;
    std::string replaced;
    appendUtf8(replaced, older);
    copy.replace(i, replaced.size(), replaced);  // of the same length
  }
  return copied ? std::string_view(copy) : text;
}

}  // namespace winnow
