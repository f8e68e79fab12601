// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/measure_dialog.h"

#include <QCheckBox>
#include <QComboBox>
#include <QFileDialog>
#include <QFile>
#include <QFormLayout>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QLineEdit>
#include <QProgressBar>
#include <QPushButton>
#include <QSpinBox>
#include <QStyle>
#include <QTableWidget>
#include <QToolButton>
#include <QVBoxLayout>

#include "experiments/format.h"
#include "panels/text/wording.h"

static void registerTexts() { Q_INIT_RESOURCE(texts); }

namespace winnow {
namespace {

QSpinBox* number(QWidget* parent, const QString& name, int low, int high, int value, const QString& tip) {
  auto* spin = new QSpinBox(parent);
  spin->setObjectName(name);
  spin->setRange(low, high);
  spin->setValue(value);
  spin->setToolTip(tip);
  spin->setAccessibleDescription(tip);
  return spin;
}

}  // namespace

QString sampleText() {
  registerTexts();
  QFile file(QStringLiteral(":/texts/sample.txt"));
  return file.open(QIODevice::ReadOnly) ? QString::fromUtf8(file.readAll()) : QString();
}

MeasureDialog::MeasureDialog(Workbench* workbench, JobState::Kind kind, const QString& title, const QStringList& columns, QWidget* parent)
    : QDialog(parent), workbench_(workbench), kind_(kind) {
  setWindowTitle(title);
  resize(880, 500);
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(16, 16, 16, 16);
  all->setSpacing(12);
  form_ = new QFormLayout;
  form_->setHorizontalSpacing(16);
  form_->setVerticalSpacing(8);
  form_->setFieldGrowthPolicy(QFormLayout::ExpandingFieldsGrow);
  all->addLayout(form_);
  auto* bar = new QHBoxLayout;
  start_ = new QPushButton(tr("Start"), this);
  start_->setObjectName(QStringLiteral("measure.start"));
  start_->setDefault(true);
  stop_ = new QPushButton(tr("Stop"), this);
  stop_->setObjectName(QStringLiteral("measure.stop"));
  progress_ = new QProgressBar(this);
  progress_->setAccessibleName(tr("Progress"));
  progress_->setRange(0, 1000);
  progress_->setMaximumWidth(180);
  status_ = new QLabel(this);
  status_->setObjectName(QStringLiteral("measure.status"));
  status_->setWordWrap(true);
  bar->addWidget(start_);
  bar->addWidget(stop_);
  bar->addWidget(progress_);
  bar->addWidget(status_, 1);
  all->addLayout(bar);
  results_ = new QTableWidget(0, static_cast<int>(columns.size()), this);
  results_->setObjectName(QStringLiteral("measure.results"));
  results_->setAccessibleName(tr("Results"));
  results_->setHorizontalHeaderLabels(columns);
  results_->setEditTriggers(QAbstractItemView::NoEditTriggers);
  results_->setSelectionBehavior(QAbstractItemView::SelectRows);
  results_->setShowGrid(false);
  results_->setTabKeyNavigation(false);
  results_->verticalHeader()->hide();
  results_->horizontalHeader()->setHighlightSections(false);
  results_->horizontalHeader()->setSectionResizeMode(QHeaderView::ResizeToContents);
  results_->horizontalHeader()->setSectionResizeMode(0, QHeaderView::Stretch);
  all->addWidget(results_, 1);
  auto* close = new QPushButton(tr("Close"), this);
  close->setAutoDefault(false);
  stop_->setAutoDefault(false);
  auto* last = new QHBoxLayout;
  auto* kept = new QLabel(tr("Every measurement is stored as a run of the session."), this);
  kept->setProperty("role", QStringLiteral("small"));
  last->addWidget(kept, 1);
  last->addWidget(close);
  all->addLayout(last);
  connect(start_, &QPushButton::clicked, this, [this] {
    rowOpen_ = false;
    configuration_ = configurationText();  // knobs may move while it is measured
    start();
  });
  connect(stop_, &QPushButton::clicked, workbench_, &Workbench::stop);
  connect(close, &QPushButton::clicked, this, &QDialog::close);
  connect(workbench_, &Workbench::jobChanged, this, &MeasureDialog::follow);
  connect(workbench_, &Workbench::modelChanged, this, [this] { follow(workbench_->job()); });
  connect(workbench_, &Workbench::jobFailed, this, [this](const QString& message, const QString& hint) {
    if (isVisible()) showError(message, hint);
  });
  follow(workbench_->job());
}

void MeasureDialog::follow(const JobState& job) {
  const bool mine = job.running && job.kind == kind_;
  start_->setEnabled(workbench_->hasModel() && !job.running);
  start_->setToolTip(!workbench_->hasModel() ? tr("No model is open") : job.running ? tr("Another job is running") : QString());
  stop_->setEnabled(mine);
  progress_->setVisible(mine);
  if (!mine) {
    if (status_->property("role").toString() != QStringLiteral("error")) status_->setText({});
    return;
  }
  progress_->setRange(0, job.fraction < 0 ? 0 : 1000);
  if (job.fraction >= 0) progress_->setValue(static_cast<int>(job.fraction * 1000));
  QString text = job.what;
  if (job.secondsLeft >= 0) text += QStringLiteral(" · ") + tr("%1 left").arg(Format().duration(job.secondsLeft * 1e9));
  status_->setProperty("role", QString());
  status_->style()->polish(status_);
  status_->setText(text);
}

void MeasureDialog::showError(const QString& message, const QString& hint) {
  status_->setProperty("role", QStringLiteral("error"));
  status_->style()->unpolish(status_);
  status_->style()->polish(status_);
  status_->setText(hint.isEmpty() ? message : message + QLatin1Char(' ') + hint);
}

QString MeasureDialog::configurationText() const {
  const Effective effective = resolve(workbench_->requested(), workbench_->model().config);
  const Config& shown = effective.asRequested() ? workbench_->requested() : effective.config;  // short where it says it all
  const QString text = QString::fromStdString(shown.canonical());
  return text.isEmpty() ? tr("defaults") : text;
}

void MeasureDialog::addRow(const QStringList& cells, const QString& tip) {
  results_->insertRow(results_->rowCount());
  rowOpen_ = true;
  setLastRow(cells, tip);
  results_->scrollToBottom();
}

void MeasureDialog::addOrReplaceRow(const QStringList& cells, const QString& tip, bool final) {
  if (rowOpen_) setLastRow(cells, tip);
  else addRow(cells, tip);
  if (final) rowOpen_ = false;
}

void MeasureDialog::setLastRow(const QStringList& cells, const QString& tip) {
  const int row = results_->rowCount() - 1;
  for (int column = 0; column < cells.size(); ++column) {
    auto* item = new QTableWidgetItem(cells[column]);
    item->setToolTip(cells[column]);
    if (column > 0) item->setTextAlignment(Qt::AlignRight | Qt::AlignVCenter);
    if (column > 0) item->setToolTip(tip);
    results_->setItem(row, column, item);
  }
}

// ---- evaluate -----------------------------------------------------------------------------------------------------------

EvaluateDialog::EvaluateDialog(Workbench* workbench, QWidget* parent)
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
  form_->addRow(tr("&Protocol"), mode_);
  const int trained = workbench->hasModel() ? workbench->model().config.context : 512;
  context_ = number(this, QStringLiteral("evaluate.context"), 8, 1048576, std::min(512, std::max(8, trained)), tr("Tokens in a window"));
  chunks_ = number(this, QStringLiteral("evaluate.chunks"), 0, 1000000, 8, tr("Windows to score"));
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
  stepwise_ = new QComboBox(this);
  stepwise_->setObjectName(QStringLiteral("evaluate.stepwise"));
  stepwise_->addItem(tr("Step by step when a cache method or activation sparsity is on"));
  stepwise_->addItem(tr("Always step by step"));
  stepwise_->addItem(tr("Whole windows at once"));
  form_->addRow(tr("&Second half"), stepwise_);
  baseline_ = new QCheckBox(tr("Compare with every knob at its default"), this);
  baseline_->setObjectName(QStringLiteral("evaluate.baseline"));
  baseline_->setChecked(true);
  form_->addRow(QString(), baseline_);
  const auto fit = [this] { path_->setEnabled(text_->currentIndex() == 1); };
  connect(text_, &QComboBox::currentIndexChanged, this, fit);
  fit();
  connect(browse, &QToolButton::clicked, this, [this] {
    const QString path =
        QFileDialog::getOpenFileName(this, tr("Choose a text"), path_->text(), tr("Text (*.txt *.md *.raw);;All files (*)"));
    if (!path.isEmpty()) setTextFile(path);
  });
  connect(workbench_, &Workbench::evaluateProgress, this, [this](const PerplexityResult& result) { showResult(result, false); });
  connect(workbench_, &Workbench::evaluateFinished, this, [this](const PerplexityResult& result) { showResult(result, true); });
  connect(workbench_, &Workbench::modelChanged, this, [this] {
    if (workbench_->hasModel()) context_->setValue(std::min(512, std::max(8, workbench_->model().config.context)));
  });
}

void EvaluateDialog::setTextFile(const QString& path) {
  path_->setText(path);
  text_->setCurrentIndex(1);
}

EvaluateSpec EvaluateDialog::spec() const {
  EvaluateSpec spec;
  if (text_->currentIndex() == 1) spec.textPath = path_->text();
  else spec.textInline = sampleText();
  spec.mode = static_cast<PerplexityMode>(mode_->currentData().toInt());
  spec.context = context_->value();
  spec.chunks = chunks_->value();
  if (stepwise_->currentIndex() > 0) spec.stepwise = stepwise_->currentIndex() == 1;
  spec.againstBaseline = baseline_->isChecked();
  return spec;
}

void EvaluateDialog::start() {
  const EvaluateSpec asked = spec();
  if (asked.textInline.isEmpty() && asked.textPath.isEmpty()) {
    showError(tr("No text is chosen."), tr("Choose a text file, or take the built-in sample."));
    return;
  }
  workbench_->evaluate(asked);
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
}

// ---- bench --------------------------------------------------------------------------------------------------------------

BenchDialog::BenchDialog(Workbench* workbench, QWidget* parent)
    : MeasureDialog(workbench, JobState::Kind::bench, tr("Bench"),
                    {tr("Configuration"), tr("Test"), tr("Tokens/s"), tr("ms/token"), tr("p95"), tr("Roofline")}, parent) {
  setObjectName(QStringLiteral("bench"));
  prompt_ = number(this, QStringLiteral("bench.prompt"), 1, 1000000, 512, tr("Prompt tokens processed at once (pp)"));
  generate_ = number(this, QStringLiteral("bench.generate"), 1, 1000000, 128, tr("Tokens generated one by one (tg)"));
  depth_ = number(this, QStringLiteral("bench.depth"), 0, 1000000, 0, tr("Tokens in the cache before the measurement"));
  repetitions_ = number(this, QStringLiteral("bench.repetitions"), 1, 1000, 5, tr("Repetitions after a warm-up"));
  form_->addRow(tr("&Prompt"), prompt_);
  form_->addRow(tr("&Generate"), generate_);
  form_->addRow(tr("&Depth"), depth_);
  form_->addRow(tr("&Repetitions"), repetitions_);
  const auto fit = [this] {
    if (!workbench_->hasModel()) return;
    const int context = std::max(16, workbench_->model().config.context);
    prompt_->setValue(std::min(512, context / 2));
    generate_->setValue(std::min(128, context / 4));
  };
  fit();
  connect(workbench_, &Workbench::modelChanged, this, fit);
  connect(workbench_, &Workbench::benchFinished, this, [this](const BenchResult& result) {
    const Format format;
    for (const BenchTest& test : result.tests) {
      const QString share = test.share > 0 ? format.percent(test.share) : Format::missing();
      addRow({configuration_, QString::fromStdString(test.name),
              QStringLiteral("%1 ± %2").arg(format.significant(test.tokensPerSecond), format.significant(test.stddev, 2)),
              format.milliseconds(test.medianMs), format.milliseconds(test.p95Ms), share},
             tr("%1, n = %2; read bandwidth %3 GB/s, peak %4 GFLOP/s in the same run")
                 .arg(QString::fromStdString(result.protocol))
                 .arg(test.repetitions.size())
                 .arg(format.significant(result.readGbs), format.significant(result.gemmGflops)));
    }
    rowOpen_ = false;
  });
}

BenchSpec BenchDialog::spec() const {
  BenchSpec spec;
  spec.prompt = {prompt_->value()};
  spec.generate = {generate_->value()};
  spec.depth = {depth_->value()};
  spec.repetitions = repetitions_->value();
  return spec;
}

void BenchDialog::start() { workbench_->bench(spec()); }

}  // namespace winnow
