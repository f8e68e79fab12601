// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/retrieval_dialog.h"

#include <QCheckBox>
#include <QComboBox>
#include <QFormLayout>
#include <QHBoxLayout>
#include <QLabel>
#include <QLineEdit>
#include <QSpinBox>
#include <QTableWidget>
#include <QVBoxLayout>

#include "app/gui/numbers_in.h"
#include "app/gui/text_choice.h"
#include "experiments/format.h"
#include "experiments/retrieval_map.h"
#include "panels/plot/chart_view.h"

namespace winnow {
namespace {

constexpr int kOwnQuestions = -1;  // beside the tasks
constexpr int kMostQuestions = 1000;

}  // namespace

RetrievalDialog::RetrievalDialog(Workbench* workbench, ThemeManager* themes, QWidget* parent)
    : MeasureDialog(workbench, JobState::Kind::retrieve, tr("Retrieval"),
                    {tr("Configuration"), tr("Found"), tr("Defaults found"), tr("Surprise"), tr("KL divergence")}, parent) {
  setObjectName(QStringLiteral("retrieval"));
  resize(880, 680);
  const auto named = [this](QWidget* widget, const char* name, const QString& tip) {
    widget->setObjectName(QLatin1String("retrieval.") + QLatin1String(name));
    widget->setToolTip(tip);
    widget->setAccessibleDescription(tip);
  };
  task_ = new QComboBox(this);
  named(task_, "task", tr("What is hidden in the text and asked for"));
  task_->addItem(tr("A sentence (needle)"), static_cast<int>(RetrievalTask::needle));
  task_->addItem(tr("A number (pass key)"), static_cast<int>(RetrievalTask::passkey));
  task_->addItem(tr("One of many equal facts (pairs)"), static_cast<int>(RetrievalTask::pairs));
  task_->addItem(tr("Questions of your own (JSONL)"), kOwnQuestions);
  form_->addRow(tr("&Hidden"), task_);
  text_ = new TextChoice(QStringLiteral("retrieval"), this);
  form_->addRow(tr("&Text"), text_);
  lengths_ = new QLineEdit(QStringLiteral("128, 256, 512"), this);
  named(lengths_, "lengths", tr("Tokens of context, separated by commas"));
  form_->addRow(tr("&Lengths"), lengths_);
  depths_ = new QLineEdit(QStringLiteral("0, 25, 50, 75, 100"), this);
  named(depths_, "depths", tr("Where the fact stands, in percent of the context, separated by commas"));
  form_->addRow(tr("&Depths, %"), depths_);
  trials_ = new QSpinBox(this);
  trials_->setRange(1, 1000);
  trials_->setValue(3);
  named(trials_, "trials", tr("Facts for each length and depth"));
  auto* row = new QHBoxLayout;
  row->setSpacing(12);
  row->addWidget(trials_);
  order_ = new QComboBox(this);
  named(order_, "order", tr("When a cache policy chooses what it keeps"));
  order_->addItem(tr("compressed before the question"));
  order_->addItem(tr("compressed after the question (query-aware)"));
  row->addWidget(order_);
  baseline_ = new QCheckBox(tr("Ask the &defaults too"), this);
  named(baseline_, "baseline", tr("The same questions with every knob at its default"));
  baseline_->setChecked(true);
  row->addWidget(baseline_);
  row->addStretch(1);
  form_->addRow(tr("T&rials"), row);
  static_cast<QLabel*>(form_->labelForField(row))->setBuddy(trials_);
  map_ = new ChartView(themes, this);
  map_->setObjectName(QStringLiteral("retrieval.map"));
  map_->setMinimumHeight(230);
  map_->setChart(std::nullopt, tr("What was found at each depth and length appears here."));
  auto* all = static_cast<QVBoxLayout*>(layout());
  all->insertWidget(all->count() - 1, map_, 1);
  connect(task_, &QComboBox::currentIndexChanged, this, &RetrievalDialog::fit);
  connect(workbench_, &Workbench::modelChanged, this, &RetrievalDialog::fit);
  connect(workbench_, &Workbench::retrieveProgress, this, [this](const RetrievalResult& result) { showResult(result, false); });
  connect(workbench_, &Workbench::retrieveFinished, this, [this](const RetrievalResult& result) { showResult(result, true); });
  fit();
}

void RetrievalDialog::fit() {
  const int task = task_->currentData().toInt();
  text_->setEnabled(task != static_cast<int>(RetrievalTask::pairs));
  if (task == kOwnQuestions)
    text_->say(tr("lines of {\"context\", \"question\", \"response\"}"), tr("Questions (*.jsonl *.ndjson);;All files (*)"));
  else
    text_->say(tr("the sample text"), tr("Text (*.txt *.md *.raw);;All files (*)"));
  for (QWidget* each : std::initializer_list<QWidget*>{lengths_, depths_, trials_}) each->setEnabled(task != kOwnQuestions);
}

Result<RetrieveSpec> RetrievalDialog::spec() const {
  RetrieveSpec spec;
  spec.queryAware = order_->currentIndex() == 1;
  spec.againstBaseline = baseline_->isChecked();
  if (task_->currentData().toInt() == kOwnQuestions) {
    spec.dataPath = text_->path();
    spec.limit = kMostQuestions;
    if (spec.dataPath.isEmpty()) return Error{ErrorCode::usage, tr("No file with questions is chosen.").toStdString(), tr("Choose a JSONL file.").toStdString()};
    return spec;
  }
  const auto lengths = numbersIn<int>(lengths_->text(), tr("Lengths"), 8, 1 << 20);
  if (!lengths) return lengths.error();
  const auto percent = numbersIn<double>(depths_->text(), tr("Depths"), 0, 100);
  if (!percent) return percent.error();
  spec.tasks.task = static_cast<RetrievalTask>(task_->currentData().toInt());
  spec.tasks.lengths = *lengths;
  spec.tasks.depths.clear();
  for (const double each : *percent) spec.tasks.depths.push_back(each / 100);
  spec.tasks.trials = trials_->value();
  if (!text_->isEnabled()) return spec;
  auto text = text_->read();
  if (!text) return text.error();
  spec.textInline = QString::fromStdString(*text);
  return spec;
}

void RetrievalDialog::start() {
  const auto asked = spec();
  if (!asked) return showError(QString::fromStdString(asked.error().message), QString::fromStdString(asked.error().hint));
  workbench_->retrieve(*asked);
}

void RetrievalDialog::showResult(const RetrievalResult& result, bool final) {
  const Format format;
  const auto n = static_cast<qint64>(result.items.size());
  const auto share = [&](int64_t found) { return tr("%1 of %2").arg(found).arg(n); };
  const bool based = !result.items.empty() && result.items.front().baseFound.has_value();
  const auto tokens = static_cast<double>(result.sums.count);
  addOrReplaceRow({final ? configuration_ : tr("%1 (so far)").arg(configuration_), share(result.found), based ? share(result.baseFound) : Format::missing(),
                   format.nats(result.sums.nll / tokens), based ? format.nats(result.sums.kld / tokens) : Format::missing()},
                  tr("%1; surprise and divergence for each token of an answer").arg(QString::fromStdString(result.protocol)), final);
  std::vector<storage::RetrievalSample> samples;
  for (const RetrievalScore& score : result.items) samples.push_back(retrievalSample(score));
  Chart chart;
  chart.name = QStringLiteral("retrieval");
  chart.title = configuration_;
  for (const auto quantity : {RetrievalQuantity::found, RetrievalQuantity::surprise}) {
    chart.panels.push_back(retrievalMap({}, samples, quantity));
    chart.panels.back().title = chart.panels.back().y.title;
  }
  std::erase_if(chart.panels, [](const Chart::Panel& panel) { return panel.cells.empty(); });
  if (!chart.panels.empty()) return map_->setChart(std::move(chart));
  map_->setChart(std::nullopt, tr("Questions of a file stand at no known depth: the row above has what was found."));
}

}  // namespace winnow
