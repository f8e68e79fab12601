// SPDX-License-Identifier: GPL-3.0-or-later
// Putting sentences together for Error::message.
#pragma once
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/result.h"

namespace winnow {

template <class... Parts>
std::string sentence(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

// Both become sentences: a capital where a hint begins, a full stop where either ends.
Error problem(ErrorCode code, std::string message, std::string hint = {});

template <class... Parts>
Error badInput(const Parts&... parts) {
  return problem(ErrorCode::badInput, sentence(parts...));
}

// Names out of a file are shown shortened and without control characters.
std::string shown(std::string_view name);

std::string shownShape(const std::vector<int64_t>& shape);  // "[512, 64]"

}  // namespace winnow
