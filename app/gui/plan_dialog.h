// SPDX-License-Identifier: GPL-3.0-or-later
// A plan: its points, which are done, start, stop, go on.
#pragma once
#include <QAbstractTableModel>
#include <QDialog>
#include <QTimer>
#include <optional>

#include "experiments/workbench.h"

class QCheckBox;
class QLabel;
class QProgressBar;
class QPushButton;
class QTableView;

namespace winnow {

class PlanModel : public QAbstractTableModel {
  Q_OBJECT
 public:
  enum Column { numberColumn, configurationColumn, kindColumn, repeatColumn, stateColumn, noteColumn, columns };
  using QAbstractTableModel::QAbstractTableModel;
  void setPlan(const PlanFile& plan);
  void setStates(const std::vector<storage::SweepPoint>& points);  // of the session's sweep; empty: nothing done yet
  int done() const;
  int rowCount(const QModelIndex& parent = {}) const override { return parent.isValid() ? 0 : static_cast<int>(points_.size()); }
  int columnCount(const QModelIndex& parent = {}) const override { return parent.isValid() ? 0 : columns; }
  QVariant data(const QModelIndex& index, int role) const override;
  QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

 private:
  std::vector<PlanFile::Point> points_;
  std::vector<QString> experiments_;   // their kinds
  std::vector<storage::SweepPoint> states_;
};

class PlanDialog : public QDialog {
  Q_OBJECT
 public:
  PlanDialog(Workbench* workbench, QWidget* parent);
  bool open(const QString& path);   // false: the reason is shown
  PlanModel* model() { return &model_; }

 private:
  void connectAll(QPushButton* choose, QPushButton* close);
  void refresh();
  void start(bool resume);
  Workbench* workbench_;
  std::optional<PlanFile> plan_;
  PlanModel model_;
  QTimer timer_;
  QLabel* title_ = nullptr;
  QLabel* status_ = nullptr;
  QProgressBar* progress_ = nullptr;
  QPushButton* start_ = nullptr;
  QPushButton* resume_ = nullptr;
  QPushButton* stop_ = nullptr;
  QTableView* table_ = nullptr;
};

}  // namespace winnow
