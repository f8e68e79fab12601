// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace winnow {

// Length of the valid UTF-8 sequence that text begins with: 1..4, or 0 when it begins with none (overlong forms,
// surrogates and values past U+10FFFF are not valid). `incomplete` tells whether more bytes could make it valid.
size_t utf8Length(std::string_view text, bool* incomplete = nullptr);
std::string toUtf8(char32_t codePoint);

}  // namespace winnow
