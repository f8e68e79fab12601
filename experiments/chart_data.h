// SPDX-License-Identifier: GPL-3.0-or-later
// Charts as data, made from a session file: what the GUI draws, `winnow-cli export` draws, and CSV and JSON hold, is the same.
#pragma once
#include <QByteArray>
#include <QString>
#include <QStringList>
#include <optional>
#include <utility>
#include <vector>

#include "engine/core/result.h"
#include "storage/session_file.h"

namespace winnow {

struct ChartSeries {
  QString name;                 // legend entry
  QString group;                // stacked series of one bar or band share a group
  std::vector<double> x, y;     // equal lengths; NaN = missing
  std::vector<double> low, high;  // interval; empty or equal length
  std::vector<QString> labels;  // per point, may be empty
};
struct ChartMarker {            // epoch
  double x = 0;
  QString label;
};
struct ChartAxis {
  QString title, unit;
  bool logarithmic = false;
  QStringList categories;       // not empty: x is an index into these
};
struct Chart {
  enum class Kind { line, stackedArea, bars, scatter, heatmap, attribution, text };  // text: labels in reading order, y their scores
  struct Panel {                // one set of axes; comparison has several side by side
    Kind kind = Kind::line;
    QString title;
    ChartAxis x, y;
    std::vector<ChartSeries> series;
    std::vector<ChartMarker> markers;
    std::vector<std::vector<float>> cells;  // heatmap rows
    float largest = 0;            // of a heatmap's scale; 0 = of its cells
  };
  QString name, title;
  QString caption;              // run ids, model, device, date, protocol
  std::vector<Panel> panels;
  QStringList notes;            // "not comparable: other device", "n = 1", ...
  std::vector<std::pair<QString, QString>> reproducibility;  // name, value: what somebody needs to measure it again
};

QStringList chartNames();       // latency memory perplexity comparison pareto attribution attribution-pareto kv retrieval depth
// runs empty = all finished runs that have something to show. Errors: unknown chart, no such run, nothing to show.
Result<Chart> buildChart(storage::SessionFile& session, const QString& name, const std::vector<storage::Id>& runs);
QByteArray toCsv(const Chart& chart);
QByteArray toJson(const Chart& chart);

}  // namespace winnow
