// SPDX-License-Identifier: GPL-3.0-or-later
// CompareView: any chart of the chosen runs, and a table of their figures against a baseline with verdicts in words.
#pragma once
#include <QWidget>
#include <memory>
#include <vector>

#include "experiments/comparison.h"
#include "panels/plot/chart_view.h"

class QComboBox;
class QLabel;
class QPushButton;
class QScrollArea;
class QTableView;

namespace winnow {

class ComparisonModel;

class CompareView : public QWidget {
  Q_OBJECT
 public:
  explicit CompareView(ThemeManager* themes, QWidget* parent = nullptr);
  ~CompareView() override;
  void setSession(std::shared_ptr<storage::SessionFile> session);  // null: none open
  void setRuns(const std::vector<storage::Id>& runs);              // those chosen in the run table
  void setChart(const QString& name);                              // one of chartNames()
  std::optional<Chart> chart() const;

 public Q_SLOTS:
  void reload();

 Q_SIGNALS:
  void exportRequested(const winnow::Chart& chart);

 private:
  void fillBaselines();
  void showChart();
  void showTable();
  QWidget* buildBar();

  ThemeManager* themes_;
  std::shared_ptr<storage::SessionFile> session_;
  std::vector<storage::Id> runs_;
  QComboBox *charts_ = nullptr, *baselines_ = nullptr;
  QPushButton* export_ = nullptr;
  QLabel* notes_ = nullptr;
  ChartView* view_ = nullptr;
  QTableView* table_ = nullptr;
  ComparisonModel* model_ = nullptr;
};

}  // namespace winnow
