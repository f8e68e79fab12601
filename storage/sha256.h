// SPDX-License-Identifier: GPL-3.0-or-later
// SHA-256 (FIPS 180-4) of small texts: the identity of a configuration, a prompt, an environment.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace winnow::storage {

std::string sha256(std::string_view bytes);                     // 32 raw bytes
std::string toHex(std::string_view bytes);
std::optional<std::string> fromHex(std::string_view hex);       // nullopt: not an even number of hexadecimal digits

}  // namespace winnow::storage
