// SPDX-License-Identifier: GPL-3.0-or-later
// Where one head looks: a row for each query, a column for each token it may look at.
#pragma once
#include <QImage>
#include <QWidget>
#include <optional>

#include "experiments/attention.h"
#include "panels/theme/theme.h"

namespace winnow {

class AttentionMap : public QWidget {
  Q_OBJECT
 public:
  explicit AttentionMap(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setMaps(const AttentionMaps& maps);
  void setHead(int layer, int head);
  void clear(const QString& emptyText);
  QString describe(int query, int key) const;  // cells
  QRect cellRect(int query, int key) const;    // null ahead of the query
  QSize sizeHint() const override { return {460, 480}; }
  QSize minimumSizeHint() const override { return {220, 220}; }

 Q_SIGNALS:
  void cellChosen(const QString& description);

 protected:
  void paintEvent(QPaintEvent* event) override;
  void mousePressEvent(QMouseEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;
  void focusInEvent(QFocusEvent* event) override;
  void focusOutEvent(QFocusEvent* event) override;
  bool event(QEvent* event) override;

 private:
  bool shown() const { return layer_ >= 0 && !maps_.at(layer_, head_).cells.empty(); }
  int legend() const { return fontMetrics().height() + 16; }  // px
  QRect square() const;
  double edge(int cell) const;  // px from the square's corner
  std::optional<std::pair<int, int>> at(const QPoint& point) const;
  QString tokensOf(int cell) const;
  void choose(int query, int key);
  void render();

  Theme theme_ = Theme::builtIn(false);
  AttentionMaps maps_;
  QImage picture_;
  int layer_ = -1, head_ = -1, query_ = -1, key_ = -1;
  QString emptyText_;
};

}  // namespace winnow
