// SPDX-License-Identifier: GPL-3.0-or-later
// Commands on session files: sessions, export; and synthesize.
#include <QApplication>
#include <QJsonArray>
#include <QJsonDocument>
#include <cstdio>
#include <filesystem>

#include "app/cli/command.h"
#include "engine/model/synthesize.h"
#include "experiments/chart_data.h"
#include "experiments/chart_runs.h"
#include "panels/export/chart_export.h"
#include "storage/session_file.h"

namespace winnow::cli {
namespace {

QJsonObject runJson(const storage::RunSummary& run) {
  const auto settings = [](const std::map<std::string, std::string>& values) {
    QJsonObject out;
    for (const auto& [name, value] : values) out[text(name)] = text(value);
    return out;
  };
  QJsonObject metrics;
  for (const auto& [name, m] : run.metrics) {
    QJsonObject metric{{"unit", text(m.unit)}, {"n", static_cast<qint64>(m.n)}, {"value", m.value}};
    const std::pair<const char*, const std::optional<double>&> parts[] = {{"sd", m.sd}, {"p50", m.p50}, {"p95", m.p95}, {"ci_low", m.ciLow}, {"ci_high", m.ciHigh}};
    for (const auto& [key, value] : parts)
      if (value) metric[key] = *value;
    metrics[text(name)] = metric;
  }
  return {{"id", static_cast<qint64>(run.id)}, {"name", text(run.name)}, {"kind", QString::fromUtf8(storage::runKindName(run.kind))},
          {"status", QString::fromUtf8(storage::runStatusName(run.status))}, {"baseline", run.baseline}, {"model", text(run.model)}, {"device", text(run.device)},
          {"protocol", text(run.protocol)}, {"corpus", text(run.corpus)}, {"requested", settings(run.requested)}, {"effective", settings(run.effective)},
          {"reasons", QJsonDocument::fromJson(QByteArray::fromStdString(run.divergenceJson)).array()}, {"seed", static_cast<qint64>(run.seed)}, {"repeat", run.repeat},
          {"tokens", static_cast<qint64>(run.tokens)}, {"error", text(run.errorText)}, {"metrics", metrics}};
}

std::string settingsText(const std::map<std::string, std::string>& values) {
  std::string out;
  for (const auto& [name, value] : values) out += (out.empty() ? "" : " ") + name + "=" + value;
  return out.empty() ? "-" : out;
}

std::string metricText(const storage::RunSummary& run, const char* name, int digits) {
  const auto it = run.metrics.find(name);
  return it == run.metrics.end() ? "-" : fixed(it->second.p50.value_or(it->second.value), digits);
}

Result<std::vector<storage::Id>> runIds(const std::string& list) {
  std::vector<storage::Id> ids;
  for (const QString& part : text(list).split(QLatin1Char(','), Qt::SkipEmptyParts)) {
    bool ok = false;
    ids.push_back(part.toLongLong(&ok));
    if (!ok) return Error{ErrorCode::usage, "--runs " + list + ": expected run numbers separated by commas.", "winnow-cli sessions lists them."};
  }
  return ids;
}

}  // namespace

int runSessions(const Invocation& invocation) {
  auto file = storage::SessionFile::open(invocation.arguments().positional()[0], storage::SessionFile::Mode::readOnly);
  if (!file) return invocation.fail(fromStorage(file.error()));
  const auto runs = (*file)->runs();
  if (!runs) return invocation.fail(fromStorage(runs.error()));
  if (invocation.json()) {
    QJsonArray array;
    for (const storage::RunSummary& run : *runs) array.append(runJson(run));
    return invocation.print({{"session", text((*file)->path())}, {"runs", array}});
  }
  std::vector<std::vector<std::string>> rows{{"Run", "Kind", "Status", "Settings", "ms/token", "perplexity", "KLD", "memory", "Name"}};
  for (const storage::RunSummary& run : *runs) {
    const auto memory = run.metrics.find("memory_peak");
    rows.push_back({std::to_string(run.id), std::string(storage::runKindName(run.kind)), std::string(storage::runStatusName(run.status)), settingsText(run.effective),
                    metricText(run, "ms_per_token", 3), metricText(run, "perplexity", 4), metricText(run, "kld_mean", 5),
                    memory == run.metrics.end() ? "-" : bytesText(static_cast<int64_t>(memory->second.value)), run.name});
  }
  printTable(rows, true);
  return 0;
}

int runExport(const Invocation& invocation) {
  const Arguments& arguments = invocation.arguments();
  for (const char* needed : {"--chart", "--out"})
    if (!arguments.has(needed)) return invocation.fail({ErrorCode::usage, std::string("export needs ") + needed + ".", "winnow-cli export --help"});
  const QStringList names = text(arguments.text("--chart")).split(QLatin1Char(','), Qt::SkipEmptyParts);
  const QString out = text(arguments.text("--out"));
  for (const QString& name : names)
    if (!chartNames().contains(name))
      return invocation.fail({ErrorCode::usage, "there is no chart \"" + name.toStdString() + "\".", "Charts: " + chartNames().join(QStringLiteral(", ")).toStdString() + "."});
  if (names.isEmpty() || (names.size() > 1 && !out.endsWith(QStringLiteral(".html"))))
    return invocation.fail({ErrorCode::usage, "--chart " + arguments.text("--chart") + ": expected one chart, or several for an .html report.", ""});
  const std::string theme = arguments.text("--theme", "light");
  if (theme != "light" && theme != "dark") return invocation.fail({ErrorCode::usage, "--theme " + theme + ": expected light or dark.", ""});
  const auto ids = runIds(arguments.text("--runs"));
  if (!ids) return invocation.fail(ids.error());
  auto file = storage::SessionFile::open(arguments.positional()[0], storage::SessionFile::Mode::readOnly);
  if (!file) return invocation.fail(fromStorage(file.error()));
  std::vector<Chart> charts;
  for (const QString& name : names) {
    auto chart = buildChart(**file, name, *ids);
    if (!chart) return invocation.fail(chart.error());
    if (name == QStringLiteral("comparison") && out.endsWith(QStringLiteral(".html"))) chart->notes << comparisonSentences(**file, *ids);
    charts.push_back(std::move(*chart));
  }
  // Text has to be laid out, which takes Qt's offscreen platform; no display is touched.
  qputenv("QT_QPA_PLATFORM", "offscreen");
  int argc = 1;
  char program[] = "winnow-cli";
  char* argv[] = {program, nullptr};
  const QApplication application(argc, argv);
  ExportOptions options;
  options.dark = theme == "dark";
  const Status written = charts.size() > 1 ? exportReport(text(std::filesystem::path((*file)->path()).stem().string()), charts, options, out) : exportChart(charts.front(), options, out);
  if (!written) return invocation.fail(written.error());
  if (invocation.json()) return invocation.print({{"file", out}, {"bytes", static_cast<qint64>(std::filesystem::file_size(out.toStdString()))}});
  std::printf("%s\n", out.toStdString().c_str());
  return 0;
}

int runSynthesize(const Invocation& invocation) {
  const Arguments& arguments = invocation.arguments();
  for (const char* needed : {"--shape", "--out"})
    if (!arguments.has(needed)) return invocation.fail({ErrorCode::usage, std::string("synthesize needs ") + needed + ".", "winnow-cli synthesize --help"});
  const auto seed = arguments.integer("--seed", 1, 0, INT64_MAX);
  if (!seed) return invocation.fail(seed.error());
  std::string names;
  for (const NamedShape& shape : namedShapes()) {
    names += (names.empty() ? "" : ", ") + shape.name;
    if (shape.name != arguments.text("--shape")) continue;
    const std::string out = arguments.text("--out");
    std::error_code ignored;
    if (std::filesystem::exists(out, ignored) && !std::filesystem::is_regular_file(out, ignored))
      return invocation.fail({ErrorCode::usage, out + " is there and is not a regular file: it is not replaced.", "Choose another name."});
    const Status written = synthesize(shape, arguments.text("--type", "bf16"), static_cast<uint64_t>(*seed), out, invocation.progress());
    if (!written) return invocation.fail(written.error());
    if (invocation.json()) return invocation.print({{"file", text(out)}, {"bytes", static_cast<qint64>(std::filesystem::file_size(out))}, {"shape", text(shape.name)}});
    std::printf("%s: random weights in the shape of %s\n", out.c_str(), shape.modelledOn.c_str());
    return 0;
  }
  return invocation.fail({ErrorCode::usage, "there is no shape \"" + arguments.text("--shape") + "\".", "Shapes: " + names + "."});
}

}  // namespace winnow::cli
