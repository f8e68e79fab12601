// SPDX-License-Identifier: GPL-3.0-or-later
// The scale of a TokenFlow with its units: a strip of colours, the values at its ends, the underline growing along it.
#pragma once
#include <QWidget>

#include "panels/text/flow_colours.h"

namespace winnow {

class FlowLegend : public QWidget {
  Q_OBJECT
 public:
  explicit FlowLegend(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setScale(const FlowScale& scale);
  QSize sizeHint() const override;

 protected:
  void paintEvent(QPaintEvent* event) override;

 private:
  QString low() const;
  QString high() const;
  Theme theme_ = Theme::builtIn(false);
  FlowScale scale_;
};

}  // namespace winnow
