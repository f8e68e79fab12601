// SPDX-License-Identifier: GPL-3.0-or-later
// The tables of a session file, and how files of older formats become ones of this.
#pragma once
#include <cstdint>
#include <string>

namespace winnow::storage {

inline constexpr int32_t kApplicationId = 0x574E4E57;  // "WNNW"
inline constexpr int kFormatVersion = 2;
inline constexpr int kPageSize = 8192;

// Run inside one transaction on an empty file: the first format and every step to `version`, as a file that grew with the program.
std::string schemaSql(int version = kFormatVersion);
std::string upgradeSql(int from, int to = kFormatVersion);  // the steps between

}  // namespace winnow::storage
