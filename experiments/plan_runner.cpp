// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/plan_runner.h"

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
    stored.specJson = experimentJson(plan.experiments[static_cast<size_t>(point.experiment)]).toStdString();
    sweep.points.push_back(std::move(stored));
  }
  return sweep;
}

class PlanRun {
 public:
  PlanRun(const PlanFile& plan, std::shared_ptr<storage::SessionFile> file, const Progress& progress, const std::function<void(const PlanPointState&)>& onPoint)
      : plan_(plan), file_(std::move(file)), progress_(progress), onPoint_(onPoint), points_(plan.points()) {}

  Status enter(bool resume) {
    const std::string json = plan_.toJson().toStdString();
    const auto sweeps = file_->sweeps();
    if (!sweeps) return fromStorage(sweeps.error());
    for (const storage::SweepRecord& known : *sweeps)
      if (known.planJson == json) {
        if (!resume) return Error{ErrorCode::usage, "this plan has been started in " + file_->path() + " already.", "Use --resume to go on with it, or another session file."};
        sweep_ = known;
        return Done{};
      }
    sweep_ = expand(plan_, json);
    const auto id = file_->addSweep(sweep_);
    if (!id) return fromStorage(id.error());
    sweep_.id = *id;
    return Done{};
  }

  void knowModel(const std::string& path, const std::string& hash) {
    modelPath_ = path;
    modelHash_ = hash;
  }

  bool finished() const {
    return std::ranges::all_of(sweep_.points, [](const storage::SweepPoint& p) { return p.state == PointState::done || p.state == PointState::skipped; });
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
  void tell(const storage::SweepPoint& point, PointState state, std::optional<storage::Id> run, const QString& note) {
    file_->setPoint(sweep_.id, point.ordinal, state, run, note.toStdString());
    if (onPoint_)
      onPoint_({point.ordinal, static_cast<int>(points_.size()), QString::fromStdString(points_[static_cast<size_t>(point.ordinal)].config.canonical()), state, note});
  }

  // Fails only when the whole plan has to stop.
  Status runPoint(const std::shared_ptr<Engine>& engine, const storage::SweepPoint& stored) {
    const PlanFile::Point& point = points_[static_cast<size_t>(stored.ordinal)];
    const Effective effective = resolve(point.config, engine->model().config());
    if (!effective.asRequested()) {
      ++summary_.skipped;
      tell(stored, PointState::skipped, std::nullopt, QString::fromStdString(effective.adjustments.front().knob + ": " + effective.adjustments.front().reason));
      return Done{};
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
      tell(stored, PointState::running, run, {});
    };
    const Status done = experiment(context, point);
    if (done) {
      ++summary_.done;
      tell(stored, PointState::done, run, {});
      return Done{};
    }
    if (done.error().code == ErrorCode::cancelled) {
      tell(stored, PointState::todo, std::nullopt, {});
      return Error{ErrorCode::cancelled, "the plan was stopped; what is done is kept.", "Run it again with --resume."};
    }
    ++summary_.failed;
    tell(stored, PointState::failed, run, QString::fromStdString(done.error().message));
    return Done{};
  }

  Status experiment(const JobContext& context, const PlanFile::Point& point) {
    const Experiment& experiment = plan_.experiments[static_cast<size_t>(point.experiment)];
    const auto status = [](const auto& result) { return result ? Status(Done{}) : Status(result.error()); };
    if (const auto* evaluate = std::get_if<EvaluateSpec>(&experiment)) return status(evaluateRun(context, point.config, *evaluate));
    if (const auto* bench = std::get_if<BenchSpec>(&experiment)) return status(benchRun(context, point.config, *bench));
    if (const auto* attribute = std::get_if<AttributeSpec>(&experiment)) return status(attributeRun(context, point.config, *attribute));
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
    if (result && result->stopped) return Error{ErrorCode::cancelled, "stopped.", ""};
    return status(result);
  }

  const PlanFile& plan_;
  std::shared_ptr<storage::SessionFile> file_;
  const Progress& progress_;
  const std::function<void(const PlanPointState&)>& onPoint_;
  std::vector<PlanFile::Point> points_;
  storage::SweepRecord sweep_;
  PlanSummary summary_;
  std::string modelPath_, modelHash_;
};

}  // namespace

Result<PlanSummary> runPlan(const PlanFile& plan, std::shared_ptr<storage::SessionFile> file, const EngineOptions& options, bool resume, const Progress& progress,
                            const std::function<void(const PlanPointState&)>& onPoint) {
  if (!file || file->readOnly()) return Error{ErrorCode::failed, "the plan needs a session file it can write to.", "Use another file."};
  PlanRun run(plan, file, progress, onPoint);
  if (const Status entered = run.enter(resume); !entered) return entered.error();
  std::shared_ptr<Engine> engine;
  if (!run.finished()) {  // a finished plan needs no model
    const auto source = resolveModel(plan.model.toStdString(), progress);
    if (!source) return source.error();
    auto model = Model::open(source->path);
    if (!model) return model.error();
    EngineOptions engineOptions = options;
    if (engineOptions.calibrationSample.empty()) engineOptions.calibrationSample = findResource("texts/calibration.txt");
    auto made = Engine::create(std::move(*model), engineOptions);
    if (!made) return made.error();
    engine = std::move(*made);
    const auto hash = hashModel(source->path, progress);  // before the points: nothing runs beside a measurement
    if (!hash && hash.error().code == ErrorCode::cancelled) return hash.error();
    if (hash) run.knowModel(modelRecord(engine->model()).path, *hash);
  }
  auto summary = run.run(engine);
  const auto flushed = file->flush();
  if (!flushed) return fromStorage(flushed.error());
  return summary;
}

}  // namespace winnow
