// SPDX-License-Identifier: GPL-3.0-or-later
// The sources of an attribution, strongest first; those not evaluated at the end.
#pragma once
#include <QAbstractTableModel>

#include "experiments/workbench.h"
#include "panels/attribution/score_delegate.h"

namespace winnow {

class SourceModel : public QAbstractTableModel {
  Q_OBJECT
 public:
  enum Column { Rank, Score, Times, Without, Text, columns };
  enum Role { SourceRole = Qt::UserRole + 1 };  // id; and those of ScoreRole

  using QAbstractTableModel::QAbstractTableModel;
  void setResult(const AttributeResult& result);
  void clear();
  int rowCount(const QModelIndex& parent = {}) const override { return parent.isValid() ? 0 : static_cast<int>(order_.size()); }
  int columnCount(const QModelIndex& parent = {}) const override { return parent.isValid() ? 0 : columns; }
  QVariant data(const QModelIndex& index, int role) const override;
  QVariant headerData(int section, Qt::Orientation orientation, int role) const override;
  int rowOf(int source) const;
  const std::vector<Source>& sources() const { return sources_; }
  bool isNoise(const Source& source) const;
  ScoreScale scale() const;
  QString valueText(const Source& source) const;  // "+3.02 nat", "+3.02 ± 0.11 nat"
  static QString times(double nats);              // ×20 likelier with it
  static QString nameOf(const Source& source);    // its label and text on one line

 private:
  QVariant toolTip(const Source& source) const;
  std::vector<Source> sources_;
  std::vector<int> order_;
  double noise_ = 0;
  bool nats_ = true;
};

}  // namespace winnow
