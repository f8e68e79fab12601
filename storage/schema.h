// SPDX-License-Identifier: GPL-3.0-or-later
// The tables of a session file, format 1.
#pragma once
#include <cstdint>
#include <string>

namespace winnow::storage {

inline constexpr int32_t kApplicationId = 0x574E4E57;  // "WNNW"
inline constexpr int kFormatVersion = 1;
inline constexpr int kPageSize = 8192;

std::string schemaSql();  // run inside one transaction on an empty file

}  // namespace winnow::storage
