// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attribution/source_model.h"

#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "experiments/format.h"

namespace winnow {

void SourceModel::setResult(const AttributeResult& result) {
  beginResetModel();
  sources_ = result.sources;
  noise_ = result.noiseFloor;
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

bool SourceModel::isNoise(const Source& source) const { return !source.score || std::fabs(*source.score) <= noise_; }

QString SourceModel::times(double nats) {
  const Format format;
  if (nats >= 0) return QStringLiteral("×") + format.significant(std::exp(nats), 2);
  return QStringLiteral("÷") + format.significant(std::exp(-nats), 2);
}

QVariant SourceModel::data(const QModelIndex& index, int role) const {
  if (!index.isValid()) return {};
  const Source& source = sources_[static_cast<size_t>(order_[static_cast<size_t>(index.row())])];
  if (role == SourceRole) return source.id;
  const QString text = QString::fromStdString(source.text).simplified();
  if (role == Qt::ToolTipRole) {
    if (!source.score) return tr("Not evaluated yet: %1").arg(text);
    if (isNoise(source)) return tr("Below the noise floor of %1: %2").arg(Format().nats(noise_), text);
    if (*source.score > 0) return tr("The response is %1 as likely with this source: %2").arg(times(*source.score), text);
    return tr("The response is likelier without this source: %1").arg(text);
  }
  if (role == Qt::TextAlignmentRole && index.column() != Text) return static_cast<int>(Qt::AlignRight | Qt::AlignVCenter);
  if (role == Qt::AccessibleTextRole)
    return QStringLiteral("%1 %2").arg(source.score ? Format().nats(*source.score) : tr("not evaluated"), text);
  if (role != Qt::DisplayRole) return {};
  switch (index.column()) {
    case Rank: return source.score ? QVariant(index.row() + 1) : QVariant(Format::missing());
    case Score:
      return source.score ? (*source.score > 0 ? QStringLiteral("+") : QString()) + Format().nats(*source.score) : Format::missing();
    case Times: return !source.score ? Format::missing() : isNoise(source) ? tr("noise") : times(*source.score);
    case Text: return text;
    default: return {};
  }
}

QVariant SourceModel::headerData(int section, Qt::Orientation orientation, int role) const {
  if (orientation != Qt::Horizontal) return {};
  if (role == Qt::DisplayRole) {
    switch (section) {
      case Rank: return tr("#");
      case Score: return tr("Score");
      case Times: return tr("Probability");
      case Text: return tr("Source");
      default: return {};
    }
  }
  if (role == Qt::ToolTipRole && section == Score)
    return tr("log p(response | whole context) − log p(response | context without the source)");
  return {};
}

int SourceModel::rowOf(int source) const {
  for (size_t i = 0; i < order_.size(); ++i)
    if (sources_[static_cast<size_t>(order_[i])].id == source) return static_cast<int>(i);
  return -1;
}

QByteArray SourceModel::toCsv() const {
  QByteArray out = "id,start_byte,end_byte,score_nat,text\r\n";
  for (const Source& source : sources_) {
    QByteArray text = QByteArray::fromStdString(source.text);
    text.replace('"', "\"\"");
    out += QByteArray::number(source.id) + ',' + QByteArray::number(static_cast<qlonglong>(source.start)) + ',' +
           QByteArray::number(static_cast<qlonglong>(source.end)) + ',' +
           (source.score ? QByteArray::number(*source.score, 'g', 9) : QByteArray()) + ",\"" + text + "\"\r\n";
  }
  return out;
}

QByteArray SourceModel::toJson(const AttributeResult& result) const {
  QJsonArray list;
  for (const Source& source : sources_) {
    list.append(QJsonObject{{QStringLiteral("id"), source.id},
                            {QStringLiteral("text"), QString::fromStdString(source.text)},
                            {QStringLiteral("start"), static_cast<qint64>(source.start)},
                            {QStringLiteral("end"), static_cast<qint64>(source.end)},
                            {QStringLiteral("score"), source.score ? QJsonValue(*source.score) : QJsonValue()}});
  }
  const QJsonObject all{{QStringLiteral("method"), QString::fromStdString(result.method)},
                        {QStringLiteral("response"), QString::fromStdString(result.response)},
                        {QStringLiteral("noise_floor"), result.noiseFloor},
                        {QStringLiteral("complete"), result.complete},
                        {QStringLiteral("forwards"), static_cast<qint64>(result.forwards)},
                        {QStringLiteral("forward_tokens"), static_cast<qint64>(result.forwardTokens)},
                        {QStringLiteral("ms"), result.ms},
                        {QStringLiteral("sources"), list}};
  return QJsonDocument(all).toJson();
}

}  // namespace winnow
