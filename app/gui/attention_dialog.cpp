// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/attention_dialog.h"

#include <QHBoxLayout>
#include <QLabel>
#include <QPushButton>
#include <QSpinBox>
#include <QSplitter>
#include <QStyle>
#include <QVBoxLayout>

#include "app/gui/job_button.h"
#include "app/gui/text_choice.h"
#include "panels/attention/attention_map.h"
#include "panels/attention/head_grid.h"

namespace winnow {

AttentionDialog::AttentionDialog(Workbench* workbench, const Theme& theme, QWidget* parent) : QDialog(parent), workbench_(workbench) {
  setWindowTitle(tr("Where heads look"));
  resize(960, 640);
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(16, 16, 16, 16);
  all->setSpacing(10);
  all->addWidget(buildControls());
  grid_ = new HeadGrid(this);
  grid_->setObjectName(QStringLiteral("attention.grid"));
  map_ = new AttentionMap(this);
  map_->setObjectName(QStringLiteral("attention.map"));
  auto* both = new QSplitter(this);
  both->addWidget(grid_);
  both->addWidget(map_);
  both->setChildrenCollapsible(false);
  both->setStretchFactor(0, 2);
  both->setStretchFactor(1, 3);
  both->setSizes({380, 540});
  all->addWidget(both, 1);
  head_ = new QLabel(this);
  head_->setObjectName(QStringLiteral("attention.head"));
  said_ = new QLabel(this);
  said_->setObjectName(QStringLiteral("attention.said"));
  for (QLabel* each : {head_, said_}) {
    each->setWordWrap(true);
    all->addWidget(each);
  }
  setTheme(theme);
  connect(grid_, &HeadGrid::headChosen, this, [this](int layer, int head) {
    map_->setHead(layer, head);
    head_->setText(grid_->describe(layer, head));
  });
  connect(map_, &AttentionMap::cellChosen, this, [this](const QString& text) { say(text); });
  connect(workbench_, &Workbench::modelChanged, this, &AttentionDialog::forget);
  connect(workbench_, &Workbench::jobFailed, this, [this](const QString& message, const QString& hint) {
    if (isVisible()) say(hint.isEmpty() ? message : message + QLatin1Char(' ') + hint, true);
  });
  connect(workbench_, &Workbench::attentionMeasured, this, [this](const AttentionMaps& maps) {
    map_->setMaps(maps);
    grid_->setMaps(maps);
    say(maps.perCell > 1 ? tr("%1 tokens, %2 to a cell. Choose a head, then a cell.").arg(maps.tokens).arg(maps.perCell)
                         : tr("%1 tokens. Choose a head, then a cell.").arg(maps.tokens));
  });
  forget();
}

QWidget* AttentionDialog::buildControls() {
  auto* bar = new QWidget(this);
  auto* row = new QHBoxLayout(bar);
  row->setContentsMargins(0, 0, 0, 0);
  row->setSpacing(8);
  row->addWidget(new QLabel(tr("Text"), bar));
  text_ = new TextChoice(QStringLiteral("attention"), bar);
  row->addWidget(text_, 1);
  row->addWidget(new QLabel(tr("Tokens"), bar));
  tokens_ = new QSpinBox(bar);
  tokens_->setObjectName(QStringLiteral("attention.tokens"));
  tokens_->setAccessibleName(tr("Tokens"));
  tokens_->setToolTip(tr("Of the text, and never more than the model's context"));
  tokens_->setRange(2, 1 << 16);
  tokens_->setValue(128);
  row->addWidget(tokens_);
  measure_ = new JobButton(workbench_, JobState::Kind::attention, QStringLiteral("attention.measure"), QBoxLayout::LeftToRight, bar);
  measure_->button()->setDefault(true);
  row->addWidget(measure_);
  connect(measure_, &JobButton::wanted, this, &AttentionDialog::measure);
  return bar;
}

void AttentionDialog::setTheme(const Theme& theme) {
  grid_->setTheme(theme);
  map_->setTheme(theme);
}

void AttentionDialog::measure() {
  AttentionSpec spec;
  spec.tokens = tokens_->value();
  auto text = text_->read();
  if (!text) return say(QString::fromStdString(text.error().message), true);
  spec.text = std::move(*text);
  say({});
  workbench_->measureAttention(spec);
}

void AttentionDialog::forget() {
  grid_->clear(workbench_->hasModel() ? tr("Measure to see where every head looks while the model reads the text: the cache whole, nothing shared.") : tr("Open a model first."));
  map_->clear({});
  head_->clear();
  say({});
  measure_->refresh();
}

void AttentionDialog::say(const QString& text, bool error) {
  said_->setProperty("role", error ? QStringLiteral("error") : QStringLiteral("secondary"));
  said_->style()->unpolish(said_);
  said_->style()->polish(said_);
  said_->setText(text);
}

}  // namespace winnow
