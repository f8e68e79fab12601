// SPDX-License-Identifier: GPL-3.0-or-later
// Where the tokens of a text stand in it.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/text/tokenizer.h"

namespace winnow {

// Byte offset at which each token ends; a token that adds no text ends where it begins. Empty when the pieces don't give the text
// back (a tokenizer that normalizes).
std::vector<int64_t> tokenEnds(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, std::string_view text);

}  // namespace winnow
