// SPDX-License-Identifier: GPL-3.0-or-later
// The known word nearest to what was typed, for error messages.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace winnow {

int editDistance(std::string_view a, std::string_view b);
std::string closest(std::string_view typed, const std::vector<std::string>& known);  // "" when known is empty

}  // namespace winnow
