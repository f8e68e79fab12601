// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/measure_dialog.h"

#include <QFile>
#include <QFormLayout>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QProgressBar>
#include <QPushButton>
#include <QSpinBox>
#include <QStyle>
#include <QTableWidget>
#include <QVBoxLayout>

#include "experiments/format.h"
#include "panels/text/wording.h"

static void registerTexts() { Q_INIT_RESOURCE(texts); }

namespace winnow {
QString sampleText() {
  registerTexts();
  QFile file(QStringLiteral(":/texts/sample.txt"));
  return file.open(QIODevice::ReadOnly) ? QString::fromUtf8(file.readAll()) : QString();
}

QSpinBox* MeasureDialog::number(const QString& name, int low, int high, int value, const QString& tip) {
  auto* spin = new QSpinBox(this);
  spin->setObjectName(name);
  spin->setRange(low, high);
  spin->setValue(value);
  spin->setToolTip(tip);
  spin->setAccessibleDescription(tip);
  return spin;
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
  const Effective effective = workbench_->resolved(workbench_->requested());
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

BenchDialog::BenchDialog(Workbench* workbench, QWidget* parent)
    : MeasureDialog(workbench, JobState::Kind::bench, tr("Bench"),
                    {tr("Configuration"), tr("Test"), tr("Tokens/s"), tr("ms/token"), tr("p95"), tr("Roofline")}, parent) {
  setObjectName(QStringLiteral("bench"));
  prompt_ = number(QStringLiteral("bench.prompt"), 1, 1000000, 512, tr("Prompt tokens processed at once (pp)"));
  generate_ = number(QStringLiteral("bench.generate"), 1, 1000000, 128, tr("Tokens generated one by one (tg)"));
  depth_ = number(QStringLiteral("bench.depth"), 0, 1000000, 0, tr("Tokens in the cache before the measurement"));
  repetitions_ = number(QStringLiteral("bench.repetitions"), 1, 1000, 5, tr("Repetitions after a warm-up"));
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
                 .arg(format.significant(result.readGbs), result.gemmGflops > 0 ? format.significant(result.gemmGflops) : Format::missing()));
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
