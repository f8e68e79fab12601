// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/workbench.h"

#include <QDateTime>
#include <QDir>
#include <QFile>
#include <QFileInfo>
#include <QStandardPaths>
#include <cstdio>

#include "engine/text/chat.h"
#include "experiments/chart_runs.h"
#include "experiments/model_export.h"
#include "experiments/model_source.h"
#include "experiments/session_opening.h"
#include "experiments/workbench_impl.h"

namespace winnow {

Workbench::Workbench(const EngineOptions& options, QObject* parent) : QObject(parent), impl_(std::make_unique<Impl>(this, options)) {}

Workbench::~Workbench() {
  impl_->shutDown();
  closeSession();
}

// ---- model ----

void Workbench::openModel(const QString& path, int context) { impl_->openModel(path, context); }

void Workbench::closeModel() {
  stop();
  impl_->post([d = impl_.get()](const std::stop_token&) { d->dropModel(); });
}

bool Workbench::hasModel() const { return impl_->engine() != nullptr; }
ModelInfo Workbench::model() const {
  std::scoped_lock lock(impl_->mutex);
  return impl_->info;
}

// ---- session file ----

// A running job writes to the file that is open: another one can't take its place.
static bool writing(const JobState& job, QString* error) {
  const bool yes = job.running && job.kind != JobState::Kind::load;
  if (yes && error) *error = Workbench::tr("\"%1\" is still running and writes to the open session. Stop it first.").arg(job.what);
  return yes;
}

bool Workbench::openSession(const QString& path, QString* error, storage::OpenReport* report) {
  if (writing(impl_->job, error)) return false;
  auto opened = openSessionFile(path, storage::SessionFile::Mode::open, report);
  if (!opened) {
    if (error) *error = QString::fromStdString(opened.error().message + (opened.error().hint.empty() ? "" : " " + opened.error().hint));
    return false;
  }
  impl_->setFile(*opened, false);
  return true;
}

bool Workbench::createSession(const QString& path, QString* error) {
  if (writing(impl_->job, error)) return false;
  auto created = openSessionFile(path, storage::SessionFile::Mode::create);
  if (!created) {
    if (error) *error = QString::fromStdString(created.error().message + (created.error().hint.empty() ? "" : " " + created.error().hint));
    return false;
  }
  impl_->setFile(*created, false);
  return true;
}

bool Workbench::saveSessionAs(const QString& path, QString* error) {
  if (writing(impl_->job, error)) return false;
  const auto file = session();
  if (!file) return createSession(path, error);
  // The file dialog has asked about overwriting: the copy is made beside the old file and replaces it only when it is whole.
  const QString part = path + QStringLiteral(".part");
  QFile::remove(part);
  const auto saved = file->saveCopy(part.toStdString());
  if (!saved) {
    if (error) *error = QString::fromStdString(saved.error().message + (saved.error().hint.empty() ? "" : " " + saved.error().hint));
    return false;
  }
  if (std::rename(QFile::encodeName(part).constData(), QFile::encodeName(path).constData()) != 0) {
    if (error) *error = tr("%1 can't be written; the copy is %2.").arg(path, part);
    return false;
  }
  return openSession(path, error);
}

void Workbench::closeSession() { impl_->setFile(nullptr, false); }

std::shared_ptr<storage::SessionFile> Workbench::session() const {
  std::scoped_lock lock(impl_->mutex);
  return impl_->file;
}
bool Workbench::sessionIsTemporary() const {
  std::scoped_lock lock(impl_->mutex);
  return impl_->fileIsTemporary;
}

// ---- knobs ----

Config Workbench::requested() const { return impl_->requested; }

void Workbench::setKnob(const QString& name, const KnobValue& value, const QString& cause) {
  const auto checked = Schema::instance().check(name.toStdString(), value);
  if (!checked) {
    impl_->log(QStringLiteral("warning"), QStringLiteral("knob"), QString::fromStdString(checked.error().message));
    return;
  }
  setConfig(impl_->requested.with(name.toStdString(), *checked), cause);
}

void Workbench::setConfig(const Config& config, const QString& cause) {
  if (config == impl_->requested) return;
  impl_->requested = config;
  if (const auto session = impl_->session()) {
    session->request(config, cause.toStdString());
    // An idle session answers without a token; a busy one adopts at its next token by itself.
    if (!impl_->job.running) impl_->adoptIdle();
  }
  Q_EMIT effectiveChanged();
}

Effective Workbench::effective() const {
  if (const auto session = impl_->session()) return *session->effective();
  return resolved(impl_->requested);
}

Effective Workbench::resolved(const Config& config) const {
  if (const auto engine = impl_->engine()) return engine->resolved(config);
  Effective idle;
  idle.requested = idle.config = config;
  return idle;
}

bool Workbench::weightsPending() const {
  const auto session = impl_->session();
  return session && session->pending();
}
double Workbench::weightsPendingFraction() const {
  const auto session = impl_->session();
  return session ? session->pendingFraction() : 0;
}
bool Workbench::cacheMixed() const {
  const auto session = impl_->session();
  return session && session->cacheMixed();
}
double Workbench::rebuildCostMs() const {
  const auto session = impl_->session();
  return session ? session->rebuildCostMs() : 0;
}

void Workbench::rebuildCache() {
  impl_->startJob(JobState::Kind::rebuild, tr("Recomputing the cache"), [d = impl_.get()](const Progress& progress) -> Status {
    const auto session = d->session();
    if (!session) return Done{};
    const Status done = session->rebuildCache(progress);
    d->forwardEvents();
    d->showCache(true);
    return done;
  });
}

MemoryByTag Workbench::planMemory(const Config& config) const {
  const auto engine = impl_->engine();
  if (!engine) return {};
  const auto session = impl_->session();
  SessionOptions options;
  if (session) options.context = session->context();
  const auto plan = engine->plan(config, options, session ? static_cast<int>(std::max<int64_t>(1, session->position())) : 1);
  return plan ? *plan : MemoryByTag{};
}

// ---- weights against the master ----

void Workbench::watchWeights(bool on) {
  impl_->watch.setOn(on);
  if (!on) return;
  if (const auto session = impl_->session()) impl_->watch.compare(session->effective()->config);
}
void Workbench::stopComparing() { impl_->watch.stop(); }
void Workbench::showHistogram(int tensor) { impl_->watch.showHistogram(tensor); }
void Workbench::findSuperWeights() { impl_->watch.findSuperWeights(); }

Result<PlanFile> Workbench::sensitivityPlan() const {
  const auto engine = impl_->engine();
  if (!engine) return Error{ErrorCode::usage, "no model is open.", "Open a model first."};
  const std::string text = findResource("texts/sample.txt");
  if (text.empty()) return Error{ErrorCode::failed, "the probe text that comes with Winnow is missing.", "Install Winnow again."};
  const Effective effective = engine->resolved(impl_->requested);
  return winnow::sensitivityPlan(engine->model(), model().source, effective.config, QString::fromStdString(text));
}

Result<Sensitivity> Workbench::sensitivity() const {
  const auto open = session();
  return open ? latestSensitivity(*open) : Result<Sensitivity>(Sensitivity());
}

void Workbench::exportModel(const QString& path) {
  impl_->startJob(JobState::Kind::exportModel, tr("Exporting the model"), [this, d = impl_.get(), path, config = impl_->requested](const Progress& progress) -> Status {
    const auto engine = d->engine();
    if (!engine) return Error{ErrorCode::failed, "the model was closed.", ""};
    const auto result = winnow::exportModel(*engine, config, path.toStdString(), progress);
    if (!result) return result.error();
    d->onGui([this, path, r = *result] { Q_EMIT modelExported(path, r); });
    return Done{};
  });
}

// ---- jobs ----

void Workbench::generate(const GenerateRequest& request) { impl_->generate(request); }

void Workbench::evaluate(const EvaluateSpec& spec) {
  impl_->startJob(JobState::Kind::evaluate, tr("Evaluating"), [this, d = impl_.get(), spec, config = impl_->requested](const Progress& progress) -> Status {
    const auto result = evaluateRun(d->jobContext(progress), config, spec, [this, d](const PerplexityResult& partial) {
      d->onGui([this, partial] { Q_EMIT evaluateProgress(partial); });
    });
    if (!result) return result.error();
    d->onGui([this, r = *result] { Q_EMIT evaluateFinished(r); });
    return Done{};
  });
}

void Workbench::retrieve(const RetrieveSpec& spec) {
  impl_->startJob(JobState::Kind::retrieve, tr("Asking for facts"), [this, d = impl_.get(), spec, config = impl_->requested](const Progress& progress) -> Status {
    const auto result = retrieveRun(d->jobContext(progress), config, spec, [this, d](const RetrievalResult& partial) {
      d->onGui([this, partial] { Q_EMIT retrieveProgress(partial); });
    });
    if (!result) return result.error();
    d->onGui([this, r = *result] { Q_EMIT retrieveFinished(r); });
    return Done{};
  });
}

void Workbench::bench(const BenchSpec& spec) {
  impl_->startJob(JobState::Kind::bench, tr("Measuring speed"), [this, d = impl_.get(), spec, config = impl_->requested](const Progress& progress) -> Status {
    const auto result = benchRun(d->jobContext(progress), config, spec);
    if (!result) return result.error();
    d->onGui([this, r = *result] { Q_EMIT benchFinished(r); });
    return Done{};
  });
}

void Workbench::attribute(const AttributeSpec& spec) {
  impl_->startJob(JobState::Kind::attribute, tr("Attributing"), [this, d = impl_.get(), spec, config = impl_->requested](const Progress& progress) -> Status {
    const auto show = [this, d](const AttributeResult& r) { d->onGui([this, r] { Q_EMIT attributionChanged(r); }); };
    const auto result = attributeRun(d->jobContext(progress), config, spec, show);
    if (!result) return result.error();
    show(*result);
    return Done{};
  });
}

std::vector<Source> Workbench::tokenWindows(const std::string& text, int tokens) const {
  const auto engine = impl_->engine();
  const auto tokenizer = engine ? engine->tokenizer() : nullptr;
  return tokenizer ? splitWindows(text, *tokenizer, tokens) : std::vector<Source>();
}

void Workbench::attributeDifference(const AttributionDifferenceSpec& spec) {
  impl_->startJob(JobState::Kind::attribute, tr("Comparing attributions"), [this, d = impl_.get(), spec](const Progress& progress) -> Status {
    const auto show = [this, d](const AttributeResult& side, bool second) { d->onGui([this, side, second] { Q_EMIT attributionSideChanged(side, second); }); };
    const auto result = attributeDifferenceRun(d->jobContext(progress), spec, show);
    if (!result) return result.error();
    d->onGui([this, r = *result] { Q_EMIT attributionDifferenceChanged(r); });
    return Done{};
  });
}

void Workbench::measureAttention(const AttentionSpec& spec) {
  impl_->startJob(JobState::Kind::attention, tr("Reading attention"), [this, d = impl_.get(), spec, config = impl_->requested](const Progress& progress) -> Status {
    const auto engine = d->engine();
    if (!engine) return Error{ErrorCode::failed, "the model was closed.", ""};
    const auto maps = attentionRun(*engine, config, spec, progress);
    if (!maps) return maps.error();
    d->onGui([this, m = *maps] { Q_EMIT attentionMeasured(m); });
    return Done{};
  });
}

void Workbench::measureKeptMass(const KeptMassSpec& spec) {
  impl_->startJob(JobState::Kind::keptMass, tr("Reading attention"), [this, d = impl_.get(), spec, config = impl_->requested](const Progress& progress) -> Status {
    const auto engine = d->engine();
    if (!engine) return Error{ErrorCode::failed, "the model was closed.", ""};
    const auto kept = keptMassRun(*engine, config, spec, progress);
    if (!kept) return kept.error();
    d->onGui([this, k = *kept, config] { Q_EMIT keptMassMeasured(k, config); });
    return Done{};
  });
}

void Workbench::measureSimilarity(const SimilaritySpec& spec) {
  impl_->startJob(JobState::Kind::similarity, tr("Comparing attention"), [this, d = impl_.get(), spec, config = impl_->requested](const Progress& progress) -> Status {
    const auto engine = d->engine();
    if (!engine) return Error{ErrorCode::failed, "the model was closed.", ""};
    const auto map = similarityRun(*engine, config, spec, progress);
    if (!map) return map.error();
    d->onGui([this, m = *map] { Q_EMIT similarityMeasured(m); });
    return Done{};
  });
}

void Workbench::runPlan(const PlanFile& plan, bool resume) { impl_->runPlan(plan, resume); }
void Workbench::stop() { impl_->stopJob(); }
JobState Workbench::job() const { return impl_->job; }

void Workbench::setProbe(const QString& text, int context, int windows) {
  impl_->probe.configure(text.toStdString(), context, windows);
  impl_->scoreProbe();
}

void Workbench::observeOps(bool on) {
  impl_->observing = on;
  impl_->post([d = impl_.get(), on](const std::stop_token&) {
    if (const auto session = d->session()) session->observeOps(on);
  });
}

}  // namespace winnow
