// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/events/event_model.h"

#include <QDateTime>

namespace winnow {

int eventRank(const QString& level) {
  if (level == QStringLiteral("error")) return 3;
  if (level == QStringLiteral("warning")) return 2;
  return level == QStringLiteral("notice") ? 1 : 0;
}

void EventModel::add(const LogLine& line) {
  if (lines_.size() >= kLimit) {
    const int drop = kLimit / 10;
    beginRemoveRows({}, 0, drop - 1);
    lines_.erase(lines_.begin(), lines_.begin() + drop);
    endRemoveRows();
  }
  const int row = static_cast<int>(lines_.size());
  beginInsertRows({}, row, row);
  lines_.push_back(line);
  endInsertRows();
}

void EventModel::clear() {
  beginResetModel();
  lines_.clear();
  endResetModel();
}

QVariant EventModel::data(const QModelIndex& index, int role) const {
  if (!index.isValid()) return {};
  const LogLine& line = lines_[static_cast<size_t>(index.row())];
  if (role == LevelRole) return line.level;
  if (role == Qt::ToolTipRole) return line.code.isEmpty() ? line.text : QStringLiteral("%1\n%2").arg(line.text, line.code);
  if (role == Qt::AccessibleTextRole) return asText(index.row());
  if (role != Qt::DisplayRole) return {};
  switch (index.column()) {
    case Time: return QDateTime::fromMSecsSinceEpoch(line.utcMs).toString(QStringLiteral("HH:mm:ss"));
    case Level: return line.level;
    case Text: return line.text;
    default: return {};
  }
}

QVariant EventModel::headerData(int section, Qt::Orientation orientation, int role) const {
  if (orientation != Qt::Horizontal || role != Qt::DisplayRole) return {};
  switch (section) {
    case Time: return tr("Time");
    case Level: return tr("Level");
    case Text: return tr("What happened");
    default: return {};
  }
}

QString EventModel::asText(int row) const {
  const LogLine& line = lines_[static_cast<size_t>(row)];
  return QStringLiteral("%1 %2 %3 %4")
      .arg(QDateTime::fromMSecsSinceEpoch(line.utcMs).toUTC().toString(Qt::ISODateWithMs), line.level, line.code, line.text);
}

void EventFilter::setLeast(const QString& level) {
  least_ = eventRank(level);
  invalidateFilter();
}

bool EventFilter::filterAcceptsRow(int row, const QModelIndex& parent) const {
  return eventRank(sourceModel()->index(row, 0, parent).data(EventModel::LevelRole).toString()) >= least_;
}

}  // namespace winnow
