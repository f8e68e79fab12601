// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/plot/marker_layout.h"

#include <QCoreApplication>
#include <algorithm>

namespace winnow {
namespace {

constexpr double gap = 6;  // pixels between labels, and between a line and its label

QString groupLabel(const std::vector<MarkerInput>& markers, const MarkerGroup& group) {
  if (group.count == 1) return markers[group.first].label;
  return QCoreApplication::translate("winnow::MarkerLayout", "%Ln changes", "knob changes close together", static_cast<int>(group.count));
}

}  // namespace

std::vector<MarkerGroup> layoutMarkers(const std::vector<MarkerInput>& markers, double left, double right,
                                       const std::function<double(const QString&)>& widthOf) {
  std::vector<MarkerGroup> groups;
  const auto place = [&](MarkerGroup& g) {
    g.label = groupLabel(markers, g);
    g.width = widthOf(g.label);
    g.left = std::min(markers[g.first].pixel + gap, right - g.width);
    if (g.left < left) {  // wider than the plot
      g.label.clear();
      g.width = 0;
      g.left = markers[g.first].pixel;
    }
  };
  for (size_t i = 0; i < markers.size(); ++i) {
    MarkerGroup group{i, 1, 0, 0, {}};
    place(group);
    groups.push_back(group);
    // A merged label may reach back over the one before: merge until nothing overlaps.
    while (groups.size() > 1) {
      MarkerGroup &previous = groups[groups.size() - 2], &last = groups.back();
      if (previous.label.isEmpty() || last.left >= previous.left + previous.width + gap) break;
      previous.count += last.count;
      groups.pop_back();
      place(groups.back());
    }
  }
  return groups;
}

}  // namespace winnow
