// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/weights/weight_table.h"

#include "experiments/format.h"

namespace winnow {
namespace {
std::optional<WeightQuantity> quantityAt(int column) {
  switch (column) {
    case WeightTableModel::Bits: return WeightQuantity::bits;
    case WeightTableModel::Zeros: return WeightQuantity::sparsity;
    case WeightTableModel::Sqnr: return WeightQuantity::sqnr;
    case WeightTableModel::RelativeError: return WeightQuantity::relativeError;
    case WeightTableModel::OutputError: return WeightQuantity::outputError;
    default: return std::nullopt;
  }
}

bool isText(int column) { return column == WeightTableModel::Matrix || column == WeightTableModel::Format; }
}  // namespace

void WeightTableModel::setReport(const WeightReport& report) {
  beginResetModel();
  report_ = report;
  endResetModel();
}

QVariant WeightTableModel::data(const QModelIndex& index, int role) const {
  const TensorReport& row = report_.tensors[static_cast<size_t>(index.row())];
  const auto quantity = quantityAt(index.column());
  if (role == Qt::TextAlignmentRole) return static_cast<int>(Qt::AlignVCenter | (isText(index.column()) ? Qt::AlignLeft : Qt::AlignRight));
  if (role == Qt::ToolTipRole && index.column() == Matrix)
    return QStringLiteral("%1, %2 × %3").arg(QString::fromStdString(row.name)).arg(row.rows).arg(row.cols);
  if (role == SortRole) {
    if (quantity) return quantityOf(row, *quantity).value_or(-1);
    switch (index.column()) {
      case Size: return static_cast<qint64>(row.bytes);
      case MaxError: return row.maxError;
      case Matrix: return index.row();
      default: return QString::fromStdString(row.format);
    }
  }
  if (role != Qt::DisplayRole) return {};
  if (quantity) return quantityText(quantityOf(row, *quantity), *quantity);
  switch (index.column()) {
    case Matrix: return matrixLabel(row);
    case Size: return winnow::Format().bytes(static_cast<double>(row.bytes));
    case MaxError: return row.exact() ? QStringLiteral("0") : winnow::Format().significant(row.maxError);
    default: return QString::fromStdString(row.format);
  }
}

QVariant WeightTableModel::headerData(int section, Qt::Orientation orientation, int role) const {
  if (orientation != Qt::Horizontal) return {};
  const auto quantity = quantityAt(section);
  if (role == Qt::TextAlignmentRole) return static_cast<int>(Qt::AlignVCenter | (isText(section) ? Qt::AlignLeft : Qt::AlignRight));
  if (role == Qt::ToolTipRole && quantity) return quantityMeaning(*quantity);
  if (role != Qt::DisplayRole) return {};
  switch (section) {
    case Matrix: return tr("Matrix");
    case Format: return tr("Format");
    case Bits: return tr("Bits");
    case Size: return tr("Size");
    case MaxError: return tr("Max error");
    default: return quantityName(*quantity);
  }
}

}  // namespace winnow
