// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/retrieval_map.h"

#include <QCoreApplication>
#include <limits>
#include <map>
#include <set>

namespace winnow {

storage::RetrievalSample retrievalSample(const RetrievalScore& s) {
  return {s.item, s.length, s.depth, s.window.firstToken, s.window.count, s.found, s.window.nllSum, s.baseFound, s.baseNllSum, s.window.kldSum, s.window.sameTop};
}

Chart::Panel retrievalMap(const QString& title, const std::vector<storage::RetrievalSample>& samples, RetrievalQuantity quantity, bool baseline) {
  const auto tr = [](const char* s) { return QCoreApplication::translate("winnow::Charts", s); };
  const bool shares = quantity == RetrievalQuantity::found;
  struct Cell {
    double sum = 0;
    int count = 0;
  };
  std::map<std::pair<double, int>, Cell> cells;
  std::set<double> depths;
  std::set<int> lengths;
  for (const auto& s : samples) {
    const std::optional<bool> found = baseline ? s.baseFound : s.found;
    if (!s.depth || !found) continue;
    Cell& cell = cells[{*s.depth, s.length}];
    cell.sum += shares ? static_cast<double>(*found) : baseline ? s.baseNllSum : s.nllSum;
    cell.count += shares ? 1 : s.count;
    depths.insert(*s.depth);
    lengths.insert(s.length);
  }
  Chart::Panel panel;
  panel.kind = Chart::Kind::heatmap;
  panel.title = title;
  panel.x.title = tr("tokens of context");
  panel.y.title = shares ? tr("share found, by depth") : tr("surprise at the answer in nat/token, by depth");
  panel.largest = shares ? 1 : 0;
  for (const int length : lengths) panel.x.categories << QString::number(length);
  for (const double depth : depths) {
    panel.y.categories << QStringLiteral("%1 %").arg(100 * depth, 0, 'g', 3);
    std::vector<float>& row = panel.cells.emplace_back();
    for (const int length : lengths) {
      const auto cell = cells.find({depth, length});
      row.push_back(cell == cells.end() ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(cell->second.sum / cell->second.count));
    }
  }
  return panel;
}

}  // namespace winnow
