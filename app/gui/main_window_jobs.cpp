// SPDX-License-Identifier: GPL-3.0-or-later
#include <QBuffer>
#include <QDateTime>
#include <QMessageBox>
#include <QTabWidget>
#include <QTableView>

#include "app/gui/action_registry.h"
#include "app/gui/banner.h"
#include "app/gui/kept_mass_dialog.h"
#include "app/gui/main_window.h"
#include "app/gui/attention_dialog.h"
#include "app/gui/measure_dialog.h"
#include "app/gui/similarity_dialog.h"
#include "app/gui/status_chips.h"
#include "experiments/attribution_record.h"
#include "experiments/format.h"
#include "experiments/model_source.h"
#include "panels/attribution/attribution_view.h"
#include "panels/cache/cache_view.h"
#include "panels/events/events_panel.h"
#include "panels/export/export_dialog.h"
#include "panels/inspector/inspector.h"
#include "panels/knobs/knob_panel.h"
#include "panels/live/live_view.h"
#include "panels/plot/compare_view.h"
#include "panels/runs/runs_view.h"
#include "panels/start/start_page.h"
#include "panels/text/prompt_panel.h"
#include "panels/text/token_flow.h"
#include "panels/text/wording.h"
#include "panels/weights/super_weights_dialog.h"
#include "panels/weights/weights_view.h"

namespace winnow {
namespace {

constexpr int kRunsMs = 120;  // one look at the run table for a burst of changes

void setTag(MemoryByTag& memory, const storage::MemorySample& sample) {
  for (size_t tag = 0; tag < memory.size(); ++tag)
    if (memoryTagName(static_cast<MemoryTag>(tag)) == sample.tag) memory[tag] = sample.bytes;
}

}  // namespace

void MainWindow::connectWorkbench() {
  live_->attach(workbench_);
  connect(workbench_, &Workbench::modelChanged, this, &MainWindow::modelChanged);
  connect(workbench_, &Workbench::modelFailed, this, [this](const QString& message, const QString& hint) {
    start_->setLoading({}, 0);
    fail(message, hint);
  });
  connect(workbench_, &Workbench::sessionChanged, this, [this] {
    compare_->setSession(workbench_->session());
    refreshTitle();
    runsTimer_.start();
    updateActions();
  });
  connect(workbench_, &Workbench::runsChanged, this, [this] { runsTimer_.start(); });
  connect(workbench_, &Workbench::jobChanged, this, &MainWindow::jobChanged);
  connect(workbench_, &Workbench::jobFailed, this, &MainWindow::fail);
  connect(workbench_, &Workbench::generationStarted, this, [this](const GenerateRequest& request) {
    if (banner_->tone() == Banner::Tone::error) banner_->clear();
    prompt_->begin(request);
  });
  connect(workbench_, &Workbench::tokensArrived, this, [this](const std::vector<TokenPoint>& points) {
    prompt_->addTokens(points);
    chips_->addTokens(points);
  });
  connect(workbench_, &Workbench::epochBegan, this, [this](const EpochPoint& epoch) { prompt_->addEpoch(epoch); });
  connect(workbench_, &Workbench::effectiveChanged, this, &MainWindow::effectiveChanged);
  connect(workbench_, &Workbench::qualityChanged, this, [this](const QualityPoint& point) { inspector_->setQuality(point); });
  connect(workbench_, &Workbench::attributionChanged, attribution_, &AttributionView::setResult);
  connect(workbench_, &Workbench::attributionSideChanged, attribution_, &AttributionView::setSide);
  connect(workbench_, &Workbench::attributionDifferenceChanged, attribution_, &AttributionView::setDifference);
  connect(workbench_, &Workbench::logged, events_, &EventsPanel::add);
}

void MainWindow::connectPanels() {
  connect(start_, &StartPage::openModelRequested, this, &MainWindow::chooseModel);
  connect(start_, &StartPage::openSessionRequested, this, &MainWindow::chooseSession);
  connect(start_, &StartPage::starterRequested, this, [this] { openModel(QStringLiteral("starter")); });
  connect(start_, &StartPage::recentRequested, this, &MainWindow::openPath);
  connect(start_, &StartPage::cancelRequested, workbench_, &Workbench::stop);
  connect(start_, &StartPage::reviewRequested, this, [this] {
    if (!interruptedSession_.isEmpty()) openSession(interruptedSession_);
  });

  knobs_->setPlanner([this](const Config& config) { return workbench_->hasModel() ? workbench_->planMemory(config) : MemoryByTag{}; });
  connect(knobs_, &KnobPanel::configRequested, this,
          [this](const Config& config, const QString& cause) {
            workbench_->setConfig(config, cause);
            attribution_->setConfig(config);
          });
  connect(knobs_, &KnobPanel::rebuildRequested, workbench_, &Workbench::rebuildCache);

  connect(prompt_, &PromptPanel::generateRequested, workbench_, &Workbench::generate);
  connect(prompt_, &PromptPanel::stopRequested, workbench_, &Workbench::stop);
  connect(prompt_, &PromptPanel::tokenHovered, this, [this](int token) { inspector_->setToken(prompt_->pointAt(token)); });

  connect(attribution_, &AttributionView::runRequested, workbench_, &Workbench::attribute);
  connect(attribution_, &AttributionView::stopRequested, workbench_, &Workbench::stop);
  connect(attribution_, &AttributionView::differenceRequested, workbench_, &Workbench::attributeDifference);
  connect(attribution_, &AttributionView::openTextRequested, this, &MainWindow::chooseContext);
  connect(attribution_, &AttributionView::proxyFileRequested, this, &MainWindow::chooseProxy);
  connect(attribution_, &AttributionView::exportRequested, this, &MainWindow::exportChart);
  connect(attribution_, &AttributionView::exportTableRequested, this, [this](const QByteArray& csv, const QByteArray& json) {
    saveBytes(QStringLiteral("export"), QStringLiteral("attribution.csv"), tr("CSV (*.csv);;JSON (*.json)"),
              [csv, json](const QString& path) { return path.endsWith(QStringLiteral(".json")) ? json : csv; });
  });

  connectRuns();
  connectWeights();
  connectCache();
  connect(runs_->table()->selectionModel(), &QItemSelectionModel::selectionChanged, this, &MainWindow::updateActions);
  connect(live_, &LiveView::exportRequested, this, &MainWindow::exportChart);
  connect(compare_, &CompareView::exportRequested, this, &MainWindow::exportChart);

  connect(chips_, &StatusChips::memoryClicked, this, [this] { showView(liveTab); });
  connect(chips_, &StatusChips::speedClicked, this, [this] { showView(liveTab); });
  connect(chips_, &StatusChips::weightsClicked, this, [this] { knobs_->focusSearch(); });
  connect(chips_, &StatusChips::sessionClicked, this,
          [this] { workbench_->sessionIsTemporary() ? static_cast<void>(saveSession()) : showView(runsTab); });
  connect(chips_, &StatusChips::deviceClicked, this, &MainWindow::showAbout);
}

void MainWindow::connectRuns() {
  connect(runs_, &RunsView::openRequested, this, &MainWindow::openRun);
  connect(runs_, &RunsView::compareRequested, this, &MainWindow::compareRuns);
  connect(runs_, &RunsView::exportRequested, this, &MainWindow::exportRuns);
  connect(runs_, &RunsView::deleteRequested, this, &MainWindow::deleteRuns);
  connect(runs_, &RunsView::baselineRequested, this, [this](qint64 run) {
    if (const auto session = workbench_->session()) session->setBaseline(run < 0 ? std::nullopt : std::optional<storage::Id>(run));
    runsTimer_.start();
  });
  connect(runs_, &RunsView::renameRequested, this, [this](qint64 run, const QString& name) {
    if (const auto session = workbench_->session()) session->setName(run, name.toStdString());
    runsTimer_.start();
  });
  connect(runs_, &RunsView::notesRequested, this, [this](qint64 run, const QString& notes) {
    if (const auto session = workbench_->session()) session->setNotes(run, notes.toStdString());
    runsTimer_.start();
  });
}

void MainWindow::connectWeights() {
  connect(workbench_, &Workbench::weightReportChanged, weights_, &WeightsView::setReport);
  connect(workbench_, &Workbench::weightHistogramChanged, weights_, &WeightsView::setHistogram);
  connect(workbench_, &Workbench::comparingWeights, weights_, &WeightsView::setComparing);
  connect(workbench_, &Workbench::modelExported, this, [this](const QString& path, const ExportSummary& summary) {
    QString said = tr("Saved %1, %2.").arg(path, Format().bytes(static_cast<double>(summary.bytes)));
    for (const std::string& note : summary.notes) said += QLatin1Char(' ') + QString::fromStdString(note);
    banner_->show(Banner::Tone::notice, said, {});
    events_->add({QDateTime::currentMSecsSinceEpoch(), QStringLiteral("info"), QStringLiteral("export.saved"), said});
  });
  connect(workbench_, &Workbench::superWeightsFound, this, &MainWindow::showSuperWeights);
  connect(weights_, &WeightsView::superWeightsRequested, workbench_, &Workbench::findSuperWeights);
  connect(weights_, &WeightsView::histogramRequested, workbench_, &Workbench::showHistogram);
  connect(weights_, &WeightsView::stopComparingRequested, workbench_, &Workbench::stopComparing);
  connect(weights_, &WeightsView::compareAgainRequested, this, [this] { workbench_->watchWeights(true); });
  connect(weights_, &WeightsView::sensitivityRequested, this, &MainWindow::measureSensitivity);
  connect(weights_, &WeightsView::stopRequested, workbench_, &Workbench::stop);
  connect(weights_, &WeightsView::exportRequested, this, &MainWindow::exportChart);
  connect(weights_, &WeightsView::exportModelRequested, this, &MainWindow::exportModel);
  connect(weights_, &WeightsView::exportTableRequested, this, [this](const QByteArray& csv, const QByteArray& json) {
    saveBytes(QStringLiteral("export"), QStringLiteral("weights.csv"), tr("CSV (*.csv);;JSON (*.json)"),
              [csv, json](const QString& path) { return path.endsWith(QStringLiteral(".json")) ? json : csv; });
  });
}

void MainWindow::connectCache() {
  connect(workbench_, &Workbench::generationStarted, cache_, &CacheView::begin);
  connect(workbench_, &Workbench::cacheMapChanged, cache_, &CacheView::add);
  connect(cache_, &CacheView::exportRequested, this, &MainWindow::exportChart);
  connect(cache_, &CacheView::exportTableRequested, this, [this](const QByteArray& csv) {
    saveBytes(QStringLiteral("export"), QStringLiteral("cache.csv"), tr("CSV (*.csv)"), [csv](const QString&) { return csv; });
  });
}

void MainWindow::showSuperWeights(const std::vector<SuperWeight>& found) {
  if (!workbench_->hasModel()) return;
  const QString now = QString::fromStdString(knobs_->requested().text("weights.super"));
  auto* dialog = new SuperWeightsDialog(found, workbench_->model().name, now, this);
  dialog->setAttribute(Qt::WA_DeleteOnClose);
  connect(dialog, &SuperWeightsDialog::chosen, this, [this](const QString& what) {
    knobs_->change(tr("super weights: %1").arg(what), knobs_->requested().with("weights.super", what.toStdString()));
  });
  dialog->show();
}

void MainWindow::showAttention() {
  if (!attention_) attention_ = new AttentionDialog(workbench_, themes_->theme(), this);
  attention_->show();
  attention_->raise();
  attention_->activateWindow();
}

void MainWindow::showKeptMass() {
  if (!keptMass_) keptMass_ = new KeptMassDialog(workbench_, themes_->theme(), this);
  keptMass_->show();
  keptMass_->raise();
  keptMass_->activateWindow();
}

void MainWindow::showSimilarity() {
  if (!similarity_) {
    similarity_ = new SimilarityDialog(workbench_, themes_->theme(), this);
    connect(similarity_, &SimilarityDialog::spansChosen, this, [this](const QString& spans) {
      knobs_->change(spans.isEmpty() ? tr("share nothing") : tr("share in %1").arg(spans),
                     knobs_->requested().with("share.spans", spans.toStdString()).with("share.method", std::string("none")).with("share.block", int64_t{1}));
    });
  }
  similarity_->show();
  similarity_->raise();
  similarity_->activateWindow();
}

void MainWindow::refreshSensitivity() {
  if (const auto measured = workbench_->sensitivity()) weights_->setSensitivity(*measured);
}

// A plan that was begun goes on: what is measured is not measured again.
void MainWindow::measureSensitivity() {
  const auto plan = workbench_->sensitivityPlan();
  if (!plan) return fail(QString::fromStdString(plan.error().message), QString::fromStdString(plan.error().hint));
  const std::string json = plan->toJson().toStdString();
  bool begun = false;
  if (const auto session = workbench_->session())
    if (const auto sweeps = session->sweeps())
      begun = std::ranges::any_of(*sweeps, [&](const storage::SweepRecord& known) { return known.planJson == json; });
  workbench_->runPlan(*plan, begun);
}

void MainWindow::fail(const QString& message, const QString& hint) {
  banner_->show(Banner::Tone::error, message, hint);
  events_->add(
      {QDateTime::currentMSecsSinceEpoch(), QStringLiteral("error"), {}, hint.isEmpty() ? message : message + QLatin1Char(' ') + hint});
}

void MainWindow::modelChanged() {
  const bool open = workbench_->hasModel();
  start_->setLoading({}, 0);
  std::optional<ModelInfo> info;
  if (open) info = workbench_->model();
  knobs_->setModel(open ? std::optional<ModelConfig>(info->config) : std::nullopt, tr("no model is open"));
  knobs_->setRequested(workbench_->requested());
  inspector_->setModel(info);
  inspector_->setToken(nullptr);
  inspector_->setQuality(std::nullopt);
  prompt_->setModel(info);
  ContextPanel::Windows windows;
  if (open) windows = [this](const std::string& text, int tokens) { return workbench_->tokenWindows(text, tokens); };
  attribution_->setModel(open, std::move(windows));
  attribution_->setConfig(workbench_->requested());
  weights_->setModel(open ? info->name : QString());
  cache_->setModel(open ? info->name : QString());
  makeRoom();
  if (open) {
    leaveStartPage();
    if (!loadingPath_.isEmpty() && !isBundledModel(loadingPath_.toStdString())) settings_->addModel(loadingPath_);
    startProbe();
  } else if (!workbench_->session() || runs_->model()->runs().empty()) {
    showStartPage();
  }
  loadingPath_.clear();
  effectiveChanged();
  refreshTitle();
  chips_->refresh();
  updateActions();
}

void MainWindow::startProbe() {
  const bool on = actions_->action(QStringLiteral("run.probe"))->isChecked();
  if (!workbench_->hasModel()) return;
  const int context = std::clamp(workbench_->model().config.context, 32, 256);
  workbench_->setProbe(on ? sampleText() : QString(), context, 4);
  if (!on) inspector_->setQuality(std::nullopt);
}

void MainWindow::jobChanged(const JobState& job) {
  if (job.kind == JobState::Kind::load)
    start_->setLoading(job.running ? (job.what.isEmpty() ? tr("Opening") : job.what) : QString(), job.fraction);
  const bool generating = job.running && job.kind == JobState::Kind::generate;
  prompt_->setBusy(generating, job.running && !generating);
  attribution_->setJob(job);
  weights_->setJob(job);
  if (!job.running) runsTimer_.start(kRunsMs);
  chips_->refresh();
  updateActions();
}

void MainWindow::effectiveChanged() {
  const Effective effective = workbench_->effective();
  const bool pending = workbench_->weightsPending();
  knobs_->setEffective(effective, pending, workbench_->weightsPendingFraction());
  knobs_->setCacheMixed(workbench_->cacheMixed(), workbench_->rebuildCostMs());
  inspector_->setEffective(effective, pending, workbench_->weightsPendingFraction());
  cache_->setSettings(QString::fromStdString(effective.config.canonical()));
  weights_->setCompressed(effective.requested.text("weights.method") != "none" || effective.requested.text("prune.method") != "none" ||
                          effective.requested.real("prune.width") > 0 || effective.requested.real("prune.heads") > 0 || effective.requested.real("prune.head_dim") > 0);
  QString said;
  for (const Adjustment& each : effective.adjustments)
    said += tr("Asked for %1 = %2, the engine runs %3: %4 ")
                .arg(QString::fromStdString(each.knob), QString::fromStdString(toText(each.requested)),
                     QString::fromStdString(toText(each.effective)), QString::fromStdString(each.reason));
  if (!said.isEmpty() && said != lastAdjustment_) banner_->show(Banner::Tone::notice, said.trimmed(), {});
  if (said.isEmpty() && !lastAdjustment_.isEmpty()) banner_->clear();
  lastAdjustment_ = said;
  chips_->refresh();
  updateActions();
}

void MainWindow::refreshRuns() {
  if (closing_) return;
  const auto session = workbench_->session();
  if (!session) {
    runs_->setRuns({}, false);
  } else if (auto runs = session->runs()) {
    runs_->setRuns(std::move(*runs), session->readOnly());
  } else {
    fail(QString::fromStdString(runs.error().message), QString::fromStdString(runs.error().hint));
  }
  if (tabs_->currentWidget() == weights_) refreshSensitivity();
  // The table shows what is on the disk; what still waits for the writer is looked at again.
  const bool waiting = session && !session->readOnly() && session->writerState().queued > 0;
  runsTimer_.setInterval(!waiting ? kRunsMs : workbench_->job().running ? 2000 : 300);
  if (waiting) runsTimer_.start();
  updateActions();
}

void MainWindow::showAttribution(const storage::AttributionRecord& record, qint64 run) {
  const auto outcomes = workbench_->session()->outcomes(run);
  const auto known = outcomes ? *outcomes : std::vector<storage::AttributionOutcome>();
  attribution_->showStored(attributionResult(record, known), QString::fromStdString(record.context), QString::fromStdString(record.question), run);
  showView(attributionTab);
}

void MainWindow::openRun(qint64 run) {
  const auto session = workbench_->session();
  if (!session) return;
  const auto summary = session->run(run);
  if (!summary) return fail(QString::fromStdString(summary.error().message), {});
  if (summary->kind == storage::RunKind::attribute) {
    const auto record = session->attribution(run);
    if (record && *record) showAttribution(**record, run);
    return;
  }
  if (summary->kind != storage::RunKind::generate) return compareRuns({run});
  const auto samples = session->tokens(run);
  if (!samples) return fail(QString::fromStdString(samples.error().message), {});
  std::vector<TokenPoint> points;
  const auto memory = session->memory(run);
  size_t at = 0;
  MemoryByTag now{};
  Utf8Stream text;
  for (const storage::TokenSample& sample : *samples) {
    TokenPoint point;
    for (; memory && at < memory->size() && (*memory)[at].atToken <= sample.index; ++at) setTag(now, (*memory)[at]);
    point.memory = now;
    point.index = sample.index;
    point.id = sample.token;
    point.prompt = sample.prefill;
    point.text = QString::fromStdString(text.push(sample.piece));
    point.ms = static_cast<double>(sample.durationNs) / 1e6;
    point.seconds = static_cast<double>(sample.tNs) / 1e9;
    point.nll = sample.nll.value_or(-1);
    point.entropy = sample.entropy.value_or(-1);
    point.joules = sample.joules.value_or(-1);
    point.epoch = sample.epoch;
    point.kvLive = sample.kvLive;
    point.kvEvicted = sample.kvEvicted;
    points.push_back(std::move(point));
  }
  std::vector<EpochPoint> epochs;
  if (const auto events = session->knobEvents(run)) {
    for (const storage::KnobEvent& event : *events) {
      EpochPoint epoch;
      epoch.epoch = event.epoch;
      epoch.token = event.atToken;
      epoch.label =
          QStringLiteral("%1 %2 → %3")
              .arg(QString::fromStdString(event.knob), QString::fromStdString(event.oldValue), QString::fromStdString(event.newValue));
      epoch.cause = QString::fromStdString(event.cause);
      epoch.reason = QString::fromStdString(event.reason);
      epoch.clamped = !event.reason.empty();
      if (event.epoch > 0) epochs.push_back(epoch);
    }
  }
  const QString name = summary->name.empty() ? tr("run %1").arg(run) : QString::fromStdString(summary->name);
  prompt_->showStored(points, epochs, tr("Output of %1 (stored)").arg(name));
  live_->clear();
  live_->addTokens(points);
  for (const EpochPoint& epoch : epochs) live_->addEpoch(epoch);
  showView(liveTab);
}

void MainWindow::deleteRuns(const std::vector<qint64>& runs) {
  const auto session = workbench_->session();
  if (!session || runs.empty()) return;
  const auto answer = QMessageBox::question(this, tr("Delete runs"),
                                            plural(static_cast<qint64>(runs.size()), tr("Delete %1 run and everything measured in it?"),
                                                   tr("Delete %1 runs and everything measured in them?")),
                                            QMessageBox::Yes | QMessageBox::Cancel, QMessageBox::Cancel);
  if (answer != QMessageBox::Yes) return;
  if (const auto done = session->deleteRuns(std::vector<storage::Id>(runs.begin(), runs.end())); !done)
    fail(QString::fromStdString(done.error().message), {});
  refreshRuns();
}

void MainWindow::compareRuns(const std::vector<qint64>& runs) {
  if (runs.empty()) return;
  compare_->setRuns(std::vector<storage::Id>(runs.begin(), runs.end()));
  showView(compareTab);
}

void MainWindow::exportRuns(const std::vector<qint64>& runs) {
  const auto session = workbench_->session();
  if (!session) return;
  if (tabs_->currentWidget() == compare_) {  // what is on screen
    if (const auto shown = compare_->chart()) return exportChart(*shown);
  }
  const auto chart = buildChart(*session, QStringLiteral("comparison"), std::vector<storage::Id>(runs.begin(), runs.end()));
  if (!chart) return fail(QString::fromStdString(chart.error().message), QString::fromStdString(chart.error().hint));
  exportChart(*chart);
}

void MainWindow::exportChart(const Chart& chart) {
  ExportMemory memory;
  memory.read = [this](const QString& key) { return settings_->choice(QStringLiteral("export/") + key); };
  memory.write = [this](const QString& key, const QVariant& value) { settings_->setChoice(QStringLiteral("export/") + key, value); };
  auto* dialog = new ExportDialog(chart, themes_, memory, this);
  dialog->setObjectName(QStringLiteral("export"));
  dialog->setAttribute(Qt::WA_DeleteOnClose);
  connect(dialog, &ExportDialog::saved, this, [this](const QString& path) {
    banner_->show(Banner::Tone::notice, tr("Saved %1").arg(path), {});
    events_->add({QDateTime::currentMSecsSinceEpoch(), QStringLiteral("info"), QStringLiteral("export.saved"), tr("Saved %1").arg(path)});
  });
  dialog->open();
}

}  // namespace winnow
