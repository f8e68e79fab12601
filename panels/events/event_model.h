// SPDX-License-Identifier: GPL-3.0-or-later
// What happened, newest last, in a bounded ring.
#pragma once
#include <QAbstractTableModel>
#include <QSortFilterProxyModel>
#include <deque>

#include "experiments/workbench.h"

namespace winnow {

class EventModel : public QAbstractTableModel {
  Q_OBJECT
 public:
  enum Column { Time, Level, Text, columns };
  enum Role { LevelRole = Qt::UserRole + 1 };
  static constexpr int kLimit = 10000;

  using QAbstractTableModel::QAbstractTableModel;
  void add(const LogLine& line);
  void clear();
  int rowCount(const QModelIndex& parent = {}) const override { return parent.isValid() ? 0 : static_cast<int>(lines_.size()); }
  int columnCount(const QModelIndex& parent = {}) const override { return parent.isValid() ? 0 : columns; }
  QVariant data(const QModelIndex& index, int role) const override;
  QVariant headerData(int section, Qt::Orientation orientation, int role) const override;
  QString asText(int row) const;

 private:
  std::deque<LogLine> lines_;
};

// Shows a level and what is graver.
class EventFilter : public QSortFilterProxyModel {
  Q_OBJECT
 public:
  using QSortFilterProxyModel::QSortFilterProxyModel;
  void setLeast(const QString& level);

 protected:
  bool filterAcceptsRow(int row, const QModelIndex& parent) const override;

 private:
  int least_ = 0;
};

int eventRank(const QString& level);  // info 0, notice 1, warning 2, error 3

}  // namespace winnow
