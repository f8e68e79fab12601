// SPDX-License-Identifier: GPL-3.0-or-later
// A plan: its points, which are done, start, stop, go on.
#pragma once
#include <QAbstractTableModel>
#include <QDialog>
#include <QTimer>
#include <functional>
#include <optional>

#include "app/gui/plan_editor.h"
#include "experiments/workbench.h"

class QHBoxLayout;
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
  void setPlan(const PlanFile& plan, const std::function<Effective(const Config&)>& resolved);  // empty where its model is not the open one
  int excluded() const;                        // points the model refuses
  void setStates(const std::vector<storage::SweepPoint>& points);  // of the session's sweep; empty: nothing done yet
  int done() const;
  int rowCount(const QModelIndex& parent = {}) const override { return parent.isValid() ? 0 : static_cast<int>(points_.size()); }
  int columnCount(const QModelIndex& parent = {}) const override { return parent.isValid() ? 0 : columns; }
  QVariant data(const QModelIndex& index, int role) const override;
  QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

 private:
  std::vector<PlanFile::Point> points_;
  std::vector<QString> experiments_;   // their kinds
  std::vector<QString> refusals_;      // of each point; empty: it can run
  std::vector<storage::SweepPoint> states_;
};

class PlanDialog : public QDialog {
  Q_OBJECT
 public:
  PlanDialog(Workbench* workbench, QWidget* parent);
  bool open(const QString& path);              // false: the reason is shown
  void compose(const QString& prompt);         // a plan by hand, from the knobs as they stand
  bool offerUnfinished();                      // a plan of the session with points to do; false: there is none
  PlanModel* model() { return &model_; }
  PlanEditor* editor() const { return editor_; }

 Q_SIGNALS:
  void compareRequested(const std::vector<qint64>& runs);   // those of the plan

 private:
  QHBoxLayout* buildTop();
  QHBoxLayout* buildBar();
  void buildTable();
  void connectAll();
  void edited();
  void take(PlanFile plan);   // shows its points
  std::optional<storage::SweepRecord> stored() const;   // the plan's points in the session
  void refresh();
  void start(bool resume);
  void save();
  void say(const QString& text);
  QString summary() const;
  Workbench* workbench_;
  std::optional<PlanFile> plan_;
  PlanModel model_;
  QTimer timer_;
  PlanEditor* editor_ = nullptr;
  QLabel* title_ = nullptr;
  QLabel* status_ = nullptr;
  QString said_;   // stays until the next step
  QProgressBar* progress_ = nullptr;
  QPushButton *new_ = nullptr, *open_ = nullptr, *save_ = nullptr;
  QPushButton* start_ = nullptr;
  QPushButton* resume_ = nullptr;
  QPushButton* stop_ = nullptr;
  QPushButton* compare_ = nullptr;
  QPushButton* close_ = nullptr;
  QTableView* table_ = nullptr;
};

}  // namespace winnow
