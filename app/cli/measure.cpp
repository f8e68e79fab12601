// SPDX-License-Identifier: GPL-3.0-or-later
// Commands that measure: perplexity, bench.
#include <QJsonArray>
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "app/cli/command.h"
#include "engine/evaluate/bench.h"
#include "engine/evaluate/perplexity.h"
#include "experiments/jobs.h"

namespace winnow::cli {
namespace {

// The session a divergence is measured against, and what keeps it alive.
struct Baseline {
  std::shared_ptr<Engine> engine;
  std::unique_ptr<Session> session;
};

Result<Baseline> openBaseline(const Invocation& invocation, const std::shared_ptr<Engine>& engine, int context) {
  Baseline baseline;
  const std::string against = invocation.arguments().text("--against");
  if (against.empty()) return baseline;
  baseline.engine = engine;
  if (against != "baseline") {
    auto other = invocation.openEngine(against);
    if (!other) return other.error();
    baseline.engine = std::move(*other);
    if (!baseline.engine->tokenizer() || baseline.engine->tokenizer()->vocab().tokens != engine->tokenizer()->vocab().tokens)
      return Error{ErrorCode::badInput, against + " has another vocabulary: its predictions can't be compared token by token.", "Use a model with the same tokenizer."};
  }
  SessionOptions options;
  options.context = context;
  auto session = baseline.engine->createSession(Config(), options, invocation.progress());
  if (!session) return session.error();
  baseline.session = std::move(*session);
  return baseline;
}

QJsonArray depthsJson(const PerplexityResult& r) {
  QJsonArray rows;
  const auto side = [](QJsonObject& row, const QString& suffix, const WindowSums& sums, const DepthSummary::Cost& cost) {
    row["perplexity" + suffix] = sums.perplexity();
    row["kv_bytes" + suffix] = static_cast<qint64>(cost.kvBytes);
    if (cost.stepMs > 0) row["step_ms" + suffix] = cost.stepMs;
  };
  for (const DepthSummary& depth : r.depths) {
    QJsonObject row{{"depth", depth.depth}, {"count", static_cast<qint64>(depth.sums.count)}, {"stderr", depth.sums.stderror()}};
    side(row, {}, depth.sums, depth.cost);
    if (r.kld) {
      side(row, QStringLiteral("_baseline"), depth.baseSums, depth.baseCost);
      row["kld_mean"] = depth.sums.kld / static_cast<double>(depth.sums.count);
      row["top1"] = static_cast<double>(depth.sums.sameTop) / static_cast<double>(depth.sums.count);
    }
    rows.append(row);
  }
  return rows;
}

void printDepths(const PerplexityResult& r) {
  std::vector<std::vector<std::string>> rows{{"Context", "Perplexity", "Baseline", "KL divergence", "Same top", "ms/token", "Baseline", "Cache", "Baseline"}};
  const auto ms = [](const DepthSummary::Cost& cost) { return cost.stepMs > 0 ? fixed(cost.stepMs, 3) : std::string("-"); };
  for (const DepthSummary& depth : r.depths) {
    const auto n = static_cast<double>(depth.sums.count);
    const bool compared = r.kld.has_value();
    rows.push_back({std::to_string(depth.depth), fixed(depth.sums.perplexity(), 4) + " ± " + fixed(depth.sums.stderror(), 4), compared ? fixed(depth.baseSums.perplexity(), 4) : "-",
                    compared ? fixed(depth.sums.kld / n, 6) : "-", compared ? fixed(100 * static_cast<double>(depth.sums.sameTop) / n, 2) + " %" : "-", ms(depth.cost),
                    compared ? ms(depth.baseCost) : "-", bytesText(depth.cost.kvBytes), compared ? bytesText(depth.baseCost.kvBytes) : "-"});
  }
  std::puts("");
  printTable(rows, true);
}

int printPerplexity(const Invocation& invocation, const PerplexityResult& r, Session& session) {
  if (invocation.json()) {
    QJsonObject object{{"perplexity", r.perplexity}, {"stderr", r.stderror}, {"nll_sum", r.nllSum}, {"count", static_cast<qint64>(r.count)}, {"chunks", r.chunks},
                       {"bits_per_byte", r.bitsPerByte}, {"protocol", text(r.protocol)}, {"seconds", r.seconds}, {"memory", memoryJson(session.memory())},
                       {"config", configJson(*session.effective())}};
    if (const QJsonObject sparse = sparseJson(session); !sparse.isEmpty()) object["activation"] = sparse;
    if (r.kld)
      object["kld"] = QJsonObject{{"mean", r.kld->mean}, {"median", r.kld->median}, {"p90", r.kld->p90}, {"p95", r.kld->p95}, {"p99", r.kld->p99}, {"p999", r.kld->p999},
                                  {"max", r.kld->max}, {"top1", r.kld->top1}, {"mean_stderr", r.kld->meanStderr}, {"rms_delta_p", r.kld->rmsDeltaP},
                                  {"mean_ln_ratio", r.kld->meanLnRatio}, {"base_perplexity", r.basePerplexity}};
    if (!r.depths.empty()) object["depths"] = depthsJson(r);
    return invocation.print(object);
  }
  std::vector<std::vector<std::string>> rows{{"Perplexity", fixed(r.perplexity, 4) + " ± " + fixed(r.stderror, 4)},
                                             {"Protocol", r.protocol},
                                             {"Predictions", std::to_string(r.count) + " in " + std::to_string(r.chunks) + " windows"},
                                             {"Bits per byte", fixed(r.bitsPerByte, 4)}};
  if (r.kld) {
    rows.push_back({"Baseline", fixed(r.basePerplexity, 4)});
    rows.push_back({"KL divergence", "mean " + fixed(r.kld->mean, 6) + " ± " + fixed(r.kld->meanStderr, 6) + ", median " + fixed(r.kld->median, 6) + ", 99 % " + fixed(r.kld->p99, 6) +
                                         ", max " + fixed(r.kld->max, 6)});
    rows.push_back({"Same top token", fixed(100 * r.kld->top1, 2) + " %"});
  }
  printTable(rows);
  if (!r.depths.empty()) printDepths(r);
  return 0;
}

}  // namespace

int runPerplexity(const Invocation& invocation) {
  const Arguments& arguments = invocation.arguments();
  PerplexityRequest request;
  const auto mode = findPerplexityMode(arguments.text("--mode", "llama"));
  if (!mode) return invocation.fail({ErrorCode::usage, "--mode " + arguments.text("--mode") + ": expected llama, llama-stride, hf-doc or hf-exact.", ""});
  const auto context = arguments.integer("--context", 512, 4, 1 << 20);
  const auto chunks = arguments.integer("--chunks", 0, 1, 1 << 30);
  const auto stride = arguments.integer("--stride", 0, 1, 1 << 20);
  const auto scored = arguments.integer("--scored", request.scored, 1, 1 << 20);
  const auto depths = arguments.integers("--depths", {}, 1, 1 << 20);
  if (!depths) return invocation.fail(depths.error());
  if (!depths->empty() && (arguments.has("--context") || arguments.has("--mode") || arguments.has("--stride")))
    return invocation.fail({ErrorCode::usage, "--depths takes the place of --context, --mode and --stride.", "Leave them out."});
  for (const auto* number : {&context, &chunks, &stride, &scored})
    if (!*number) return invocation.fail(number->error());
  if (!arguments.has("--text")) return invocation.fail({ErrorCode::usage, "perplexity needs --text FILE.", ""});
  request.mode = *mode;
  request.context = static_cast<int>(*context);
  request.chunks = static_cast<int>(*chunks);
  request.stride = static_cast<int>(*stride);
  if (arguments.has("--stepwise")) request.stepwise = true;
  request.depths = *depths;
  request.scored = static_cast<int>(*scored);
  const auto input = readText(arguments.text("--text"));
  if (!input) return invocation.fail(input.error());
  const auto engine = invocation.openEngine(arguments.positional()[0]);
  if (!engine) return invocation.fail(engine.error());
  if (!(*engine)->tokenizer()) return invocation.fail(noTokenizer());
  const int window = windowTokens(request);
  const auto session = invocation.openSession(**engine, window);
  if (!session) return invocation.fail(session.error());
  const auto baseline = openBaseline(invocation, *engine, window);
  if (!baseline) return invocation.fail(baseline.error());
  const auto result = measurePerplexity(**session, baseline->session.get(), *(*engine)->tokenizer(), *input, request, invocation.progress());
  if (!result) return invocation.fail(explained(**engine, result.error()));
  return printPerplexity(invocation, *result, **session);
}

int runBench(const Invocation& invocation) {
  const Arguments& arguments = invocation.arguments();
  BenchRequest request;
  const auto prompt = arguments.integers("-p", {512}, 0, 1 << 20), generate = arguments.integers("-n", {128}, 0, 1 << 20), depth = arguments.integers("-d", {0}, 0, 1 << 20);
  const auto batch = arguments.integers("--batch", {1}, 1, 1 << 10);
  const auto repetitions = arguments.integer("-r", 5, 1, 1000);
  for (const auto* list : {&prompt, &generate, &depth, &batch})
    if (!*list) return invocation.fail(list->error());
  if (!repetitions) return invocation.fail(repetitions.error());
  request.prompt = *prompt;
  request.generate = *generate;
  std::erase(request.prompt, 0);
  std::erase(request.generate, 0);
  request.depth = *depth;
  request.batch = *batch;
  request.repetitions = static_cast<int>(*repetitions);
  if (arguments.has("--text")) {
    auto input = readText(arguments.text("--text"));
    if (!input) return invocation.fail(input.error());
    request.realText = true;
    request.text = std::move(*input);
  }
  const auto engine = invocation.openEngine(arguments.positional()[0]);
  if (!engine) return invocation.fail(engine.error());
  int longest = 1;
  for (const auto* lengths : {&request.prompt, &request.generate})
    for (int length : *lengths)
      for (int d : request.depth) longest = std::max(longest, d + length);
  const auto session = invocation.openSession(**engine, longest);
  if (!session) return invocation.fail(session.error());
  const auto result = runBench(**engine, **session, request, invocation.progress());
  if (!result) return invocation.fail(explained(**engine, result.error()));
  if (invocation.json()) {
    QJsonArray tests;
    for (const BenchTest& t : result->tests) {
      QJsonArray rates;
      for (const BenchRepetition& repetition : t.repetitions) rates.append(repetition.tokensPerSecond);
      tests.append(QJsonObject{{"name", text(t.name)}, {"batch", t.batch}, {"tokens_per_second", t.tokensPerSecond}, {"stddev", t.stddev}, {"median_ms", t.medianMs}, {"p5_ms", t.p5Ms},
                               {"p95_ms", t.p95Ms}, {"share", t.share}, {"repetitions", rates}});
    }
    QJsonObject object{{"tests", tests}, {"roofline", QJsonObject{{"read_gbs", result->readGbs}, {"gemm_gflops", result->gemmGflops}}}, {"decode_share", result->decodeShare},
                             {"prefill_share", result->prefillShare}, {"protocol", text(result->protocol)}, {"device", text((*engine)->deviceDescription())},
                             {"memory", memoryJson((*session)->memory())}, {"config", configJson(*(*session)->effective())}};
    if (const QJsonObject sparse = sparseJson(**session); !sparse.isEmpty()) object["activation"] = sparse;
    return invocation.print(object);
  }
  std::vector<std::vector<std::string>> rows{{"Test", "tokens/s", "± sd", "ms/token p50", "p5", "p95", "of roofline"}};
  for (const BenchTest& t : result->tests)
    rows.push_back({t.name, fixed(t.tokensPerSecond, 2), fixed(t.stddev, 2), fixed(t.medianMs, 3), fixed(t.p5Ms, 3), fixed(t.p95Ms, 3), t.share > 0 ? fixed(100 * t.share, 0) + " %" : "-"});
  printTable(rows, true);
  const std::string product = result->gemmGflops > 0 ? fixed(result->gemmGflops, 0) + " GFLOP/s" : "not measured";
  std::printf("%s; roofline of this run: read %.1f GB/s, matrix product %s; %s\n", (*engine)->deviceDescription().c_str(), result->readGbs, product.c_str(), result->protocol.c_str());
  if (std::ranges::any_of(result->tests, [](const BenchTest& t) { return !t.prefill && t.batch == 1 && t.share > 1; }))
    std::puts("More than 100 % of the roofline: these weights stay in the processor's cache, and the roofline is that of the memory.");
  return 0;
}

}  // namespace winnow::cli
