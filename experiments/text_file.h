// SPDX-License-Identifier: GPL-3.0-or-later
// Whole files that people name: texts and plans. Never waits for a pipe that nobody writes to, never reads without end.
#pragma once
#include <QString>
#include <string>

#include "engine/core/result.h"

namespace winnow {

inline constexpr qint64 kLargestText = qint64{1} << 30;  // bytes

Result<std::string> readTextFile(const QString& path, qint64 limit = kLargestText);

}  // namespace winnow
