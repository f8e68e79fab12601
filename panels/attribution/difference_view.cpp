// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attribution/difference_view.h"

#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QPushButton>
#include <QTableView>
#include <QToolButton>
#include <QVBoxLayout>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "panels/attribution/source_model.h"
#include "panels/text/wording.h"

namespace winnow {

void DifferenceModel::setDifference(std::optional<AttributionDifference> difference) {
  beginResetModel();
  difference_ = std::move(difference);
  order_.assign(difference_ ? difference_->rows.size() : 0, 0);
  std::iota(order_.begin(), order_.end(), 0);
  // What B lost most stands first; rows that cannot be compared last.
  std::stable_sort(order_.begin(), order_.end(), [this](int a, int b) {
    const auto& x = difference_->rows[static_cast<size_t>(a)].difference;
    const auto& y = difference_->rows[static_cast<size_t>(b)].difference;
    if (x.has_value() != y.has_value()) return x.has_value();
    return x && *x < *y;
  });
  endResetModel();
}

int DifferenceModel::rowOf(int source) const {
  for (int i = 0; i < rowCount(); ++i)
    if (row(i).source == source) return i;
  return -1;
}

ScoreScale DifferenceModel::scale() const {
  ScoreScale scale{1e-9, 1e-9, 0, false};
  if (!difference_) return scale;
  for (const auto& each : difference_->rows) {
    if (!each.difference) continue;
    scale.top = std::max(scale.top, *each.difference);
    scale.bottom = std::max(scale.bottom, -*each.difference);
    scale.noise = std::max(scale.noise, each.noise);
  }
  return scale;
}

QString DifferenceModel::verdict(const AttributionDifference::Row& row) const {
  if (!row.difference) return tr("not in both");
  if (std::fabs(*row.difference) <= row.noise) return tr("within noise");
  const double a = *row.a, b = *row.b;
  if (a > row.noise && b <= row.noise) return b < -row.noise ? tr("turned against") : tr("stopped reading");
  if (a > row.noise) return *row.difference < 0 ? tr("reads less") : tr("reads more");
  if (b > row.noise) return tr("started reading");
  return *row.difference < 0 ? tr("hurts more") : tr("hurts less");
}

QString DifferenceModel::number(const std::optional<double>& value, bool sign) const {
  if (!value) return Format::missing();
  const QString text = difference_->shares ? Format().fixed(*value * 100, 1) + Format::thinSpace + QLatin1Char('%') : Format().nats(*value);
  return sign && *value > 0 ? QLatin1Char('+') + text : text;
}

QVariant DifferenceModel::data(const QModelIndex& index, int role) const {
  if (!index.isValid() || !difference_) return {};
  const AttributionDifference::Row& at = row(index.row());
  switch (role) {
    case SourceRole: return at.source;
    case ScoreValueRole: return at.difference ? QVariant(*at.difference) : QVariant();
    case ScoreNoiseRole: return !at.difference || std::fabs(*at.difference) <= at.noise;
    case Qt::TextAlignmentRole: return static_cast<int>((index.column() >= Verdict ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
    case Qt::ToolTipRole:
    case Qt::DisplayRole: break;
    default: return {};
  }
  const QString text = SourceModel::nameOf(difference_->a.sources[static_cast<size_t>(at.source)]);
  if (role == Qt::ToolTipRole) return tr("A %1, B %2: %3").arg(number(at.a, true), number(at.b, true), text);
  switch (index.column()) {
    case Difference: return number(at.difference, true);
    case A: return number(at.a, true);
    case B: return number(at.b, true);
    case Verdict: return verdict(at);
    default: return text;
  }
}

QVariant DifferenceModel::headerData(int section, Qt::Orientation orientation, int role) const {
  if (orientation != Qt::Horizontal) return {};
  if (role == Qt::TextAlignmentRole) return static_cast<int>((section >= Verdict ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
  if (role != Qt::DisplayRole) return {};
  switch (section) {
    case Difference: return tr("B − A");
    case A: return tr("A");
    case B: return tr("B");
    case Verdict: return tr("B, beside A");
    default: return tr("Source");
  }
}

DifferenceView::DifferenceView(QWidget* parent) : QWidget(parent) {
  auto* column = new QVBoxLayout(this);
  column->setContentsMargins(4, 6, 0, 0);
  column->setSpacing(6);
  auto* row = new QHBoxLayout;
  names_ = new QLabel(this);
  names_->setObjectName(QStringLiteral("attribution.names"));
  names_->setWordWrap(true);
  names_->setTextFormat(Qt::PlainText);
  pin_ = new QToolButton(this);
  pin_->setText(tr("Pin knobs as A"));
  pin_->setObjectName(QStringLiteral("attribution.pin"));
  pin_->setCheckable(true);
  pin_->setToolTip(tr("Keep the knobs as they are now for A, and change them for B; released, A is the baseline"));
  compare_ = new QPushButton(tr("Compare"), this);
  compare_->setObjectName(QStringLiteral("attribution.compare"));
  row->addWidget(names_, 1);
  row->addWidget(pin_);
  row->addWidget(compare_);
  column->addLayout(row);
  summary_ = new QLabel(this);
  summary_->setObjectName(QStringLiteral("attribution.summary"));
  summary_->setProperty("role", QStringLiteral("secondary"));
  summary_->setWordWrap(true);
  column->addWidget(summary_);
  table_ = new QTableView(this);
  table_->setObjectName(QStringLiteral("attribution.differences"));
  table_->setAccessibleName(tr("Differences by source"));
  table_->setModel(&model_);
  delegate_ = new ScoreDelegate(table_);
  table_->setItemDelegateForColumn(DifferenceModel::Difference, delegate_);
  table_->setSelectionBehavior(QAbstractItemView::SelectRows);
  table_->setSelectionMode(QAbstractItemView::SingleSelection);
  table_->setShowGrid(false);
  table_->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
  table_->setWordWrap(false);
  table_->setTabKeyNavigation(false);
  table_->verticalHeader()->hide();
  table_->verticalHeader()->setDefaultSectionSize(fontMetrics().height() + 10);
  table_->horizontalHeader()->setStretchLastSection(true);
  table_->horizontalHeader()->setHighlightSections(false);
  column->addWidget(table_, 1);
  connect(compare_, &QPushButton::clicked, this, &DifferenceView::compareRequested);
  connect(pin_, &QToolButton::clicked, this, &DifferenceView::pinRequested);
  connect(table_->selectionModel(), &QItemSelectionModel::currentRowChanged, this, [this](const QModelIndex& now) {
    if (!quiet_ && now.isValid()) Q_EMIT sourceChosen(now.data(DifferenceModel::SourceRole).toInt());
  });
  setDifference(std::nullopt);
}

void DifferenceView::setTheme(const Theme& theme) {
  delegate_->setTheme(theme);
  table_->viewport()->update();
}

void DifferenceView::setNames(const QString& a, const QString& b) { names_->setText(tr("A: %1\nB: %2").arg(a, b)); }

void DifferenceView::setState(const QString& blocked, bool pinned) {
  compare_->setEnabled(blocked.isEmpty());
  compare_->setToolTip(blocked.isEmpty() ? tr("Attribute the same answer under both configurations") : blocked);
  pin_->setChecked(pinned);
}

void DifferenceView::setDifference(std::optional<AttributionDifference> difference) {
  model_.setDifference(std::move(difference));
  delegate_->setScale(model_.scale());
  arrange();
  const auto& now = model_.difference();
  table_->setVisible(now.has_value());
  if (!now) {
    summary_->setText(
        tr("Compare attributes one answer twice, under A and under B: what a compressed model stopped reading stands at the top."));
    return;
  }
  qint64 lost = 0, gained = 0;
  for (const auto& row : now->rows) {
    lost += row.difference && *row.difference < -row.noise;
    gained += row.difference && *row.difference > row.noise;
  }
  QStringList parts{plural(lost, tr("B relies less on %1 source"), tr("B relies less on %1 sources")),
                    plural(gained, tr("more on %1"), tr("more on %1")),
                    tr("rank correlation %1").arg(Format().fixed(now->rankCorrelation, 2))};
  if (now->shares) parts << tr("each as a share of its whole");
  QStringList notes;
  for (const std::string& note : now->notes) notes << QString::fromStdString(note);
  summary_->setToolTip(notes.join(QLatin1Char('\n')));
  summary_->setText((QStringList{parts.join(QStringLiteral(" · "))} + notes).join(QStringLiteral(". ")));
}

void DifferenceView::setChosen(int source) {
  quiet_ = true;
  const int row = source < 0 ? -1 : model_.rowOf(source);
  if (row < 0) table_->selectionModel()->clear();
  else if (table_->currentIndex().row() != row) table_->setCurrentIndex(model_.index(row, DifferenceModel::Text));
  quiet_ = false;
}

void DifferenceView::arrange() {
  const QFontMetrics metrics = fontMetrics();
  const bool wide = width() > 760;
  const int number = metrics.horizontalAdvance(QStringLiteral("−0.0123 nat")) + 20;
  for (const int column : {DifferenceModel::A, DifferenceModel::B}) {
    table_->setColumnHidden(column, width() < 700);  // the difference says it; the two are in the file
    table_->setColumnWidth(column, number);
  }
  table_->setColumnWidth(DifferenceModel::Difference, number + (wide ? 130 : 56));
  table_->setColumnWidth(DifferenceModel::Verdict, metrics.horizontalAdvance(tr("started reading")) + 20);
}

void DifferenceView::resizeEvent(QResizeEvent* event) {
  QWidget::resizeEvent(event);
  arrange();
}

QString DifferenceView::text() const {
  QString out;
  for (int column = 0; column < model_.columnCount(); ++column)
    out += (column ? QStringLiteral("\t") : QString()) + model_.headerData(column, Qt::Horizontal, Qt::DisplayRole).toString();
  for (int row = 0; row < model_.rowCount(); ++row) {
    out += QLatin1Char('\n');
    for (int column = 0; column < model_.columnCount(); ++column)
      out += (column ? QStringLiteral("\t") : QString()) + model_.index(row, column).data().toString();
  }
  return out;
}

}  // namespace winnow
