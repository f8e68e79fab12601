// SPDX-License-Identifier: GPL-3.0-or-later
// An attribution as it leaves the window: a table, JSON, a chart.
#pragma once
#include <QByteArray>
#include <QString>

#include "experiments/chart_data.h"
#include "experiments/workbench.h"

namespace winnow {

// One row per source, document order; a column per answer token where single tokens have scores.
QByteArray attributionCsv(const AttributeResult& result);
// compared: may be null.
QByteArray attributionJson(const AttributeResult& result, const QString& question, const AttributionDifference* compared);
QString attributionTabSeparated(const AttributeResult& result);  // strongest first, for the clipboard
Chart attributionChart(const AttributeResult& result, const std::string& context, const AttributionDifference* compared);

}  // namespace winnow
