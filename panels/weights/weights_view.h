// SPDX-License-Identifier: GPL-3.0-or-later
// What compression did to the weights: a map by layer and matrix, a table, the histogram of one matrix, and how much quality each layer
// costs alone.
#pragma once
#include <QWidget>

#include "experiments/chart_data.h"
#include "experiments/workbench.h"
#include "panels/theme/theme.h"
#include "panels/weights/quantity.h"

class QComboBox;
class QLabel;
class QProgressBar;
class QPushButton;
class QSortFilterProxyModel;
class QSplitter;
class QTableView;
class QToolButton;

namespace winnow {

class BarStrip;
class WeightMap;
class WeightTableModel;

class WeightsView : public QWidget {
  Q_OBJECT
 public:
  explicit WeightsView(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setModel(const QString& name);            // empty: none is open
  void setReport(const WeightReport& report, const QString& settings);
  void setHistogram(const WeightHistogram& histogram);
  void setComparing(double fraction, const QString& what);  // < 0: not any more; `what` then says what failed, or nothing
  void setSensitivity(const Sensitivity& sensitivity);
  void setJob(const JobState& job);
  void setCompressed(bool on);                   // whether something is asked for that can be measured layer by layer
  int chosen() const { return chosen_; }

 Q_SIGNALS:
  void histogramRequested(int tensor);
  void stopComparingRequested();
  void compareAgainRequested();
  void sensitivityRequested();
  void stopRequested();                          // of the job
  void exportRequested(const winnow::Chart& chart);
  void exportTableRequested(const QByteArray& csv, const QByteArray& json);
  void exportModelRequested();
  void superWeightsRequested();

 private:
  QWidget* buildBar();
  QWidget* buildTable();
  QWidget* buildSensitivity();
  WeightQuantity quantity() const;
  void showMap();
  void showTotals();
  void showSensitivityState();
  void choose(int tensor, bool fromTable);
  QString emptyText() const;

  QComboBox* quantity_ = nullptr;
  QLabel *totals_ = nullptr, *histogramTitle_ = nullptr, *sensitivityTitle_ = nullptr;
  QProgressBar *progress_ = nullptr, *sensitivityProgress_ = nullptr;
  QToolButton *stop_ = nullptr, *export_ = nullptr, *super_ = nullptr;
  QPushButton *measure_ = nullptr, *exportModel_ = nullptr;
  WeightMap* map_ = nullptr;
  BarStrip *histogram_ = nullptr, *bars_ = nullptr;
  QTableView* table_ = nullptr;
  WeightTableModel* model_ = nullptr;
  QSortFilterProxyModel* sorted_ = nullptr;

  QString name_, settings_, failure_;
  Sensitivity sensitivity_;
  JobState job_;
  int chosen_ = -1;
  bool reported_ = false, comparing_ = false, stopped_ = false, compressed_ = false;
};

}  // namespace winnow
