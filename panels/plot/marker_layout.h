// SPDX-License-Identifier: GPL-3.0-or-later
// Epoch labels that would overlap become one: "3 changes".
#pragma once
#include <QString>
#include <functional>
#include <vector>

namespace winnow {

struct MarkerInput {
  double pixel = 0;  // of the line, ascending
  QString label;
};
struct MarkerGroup {
  size_t first = 0, count = 0;  // of the inputs
  double left = 0;              // of the label, pixels
  double width = 0;
  QString label;                // the one label, "3 changes", or empty when there is no room at all
};
// Labels stand right of their line, or left of it at the right edge; none leaves [left, right].
std::vector<MarkerGroup> layoutMarkers(const std::vector<MarkerInput>& markers, double left, double right,
                                       const std::function<double(const QString&)>& widthOf);

}  // namespace winnow
