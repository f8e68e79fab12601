// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/core/suggest.h"

#include <algorithm>
#include <numeric>

namespace winnow {

int editDistance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int substituted = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

std::string closest(std::string_view typed, const std::vector<std::string>& known) {
  const auto best = std::ranges::min_element(known, {}, [&](const std::string& word) { return editDistance(typed, word); });
  return best == known.end() ? std::string() : *best;
}

}  // namespace winnow
