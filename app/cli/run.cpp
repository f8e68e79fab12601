// SPDX-License-Identifier: GPL-3.0-or-later
#include <QJsonArray>
#include <cstdio>

#include "app/cli/command.h"
#include "experiments/chart_runs.h"
#include "experiments/plan_runner.h"

namespace winnow::cli {

int runRun(const Invocation& invocation) {
  const Arguments& arguments = invocation.arguments();
  if (!arguments.has("--session")) return invocation.fail({ErrorCode::usage, "run needs --session FILE.winnow.", "winnow-cli run --help"});
  auto plan = PlanFile::read(QString::fromStdString(arguments.positional()[0]));
  if (!plan) return invocation.fail(plan.error());
  for (const std::string& setting : arguments.all("--set")) {  // goes on top of the plan's own settings
    const size_t equals = setting.find('=');
    const auto value = Schema::instance().parse(setting.substr(0, equals), equals == std::string::npos ? "" : setting.substr(equals + 1));
    if (!value) return invocation.fail(value.error());
    plan->set.emplace_back(QString::fromStdString(setting.substr(0, equals)), *value);
  }
  const auto options = invocation.engineOptions();
  if (!options) return invocation.fail(options.error());
  auto file = storage::SessionFile::open(arguments.text("--session"), storage::SessionFile::Mode::openOrCreate);
  if (!file) return invocation.fail(fromStorage(file.error()));
  QJsonArray points;
  const auto onPoint = [&](const PlanPointState& point) {
    if (point.state == storage::PointState::running) return;
    constexpr const char* names[] = {"todo", "running", "done", "failed", "skipped"};
    const char* state = names[static_cast<int>(point.state)];
    points.append(QJsonObject{{"ordinal", point.ordinal}, {"settings", point.settings}, {"state", state}, {"note", point.note}});
    if (!invocation.json())
      std::printf("%4d/%d  %-8s %s%s%s\n", point.ordinal + 1, point.points, state, point.settings.isEmpty() ? "baseline" : qPrintable(point.settings),
                  point.note.isEmpty() ? "" : "  ", qPrintable(point.note));
    std::fflush(stdout);
  };
  const auto summary = runPlan(*plan, *file, *options, arguments.has("--resume"), invocation.progress(), onPoint);
  const auto closed = (*file)->close();
  if (!summary) return invocation.fail(summary.error());
  if (!closed) return invocation.fail(fromStorage(closed.error()));
  if (invocation.json())
    invocation.print({{"session", QString::fromStdString(arguments.text("--session"))}, {"done", summary->done}, {"failed", summary->failed}, {"skipped", summary->skipped},
                      {"done_before", summary->before}, {"points", points}});
  else
    std::printf("%d done, %d failed, %d skipped%s\n", summary->done, summary->failed, summary->skipped,
                summary->before > 0 ? (", " + std::to_string(summary->before) + " done before").c_str() : "");
  return summary->failed > 0 ? static_cast<int>(ErrorCode::failed) : 0;
}

}  // namespace winnow::cli
