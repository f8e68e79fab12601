// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attribution/source_ranking.h"

#include <QEvent>
#include <QHeaderView>
#include <algorithm>

namespace winnow {
namespace {

constexpr int kRoom = 640;  // px from which the fourth column is worth its place

}  // namespace

SourceRanking::SourceRanking(SourceModel* model, QWidget* parent) : QTableView(parent), model_(model) {
  setModel(model);
  setAccessibleName(tr("Ranked sources"));
  setSelectionBehavior(QAbstractItemView::SelectRows);
  setSelectionMode(QAbstractItemView::SingleSelection);
  setShowGrid(false);
  setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
  setWordWrap(false);
  setTabKeyNavigation(false);
  setMouseTracking(true);
  delegate_ = new ScoreDelegate(this);
  setItemDelegateForColumn(SourceModel::Score, delegate_);
  verticalHeader()->hide();
  verticalHeader()->setDefaultSectionSize(fontMetrics().height() + 10);
  horizontalHeader()->setStretchLastSection(true);
  horizontalHeader()->setHighlightSections(false);
  horizontalHeader()->setMinimumSectionSize(30);
  connect(this, &QTableView::entered, this,
          [this](const QModelIndex& index) { Q_EMIT sourceHovered(index.data(SourceModel::SourceRole).toInt()); });
  connect(selectionModel(), &QItemSelectionModel::currentRowChanged, this, [this](const QModelIndex& now) {
    if (!quiet_ && now.isValid()) Q_EMIT sourceChosen(now.data(SourceModel::SourceRole).toInt());
  });
  connect(model, &QAbstractItemModel::modelReset, this, &SourceRanking::arrange);
}

void SourceRanking::setTheme(const Theme& theme) {
  delegate_->setTheme(theme);
  viewport()->update();
}

int SourceRanking::chosen() const { return currentIndex().isValid() ? currentIndex().data(SourceModel::SourceRole).toInt() : -1; }

void SourceRanking::setChosen(int source) {
  quiet_ = true;
  const int row = source < 0 ? -1 : model_->rowOf(source);
  if (row < 0) {
    selectionModel()->clear();
  } else if (currentIndex().row() != row) {
    setCurrentIndex(model_->index(row, SourceModel::Text));
    scrollTo(model_->index(row, SourceModel::Rank));
  }
  quiet_ = false;
}

void SourceRanking::arrange() {
  const QFontMetrics metrics = fontMetrics();
  const bool wide = viewport()->width() >= kRoom;
  setColumnHidden(SourceModel::Without, !wide);
  setColumnWidth(SourceModel::Rank, metrics.horizontalAdvance(QStringLiteral("888")) + 16);
  delegate_->setScale(model_->scale());
  setColumnWidth(SourceModel::Score, delegate_->numberWidth(metrics) + (wide ? 150 : 94));
  setColumnWidth(SourceModel::Times, metrics.horizontalAdvance(tr("Probability")) + 24);
  setColumnWidth(SourceModel::Without, metrics.horizontalAdvance(QStringLiteral("−88.8 nat")) + 24);
}

void SourceRanking::resizeEvent(QResizeEvent* event) {
  QTableView::resizeEvent(event);
  arrange();
}

bool SourceRanking::viewportEvent(QEvent* event) {
  if (event->type() == QEvent::Leave) Q_EMIT sourceHovered(-1);
  return QTableView::viewportEvent(event);
}

}  // namespace winnow
