// SPDX-License-Identifier: GPL-3.0-or-later
// UTF-8 as the Unicode standard defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace winnow {

struct Utf8Char {
  size_t bytes = 1;      // of the character; of its longest well-formed beginning when it is not whole
  bool valid = false;
  bool cutOff = false;   // the text ends inside what could have become a character
  uint32_t codePoint = 0xfffd;
};
Utf8Char utf8Char(std::string_view text);  // the first character of a text that is not empty

bool isUtf8(std::string_view text);
// Every byte that is not part of a character is replaced by U+FFFD.
std::string replaceBrokenBytes(std::string_view text);

void appendUtf8(std::string& out, uint32_t codePoint);

}  // namespace winnow
