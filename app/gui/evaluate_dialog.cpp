// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/evaluate_dialog.h"

#include <QCheckBox>
#include <QComboBox>
#include <QFileDialog>
#include <QFormLayout>
#include <QHBoxLayout>
#include <QLabel>
#include <QLineEdit>
#include <QSpinBox>
#include <QTableWidget>
#include <QToolButton>
#include <QVBoxLayout>

#include "app/gui/numbers_in.h"
#include "experiments/format.h"
#include "panels/plot/chart_view.h"
#include "panels/text/wording.h"

namespace winnow {
namespace {

constexpr int kByDepth = -1;  // beside the protocols
constexpr size_t kShownPanels = 2;  // what was lost, and the perplexity

QString defaultDepths(int positions) {  // an eighth, a quarter and three quarters of what the model was trained on
  return QStringLiteral("%1, %2, %3").arg(std::max(1, positions / 8)).arg(std::max(2, positions / 4)).arg(std::max(3, positions * 3 / 4));
}

}  // namespace

EvaluateDialog::EvaluateDialog(Workbench* workbench, ThemeManager* themes, QWidget* parent)
    : MeasureDialog(workbench, JobState::Kind::evaluate, tr("Evaluate"),
                    {tr("Configuration"), tr("Perplexity"), tr("Baseline"), tr("KL divergence"), tr("Same top"), tr("Bits/byte")}, parent) {
  setObjectName(QStringLiteral("evaluate"));
  text_ = new QComboBox(this);
  text_->setObjectName(QStringLiteral("evaluate.text"));
  text_->addItem(tr("Built-in sample"));
  text_->addItem(tr("Text file"));
  path_ = new QLineEdit(this);
  path_->setObjectName(QStringLiteral("evaluate.path"));
  path_->setAccessibleName(tr("Text file"));
  auto* browse = new QToolButton(this);
  browse->setText(tr("Choose…"));
  auto* row = new QHBoxLayout;
  row->setSpacing(8);
  row->addWidget(text_);
  row->addWidget(path_, 1);
  row->addWidget(browse);
  form_->addRow(tr("&Text"), row);
  static_cast<QLabel*>(form_->labelForField(row))->setBuddy(text_);
  mode_ = new QComboBox(this);
  mode_->setObjectName(QStringLiteral("evaluate.mode"));
  for (const PerplexityMode mode : {PerplexityMode::llama, PerplexityMode::llamaStride, PerplexityMode::hfDoc, PerplexityMode::hfExact})
    mode_->addItem(QString::fromStdString(std::string(perplexityModeName(mode))), static_cast<int>(mode));
  mode_->addItem(tr("by depth of the context"), kByDepth);
  form_->addRow(tr("&Protocol"), mode_);
  const int trained = workbench->hasModel() ? workbench->model().config.context : 512;
  context_ = number(QStringLiteral("evaluate.context"), 8, 1048576, std::min(512, std::max(8, trained)), tr("Tokens in a window"));
  chunks_ = number(QStringLiteral("evaluate.chunks"), 0, 1000000, 8, tr("Windows to score"));
  chunks_->setSpecialValueText(tr("all"));
  auto* sizes = new QHBoxLayout;
  sizes->setSpacing(12);
  sizes->addWidget(context_);
  auto* chunksLabel = new QLabel(tr("C&hunks"), this);
  chunksLabel->setBuddy(chunks_);
  sizes->addWidget(chunksLabel);
  sizes->addWidget(chunks_);
  sizes->addStretch(1);
  form_->addRow(tr("&Context"), sizes);
  static_cast<QLabel*>(form_->labelForField(sizes))->setBuddy(context_);
  depths_ = new QLineEdit(defaultDepths(trained), this);
  depths_->setObjectName(QStringLiteral("evaluate.depths"));
  depths_->setToolTip(tr("Tokens of context before the predictions, ascending, separated by commas"));
  depths_->setAccessibleDescription(depths_->toolTip());
  scored_ = number(QStringLiteral("evaluate.scored"), 1, 1 << 20, 64, tr("Predictions at each depth, the same at all of them"));
  auto* reach = new QHBoxLayout;
  reach->setSpacing(12);
  reach->addWidget(depths_, 1);
  auto* scoredLabel = new QLabel(tr("P&redictions"), this);
  scoredLabel->setBuddy(scored_);
  reach->addWidget(scoredLabel);
  reach->addWidget(scored_);
  form_->addRow(tr("&Depths"), reach);
  static_cast<QLabel*>(form_->labelForField(reach))->setBuddy(depths_);
  stepwise_ = new QComboBox(this);
  stepwise_->setObjectName(QStringLiteral("evaluate.stepwise"));
  stepwise_->addItem(tr("Step by step when a cache method or activation sparsity is on"));
  stepwise_->addItem(tr("Always step by step"));
  stepwise_->addItem(tr("Whole windows at once"));
  form_->addRow(tr("&Scored part"), stepwise_);
  baseline_ = new QCheckBox(tr("Compare with every knob at its default"), this);
  baseline_->setObjectName(QStringLiteral("evaluate.baseline"));
  baseline_->setChecked(true);
  form_->addRow(QString(), baseline_);
  chart_ = new ChartView(themes, this);
  chart_->setObjectName(QStringLiteral("evaluate.chart"));
  chart_->setMinimumHeight(450);
  chart_->setChart(std::nullopt, tr("Lines by depth appear here, one for each measurement. Compare has them with time and memory."));
  auto* all = static_cast<QVBoxLayout*>(layout());
  all->insertWidget(all->count() - 1, chart_, 1);
  connect(text_, &QComboBox::currentIndexChanged, this, &EvaluateDialog::fit);
  connect(mode_, &QComboBox::currentIndexChanged, this, &EvaluateDialog::fit);
  fit();
  connect(browse, &QToolButton::clicked, this, [this] {
    const QString path =
        QFileDialog::getOpenFileName(this, tr("Choose a text"), path_->text(), tr("Text (*.txt *.md *.raw);;All files (*)"));
    if (!path.isEmpty()) setTextFile(path);
  });
  connect(workbench_, &Workbench::evaluateProgress, this, [this](const PerplexityResult& result) { showResult(result, false); });
  connect(workbench_, &Workbench::evaluateFinished, this, [this](const PerplexityResult& result) { showResult(result, true); });
  connect(workbench_, &Workbench::modelChanged, this, [this] {
    if (!workbench_->hasModel()) return;
    const int positions = workbench_->model().config.context;
    context_->setValue(std::min(512, std::max(8, positions)));
    depths_->setText(defaultDepths(positions));
    lines_.clear();
  });
}

void EvaluateDialog::fit() {
  path_->setEnabled(text_->currentIndex() == 1);
  const bool depths = byDepth();
  context_->setEnabled(!depths);
  for (QWidget* each : std::initializer_list<QWidget*>{depths_, scored_}) each->setEnabled(depths);
  chart_->setVisible(depths);
  stepwise_->setItemText(0, depths ? tr("Step by step") : tr("Step by step when a cache method or activation sparsity is on"));
  if (depths) resize(std::max(width(), 1000), std::max(height(), 900));
}

bool EvaluateDialog::byDepth() const { return mode_->currentData().toInt() == kByDepth; }

void EvaluateDialog::setTextFile(const QString& path) {
  path_->setText(path);
  text_->setCurrentIndex(1);
}

Result<EvaluateSpec> EvaluateDialog::spec() const {
  EvaluateSpec spec;
  if (text_->currentIndex() == 1) spec.textPath = path_->text();
  else spec.textInline = sampleText();
  if (spec.textInline.isEmpty() && spec.textPath.isEmpty())
    return Error{ErrorCode::usage, tr("No text is chosen.").toStdString(), tr("Choose a text file, or take the built-in sample.").toStdString()};
  if (byDepth()) {
    auto depths = numbersIn<int>(depths_->text(), tr("Depths"), 1, 1 << 20);
    if (!depths) return depths.error();
    spec.depths = std::move(*depths);
    spec.scored = scored_->value();
  } else {
    spec.mode = static_cast<PerplexityMode>(mode_->currentData().toInt());
    spec.context = context_->value();
  }
  spec.chunks = chunks_->value();
  if (stepwise_->currentIndex() > 0) spec.stepwise = stepwise_->currentIndex() == 1;
  spec.againstBaseline = baseline_->isChecked();
  return spec;
}

void EvaluateDialog::start() {
  const auto asked = spec();
  if (!asked) return showError(QString::fromStdString(asked.error().message), QString::fromStdString(asked.error().hint));
  workbench_->evaluate(*asked);
}

void EvaluateDialog::showResult(const PerplexityResult& result, bool final) {
  const Format format;
  const QString dash = Format::missing();
  const bool based = result.kld.has_value();
  const QStringList cells{
      final ? configuration_
            : tr("%1 (%2 so far)")
                  .arg(configuration_, plural(static_cast<qint64>(result.windows.size()), tr("%1 window"), tr("%1 windows"))),
      result.count > 0 ? format.perplexity(result.perplexity, 1.96 * result.stderror) : dash,
      based ? format.perplexity(result.basePerplexity) : dash,
      based ? format.nats(result.kld->mean) : dash,
      based ? format.percent(result.kld->top1) : dash,
      result.bitsPerByte > 0 ? format.fixed(result.bitsPerByte, 3) : dash};
  QString tip = tr("%1, %2 predictions, ± is the 95 % interval").arg(QString::fromStdString(result.protocol), format.count(result.count));
  if (based)
    tip += tr("; KL divergence median %1, 99 % %2, largest %3")
               .arg(format.nats(result.kld->median), format.nats(result.kld->p99), format.nats(result.kld->max));
  addOrReplaceRow(cells, tip, final);
  if (final && !result.depths.empty()) showDepths(result);
}

// The line of each measurement of one protocol; what another asked for does not belong beside them.
void EvaluateDialog::showDepths(const PerplexityResult& result) {
  const QString protocol = QString::fromStdString(result.protocol);
  if (lines_.empty() || protocol != protocol_) lines_ = {depthLine(tr("defaults"), result, true)};
  protocol_ = protocol;
  lines_.push_back(depthLine(configuration_, result, false));
  Chart chart;
  chart.name = QStringLiteral("depth");
  chart.title = protocol;
  chart.panels = depthPanels(lines_);
  if (chart.panels.size() > kShownPanels) chart.panels.resize(kShownPanels);  // all are in Compare
  chart_->setChart(std::move(chart));
}

}  // namespace winnow
