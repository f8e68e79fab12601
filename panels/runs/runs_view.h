// SPDX-License-Identifier: GPL-3.0-or-later
// The runs of the session: filter, table, notes. It asks for everything by signal and reads nothing itself.
#pragma once
#include <QWidget>

#include "panels/runs/run_filter.h"
#include "panels/runs/run_model.h"
#include "panels/theme/theme.h"

class QLabel;
class QLineEdit;
class QPushButton;
class QStackedWidget;
class QTableView;
class QVBoxLayout;

namespace winnow {

class RunsView : public QWidget {
  Q_OBJECT
 public:
  explicit RunsView(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setRuns(std::vector<storage::RunSummary> runs, bool readOnly);
  RunModel* model() { return &model_; }
  RunFilter* filter() { return &filter_; }
  QTableView* table() const { return table_; }
  std::vector<qint64> selected() const;
  void select(qint64 run);
  void focusFilter();

 Q_SIGNALS:
  void openRequested(qint64 run);
  void compareRequested(const std::vector<qint64>& runs);
  void exportRequested(const std::vector<qint64>& runs);
  void baselineRequested(qint64 run);   // -1: none
  void deleteRequested(const std::vector<qint64>& runs);
  void renameRequested(qint64 run, const QString& name);
  void notesRequested(qint64 run, const QString& notes);

 private:
  void buildBar(QVBoxLayout* all);
  void showMenu(const QPoint& at);
  void selectionChanged();
  void filterChanged(const QString& text);
  void toggleBaseline();
  void updateCount();
  RunModel model_;
  RunFilter filter_;
  QLineEdit* edit_ = nullptr;
  QLabel* count_ = nullptr;
  QLabel* problem_ = nullptr;
  QPushButton* open_ = nullptr;
  QPushButton* compare_ = nullptr;
  QPushButton* baseline_ = nullptr;
  QPushButton* export_ = nullptr;
  QPushButton* delete_ = nullptr;
  QLineEdit* notes_ = nullptr;
  QTableView* table_ = nullptr;
  QStackedWidget* pages_ = nullptr;
  qint64 notesOf_ = -1;
  bool readOnly_ = false;
};

}  // namespace winnow
