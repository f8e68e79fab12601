// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include <QColor>
#include <QIcon>

namespace winnow {

// A line icon of resources/icons in the given colours. Empty for an unknown name.
QIcon lineIcon(const QString& name, const QColor& colour, const QColor& disabled);

}  // namespace winnow
