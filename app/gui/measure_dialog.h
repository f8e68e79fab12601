// SPDX-License-Identifier: GPL-3.0-or-later
// What measures: a form, progress with Stop, and a table that keeps the results of one measurement after another, so that
// configurations can be held against each other while the window stays free.
#pragma once
#include <QDialog>

#include "experiments/workbench.h"

class QFormLayout;
class QLabel;
class QProgressBar;
class QPushButton;
class QSpinBox;
class QTableWidget;

namespace winnow {

class MeasureDialog : public QDialog {
  Q_OBJECT
 public:
  MeasureDialog(Workbench* workbench, JobState::Kind kind, const QString& title, const QStringList& columns, QWidget* parent);
  QTableWidget* results() const { return results_; }
  void showError(const QString& message, const QString& hint);

 protected:
  virtual void start() = 0;
  QSpinBox* number(const QString& name, int low, int high, int value, const QString& tip);
  void addRow(const QStringList& cells, const QString& tip);
  // The row of the running measurement, which is complete with `final`.
  void addOrReplaceRow(const QStringList& cells, const QString& tip, bool final);
  QString configuration_;  // what the running measurement measures
  QFormLayout* form_ = nullptr;
  Workbench* workbench_;
  bool rowOpen_ = false;   // a row of the running measurement is there

 private:
  void setLastRow(const QStringList& cells, const QString& tip);
  void follow(const JobState& job);
  QString configurationText() const;
  JobState::Kind kind_;
  QPushButton* start_ = nullptr;
  QPushButton* stop_ = nullptr;
  QProgressBar* progress_ = nullptr;
  QLabel* status_ = nullptr;
  QTableWidget* results_ = nullptr;
};

class BenchDialog : public MeasureDialog {
  Q_OBJECT
 public:
  BenchDialog(Workbench* workbench, QWidget* parent);
  BenchSpec spec() const;

 protected:
  void start() override;

 private:
  QSpinBox* prompt_ = nullptr;
  QSpinBox* generate_ = nullptr;
  QSpinBox* depth_ = nullptr;
  QSpinBox* repetitions_ = nullptr;
};

QString sampleText();  // comes with the program

}  // namespace winnow
