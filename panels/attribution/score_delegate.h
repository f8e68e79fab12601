// SPDX-License-Identifier: GPL-3.0-or-later
// A score in a table: the number, and a bar from a zero that all rows share, with a whisker for its error and a band for noise.
#pragma once
#include <QStyledItemDelegate>

#include "panels/theme/theme.h"

namespace winnow {

// What a model answers for a cell that this delegate draws.
enum ScoreRole {
  ScoreValueRole = Qt::UserRole + 16,  // double; invalid: not evaluated
  ScoreErrorRole,                      // standard error, if any
  ScoreNoiseRole,                      // bool: indistinguishable from nothing
};

struct ScoreScale {
  double top = 1, bottom = 0;  // the largest score, and the magnitude of the most negative one
  double noise = 0;
  bool errors = false;  // room for them beside the number
};

class ScoreDelegate : public QStyledItemDelegate {
 public:
  explicit ScoreDelegate(QObject* parent) : QStyledItemDelegate(parent) {}
  void setTheme(const Theme& theme) { theme_ = theme; }
  void setScale(const ScoreScale& scale) { scale_ = scale; }
  int numberWidth(const QFontMetrics& metrics) const;
  void paint(QPainter* painter, const QStyleOptionViewItem& option, const QModelIndex& index) const override;

 private:
  void drawBar(QPainter* painter, const QRectF& area, const QModelIndex& index) const;
  Theme theme_ = Theme::builtIn(false);
  ScoreScale scale_;
};

}  // namespace winnow
