// SPDX-License-Identifier: GPL-3.0-or-later
// The runs of a session as a table. Columns choose themselves: what every run has, the knobs that differ among the runs, the
// metrics that were measured, each with its difference to the baseline.
#pragma once
#include <QAbstractTableModel>
#include <optional>
#include <vector>

#include "experiments/workbench.h"

namespace winnow {

// How one metric of a run relates to the baseline's.
struct RunDelta {
  enum class Verdict { none, better, worse, withinNoise, notComparable } verdict = Verdict::none;
  double ratio = 1;   // run / baseline
  QString why;        // notComparable: what differs; otherwise how certain
};
RunDelta compareRuns(const storage::RunSummary& run, const storage::RunSummary& baseline, const std::string& metric);

class RunModel : public QAbstractTableModel {
  Q_OBJECT
 public:
  enum Role { IdRole = Qt::UserRole + 1, SortRole, DeltaRole };
  struct Column {
    enum class Kind { baseline, name, status, kind, model, started, knob, metric, delta } kind;
    QString key, title, tip;
  };

  using QAbstractTableModel::QAbstractTableModel;
  void setRuns(std::vector<storage::RunSummary> runs);
  void setReadOnly(bool readOnly) { readOnly_ = readOnly; }
  const std::vector<storage::RunSummary>& runs() const { return runs_; }
  const std::vector<Column>& columns() const { return columns_; }
  const storage::RunSummary* baseline() const;
  int rowOf(storage::Id id) const;

  int rowCount(const QModelIndex& parent = {}) const override { return parent.isValid() ? 0 : static_cast<int>(runs_.size()); }
  int columnCount(const QModelIndex& parent = {}) const override { return parent.isValid() ? 0 : static_cast<int>(columns_.size()); }
  QVariant data(const QModelIndex& index, int role) const override;
  bool setData(const QModelIndex& index, const QVariant& value, int role) override;
  Qt::ItemFlags flags(const QModelIndex& index) const override;
  QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

  static QString metricTitle(const std::string& metric);
  static QString statusText(const storage::RunSummary& run);

 Q_SIGNALS:
  void renamed(qint64 run, const QString& name);

 private:
  void chooseColumns();
  QString display(const storage::RunSummary& run, const Column& column) const;
  QVariant sortKey(const storage::RunSummary& run, const Column& column) const;
  QString tip(const storage::RunSummary& run, const Column& column) const;
  std::vector<storage::RunSummary> runs_;
  std::vector<Column> columns_;
  int baseline_ = -1;
  bool readOnly_ = false;
};

}  // namespace winnow
