// SPDX-License-Identifier: GPL-3.0-or-later
// Theme: every colour the workbench uses, read from resources/themes/*.json. A plain value; who shows something takes a
// const Theme& and listens to ThemeManager::changed.
#pragma once
#include <QColor>
#include <QPalette>
#include <QPen>
#include <QString>
#include <array>

#include "engine/core/result.h"

namespace winnow {

enum class MarkerShape { none, circle, square, triangle, diamond, plus, cross, star };

struct SeriesStyle {
  QColor line;   // at least 3:1 against the plot background
  QColor band;   // opaque: an interval, or the area of a stack
  QList<qreal> dash;  // in pen widths; empty = solid
  bool thin = false;
  MarkerShape marker = MarkerShape::none;

  // Width in logical pixels. Dashes only where few points are drawn: a dashed pen costs the fast path.
  QPen pen(double width = 1.4, bool dashed = false) const;
};

class Theme {
 public:
  static constexpr int seriesCount = 8;

  QString name;
  bool dark = false;
  QColor window, plot, surface, raised, sunken, hover, pressed, border, borderStrong;
  QColor text, textSecondary, textDisabled, grid, accent, accentHover, accentText, selection;
  QColor better, worse;
  QColor attributionPlusWeak, attributionPlusStrong, attributionMinusWeak, attributionMinusStrong;
  QColor notice, noticeText, error, errorText;
  std::array<SeriesStyle, seriesCount> series;

  const SeriesStyle& style(int slot) const { return series[static_cast<size_t>(slot % seriesCount)]; }
  // Cividis, 0..1: readable under every colour vision.
  static QColor sequential(double share);
  // -1..1: blue, neutral (the plot background), orange.
  QColor diverging(double share) const;

  QPalette palette() const;
  // The template :/themes/workbench.qss with this theme's colours; sizes in pixels times fontScale.
  QString styleSheet(double fontScale) const;

  static Result<Theme> parse(const QByteArray& json, const QString& origin);
  static Theme builtIn(bool dark);  // those of the program; always there
};

// The interface font: the first family present, 13 px times fontScale.
QFont interfaceFont(double fontScale);
QFont monospaceFont(double fontScale);

}  // namespace winnow
