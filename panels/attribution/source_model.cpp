// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attribution/source_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "experiments/format.h"

namespace winnow {

void SourceModel::setResult(const AttributeResult& result) {
  beginResetModel();
  sources_ = result.sources;
  noise_ = result.noiseFloor;
  const AttributionMethod* method = findAttributionMethod(result.method);
  nats_ = !method || method->nats;
  order_.resize(sources_.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(), [this](int a, int b) {
    const auto& x = sources_[static_cast<size_t>(a)].score;
    const auto& y = sources_[static_cast<size_t>(b)].score;
    if (x.has_value() != y.has_value()) return x.has_value();
    return x && *x > *y;
  });
  endResetModel();
}

void SourceModel::clear() {
  beginResetModel();
  sources_.clear();
  order_.clear();
  endResetModel();
}

bool SourceModel::isNoise(const Source& source) const {
  return !source.score || std::fabs(*source.score) <= std::max(noise_, source.standardError.value_or(0) * 2);
}

ScoreScale SourceModel::scale() const {
  ScoreScale scale{1e-9, 0, noise_, false};
  for (const Source& source : sources_) {
    if (!source.score) continue;
    const double error = source.standardError.value_or(0);
    scale.top = std::max(scale.top, *source.score + error);
    scale.bottom = std::max(scale.bottom, error - *source.score);
    scale.errors |= source.standardError.has_value();
  }
  return scale;
}

QString SourceModel::times(double nats) {
  const Format format;
  if (nats >= 0) return QStringLiteral("×") + format.significant(std::exp(nats), 2);
  return QStringLiteral("÷") + format.significant(std::exp(-nats), 2);
}

QString SourceModel::nameOf(const Source& source) {
  const QString text = QString::fromStdString(source.text).simplified();
  return source.label.empty() ? text : QString::fromStdString(source.label).simplified() + QStringLiteral(": ") + text;
}

QString SourceModel::valueText(const Source& source) const {
  if (!source.score) return Format::missing();
  const Format format;
  QString number = format.significant(*source.score);
  if (*source.score > 0) number.prepend(QLatin1Char('+'));
  if (source.standardError) number += QStringLiteral(" ± ") + format.significant(*source.standardError, 2);
  return nats_ ? number + Format::thinSpace + QStringLiteral("nat") : number;
}

QVariant SourceModel::toolTip(const Source& source) const {
  const QString text = nameOf(source);
  if (!source.score) return tr("Not evaluated: %1").arg(text);
  if (isNoise(source))
    return source.standardError && std::fabs(*source.score) > noise_
               ? tr("Within two standard errors of nothing: %1").arg(text)
               : tr("Below the noise floor of %1: %2").arg(Format().nats(noise_), text);
  if (!nats_) return text;
  if (*source.score > 0) return tr("The response is %1 as likely with this source: %2").arg(times(*source.score), text);
  return tr("The response is likelier without this source: %1").arg(text);
}

QVariant SourceModel::data(const QModelIndex& index, int role) const {
  if (!index.isValid()) return {};
  const Source& source = sources_[static_cast<size_t>(order_[static_cast<size_t>(index.row())])];
  switch (role) {
    case SourceRole: return source.id;
    case ScoreValueRole: return source.score ? QVariant(*source.score) : QVariant();
    case ScoreErrorRole: return source.standardError ? QVariant(*source.standardError) : QVariant();
    case ScoreNoiseRole: return isNoise(source);
    case Qt::ToolTipRole: return toolTip(source);
    case Qt::TextAlignmentRole: return static_cast<int>((index.column() == Text ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
    case Qt::AccessibleTextRole:
      if (index.column() == Score)
        return source.score ? valueText(source) + (isNoise(source) ? tr(", noise") : QString()) : tr("not evaluated");
      [[fallthrough]];
    case Qt::DisplayRole: break;
    default: return {};
  }
  switch (index.column()) {
    case Rank: return source.score ? QVariant(index.row() + 1) : QVariant(Format::missing());
    case Score: return valueText(source);
    case Times: return !source.score || !nats_ ? Format::missing() : isNoise(source) ? tr("noise") : times(*source.score);
    case Without: return source.ablatedLogProb ? Format().nats(*source.ablatedLogProb) : Format::missing();
    case Text: return nameOf(source);
    default: return {};
  }
}

QVariant SourceModel::headerData(int section, Qt::Orientation orientation, int role) const {
  if (orientation != Qt::Horizontal) return {};
  if (role == Qt::TextAlignmentRole) return static_cast<int>((section == Text ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
  if (role == Qt::DisplayRole) {
    switch (section) {
      case Rank: return tr("#");
      case Score: return tr("Score");
      case Times: return tr("Probability");
      case Without: return tr("Without it");
      case Text: return tr("Source");
      default: return {};
    }
  }
  if (role == Qt::ToolTipRole) {
    if (section == Score)
      return tr("log p(response | whole context) − log p(response | context without the source), in nats; 2.30 is a factor of ten");
    if (section == Times) return tr("How many times likelier the response is with the source than without it");
    if (section == Without) return tr("log p(response | context without the source)");
  }
  return {};
}

int SourceModel::rowOf(int source) const {
  for (size_t i = 0; i < order_.size(); ++i)
    if (sources_[static_cast<size_t>(order_[i])].id == source) return static_cast<int>(i);
  return -1;
}

}  // namespace winnow
