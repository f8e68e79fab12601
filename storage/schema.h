// SPDX-License-Identifier: GPL-3.0-or-later
// The tables of a session file, format 2. Format 1 had none of those that say how an attribution was done; a file of it gets them when it
// is opened for writing.
#pragma once
#include <cstdint>
#include <string>

namespace winnow::storage {

inline constexpr int32_t kApplicationId = 0x574E4E57;  // "WNNW"
inline constexpr int kFormatVersion = 2;
inline constexpr int kPageSize = 8192;

std::string schemaSql(int version = kFormatVersion);  // run inside one transaction on an empty file
std::string upgradeSql(int from);                     // what a later format added; run inside one transaction

}  // namespace winnow::storage
