// SPDX-License-Identifier: GPL-3.0-or-later
// PCRE2 knows the characters of the Unicode version it was built with (14 on Debian 12 and Ubuntu 24.04). For splitting, characters
// of Unicode 15 and 15.1 are replaced by older ones of the same category and length, so words are the same everywhere.
#pragma once
#include <string>
#include <string_view>

namespace winnow {

// The text itself when it has none of them, otherwise `copy` with the replacements made. The text must be UTF-8.
std::string_view withOlderCharacters(std::string_view text, std::string& copy);

}  // namespace winnow
