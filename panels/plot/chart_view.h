// SPDX-License-Identifier: GPL-3.0-or-later
// ChartView: a stored chart on screen, painted by the code that exports it.
#pragma once
#include <QPixmap>
#include <QWidget>
#include <optional>

#include "experiments/chart_data.h"
#include "panels/theme/theme_manager.h"

namespace winnow {

class ChartView : public QWidget {
  Q_OBJECT
 public:
  explicit ChartView(ThemeManager* themes, QWidget* parent = nullptr);
  void setChart(std::optional<Chart> chart, const QString& emptyText = {});
  const std::optional<Chart>& chart() const { return chart_; }
  QSize sizeHint() const override;
  bool hasHeightForWidth() const override { return true; }
  int heightForWidth(int width) const override;

 public Q_SLOTS:
  void showTable();
  void copy();

 Q_SIGNALS:
  void exportRequested(const winnow::Chart& chart);

 protected:
  void paintEvent(QPaintEvent* event) override;
  void resizeEvent(QResizeEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;
  void contextMenuEvent(QContextMenuEvent* event) override;

 private:
  void invalidate();
  ThemeManager* themes_;
  std::optional<Chart> chart_;
  QString emptyText_;
  QPixmap picture_;
};

}  // namespace winnow
