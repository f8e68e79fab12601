// SPDX-License-Identifier: GPL-3.0-or-later
// Lists of numbers as a person types them.
#pragma once
#include <QString>
#include <vector>

#include "app/gui/measure_dialog.h"
#include "engine/core/result.h"

namespace winnow {

// "128, 256" as numbers from low to high; an error names the field.
template <class Number>
Result<std::vector<Number>> numbersIn(const QString& text, const QString& field, double low, double high) {
  std::vector<Number> out;
  for (const QString& word : text.split(u',', Qt::SkipEmptyParts)) {
    bool read = false;
    const double value = word.trimmed().toDouble(&read);
    if (!read || !(value >= low && value <= high) || static_cast<double>(static_cast<Number>(value)) != value)
      return Error{ErrorCode::usage, MeasureDialog::tr("%1: \"%2\" is not a number from %3 to %4.").arg(field, word.trimmed()).arg(low).arg(high).toStdString(),
                   MeasureDialog::tr("Separate numbers by commas.").toStdString()};
    out.push_back(static_cast<Number>(value));
  }
  if (out.empty()) return Error{ErrorCode::usage, MeasureDialog::tr("%1 is empty.").arg(field).toStdString(), MeasureDialog::tr("Give at least one number.").toStdString()};
  return out;
}

}  // namespace winnow
