// SPDX-License-Identifier: GPL-3.0-or-later
// Whether facts in a context are still found.
#include <QJsonArray>

#include "app/cli/command.h"
#include "experiments/jobs.h"
#include "experiments/retrieval_map.h"

namespace winnow::cli {
namespace {

Result<RetrieveSpec> read(const Invocation& invocation) {
  const Arguments& arguments = invocation.arguments();
  RetrieveSpec spec;
  const std::string task = arguments.text("--task", "needle");
  const auto found = findRetrievalTask(task);
  if (!found) return Error{ErrorCode::usage, "--task " + task + ": expected needle, passkey or pairs.", ""};
  const auto lengths = arguments.integers("--lengths", spec.tasks.lengths, 8, 1 << 20);
  const auto depths = arguments.reals("--depths", spec.tasks.depths, 0, 1);
  const auto trials = arguments.integer("--trials", spec.tasks.trials, 1, 1000), seed = arguments.integer("--seed", 0, 0, INT32_MAX),
             limit = arguments.integer("--limit", spec.limit, 1, 100000);
  if (!lengths) return lengths.error();
  if (!depths) return depths.error();
  for (const auto* number : {&trials, &seed, &limit})
    if (!*number) return number->error();
  if (arguments.has("--data") && arguments.has("--task")) return Error{ErrorCode::usage, "--data and --task exclude each other: questions of a file are asked as they are.", ""};
  spec.tasks = {*found, *lengths, *depths, static_cast<int>(*trials), static_cast<uint64_t>(*seed), {}};
  spec.limit = static_cast<int>(*limit);
  spec.textPath = QString::fromStdString(arguments.text("--text"));
  spec.dataPath = QString::fromStdString(arguments.text("--data"));
  spec.queryAware = arguments.has("--query-aware");
  const std::string against = arguments.text("--against");
  if (!against.empty() && against != "baseline") return Error{ErrorCode::usage, "--against " + against + ": expected baseline.", ""};
  spec.againstBaseline = !against.empty();
  return spec;
}

QJsonObject jsonOf(const RetrievalScore& s) {
  QJsonObject o{{"length", s.length}, {"depth", s.depth ? QJsonValue(*s.depth) : QJsonValue()}, {"prompt_tokens", static_cast<qint64>(s.window.firstToken)},
                {"answer_tokens", s.window.count}, {"found", s.found}, {"nll", s.window.nllSum}};
  if (s.baseFound) {
    o["base_found"] = *s.baseFound;
    o["base_nll"] = s.baseNllSum;
    o["kld"] = s.window.kldSum;
  }
  return o;
}

std::string share(int64_t hits, size_t of) { return std::to_string(hits) + " of " + std::to_string(of); }

void printMap(const RetrievalResult& r, RetrievalQuantity quantity) {
  std::vector<storage::RetrievalSample> samples;
  for (const RetrievalScore& score : r.items) samples.push_back(retrievalSample(score));
  const Chart::Panel map = retrievalMap({}, samples, quantity);
  if (map.cells.empty()) return;
  std::vector<std::vector<std::string>> rows{{quantity == RetrievalQuantity::found ? "Depth: found" : "Depth: nat/token"}};
  for (const QString& length : map.x.categories) rows[0].push_back(length.toStdString() + " tokens");
  for (size_t i = 0; i < map.cells.size(); ++i) {
    rows.push_back({map.y.categories[static_cast<qsizetype>(i)].toStdString()});
    for (const float cell : map.cells[i])
      rows.back().push_back(quantity == RetrievalQuantity::found ? fixed(100.0 * static_cast<double>(cell), 0) + " %" : fixed(static_cast<double>(cell), 2));
  }
  printTable(rows, true);
}

}  // namespace

int runRetrieve(const Invocation& invocation) {
  const auto spec = read(invocation);
  if (!spec) return invocation.fail(spec.error());
  const auto config = invocation.config();
  if (!config) return invocation.fail(config.error());
  const auto engine = invocation.openEngine(invocation.arguments().positional()[0]);
  if (!engine) return invocation.fail(engine.error());
  Effective effective;
  JobContext context;
  context.engine = *engine;
  context.progress = invocation.progress();
  context.onEffective = [&](const Effective& got) {
    effective = got;
    return invocation.tellAdjustments(got.adjustments);
  };
  const auto result = retrieveRun(context, *config, *spec);
  if (!result) return invocation.fail(result.error());
  const auto tokens = static_cast<double>(result->sums.count);
  if (invocation.json()) {
    QJsonArray items;
    for (const RetrievalScore& score : result->items) items.append(jsonOf(score));
    return invocation.print({{"found", static_cast<qint64>(result->found)}, {"questions", static_cast<qint64>(result->items.size())}, {"answer_nll", result->sums.nll / tokens},
                             {"protocol", text(result->protocol)}, {"seconds", result->seconds}, {"items", items}, {"config", configJson(effective)}});
  }
  printMap(*result, RetrievalQuantity::found);
  printMap(*result, RetrievalQuantity::surprise);
  std::vector<std::vector<std::string>> rows{{"Found", share(result->found, result->items.size())}, {"Surprise at the answer", fixed(result->sums.nll / tokens, 3) + " nat/token"}};
  if (spec->againstBaseline) {
    rows.push_back({"Baseline found", share(result->baseFound, result->items.size())});
    rows.push_back({"KL divergence", fixed(result->sums.kld / tokens, 4) + " nat/token of the answer"});
  }
  rows.push_back({"Protocol", result->protocol});
  printTable(rows);
  return 0;
}

}  // namespace winnow::cli
