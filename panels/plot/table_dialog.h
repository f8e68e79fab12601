// SPDX-License-Identifier: GPL-3.0-or-later
// The numbers of a chart as a table: for who does not see the picture, and for who wants the figures.
#pragma once
#include <QDialog>

#include "experiments/chart_data.h"

namespace winnow {

class TableDialog : public QDialog {
  Q_OBJECT
 public:
  explicit TableDialog(const Chart& chart, QWidget* parent = nullptr);
};

// Tab-separated, one row per point, C locale: pastes into a spreadsheet.
QString toTabSeparated(const Chart& chart);

}  // namespace winnow
