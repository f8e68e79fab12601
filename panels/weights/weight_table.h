// SPDX-License-Identifier: GPL-3.0-or-later
// The matrices of a weight report, one a row.
#pragma once
#include <QAbstractTableModel>

#include "panels/weights/quantity.h"

namespace winnow {

class WeightTableModel : public QAbstractTableModel {
  Q_OBJECT
 public:
  // What a person asks first comes first: a narrow table shows it.
  enum Column { Matrix, Sqnr, Bits, Zeros, RelativeError, OutputError, Size, MaxError, Format, columns };
  static constexpr int SortRole = Qt::UserRole + 1;

  using QAbstractTableModel::QAbstractTableModel;
  void setReport(const WeightReport& report);
  const WeightReport& report() const { return report_; }
  int rowCount(const QModelIndex& parent = {}) const override { return parent.isValid() ? 0 : static_cast<int>(report_.tensors.size()); }
  int columnCount(const QModelIndex& parent = {}) const override { return parent.isValid() ? 0 : columns; }
  QVariant data(const QModelIndex& index, int role) const override;
  QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

 private:
  WeightReport report_;
};

}  // namespace winnow
