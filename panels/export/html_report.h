// SPDX-License-Identifier: GPL-3.0-or-later
// The HTML report of exportChart and exportReport: one file that works offline.
#pragma once
#include "panels/export/chart_export.h"

namespace winnow {

QByteArray toHtml(const QString& title, const std::vector<Chart>& charts, const ExportOptions& options);

}  // namespace winnow
