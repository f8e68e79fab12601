// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/kept_mass_dialog.h"

#include <QHBoxLayout>
#include <QLabel>
#include <QPushButton>
#include <QSpinBox>
#include <QStyle>
#include <QVBoxLayout>

#include "app/gui/job_button.h"
#include "app/gui/text_choice.h"
#include "experiments/format.h"
#include "panels/cache/kept_mass_map.h"

namespace winnow {

KeptMassDialog::KeptMassDialog(Workbench* workbench, const Theme& theme, QWidget* parent) : QDialog(parent), workbench_(workbench) {
  setWindowTitle(tr("Attention kept"));
  resize(860, 560);
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(16, 16, 16, 16);
  all->setSpacing(10);
  all->addWidget(buildControls());
  all_ = new QLabel(this);
  all_->setObjectName(QStringLiteral("kept.all"));
  all_->setWordWrap(true);
  all->addWidget(all_);
  map_ = new KeptMassMap(this);
  map_->setObjectName(QStringLiteral("kept.map"));
  all->addWidget(map_, 1);
  said_ = new QLabel(this);
  said_->setObjectName(QStringLiteral("kept.said"));
  said_->setWordWrap(true);
  all->addWidget(said_);
  setTheme(theme);
  connect(map_, &KeptMassMap::cellChosen, this, [this](const QString& text) { say(text); });
  connect(workbench_, &Workbench::modelChanged, this, &KeptMassDialog::forget);
  connect(workbench_, &Workbench::jobFailed, this, [this](const QString& message, const QString& hint) {
    if (isVisible()) say(hint.isEmpty() ? message : message + QLatin1Char(' ') + hint, true);
  });
  connect(workbench_, &Workbench::keptMassMeasured, this, &KeptMassDialog::showKept);
  forget();
}

QWidget* KeptMassDialog::buildControls() {
  auto* bar = new QWidget(this);
  auto* row = new QHBoxLayout(bar);
  row->setContentsMargins(0, 0, 0, 0);
  row->setSpacing(8);
  row->addWidget(new QLabel(tr("Text"), bar));
  text_ = new TextChoice(QStringLiteral("kept"), bar);
  row->addWidget(text_, 1);
  row->addWidget(new QLabel(tr("Tokens"), bar));
  tokens_ = new QSpinBox(bar);
  tokens_->setObjectName(QStringLiteral("kept.tokens"));
  tokens_->setAccessibleName(tr("Tokens"));
  tokens_->setToolTip(tr("Of the text, and never more than the model's context; the second half of them are the queries"));
  tokens_->setRange(2, 1 << 16);
  tokens_->setValue(256);
  row->addWidget(tokens_);
  measure_ = new JobButton(workbench_, JobState::Kind::keptMass, QStringLiteral("kept.measure"), QBoxLayout::LeftToRight, bar);
  measure_->button()->setDefault(true);
  row->addWidget(measure_);
  connect(measure_, &JobButton::wanted, this, &KeptMassDialog::measure);
  return bar;
}

void KeptMassDialog::setTheme(const Theme& theme) { map_->setTheme(theme); }

void KeptMassDialog::measure() {
  KeptMassSpec spec;
  spec.tokens = tokens_->value();
  auto text = text_->read();
  if (!text) return say(QString::fromStdString(text.error().message), true);
  spec.text = std::move(*text);
  say({});
  workbench_->measureKeptMass(spec);
}

void KeptMassDialog::showKept(const KeptMass& kept, const Config& config) {
  const Format f;
  const KeptMass::Head mean = kept.mean();
  const QString settings = QString::fromStdString(config.canonical());
  all_->setText(tr("%1 of the whole cache's attention falls on what is kept, %2 of positions (%3 queries after a prompt of %4 tokens; %5).")
                    .arg(f.percent(mean.mass), f.percent(mean.held), f.count(kept.queries), f.count(kept.prompt), settings.isEmpty() ? tr("every setting at its default") : settings));
  map_->setKept(kept);
  say(tr("Choose a layer or a head."));
}

void KeptMassDialog::forget() {
  map_->clear(workbench_->hasModel() ? tr("Measure to see how much of the attention over the text falls on the tokens that the cache setting keeps (kv.policy, kv.budget), layer by layer and head by head.")
                                     : tr("Open a model first."));
  all_->clear();
  say({});
  measure_->refresh();
}

void KeptMassDialog::say(const QString& text, bool error) {
  said_->setProperty("role", error ? QStringLiteral("error") : QStringLiteral("secondary"));
  said_->style()->unpolish(said_);
  said_->style()->polish(said_);
  said_->setText(text);
}

}  // namespace winnow
