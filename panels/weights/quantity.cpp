// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/weights/quantity.h"

#include <QCoreApplication>
#include <cmath>

#include "experiments/format.h"

namespace winnow {
namespace {
QString tr(const char* text) { return QCoreApplication::translate("winnow::WeightQuantity", text); }
}  // namespace

QString quantityName(WeightQuantity quantity) {
  switch (quantity) {
    case WeightQuantity::sqnr: return tr("SQNR");
    case WeightQuantity::relativeError: return tr("Relative error");
    case WeightQuantity::outputError: return tr("Output error");
    case WeightQuantity::bits: return tr("Bits per weight");
    default: return tr("Zeros");
  }
}

QString quantityUnit(WeightQuantity quantity) {
  switch (quantity) {
    case WeightQuantity::sqnr: return QStringLiteral("dB");
    case WeightQuantity::bits: return QStringLiteral("bit");
    default: return QStringLiteral("%");
  }
}

QString quantityMeaning(WeightQuantity quantity) {
  switch (quantity) {
    case WeightQuantity::sqnr: return tr("Energy of the weights over that of their error. More is better; 6 dB are about one bit.");
    case WeightQuantity::relativeError: return tr("||W − W′|| / ||W||. Less is better.");
    case WeightQuantity::outputError: return tr("Relative error with each input channel weighed by its norm on the calibration text. Known where a method calibrates.");
    case WeightQuantity::bits: return tr("Stored bits per weight, scales and minimums included.");
    default: return tr("Share of weights that are zero.");
  }
}

QString quantityKey(WeightQuantity quantity) {
  constexpr const char* keys[] = {"sqnr_db", "relative_error", "output_error", "bits_per_weight", "zeros"};
  return QLatin1String(keys[static_cast<size_t>(quantity)]);
}

std::optional<double> quantityOf(const TensorReport& row, WeightQuantity quantity) {
  switch (quantity) {
    case WeightQuantity::sqnr: return row.sqnr();
    case WeightQuantity::relativeError: return row.relativeError();
    case WeightQuantity::outputError: return row.outputError;
    case WeightQuantity::bits: return row.bits;
    default: return row.sparsity;
  }
}

QString quantityShort(std::optional<double> value, WeightQuantity quantity) {
  if (!value) return Format::missing();
  if (std::isinf(*value)) return QStringLiteral("=");
  const bool share = quantityUnit(quantity) == QLatin1String("%");
  return Format().significant(share ? *value * 100 : *value);
}

QString quantityText(std::optional<double> value, WeightQuantity quantity) {
  if (!value) return Format::missing();
  if (std::isinf(*value)) return tr("exact");
  return quantityShort(value, quantity) + Format::thinSpace + quantityUnit(quantity);
}

QString roleLabel(TensorRole role) {
  switch (role) {
    case TensorRole::tokenEmbedding: return tr("embedding");
    case TensorRole::positionEmbedding: return tr("positions");
    default: {
      const std::string_view name = tensorRoleName(role);
      return QString::fromUtf8(name.data(), static_cast<qsizetype>(name.size()));
    }
  }
}

QString matrixLabel(const TensorReport& row) {
  return row.layer < 0 ? roleLabel(row.role) : tr("layer %1 %2").arg(row.layer).arg(roleLabel(row.role));
}

}  // namespace winnow
