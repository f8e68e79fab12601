// SPDX-License-Identifier: GPL-3.0-or-later
#include <QJsonArray>
#include <cstdio>

#include "app/cli/command.h"
#include "experiments/chart_runs.h"
#include "experiments/plan_runner.h"

namespace winnow::cli {

namespace {

// Points that failed fail the plan; where nothing could be done at all, the first reason says how.
int verdict(const Invocation& invocation, const PlanSummary& summary, const QJsonObject& object) {
  const std::string all = " of " + std::to_string(summary.points()) + " points ";
  if (summary.failed > 0) {
    const Error& first = *summary.firstError;
    const bool some = summary.done + summary.before > 0;
    return invocation.failBeside(object, {some ? ErrorCode::failed : first.code, std::to_string(summary.failed) + all + "failed, the first because " + first.message, first.hint});
  }
  if (const int differing = summary.skipped + summary.adjusted; differing > 0) {
    const std::string what = std::to_string(differing) + all + "could not run as asked: " + std::to_string(summary.skipped) + " skipped, " + std::to_string(summary.adjusted) +
                             " run under another configuration, each with its reason";
    if (invocation.arguments().has("--strict")) return invocation.failBeside(object, {ErrorCode::badInput, what, "--strict was given."});
    invocation.warn(what);
  }
  return invocation.json() ? invocation.print(object) : 0;
}

// The finished runs of the plan side by side.
void showComparison(storage::SessionFile& file, const PlanSummary& summary) {
  const auto sweeps = file.sweeps();
  if (!sweeps) return;
  std::vector<storage::Id> runs;
  for (const storage::SweepRecord& sweep : *sweeps)
    for (const storage::SweepPoint& point : sweep.points)
      if (sweep.id == summary.sweep && point.state == storage::PointState::done && point.run) runs.push_back(*point.run);
  if (!runs.empty()) printComparison(file, runs);
}

}  // namespace

int runRun(const Invocation& invocation) {
  const Arguments& arguments = invocation.arguments();
  if (!arguments.has("--session")) return invocation.fail({ErrorCode::usage, "run needs --session FILE.winnow.", "winnow-cli run --help"});
  auto plan = PlanFile::read(QString::fromStdString(arguments.positional()[0]));
  if (!plan) return invocation.fail(plan.error());
  const auto settings = invocation.settings();
  if (!settings) return invocation.fail(settings.error());
  for (const auto& [name, value] : *settings) plan->set.emplace_back(text(name), value);  // on top of the plan's own
  const auto options = invocation.engineOptions();
  if (!options) return invocation.fail(options.error());
  const std::string path = arguments.text("--session");
  storage::OpenReport report;
  auto file = storage::SessionFile::open(path, storage::SessionFile::Mode::openOrCreate, &report);
  if (!file) return invocation.fail(fromStorage(file.error()));
  if (report.readOnly) return invocation.fail(fromStorage({report.readOnlyProblem, path + " can't be written: " + report.readOnlyReason, "Use another session file."}));
  QJsonArray points;
  const auto onPoint = [&](const PlanPointState& point) {
    if (point.state == storage::PointState::running) return;
    constexpr const char* names[] = {"todo", "running", "done", "failed", "skipped"};
    const char* state = names[static_cast<int>(point.state)];
    points.append(QJsonObject{{"ordinal", point.ordinal}, {"settings", point.settings}, {"kind", point.kind}, {"state", state}, {"note", point.note}});
    if (!invocation.json())
      std::printf("%4d/%d  %-8s %-10s %s%s%s\n", point.ordinal + 1, point.points, state, qPrintable(point.kind), point.settings.isEmpty() ? "baseline" : qPrintable(point.settings),
                  point.note.isEmpty() ? "" : "  ", qPrintable(point.note));
    std::fflush(stdout);
  };
  const auto summary = runPlan(*plan, *file, *options, arguments.has("--resume"), invocation.progress(), onPoint);
  if (summary && !invocation.json()) showComparison(**file, *summary);
  const auto closed = (*file)->close();
  QJsonObject object{{"session", text(path)}, {"points", points}};
  if (!summary) return invocation.failBeside(object, summary.error());
  if (!closed) return invocation.failBeside(object, fromStorage(closed.error()));
  for (const auto& [key, value] : {std::pair{"done", summary->done}, {"failed", summary->failed}, {"skipped", summary->skipped}, {"adjusted", summary->adjusted}, {"done_before", summary->before}}) object[key] = value;
  if (!invocation.json())
    std::printf("%d done, %d failed, %d skipped%s\n", summary->done, summary->failed, summary->skipped,
                summary->before > 0 ? (", " + std::to_string(summary->before) + " done before").c_str() : "");
  std::fflush(stdout);
  return verdict(invocation, *summary, object);
}

}  // namespace winnow::cli
