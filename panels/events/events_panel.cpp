// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/events/events_panel.h"

#include <QApplication>
#include <QClipboard>
#include <QComboBox>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QScrollBar>
#include <QTableView>
#include <QToolButton>
#include <QVBoxLayout>

namespace winnow {

EventsPanel::EventsPanel(QWidget* parent) : QWidget(parent) {
  setObjectName(QStringLiteral("events"));
  setAccessibleName(tr("Events"));
  filter_.setSourceModel(&model_);
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(8, 6, 8, 8);
  all->setSpacing(4);
  auto* bar = new QHBoxLayout;
  level_ = new QComboBox(this);
  level_->setObjectName(QStringLiteral("events.level"));
  level_->setAccessibleName(tr("Least level shown"));
  level_->addItem(tr("All events"), QStringLiteral("info"));
  level_->addItem(tr("Notices and graver"), QStringLiteral("notice"));
  level_->addItem(tr("Warnings and errors"), QStringLiteral("warning"));
  level_->addItem(tr("Errors"), QStringLiteral("error"));
  auto* copy = new QToolButton(this);
  copy->setText(tr("Copy"));
  copy->setObjectName(QStringLiteral("events.copy"));
  copy->setMinimumHeight(24);
  copy->setToolTip(tr("Copy the events shown"));
  auto* clear = new QToolButton(this);
  clear->setText(tr("Clear"));
  clear->setMinimumHeight(24);
  bar->addWidget(level_);
  bar->addStretch(1);
  bar->addWidget(copy);
  bar->addWidget(clear);
  all->addLayout(bar);
  table_ = new QTableView(this);
  table_->setObjectName(QStringLiteral("events.table"));
  table_->setAccessibleName(tr("Events"));
  table_->setModel(&filter_);
  table_->verticalHeader()->hide();
  table_->verticalHeader()->setDefaultSectionSize(fontMetrics().height() + 8);
  table_->horizontalHeader()->hide();
  table_->horizontalHeader()->setStretchLastSection(true);
  table_->setColumnWidth(EventModel::Time, fontMetrics().horizontalAdvance(QStringLiteral("00:00:00")) + 28);
  table_->setColumnWidth(EventModel::Level, fontMetrics().horizontalAdvance(QStringLiteral("warning")) + 28);
  table_->setShowGrid(false);
  table_->setWordWrap(false);
  table_->setSelectionBehavior(QAbstractItemView::SelectRows);
  table_->setTabKeyNavigation(false);
  all->addWidget(table_, 1);
  connect(level_, &QComboBox::currentIndexChanged, this, [this] { filter_.setLeast(level_->currentData().toString()); });
  connect(copy, &QToolButton::clicked, this, [this] { QApplication::clipboard()->setText(visibleText()); });
  connect(clear, &QToolButton::clicked, this, [this] { model_.clear(); });
}

void EventsPanel::add(const LogLine& line) {
  const bool atEnd = table_->verticalScrollBar()->value() >= table_->verticalScrollBar()->maximum() - 1;
  model_.add(line);
  if (atEnd) table_->scrollToBottom();
}

QString EventsPanel::visibleText() const {
  QStringList lines;
  for (int row = 0; row < filter_.rowCount(); ++row) lines << model_.asText(filter_.mapToSource(filter_.index(row, 0)).row());
  return lines.join(QLatin1Char('\n'));
}

}  // namespace winnow
