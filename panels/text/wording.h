// SPDX-License-Identifier: GPL-3.0-or-later
// Small helpers for text on screen.
#pragma once
#include <QFont>
#include <QString>

#include "experiments/format.h"

namespace winnow {

// "1 run", "12 480 runs": the whole phrase is given for both, with %1 where the number goes.
inline QString plural(qint64 n, const QString& one, const QString& many) { return (n == 1 ? one : many).arg(Format().count(n)); }

inline QFont scaledFont(QFont font, double factor) {
  if (font.pixelSize() > 0) font.setPixelSize(std::max(8, static_cast<int>(font.pixelSize() * factor + 0.5)));
  else font.setPointSizeF(font.pointSizeF() * factor);
  return font;
}

}  // namespace winnow
