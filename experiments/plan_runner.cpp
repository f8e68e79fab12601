// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/plan_runner.h"

#include <QFileInfo>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <algorithm>

#include "experiments/chart_runs.h"
#include "experiments/model_hash.h"
#include "experiments/model_source.h"
#include "experiments/recorder.h"

namespace winnow {
namespace {

using storage::PointState;

storage::SweepRecord expand(const PlanFile& plan, const std::string& planJson) {
  storage::SweepRecord sweep;
  sweep.name = plan.name.toStdString();
  sweep.planJson = planJson;
  for (const PlanFile::Point& point : plan.points()) {
    storage::SweepPoint stored;
    stored.ordinal = static_cast<int>(sweep.points.size());
    stored.repeat = point.repeat;
    stored.config = configRecord(point.config);
    stored.specJson = experimentJson(plan.experimentOf(point)).toStdString();
    sweep.points.push_back(std::move(stored));
  }
  return sweep;
}

class PlanRun {
 public:
  PlanRun(const PlanFile& plan, std::shared_ptr<storage::SessionFile> file, const Progress& progress, const std::function<void(const PlanPointState&)>& onPoint)
      : plan_(plan), file_(std::move(file)), progress_(progress), onPoint_(onPoint), points_(plan.points()) {}

  // The sweep of this plan in the file, when there is one.
  Status find(bool resume) {
    resume_ = resume;
    const auto sweeps = file_->sweeps();
    if (!sweeps) return fromStorage(sweeps.error());
    const QJsonObject mine = identity(plan_.toJson());
    for (const storage::SweepRecord& known : *sweeps)
      if (identity(QByteArray::fromStdString(known.planJson)) == mine) {
        if (!resume) return Error{ErrorCode::usage, "this plan has been started in " + file_->path() + " already.", "Use --resume to go on with it, or another session file."};
        return adopt(known);
      }
    if (!resume || sweeps->empty()) return Done{};  // killed before it was stored: it begins
    return Error{ErrorCode::usage, "the plan is not the one that was started in " + file_->path() + ": " + difference(*sweeps, mine) + ".",
                 "Undo the change to go on, or leave --resume out to add it as a new sweep."};
  }

  // Stores all points of a plan that is new to the file.
  Status store() {
    if (stored_) return Done{};
    storage::SweepRecord sweep = expand(plan_, plan_.toJson().toStdString());
    const auto id = file_->addSweep(sweep);
    if (!id) return fromStorage(id.error());
    sweep_ = std::move(sweep);
    sweep_.id = *id;
    stored_ = true;
    return Done{};
  }

  void knowModel(const std::string& path, const std::string& hash) {
    modelPath_ = path;
    modelHash_ = hash;
  }

  bool finished() const {
    return stored_ && std::ranges::all_of(sweep_.points, [](const storage::SweepPoint& p) { return p.state == PointState::done || p.state == PointState::skipped; });
  }

  Result<PlanSummary> run(const std::shared_ptr<Engine>& engine) {
    summary_.sweep = sweep_.id;
    for (const storage::SweepPoint& point : sweep_.points) {
      if (point.state == PointState::done || point.state == PointState::skipped) {
        ++summary_.before;
        continue;
      }
      if (progress_.stopped()) return Error{ErrorCode::cancelled, "the plan was stopped; what is done is kept.", "Run it again with --resume."};
      if (const Status done = runPoint(engine, point); !done) return done.error();
    }
    progress_(1, "done");
    return summary_;
  }

 private:
  // A plan by what it does: its name is a label.
  static QJsonObject identity(const QByteArray& json) {
    QJsonObject object = QJsonDocument::fromJson(json).object();
    object.remove(QStringLiteral("name"));
    return object;
  }

  // In what the plan differs from the one of its name, or from the latest.
  std::string difference(const std::vector<storage::SweepRecord>& sweeps, const QJsonObject& mine) const {
    const storage::SweepRecord* other = &sweeps.back();
    for (const storage::SweepRecord& known : sweeps)
      if (known.name == plan_.name.toStdString()) other = &known;
    const QJsonObject theirs = identity(QByteArray::fromStdString(other->planJson));
    std::string keys;
    for (auto it = mine.begin(); it != mine.end(); ++it)
      if (theirs.value(it.key()) != it.value()) keys += (keys.empty() ? "" : ", ") + it.key().toStdString();
    return "it differs from \"" + other->name + "\" in " + (keys.empty() ? "its form" : keys);
  }

  Status adopt(const storage::SweepRecord& known) {
    bool whole = known.points.size() == points_.size();
    for (const storage::SweepPoint& point : known.points) whole = whole && point.ordinal >= 0 && static_cast<size_t>(point.ordinal) < points_.size();
    if (!whole)
      return Error{ErrorCode::badInput, "the sweep in " + file_->path() + " has " + std::to_string(known.points.size()) + " points where its plan has " + std::to_string(points_.size()) + ".",
                   "Run the plan into another session file."};
    sweep_ = known;
    stored_ = true;
    return Done{};
  }

  // What is told to be over is on the disk; where the disk refuses, going on would only lose more.
  Status tell(const storage::SweepPoint& point, PointState state, std::optional<storage::Id> run, const QString& note) {
    file_->setPoint(sweep_.id, point.ordinal, state, run, note.toStdString());
    if (state != PointState::running)
      if (const auto kept = file_->flush(); !kept) return fromStorage(kept.error());
    if (!onPoint_) return Done{};
    const PlanFile::Point& own = points_[static_cast<size_t>(point.ordinal)];
    onPoint_({point.ordinal, static_cast<int>(points_.size()), QString::fromStdString(own.config.canonical()),
              experimentKind(plan_.experiments[static_cast<size_t>(own.experiment)]), state, note});
    return Done{};
  }

  // Fails only when the whole plan has to stop.
  Status runPoint(const std::shared_ptr<Engine>& engine, const storage::SweepPoint& stored) {
    const PlanFile::Point& point = points_[static_cast<size_t>(stored.ordinal)];
    const Effective effective = engine->resolved(point.config);
    if (!effective.asRequested()) {
      ++summary_.skipped;
      return tell(stored, PointState::skipped, std::nullopt, QString::fromStdString(effective.adjustments.front().knob + ": " + effective.adjustments.front().reason));
    }
    JobContext context;
    context.engine = engine;
    context.file = file_;
    context.progress.stop = progress_.stop;
    const double begin = static_cast<double>(stored.ordinal), all = static_cast<double>(points_.size());
    context.progress.report = [this, begin, all](double fraction, std::string_view what) {
      progress_((begin + fraction) / all, "point " + std::to_string(static_cast<int>(begin) + 1) + " of " + std::to_string(static_cast<int>(all)) + ": " + std::string(what));
    };
    context.name = point.config.canonical().empty() ? "baseline" : point.config.canonical();
    context.sweep = sweep_.id;
    context.sweepOrdinal = stored.ordinal;
    context.repeat = point.repeat;
    std::optional<storage::Id> run;
    context.onRun = [&](storage::Id id) {
      run = id;
      if (!modelHash_.empty()) file_->setModelHash(modelPath_, modelHash_);
      static_cast<void>(tell(stored, PointState::running, run, {}));
    };
    const Status done = experiment(context, point);
    if (done) {
      ++summary_.done;
      return tell(stored, PointState::done, run, adjustments(run));
    }
    if (done.error().code == ErrorCode::cancelled) {
      if (const Status told = tell(stored, PointState::todo, std::nullopt, {}); !told) return told;
      return Error{ErrorCode::cancelled, "the plan was stopped; what is done is kept.", "Run it again with --resume."};
    }
    ++summary_.failed;
    if (!summary_.firstError) summary_.firstError = done.error();
    return tell(stored, PointState::failed, run, QString::fromStdString(done.error().message));
  }

  Status experiment(const JobContext& context, const PlanFile::Point& point) {
    const Experiment experiment = plan_.experimentOf(point);
    const auto status = [](const auto& result) { return result ? Status(Done{}) : Status(result.error()); };
    if (const auto* evaluate = std::get_if<EvaluateSpec>(&experiment)) return status(evaluateRun(context, point.config, *evaluate));
    if (const auto* bench = std::get_if<BenchSpec>(&experiment)) return status(benchRun(context, point.config, *bench));
    if (const auto* retrieve = std::get_if<RetrieveSpec>(&experiment)) return status(retrieveRun(context, point.config, *retrieve));
    if (const auto* spec = std::get_if<AttributeSpec>(&experiment)) {
      AttributeSpec attributed = *spec;
      if (resume_) attributed.resume = kResumeIfAny;  // what a run that was cut off computed need not be done again
      const auto result = attributeRun(context, point.config, attributed);
      return result && !result->complete ? stopped() : status(result);
    }
    const auto& spec = std::get<GenerateSpec>(experiment);
    auto session = context.engine->createSession(point.config, {}, context.progress);
    if (!session) return session.error();
    GenerateRequest request;
    request.prompt = spec.prompt;
    request.tokens = spec.tokens;
    request.chat = spec.chat;
    request.ignoreEos = spec.ignoreEos;
    request.sampler = spec.sampler;
    const auto result = generateRun(context, **session, request);
    return result && result->stopped ? stopped() : status(result);
  }

  // What only the session could know: the engine did something else than was asked for. The run has it as its divergence.
  QString adjustments(std::optional<storage::Id> run) {
    if (!run || !file_->flush()) return {};
    const auto stored = file_->run(*run);
    if (!stored) return {};
    const QJsonArray list = QJsonDocument::fromJson(QByteArray::fromStdString(stored->divergenceJson)).array();
    if (list.isEmpty()) return {};
    ++summary_.adjusted;
    return list.first()[QStringLiteral("knob")].toString() + QStringLiteral(": ") + list.first()[QStringLiteral("reason")].toString();
  }

  static Status stopped() { return Error{ErrorCode::cancelled, "stopped.", ""}; }

  const PlanFile& plan_;
  std::shared_ptr<storage::SessionFile> file_;
  const Progress& progress_;
  const std::function<void(const PlanPointState&)>& onPoint_;
  std::vector<PlanFile::Point> points_;
  storage::SweepRecord sweep_;
  bool stored_ = false;  // sweep_ is in the file
  bool resume_ = false;
  PlanSummary summary_;
  std::string modelPath_, modelHash_;
};

// The files a plan names are there: found before anything is run, not after an hour.
Status checkFiles(const PlanFile& plan) {
  for (size_t i = 0; i < plan.experiments.size(); ++i) {
    const Experiment& experiment = plan.experiments[i];
    QString path;
    const char* key = "text";
    if (const auto* evaluate = std::get_if<EvaluateSpec>(&experiment)) path = evaluate->textPath;
    if (const auto* bench = std::get_if<BenchSpec>(&experiment)) path = bench->textPath;
    if (const auto* attribute = std::get_if<AttributeSpec>(&experiment)) {
      const bool set = !attribute->dataPath.isEmpty();
      path = set ? attribute->dataPath : attribute->contextPath;
      key = set ? "data" : "context";
    }
    if (const auto* retrieve = std::get_if<RetrieveSpec>(&experiment)) {
      const bool set = !retrieve->dataPath.isEmpty();
      path = set ? retrieve->dataPath : retrieve->textPath;
      key = set ? "data" : "text";
    }
    if (path.isEmpty() || (QFileInfo(path).isFile() && QFileInfo(path).isReadable())) continue;
    return Error{ErrorCode::badInput, "the plan's experiments[" + std::to_string(i) + "]." + key + " names " + path.toStdString() + ", which is not a file that can be read.",
                 "Paths are relative to the plan."};
  }
  return Done{};
}

}  // namespace

Result<PlanSummary> runPlan(const PlanFile& plan, std::shared_ptr<storage::SessionFile> file, const EngineOptions& options, bool resume, const Progress& progress,
                            const std::function<void(const PlanPointState&)>& onPoint) {
  if (!file || file->readOnly()) return Error{ErrorCode::failed, "the plan needs a session file it can write to.", "Use another file."};
  PlanRun run(plan, file, progress, onPoint);
  if (const Status found = run.find(resume); !found) return found.error();
  std::shared_ptr<Engine> engine;
  if (!run.finished()) {  // a finished plan needs no model
    if (const Status there = checkFiles(plan); !there) return there.error();
    const auto source = resolveModel(plan.model.toStdString());
    if (!source) return source.error();
    auto model = Model::open(*source);
    if (!model) return model.error();
    EngineOptions engineOptions = options;
    if (engineOptions.calibrationSample.empty()) engineOptions.calibrationSample = findResource("texts/calibration.txt");
    auto made = Engine::create(std::move(*model), engineOptions);
    if (!made) return made.error();
    engine = std::move(*made);
    if (const Status stored = run.store(); !stored) return stored.error();
    const auto hash = hashModel(*source, progress);  // before the points: nothing runs beside a measurement
    if (!hash && hash.error().code == ErrorCode::cancelled) return hash.error();
    if (hash) run.knowModel(modelRecord(engine->model()).path, *hash);
  }
  auto summary = run.run(engine);
  const auto flushed = file->flush();
  if (summary && !flushed) return fromStorage(flushed.error());
  return summary;
}

}  // namespace winnow
