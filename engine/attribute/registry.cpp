// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <array>

#include "engine/attribute/methods.h"

namespace winnow {

std::span<const AttributionMethod> attributionMethods() {
  static const std::array<AttributionMethod, 2> methods = {{
      {"attribot", "AttriBoT",
       "Leave-one-out with the keys and values of shared prefixes kept; of many paragraphs, only the best three are looked into; a proxy model chooses the "
       "sentences worth the target's time.",
       "Liu, Kandpal, Raffel, ICLR 2025, arXiv 2411.15102", true, &runAttribot},
      {"loo", "Leave-one-out, exact", "One forward pass without each source, everything computed anew.", "", false, &runLeaveOneOut},
  }};
  return methods;
}

const AttributionMethod* findAttributionMethod(std::string_view name) {
  const auto all = attributionMethods();
  const auto found = std::ranges::find(all, name, &AttributionMethod::name);
  return found == all.end() ? nullptr : &*found;
}

Error unknownAttributionMethod(std::string_view name) {
  std::string names;
  for (const AttributionMethod& method : attributionMethods()) names += (names.empty() ? "" : ", ") + method.name;
  return {ErrorCode::usage, "There is no attribution method " + std::string(name) + ".", "Choose one of " + names + "."};
}

}  // namespace winnow
