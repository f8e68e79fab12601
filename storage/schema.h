// SPDX-License-Identifier: GPL-3.0-or-later
// The tables of a session file, format 3. Format 1 had none of those that say how an attribution was done, format 2 no energy of tokens; an
// older file gets what it lacks when it is opened for writing, and is then like a new one, letter by letter.
#pragma once
#include <cstdint>
#include <string>

namespace winnow::storage {

inline constexpr int32_t kApplicationId = 0x574E4E57;  // "WNNW"
inline constexpr int kFormatVersion = 4;
inline constexpr int kPageSize = 8192;

std::string schemaSql(int version = kFormatVersion);  // run inside one transaction on an empty file
std::string upgradeSql(int from, int to = kFormatVersion);  // what later formats added; run inside one transaction

}  // namespace winnow::storage
