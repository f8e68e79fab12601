// SPDX-License-Identifier: GPL-3.0-or-later
// What of a weight report is looked at.
#pragma once
#include <QString>
#include <optional>

#include "experiments/weight_watch.h"

namespace winnow {

enum class WeightQuantity { sqnr, relativeError, outputError, bits, sparsity, count };

QString quantityName(WeightQuantity quantity);                       // "SQNR"
QString quantityUnit(WeightQuantity quantity);                       // "dB", "bit", "%" or ""
QString quantityMeaning(WeightQuantity quantity);                    // a sentence
QString quantityKey(WeightQuantity quantity);                        // "sqnr_db", for files
// nullopt: not known. Infinite: an SQNR without noise.
std::optional<double> quantityOf(const TensorReport& row, WeightQuantity quantity);
QString quantityText(std::optional<double> value, WeightQuantity quantity);      // "20.3 dB", "exact", an en dash
QString quantityShort(std::optional<double> value, WeightQuantity quantity);     // "20.3", fits a cell
QString matrixLabel(const TensorReport& row);                        // "layer 3 down", "embedding"
QString roleLabel(TensorRole role);                                  // "down", "embedding"

}  // namespace winnow
