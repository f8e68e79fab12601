// SPDX-License-Identifier: GPL-3.0-or-later
// What changed between two attributions of one answer: per source the score under A, under B, and what B lost or gained.
#pragma once
#include <QAbstractTableModel>
#include <QWidget>
#include <optional>

#include "experiments/workbench.h"
#include "panels/attribution/score_delegate.h"

class QLabel;
class QPushButton;
class QTableView;
class QToolButton;

namespace winnow {

class DifferenceModel : public QAbstractTableModel {
  Q_OBJECT
 public:
  enum Column { Difference, A, B, Verdict, Text, columns };
  enum Role { SourceRole = Qt::UserRole + 1 };

  using QAbstractTableModel::QAbstractTableModel;
  void setDifference(std::optional<AttributionDifference> difference);
  const std::optional<AttributionDifference>& difference() const { return difference_; }
  int rowCount(const QModelIndex& parent = {}) const override { return parent.isValid() ? 0 : static_cast<int>(order_.size()); }
  int columnCount(const QModelIndex& parent = {}) const override { return parent.isValid() ? 0 : columns; }
  QVariant data(const QModelIndex& index, int role) const override;
  QVariant headerData(int section, Qt::Orientation orientation, int role) const override;
  int rowOf(int source) const;
  ScoreScale scale() const;

 private:
  const AttributionDifference::Row& row(int index) const {
    return difference_->rows[static_cast<size_t>(order_[static_cast<size_t>(index)])];
  }
  QString verdict(const AttributionDifference::Row& row) const;
  QString number(const std::optional<double>& value, bool sign) const;
  std::optional<AttributionDifference> difference_;
  std::vector<int> order_;
};

class DifferenceView : public QWidget {
  Q_OBJECT
 public:
  explicit DifferenceView(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  // What A and B are, in a few words each.
  void setNames(const QString& a, const QString& b);
  void setDifference(std::optional<AttributionDifference> difference);
  const std::optional<AttributionDifference>& difference() const { return model_.difference(); }
  void setState(const QString& blocked, bool pinned);  // why nothing can be compared now; B is a configuration somebody pinned
  void setChosen(int source);
  QString text() const;  // tab-separated

 Q_SIGNALS:
  void compareRequested();
  void pinRequested(bool on);  // the present knobs become B; off: the baseline is
  void sourceChosen(int source);

 protected:
  void resizeEvent(QResizeEvent* event) override;

 private:
  void arrange();
  DifferenceModel model_;
  QLabel *names_ = nullptr, *summary_ = nullptr;
  QPushButton* compare_ = nullptr;
  QToolButton* pin_ = nullptr;
  QTableView* table_ = nullptr;
  ScoreDelegate* delegate_ = nullptr;
  bool quiet_ = false;
};

}  // namespace winnow
