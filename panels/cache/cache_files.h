// SPDX-License-Identifier: GPL-3.0-or-later
// A moment of a cache as files: the chart that is exported as a picture, and numbers for tables.
#pragma once
#include <QByteArray>

#include "experiments/chart_data.h"
#include "experiments/workbench.h"

namespace winnow {

Chart cacheChart(const CacheMap& map, bool byHead, const QString& model, const QString& settings);
QByteArray cacheCsv(const CacheMap& map);  // a line per head and column that holds something

}  // namespace winnow
