// SPDX-License-Identifier: GPL-3.0-or-later
// A layout that puts widgets in rows and goes on in the next when a row is full.
#pragma once
#include <QLayout>
#include <QStyle>
#include <vector>

namespace winnow {

class FlowLayout : public QLayout {
 public:
  FlowLayout(QWidget* parent, int horizontal, int vertical);
  ~FlowLayout() override;
  void addItem(QLayoutItem* item) override;
  int count() const override { return static_cast<int>(items_.size()); }
  QLayoutItem* itemAt(int index) const override;
  QLayoutItem* takeAt(int index) override;
  Qt::Orientations expandingDirections() const override { return {}; }
  bool hasHeightForWidth() const override { return true; }
  int heightForWidth(int width) const override { return arrange(QRect(0, 0, width, 0), false); }
  QSize sizeHint() const override { return minimumSize(); }
  QSize minimumSize() const override;
  void setGeometry(const QRect& rect) override;

 private:
  int arrange(const QRect& rect, bool apply) const;  // returns the height
  std::vector<QLayoutItem*> items_;
  int horizontal_, vertical_;
};

}  // namespace winnow
