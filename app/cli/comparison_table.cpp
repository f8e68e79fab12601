// SPDX-License-Identifier: GPL-3.0-or-later
// Configurations side by side in the terminal: each figure with its doubt, its change against the baseline and what the change is worth.
#include <cstdio>
#include <set>

#include "app/cli/command.h"
#include "experiments/comparison.h"
#include "experiments/format.h"

namespace winnow::cli {
namespace {

std::string figure(const Format& format, const std::optional<Figure>& f, const QString& unit) {
  if (!f) return "-";
  if (!f->interval) return format.value(f->value, unit).toStdString();
  return format.interval(f->value, f->interval->low, f->interval->high, unit).toStdString();
}

std::string change(const Format& format, const MetricChange& c) {
  if (!c.figure) return "-";
  if (c.verdict == Verdict::notComparable) return c.words.isEmpty() ? "-" : c.words.toStdString();
  return (format.relative(c.ratio) + QStringLiteral(", ") + c.words).toStdString();
}

std::string divergence(const Format& format, const ComparisonRow& row) {
  for (const storage::RunSummary& run : row.figures.runs)
    if (const auto it = run.metrics.find("kld_mean"); it != run.metrics.end()) return format.nats(it->second.value).toStdString();
  return "-";
}

// "tg32, n = 5 repetitions" once for all rows that say the same.
std::string measured(const char* what, const std::set<std::pair<QString, int64_t>>& protocols) {
  std::string out;
  for (const auto& [protocol, n] : protocols) out += (out.empty() ? std::string(what) + ": " : "; ") + protocol.toStdString() + ", n = " + std::to_string(n);
  return out.empty() ? out : out + "\n";
}

}  // namespace

void printComparison(storage::SessionFile& session, const std::vector<storage::Id>& runs) {
  const auto comparison = compareRuns(session, runs);
  if (!comparison || comparison->rows.size() < 2) return;  // nothing that compares
  const Format format(QLocale::c());
  std::vector<std::vector<std::string>> rows{{"Configuration", "time per token", "change", "peak memory", "change", "perplexity", "change", "KL divergence"}};
  std::set<std::pair<QString, int64_t>> times, qualities;
  for (const ComparisonRow& row : comparison->rows) {
    rows.push_back({row.figures.name.toStdString(), figure(format, row.latency.figure, QStringLiteral("ms")), change(format, row.latency),
                    figure(format, row.memory.figure, QStringLiteral("B")), change(format, row.memory), figure(format, row.perplexity.figure, {}), change(format, row.perplexity),
                    divergence(format, row)});
    if (row.latency.figure) times.insert({row.latency.figure->protocol, row.latency.figure->n});
    if (row.perplexity.figure) qualities.insert({row.perplexity.figure->protocol, row.perplexity.figure->n});
  }
  std::fputc('\n', stdout);
  printTable(rows, true);
  std::printf("\n%s%s", measured("Time (median)", times).c_str(), measured("Perplexity", qualities).c_str());
  std::printf("[ ] 95 %% intervals. Changes are against the baseline; \"within noise\" where the measurements carry no difference (95 %%, Holm) or it is below 1 %%.\n");
  for (const QString& note : comparison->notes) std::printf("%s\n", note.toStdString().c_str());
}

QStringList comparisonSentences(storage::SessionFile& session, const std::vector<storage::Id>& runs) {
  QStringList out;
  const auto comparison = compareRuns(session, runs);
  if (!comparison || comparison->rows.size() < 2) return out;
  const Format format(QLocale::c());
  for (const ComparisonRow& row : comparison->rows) {
    if (row.baseline) continue;
    QStringList parts;
    for (const auto& [what, c] : {std::pair{"time", &row.latency}, {"memory", &row.memory}, {"perplexity", &row.perplexity}})
      if (c->figure) parts << QStringLiteral("%1 %2 (n = %3)").arg(QLatin1String(what), text(change(format, *c))).arg(c->figure->n);
    if (const std::string kld = divergence(format, row); kld != "-") parts << QStringLiteral("KL divergence %1").arg(text(kld));
    out << QStringLiteral("%1 against the baseline: %2.").arg(row.figures.name, parts.join(QStringLiteral("; ")));
  }
  return out;
}

}  // namespace winnow::cli
