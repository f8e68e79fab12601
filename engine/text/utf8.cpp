// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/text/utf8.h"

#include <cstring>

#include "engine/text/tokenizer.h"

namespace winnow {
namespace {
constexpr std::string_view replacement = "\xef\xbf\xbd";
}

Utf8Char utf8Char(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return {1, true, false, first};
  const size_t length = first >= 0xc2 && first <= 0xdf ? 2 : first >= 0xe0 && first <= 0xef ? 3 : first >= 0xf0 && first <= 0xf4 ? 4 : 0;
  if (length == 0) return {};
  // The second byte is what keeps out overlong forms, surrogates and what lies above U+10FFFF.
  const uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  uint32_t code = first & (0xffU >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if (i >= text.size()) return {i, false, true, 0xfffd};
    if (byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xbf)) return {i, false, false, 0xfffd};
    code = code << 6 | (byte(i) & 0x3fU);
  }
  return {length, true, false, code};
}

bool isUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    uint64_t eight = 0;
    if (text.size() - i >= 8) {
      std::memcpy(&eight, text.data() + i, 8);
      if ((eight & 0x8080808080808080U) == 0) {
        i += 8;
        continue;
      }
    }
    const Utf8Char c = utf8Char(text.substr(i));
    if (!c.valid) return false;
    i += c.bytes;
  }
  return true;
}

std::string replaceBrokenBytes(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = utf8Char(text.substr(i));
    if (c.valid) out += text.substr(i, c.bytes);
    else
      for (size_t k = 0; k < c.bytes; ++k) out += replacement;
    i += c.bytes;
  }
  return out;
}

void appendUtf8(std::string& out, uint32_t c) {
  const auto put = [&](uint32_t b) { out += static_cast<char>(b); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xc0 | c >> 6);
    put(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    put(0xe0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3f));
    put(0x80 | (c & 0x3f));
  } else {
    put(0xf0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3f));
    put(0x80 | (c >> 6 & 0x3f));
    put(0x80 | (c & 0x3f));
  }
}

// One U+FFFD for each longest beginning of a character that came to nothing (Unicode, chapter 3, U+FFFD substitution).
std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  std::string out;
  size_t i = 0;
  while (i < pending_.size()) {
    const Utf8Char c = utf8Char(std::string_view(pending_).substr(i));
    if (c.cutOff) break;
    if (c.valid) out.append(pending_, i, c.bytes);
    else out += replacement;
    i += c.bytes;
  }
  pending_.erase(0, i);
  return out;
}

std::string Utf8Stream::finish() {
  const bool broken = !pending_.empty();
  pending_.clear();
  return broken ? std::string(replacement) : std::string();
}

}  // namespace winnow
