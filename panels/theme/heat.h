// SPDX-License-Identifier: GPL-3.0-or-later
// What heat maps share: ink that can be read on a cell, and the bar that says what its colours mean.
#pragma once
#include "panels/theme/theme.h"

class QPainter;
class QRect;

namespace winnow {

QColor inkOn(const QColor& fill);

// Theme::sequential from `low` on the left to `high` on the right, each beside the bar, in a strip as high as a line and 16 pixels.
void paintHeatLegend(QPainter& painter, const Theme& theme, const QRect& strip, const QString& low, const QString& high);

}  // namespace winnow
