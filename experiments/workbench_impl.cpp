// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/workbench_impl.h"

#include <QDateTime>
#include <QDir>
#include <QFile>
#include <QFileInfo>
#include <QStandardPaths>
#include <QUuid>
#include <new>

#include "engine/text/chat.h"
#include "experiments/chart_runs.h"
#include "experiments/model_source.h"
#include "experiments/plan_runner.h"
#include "experiments/recorder.h"

namespace winnow {
namespace {

constexpr int kDisplayMs = 16;
constexpr int kPendingMs = 100;
constexpr qint64 kCacheMapMs = 100;
constexpr int kCacheMapColumns = 512, kCacheMapShare = 40;  // a map takes at most one part in so many of the time

QString tokenizerText(const VocabData& vocab) {
  switch (vocab.kind) {
    case VocabData::Kind::bpe:
      return vocab.pre.empty() ? QStringLiteral("byte-level BPE") : QStringLiteral("byte-level BPE (%1)").arg(QString::fromStdString(vocab.pre));
    case VocabData::Kind::spm:
      return QStringLiteral("SentencePiece-BPE");
    case VocabData::Kind::none:
      break;
  }
  return QStringLiteral("none");
}

ModelInfo describe(const Engine& engine, const std::string& source, const std::string& path) {
  const Model& model = engine.model();
  ModelInfo info;
  info.source = QString::fromStdString(source);
  info.path = QString::fromStdString(path);
  info.name = model.config().name.empty() ? QFileInfo(info.path).fileName() : QString::fromStdString(model.config().name);
  info.format = QString::fromStdString(model.format());
  info.architecture = QString::fromStdString(model.config().architecture);
  info.types = QString::fromStdString(model.typeSummary());
  info.device = QString::fromStdString(engine.deviceDescription());
  info.tokenizer = tokenizerText(model.vocab());
  const std::string_view chat = chatFormatName(detectChatFormat(model.vocab().chatTemplate));
  info.chatFormat = QString::fromUtf8(chat.data(), static_cast<qsizetype>(chat.size()));
  info.config = model.config();
  info.fileBytes = model.fileBytes();
  for (const std::string& note : model.notes()) info.notes << QString::fromStdString(note);
  return info;
}

}  // namespace

Workbench::Impl::Impl(Workbench* owner, const EngineOptions& engineOptions)
    : q(owner), options(engineOptions), probe([this](const QualityPoint& point) {
        onGui([this, point] { Q_EMIT q->qualityChanged(point); });
      }),
      watch(watchObserver()) {
  if (options.calibrationSample.empty()) options.calibrationSample = findResource("texts/calibration.txt");
  displayTimer.setInterval(kDisplayMs);
  QObject::connect(&displayTimer, &QTimer::timeout, q, [this] { drainPoints(); });
  pendingTimer.setInterval(kPendingMs);
  // Weights may begin to be prepared at a token and be ready when nothing runs: an idle session takes them only when asked.
  QObject::connect(&pendingTimer, &QTimer::timeout, q, [this] {
    const auto current = session();
    if (!current || !current->pending()) return;
    if (!job.running) adoptIdle();
    Q_EMIT q->effectiveChanged();
  });
  pendingTimer.start();
  thread = std::jthread([this](const std::stop_token& end) { loop(end); });
}

Workbench::Impl::~Impl() { shutDown(); }

void Workbench::Impl::shutDown() {
  if (!thread.joinable()) return;
  {
    std::scoped_lock lock(queueMutex);
    queue.clear();
    jobStop.request_stop();
  }
  thread.request_stop();
  queueChanged.notify_all();
  thread.join();
  hasher.stop();
  probe.setEngine(nullptr);
  watch.setEngine(nullptr);
  std::scoped_lock lock(mutex);
  session_.reset();
  engine_.reset();
}

void Workbench::Impl::post(Task task) {
  {
    std::scoped_lock lock(queueMutex);
    queue.push_back(std::move(task));
  }
  queueChanged.notify_all();
}

void Workbench::Impl::loop(const std::stop_token& end) {
  std::unique_lock lock(queueMutex);
  while (queueChanged.wait(lock, end, [this] { return !queue.empty(); })) {
    const Task task = std::move(queue.front());
    queue.pop_front();
    const std::stop_token stop = jobStop.get_token();
    lock.unlock();
    task(stop);
    lock.lock();
  }
}

// One job at a time: a second one is refused with a sentence, never queued behind the first unseen.
void Workbench::Impl::startJob(JobState::Kind kind, const QString& what, JobBody body) {
  if (job.running) {
    Q_EMIT q->jobFailed(tr("\"%1\" is still running.").arg(job.what), tr("Stop it first."));
    return;
  }
  if (kind != JobState::Kind::load && !engine()) {
    Q_EMIT q->jobFailed(tr("No model is open."), tr("Open a model first."));
    return;
  }
  job = {};
  job.kind = kind;
  job.running = true;
  job.what = what;
  jobClock.start();
  displayTimer.start();
  {
    std::scoped_lock lock(queueMutex);
    jobStop = std::stop_source();
  }
  Q_EMIT q->jobChanged(job);
  post([this, body = std::move(body)](const std::stop_token& stop) {
    const Progress progress{[this](double fraction, std::string_view text) { reportProgress(fraction, text); }, stop};
    Status status = Done{};
    try {
      status = body(progress);
    } catch (const std::bad_alloc&) {
      status = Error{ErrorCode::resources, "there is not enough memory.", "Fewer bits per weight or a shorter context need less."};
    } catch (const std::exception& broken) {
      status = Error{ErrorCode::failed, std::string("internal error: ") + broken.what() + ".", "Please report it with what you did."};
    }
    onGui([this, status] { finishJob(status); });
  });
}

void Workbench::Impl::stopJob() {
  std::scoped_lock lock(queueMutex);
  jobStop.request_stop();
}

void Workbench::Impl::finishJob(const Status& status) {
  drainPoints();
  displayTimer.stop();
  const JobState::Kind kind = job.kind;
  job.running = false;
  job.fraction = -1;
  Q_EMIT q->jobChanged(job);
  if (!status && status.error().code != ErrorCode::cancelled) {
    const QString message = QString::fromStdString(status.error().message), hint = QString::fromStdString(status.error().hint);
    log(QStringLiteral("error"), QStringLiteral("job"), message);
    if (kind == JobState::Kind::load)
      Q_EMIT q->modelFailed(message, hint);
    else
      Q_EMIT q->jobFailed(message, hint);
  } else if (!status) {
    log(QStringLiteral("notice"), QStringLiteral("cancelled"), tr("%1: stopped.").arg(job.what));
  }
  Q_EMIT q->runsChanged();
  Q_EMIT q->effectiveChanged();
}

void Workbench::Impl::reportProgress(double fraction, std::string_view what) {
  std::scoped_lock lock(mutex);
  JobState state;
  state.fraction = fraction;
  state.what = QString::fromUtf8(what.data(), static_cast<qsizetype>(what.size()));
  progressState = state;
}

// ---- model ----

void Workbench::Impl::openModel(const QString& path, int context) {
  startJob(JobState::Kind::load, tr("Opening %1").arg(QFileInfo(path).fileName()), [this, path = path.toStdString(), context, config = requested](const Progress& progress) {
    return loadModel(path, context, config, progress);
  });
}

Status Workbench::Impl::loadModel(const std::string& path, int context, const Config& config, const Progress& progress) {
  progress(0, "reading the file");
  const auto source = resolveModel(path);
  if (!source) return source.error();
  auto model = Model::open(*source);
  if (!model) return model.error();
  if (progress.stopped()) return Error{ErrorCode::cancelled, "stopped.", ""};
  auto engine = Engine::create(std::move(*model), options);
  if (!engine) return engine.error();
  progress(0.1, "preparing the weights");
  SessionOptions sessionOptions;
  sessionOptions.context = context;
  auto session = (*engine)->createSession(config, sessionOptions, progress);
  if (!session) return session.error();
  (*session)->observeOps(observing);
  dropModel();
  {
    std::scoped_lock lock(mutex);
    engine_ = *engine;
    session_ = std::move(*session);
    info = describe(**engine, path, *source);
  }
  probe.setEngine(*engine);
  watch.setEngine(*engine);
  hasher.start(modelRecord((*engine)->model()).path, [this](const std::string& hashed, const std::string& hash) {
    std::shared_ptr<storage::SessionFile> open;
    {
      std::scoped_lock lock(mutex);
      open = file;
    }
    if (open && !open->readOnly()) open->setModelHash(hashed, hash);
  });
  onGui([this] {
    epoch = 0;
    epochToken = 0;
    for (const QString& note : info.notes) log(QStringLiteral("notice"), QStringLiteral("model"), note);
    Q_EMIT q->modelChanged();
    Q_EMIT q->effectiveChanged();
    scoreProbe();
  });
  return Done{};
}

void Workbench::Impl::dropModel() {
  probe.setEngine(nullptr);
  watch.setEngine(nullptr);
  std::shared_ptr<Engine> oldEngine;
  std::shared_ptr<Session> oldSession;
  {
    std::scoped_lock lock(mutex);
    oldSession.swap(session_);
    oldEngine.swap(engine_);
    info = {};
  }
  if (oldEngine) onGui([this] { Q_EMIT q->modelChanged(); });
}

// ---- jobs ----

JobContext Workbench::Impl::jobContext(const Progress& progress) {
  JobContext context;
  context.engine = engine();
  context.file = ensureFile();
  context.progress = progress;
  const std::string path = context.engine ? modelRecord(context.engine->model()).path : std::string();
  context.onRun = [this, recorded = context.file, path](storage::Id run) {
    if (const std::string hash = hasher.hashOf(path); recorded && !hash.empty()) recorded->setModelHash(path, hash);
    onGui([this, run] {
      job.run = run;
      Q_EMIT q->runsChanged();
      Q_EMIT q->jobChanged(job);
    });
  };
  return context;
}

void Workbench::Impl::generate(const GenerateRequest& request) {
  const bool free = !job.running && engine();
  startJob(JobState::Kind::generate, tr("Generating"), [this, request](const Progress& progress) -> Status {
    const auto current = session();
    if (!current) return Error{ErrorCode::failed, "the model was closed.", ""};
    GenerateObserver observer;
    observer.onToken = [this](const TokenPoint& point) { pushPoint(point); };
    observer.onEpoch = [this](const EpochPoint& point) {
      onGui([this, point] {
        drainPoints();
        epoch = point.epoch;
        epochToken = point.token;
        Q_EMIT q->epochBegan(point);
        Q_EMIT q->effectiveChanged();
        scoreProbe();
      });
    };
    observer.onEvent = [this](const EngineEvent& event) {
      if (event.kind == EngineEvent::Kind::epoch || event.kind == EngineEvent::Kind::evicted) return;
      const bool warning = event.kind == EngineEvent::Kind::warning || event.kind == EngineEvent::Kind::fallback;
      onGui([this, event, warning] { log(warning ? QStringLiteral("warning") : QStringLiteral("info"), QString::fromStdString(event.code), QString::fromStdString(event.text)); });
    };
    observer.onBoundary = [this] { showCache(false); };
    const auto result = generateRun(jobContext(progress), *current, request, observer);
    if (!result) return result.error();
    showCache(true);
    return result->stopped ? Status(Error{ErrorCode::cancelled, "stopped.", ""}) : Status(Done{});
  });
  if (free && job.running) {
    epoch = 0;
    epochToken = 0;
    Q_EMIT q->generationStarted(request);
  }
}

void Workbench::Impl::runPlan(const PlanFile& plan, bool resume) {
  startJob(JobState::Kind::plan, tr("Running %1").arg(plan.name), [this, plan, resume](const Progress& progress) -> Status {
    const auto result = winnow::runPlan(plan, ensureFile(), options, resume, progress, [this](const PlanPointState&) { onGui([this] { Q_EMIT q->runsChanged(); }); });
    return result ? Status(Done{}) : Status(result.error());
  });
}

void Workbench::Impl::pushPoint(const TokenPoint& point) {
  std::scoped_lock lock(mutex);
  points.push_back(point);
}

void Workbench::Impl::drainPoints() {
  std::vector<TokenPoint> arrived;
  std::optional<JobState> progress;
  {
    std::scoped_lock lock(mutex);
    arrived.swap(points);
    progress.swap(progressState);
  }
  if (!arrived.empty()) Q_EMIT q->tokensArrived(arrived);
  if (!progress || !job.running) return;
  job.fraction = progress->fraction;
  if (!progress->what.isEmpty()) job.what = progress->what;
  const double elapsed = static_cast<double>(jobClock.elapsed()) / 1000;
  job.secondsLeft = job.fraction > 0.01 ? elapsed * (1 - job.fraction) / job.fraction : -1;
  Q_EMIT q->jobChanged(job);
}

void Workbench::Impl::adoptIdle() {
  post([this](const std::stop_token&) {
    if (const auto current = session()) current->adopt();
    forwardEvents();
  });
}

void Workbench::Impl::forwardEvents() {
  const auto current = session();
  if (!current) return;
  bool adopted = false;
  for (const EngineEvent& event : current->takeEvents()) {
    adopted |= event.kind == EngineEvent::Kind::epoch || event.kind == EngineEvent::Kind::published;
    const bool warning = event.kind == EngineEvent::Kind::warning || event.kind == EngineEvent::Kind::fallback;
    const QString text = event.kind == EngineEvent::Kind::epoch ? epochLabel(event) : QString::fromStdString(event.text);
    onGui([this, warning, text, code = QString::fromStdString(event.code)] { log(warning ? QStringLiteral("warning") : QStringLiteral("info"), code, text); });
  }
  onGui([this, adopted] {
    Q_EMIT q->effectiveChanged();
    if (adopted) scoreProbe();
  });
}

void Workbench::Impl::scoreProbe() {
  const auto current = session();
  if (!current) return;
  const Config running = current->effective()->config;
  probe.score(running, epoch, epochToken);
  watch.compare(running);
}

WeightWatchObserver Workbench::Impl::watchObserver() {
  return {[this](const WeightReport& report, const Config& config) {
            onGui([this, report, settings = QString::fromStdString(config.canonical())] { Q_EMIT q->weightReportChanged(report, settings); });
          },
          [this](const WeightHistogram& histogram) { onGui([this, histogram] { Q_EMIT q->weightHistogramChanged(histogram); }); },
          [this](const std::vector<SuperWeight>& found) { onGui([this, found] { Q_EMIT q->superWeightsFound(found); }); },
          [this](double fraction, const QString& what) { onGui([this, fraction, what] { Q_EMIT q->comparingWeights(fraction, what); }); }};
}

void Workbench::Impl::showCache(bool force) {
  const bool early = cacheClock.isValid() && (cacheClock.elapsed() < kCacheMapMs || cacheClock.nsecsElapsed() < kCacheMapShare * cacheMapNs);
  if (early && !force) return;
  cacheClock.start();
  const auto current = session();
  if (!current) return;
  CacheMap map = cacheMapOf(*current, kCacheMapColumns);
  cacheMapNs = cacheClock.nsecsElapsed();
  onGui([this, map = std::move(map)] { Q_EMIT q->cacheMapChanged(map); });
}

// ---- session file ----

void Workbench::Impl::setFile(std::shared_ptr<storage::SessionFile> next, bool temporary) {
  std::shared_ptr<storage::SessionFile> old;
  bool oldTemporary = false;
  {
    std::scoped_lock lock(mutex);
    old = std::exchange(file, next);
    oldTemporary = std::exchange(fileIsTemporary, temporary);
  }
  if (old) {
    const QString path = QString::fromStdString(old->path());
    if (const auto closed = old->close(); !closed) log(QStringLiteral("error"), QStringLiteral("session"), QString::fromStdString(closed.error().message));
    if (oldTemporary && next) QFile::remove(path);  // its runs went along with "save as"
  }
  Q_EMIT q->sessionChanged();
  Q_EMIT q->runsChanged();
}

// Runs are recorded from the first one on: without a session file they go to one in the user's data folder, so that closing
// without saving loses nothing.
std::shared_ptr<storage::SessionFile> Workbench::Impl::ensureFile() {
  {
    std::scoped_lock lock(mutex);
    if (file) return file;
  }
  const QString folder = QStandardPaths::writableLocation(QStandardPaths::GenericDataLocation) + QStringLiteral("/winnow/sessions");
  QDir().mkpath(folder);
  const QString path = folder + QStringLiteral("/untitled-%1-%2.winnow")
                                    .arg(QDateTime::currentDateTime().toString(QStringLiteral("yyyyMMdd-HHmmss")), QUuid::createUuid().toString(QUuid::Id128).left(4));
  auto created = storage::SessionFile::open(path.toStdString(), storage::SessionFile::Mode::create);
  if (!created) {
    const QString message = QString::fromStdString(created.error().message);
    onGui([this, message] { log(QStringLiteral("error"), QStringLiteral("session"), tr("Runs are not being stored: %1").arg(message)); });
    return nullptr;
  }
  {
    std::scoped_lock lock(mutex);
    file = *created;
    fileIsTemporary = true;
  }
  onGui([this] { Q_EMIT q->sessionChanged(); });
  return *created;
}

void Workbench::Impl::log(const QString& level, const QString& code, const QString& text) {
  LogLine line;
  line.utcMs = QDateTime::currentMSecsSinceEpoch();
  line.level = level;
  line.code = code;
  line.text = text;
  Q_EMIT q->logged(line);
}

}  // namespace winnow
