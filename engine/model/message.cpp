// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/model/message.h"

#include <utility>

namespace winnow {

Error problem(ErrorCode code, std::string message, std::string hint) {
  for (std::string* text : {&message, &hint})
    if (!text->empty() && text->back() != '.') *text += '.';
  if (!hint.empty() && hint[0] >= 'a' && hint[0] <= 'z') hint[0] = static_cast<char>(hint[0] - 'a' + 'A');
  return {code, std::move(message), std::move(hint)};
}

std::string shown(std::string_view name) {
  constexpr size_t longest = 80;
  std::string out = "'";
  for (const char c : name.substr(0, longest)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  if (name.size() > longest) {
    while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xc0) == 0x80) out.pop_back();  // no half character
    out += "...";
  }
  return out + "'";
}

std::string shownShape(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

}  // namespace winnow
