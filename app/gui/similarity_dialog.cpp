// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/similarity_dialog.h"

#include <QComboBox>
#include <QDoubleSpinBox>
#include <QFormLayout>
#include <QHBoxLayout>
#include <QLabel>
#include <QLineEdit>
#include <QPushButton>
#include <QSignalBlocker>
#include <QStyle>
#include <QVBoxLayout>

#include "app/gui/job_button.h"
#include "app/gui/text_choice.h"
#include "engine/share/methods.h"
#include "panels/sharing/likeness_map.h"

namespace winnow {

SimilarityDialog::SimilarityDialog(Workbench* workbench, const Theme& theme, QWidget* parent) : QDialog(parent), workbench_(workbench) {
  setWindowTitle(tr("Layers that attend alike"));
  resize(900, 560);
  view_ = new LikenessMap(this);
  view_->setObjectName(QStringLiteral("similarity.map"));
  setTheme(theme);
  auto* both = new QHBoxLayout(this);
  both->setContentsMargins(16, 16, 16, 16);
  both->setSpacing(16);
  both->addWidget(view_, 1);
  both->addWidget(buildControls());
  connect(workbench_, &Workbench::modelChanged, this, &SimilarityDialog::forget);
  connect(workbench_, &Workbench::jobFailed, this, [this](const QString& message, const QString& hint) {
    if (isVisible()) say(hint.isEmpty() ? message : message + QLatin1Char(' ') + hint, true);
  });
  connect(workbench_, &Workbench::similarityMeasured, this, [this](const SimilarityMap& map) {
    map_ = map;
    showMap();
  });
  forget();
}

void SimilarityDialog::setTheme(const Theme& theme) { view_->setTheme(theme); }

QWidget* SimilarityDialog::buildControls() {
  auto* side = new QWidget(this);
  side->setFixedWidth(300);
  auto* column = new QVBoxLayout(side);
  column->setContentsMargins(0, 0, 0, 0);
  auto* form = new QFormLayout;
  form->setVerticalSpacing(8);
  form->setFieldGrowthPolicy(QFormLayout::AllNonFixedFieldsGrow);
  const auto row = [&](const QString& label, QWidget* field, const char* name, const QString& tip) {
    field->setObjectName(QStringLiteral("similarity.") + QLatin1String(name));
    field->setAccessibleName(label);
    field->setToolTip(tip);
    form->addRow(label, field);
  };
  const auto number = [&](int low, int high, int value) {
    auto* spin = new QSpinBox(side);
    spin->setRange(low, high);
    spin->setValue(value);
    return spin;
  };
  row(tr("Text"), text_ = new TextChoice(QStringLiteral("similarity"), side), "text", tr("Attention is compared while the model reads it"));
  row(tr("Tokens"), tokens_ = number(4, 1 << 20, 1024), "tokens", tr("Of the text, in windows of 256 or of the model's context"));
  measure_ = new JobButton(workbench_, JobState::Kind::similarity, QStringLiteral("similarity.measure"), QBoxLayout::TopToBottom, side);
  form->addRow(measure_);
  which_ = new QComboBox(side);
  which_->addItems({tr("rows of each head"), tr("rows without the first token"), tr("whole windows of each head"), tr("rows of the mean over heads")});
  row(tr("Compare"), which_, "which", tr("Cosine of the attention of two layers. A sink on the first token makes unrelated layers alike: leave it out to see more"));
  threshold_ = new QDoubleSpinBox(side);
  threshold_->setRange(0, 1);
  threshold_->setSingleStep(0.01);
  threshold_->setValue(0.95);
  row(tr("Alike from"), threshold_, "threshold", tr("A layer joins a span when it is so much like the span's first"));
  row(tr("Layers in a span"), most_ = number(2, 64, 4), "most", tr("At most"));
  row(tr("First left alone"), first_ = number(0, 1024, 2), "first", tr("Their attention is distinctive"));
  row(tr("Last left alone"), last_ = number(0, 1024, 1), "last", tr("Their attention is distinctive"));
  spans_ = new QLineEdit(side);
  spans_->setPlaceholderText(QStringLiteral("4-6, 9-10"));
  row(tr("Spans"), spans_, "spans", tr("Layers that use the attention of the first of them; write your own, or take those proposed"));
  column->addLayout(form);
  said_ = new QLabel(side);
  said_->setObjectName(QStringLiteral("similarity.said"));
  said_->setWordWrap(true);
  column->addWidget(said_);
  column->addStretch(1);
  share_ = new QPushButton(tr("Share in these spans"), side);
  share_->setObjectName(QStringLiteral("similarity.share"));
  share_->setDefault(true);
  auto* close = new QPushButton(tr("Close"), side);
  close->setAutoDefault(false);
  auto* buttons = new QHBoxLayout;
  buttons->addWidget(share_, 1);
  buttons->addWidget(close);
  column->addLayout(buttons);
  connect(measure_, &JobButton::wanted, this, &SimilarityDialog::measure);
  connect(which_, &QComboBox::currentIndexChanged, this, &SimilarityDialog::showMap);
  connect(threshold_, &QDoubleSpinBox::valueChanged, this, &SimilarityDialog::propose);
  for (QSpinBox* spin : {most_, first_, last_}) connect(spin, &QSpinBox::valueChanged, this, &SimilarityDialog::propose);
  connect(spans_, &QLineEdit::textChanged, this, &SimilarityDialog::checkSpans);
  connect(share_, &QPushButton::clicked, this, [this] { Q_EMIT spansChosen(spans_->text().simplified()); });
  connect(close, &QPushButton::clicked, this, &QDialog::close);
  return side;
}

SimilarityOf SimilarityDialog::which() const { return static_cast<SimilarityOf>(which_->currentIndex()); }

void SimilarityDialog::measure() {
  SimilaritySpec spec;
  spec.tokens = tokens_->value();
  auto text = text_->read();
  if (!text) return say(QString::fromStdString(text.error().message), true);
  spec.text = std::move(*text);
  say({});
  workbench_->measureSimilarity(spec);
}

void SimilarityDialog::forget() {
  map_.reset();
  const bool model = workbench_->hasModel();
  const int layers = model ? workbench_->model().config.layers : 0;
  view_->clear(model ? tr("Measure to see which layers attend alike: those that do can share one attention, and keep no keys of their own.") : tr("Open a model first."));
  {
    const QSignalBlocker one(first_), other(last_);
    first_->setValue(firstLayersAlone(layers));
    last_->setValue(lastLayersAlone(layers));
  }
  spans_->setText(model ? QString::fromStdString(workbench_->requested().text("share.spans")) : QString());
  checkSpans();
  measure_->refresh();
}

void SimilarityDialog::showMap() {
  if (!map_) return;
  view_->setMap(*map_, which());
  propose();
}

void SimilarityDialog::propose() {
  if (!map_) return;
  const auto spans = similarSpans(*map_, which(), first_->value(), last_->value(), threshold_->value(), most_->value());
  spans_->setText(QString::fromStdString(spansText(spans)));
  if (spans.empty()) say(tr("No neighbours are alike to %1 or more.").arg(threshold_->value(), 0, 'f', 2));
  else checkSpans();
}

void SimilarityDialog::checkSpans() {
  const auto spans = parseSpans(spans_->text().toStdString());
  const int layers = workbench_->hasModel() ? workbench_->model().config.layers : 0;
  const auto outside = spans ? outOfModel(*spans, layers) : std::nullopt;
  const bool good = spans && !outside && layers > 0;
  view_->setSpans(good ? *spans : std::vector<LayerSpan>());
  share_->setEnabled(good);
  if (!good && layers > 0) return say(QString::fromStdString(spans ? *outside : spans.error().message), true);
  int followers = 0;
  for (const LayerSpan& span : good ? *spans : std::vector<LayerSpan>()) followers += span.last - span.first;
  say(followers > 0 ? tr("%1 of %2 layers would own no keys and project no queries.").arg(followers).arg(layers) : tr("Nothing is shared."));
}

void SimilarityDialog::say(const QString& text, bool error) {
  said_->setProperty("role", error ? QStringLiteral("error") : QStringLiteral("secondary"));
  said_->style()->unpolish(said_);
  said_->style()->polish(said_);
  said_->setText(text);
}

}  // namespace winnow
