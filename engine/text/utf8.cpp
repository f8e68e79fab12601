// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/text/utf8.h"

#include "engine/text/tokenizer.h"

namespace winnow {

size_t utf8Length(std::string_view text, bool* incomplete) {
  if (incomplete) *incomplete = false;
  if (text.empty()) return 0;
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xC2 && first < 0xE0 ? 2 : first >= 0xE0 && first < 0xF0 ? 3 : first >= 0xF0 && first < 0xF5 ? 4 : 0;
  if (length == 0) return 0;
  for (size_t i = 1; i < length; ++i) {
    if (i >= text.size()) {
      if (incomplete) *incomplete = true;
      return 0;
    }
    // The second byte's range rules out overlong forms, surrogates and what lies past U+10FFFF.
    const unsigned low = i > 1 ? 0x80 : first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const unsigned high = i > 1 ? 0xBF : first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (byte(i) < low || byte(i) > high) return 0;
  }
  return length;
}

std::string toUtf8(char32_t c) {
  std::string out;
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
  return out;
}

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  std::string out;
  size_t at = 0;
  while (at < pending_.size()) {
    bool incomplete = false;
    const std::string_view rest = std::string_view(pending_).substr(at);
    const size_t length = utf8Length(rest, &incomplete);
    if (incomplete) break;
    if (length > 0) {
      out += rest.substr(0, length);
      at += length;
      continue;
    }
    out += toUtf8(0xFFFD);  // one for each maximal part of an ill-formed sequence (Unicode 3.9, U+FFFD substitution)
    size_t bad = 1;
    for (bool more = true; more && bad < rest.size(); ++bad) {
      utf8Length(rest.substr(0, bad), &more);
      if (!more) break;
      utf8Length(rest.substr(0, bad + 1), &more);
      if (!more) break;
    }
    at += bad;
  }
  pending_.erase(0, at);
  return out;
}

std::string Utf8Stream::finish() {
  const bool rest = !pending_.empty();
  pending_.clear();
  return rest ? toUtf8(0xFFFD) : std::string();
}

}  // namespace winnow
