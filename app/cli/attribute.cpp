// SPDX-License-Identifier: GPL-3.0-or-later
// winnow-cli attribute.
#include <QJsonArray>
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "app/cli/attribute_output.h"
#include "engine/text/tokenizer.h"
#include "experiments/chart_runs.h"
#include "experiments/context_file.h"
#include "experiments/jobs.h"

namespace winnow::cli {
namespace {

// "3:9": from one number to before another.
Result<ResponseSpan> spanOf(const std::string& words, ResponseSpan::Unit unit, const char* name) {
  const QStringList parts = text(words).split(QLatin1Char(':'));
  bool first = false, second = false;
  ResponseSpan span{unit, parts.value(0).toLongLong(&first), parts.value(1).toLongLong(&second)};
  if (parts.size() == 2 && first && second && span.begin >= 0 && span.begin < span.end) return span;
  return Error{ErrorCode::usage, std::string(name) + " " + words + ": expected FROM:TO, from a number to before a larger one.", "For example 0:4."};
}

Result<std::vector<ByteRange>> rangesOf(const std::string& words) {
  std::vector<ByteRange> ranges;
  const QStringList parts = text(words).split(QLatin1Char(','));
  for (const QString& part : parts) {
    const auto span = spanOf(part.toStdString(), ResponseSpan::Unit::bytes, "--ranges");
    if (!span) return span.error();
    ranges.push_back({span->begin, span->end});
  }
  return ranges;
}

Status readNumbers(const Arguments& arguments, AttributeSpec& spec) {
  const std::pair<const char*, int*> counts[] = {{"-n", &spec.responseTokens}, {"--window", &spec.windowTokens}, {"--keep-paragraphs", &spec.attribot.keepParagraphs},
                                                 {"--keep-sentences", &spec.attribot.keepSentences}, {"--keep-sources", &spec.attribot.keepSources}};
  for (const auto& [name, to] : counts) {
    const auto count = arguments.integer(name, *to, 1, 4096);
    if (!count) return count.error();
    *to = static_cast<int>(*count);
  }
  const auto samples = arguments.integer("--samples", 0, 1, 100000), seed = arguments.integer("--seed", 0, 0, INT64_MAX);
  if (!samples) return samples.error();
  if (!seed) return seed.error();
  spec.samples = static_cast<int>(*samples);
  spec.seed = static_cast<uint64_t>(*seed);
  const auto seconds = arguments.real("--seconds", 0, 0, 1e6);
  if (!seconds) return seconds.error();
  spec.seconds = *seconds;
  return Done{};
}

Status readParts(const Arguments& arguments, AttributeSpec& spec) {
  if (arguments.has("--span")) {
    const auto span = spanOf(arguments.text("--span"), ResponseSpan::Unit::tokens, "--span");
    if (!span) return span.error();
    spec.span = *span;
  }
  if (arguments.has("--span-bytes")) {
    const auto span = spanOf(arguments.text("--span-bytes"), ResponseSpan::Unit::bytes, "--span-bytes");
    if (!span) return span.error();
    spec.span = *span;
  }
  if (arguments.has("--ranges")) {
    auto ranges = rangesOf(arguments.text("--ranges"));
    if (!ranges) return ranges.error();
    spec.ranges = std::move(*ranges);
    spec.unit = SourceUnit::given;
  }
  return Done{};
}

Status readContextOption(const Arguments& arguments, AttributeSpec& spec) {
  for (const char* needed : {"--context", "--question"})
    if (!arguments.has(needed)) return Error{ErrorCode::usage, std::string("attribute needs ") + needed + ".", "winnow-cli attribute --help"};
  const std::string path = arguments.text("--context");
  if (path != "-") {
    spec.contextPath = text(path);
    return Done{};
  }
  auto context = readText(path);
  if (!context) return context.error();
  spec.context = text(*context);
  return Done{};
}

Result<AttributeSpec> readSpec(const Arguments& arguments) {
  AttributeSpec spec;
  spec.method = text(arguments.text("--method", spec.method.toStdString()));
  if (!findAttributionMethod(spec.method.toStdString())) return unknownAttributionMethod(spec.method.toStdString());
  const std::string unit = arguments.text("--unit", "sentence");
  const auto known = findSourceUnit(unit);
  if (!known || *known == SourceUnit::given) return Error{ErrorCode::usage, "--unit " + unit + ": expected sentence, paragraph, window or document.", "--ranges gives sources of your own."};
  spec.unit = *known;
  if (arguments.has("--tricks")) {
    auto tricks = parseTricks(arguments.text("--tricks"));
    if (!tricks) return tricks.error();
    spec.attribot = *tricks;
  }
  if (Status read = readNumbers(arguments, spec); !read) return read.error();
  if (Status read = readParts(arguments, spec); !read) return read.error();
  if (Status read = readContextOption(arguments, spec); !read) return read.error();
  spec.question = text(arguments.text("--question"));
  if (arguments.has("--response")) spec.response = text(arguments.text("--response"));
  spec.proxyPath = text(arguments.text("--proxy"));
  spec.fit = arguments.has("--fit");
  if (arguments.has("--resume")) {
    if (!arguments.has("--session")) return Error{ErrorCode::usage, "--resume needs --session, where the attribution that was stopped is.", ""};
    spec.resume = kResumeLatest;
  }
  return spec;
}

struct Prepared {
  JobContext context;
  std::unique_ptr<Session> session;  // keeps the weights, and has told where they differ from what was asked
  Config config;
};

Result<Prepared> prepare(const Invocation& invocation) {
  const Arguments& arguments = invocation.arguments();
  Prepared out;
  auto engine = invocation.openEngine(arguments.positional()[0]);
  if (!engine) return engine.error();
  out.context.engine = *engine;
  if (!out.context.engine->tokenizer()) return noTokenizer();
  auto session = invocation.openSession(*out.context.engine);
  if (!session) return session.error();
  out.session = std::move(*session);
  const auto config = invocation.config();
  if (!config) return config.error();
  out.config = *config;
  out.context.progress = invocation.progress();
  if (!arguments.has("--session")) return out;
  storage::OpenReport report;
  const std::string path = arguments.text("--session");
  auto file = storage::SessionFile::open(path, storage::SessionFile::Mode::openOrCreate, &report);
  if (!file) return fromStorage(file.error());
  if (report.readOnly) return fromStorage({report.readOnlyProblem, path + " can't be written: " + report.readOnlyReason, "Use another session file."});
  out.context.file = std::move(*file);
  return out;
}

int difference(const Invocation& invocation, const Prepared& prepared, const AttributeSpec& spec) {
  const Arguments& arguments = invocation.arguments();
  AttributionDifferenceSpec both;
  both.spec = spec;
  both.a = prepared.config;
  const auto other = invocation.settings("--against");  // on top of the first side's
  if (!other) return invocation.fail(other.error());
  both.b = both.a;
  for (const auto& [name, value] : *other) both.b = both.b.with(name, value);
  both.methodB = text(arguments.text("--against-method"));
  if (!both.methodB.isEmpty() && !findAttributionMethod(both.methodB.toStdString())) return invocation.fail(unknownAttributionMethod(both.methodB.toStdString()));
  const auto result = attributeDifferenceRun(prepared.context, both);
  if (prepared.context.file)
    if (const auto closed = prepared.context.file->close(); !closed) return invocation.fail(fromStorage(closed.error()));
  if (!result) return invocation.fail(explained(*prepared.context.engine, result.error()));
  return invocation.json() ? printDifferenceJson(invocation, *result) : printDifference(invocation, *result);
}

}  // namespace

int runAttribute(const Invocation& invocation) {
  const Arguments& arguments = invocation.arguments();
  const auto spec = readSpec(arguments);
  if (!spec) return invocation.fail(spec.error());
  const auto source = arguments.integer("--source", 0, 1, INT32_MAX);
  if (!source) return invocation.fail(source.error());
  const auto prepared = prepare(invocation);
  if (!prepared) return invocation.fail(prepared.error());
  if (arguments.has("--against") || arguments.has("--against-method")) return difference(invocation, *prepared, *spec);
  const auto result = attributeRun(prepared->context, prepared->config, *spec);
  if (prepared->context.file)
    if (const auto closed = prepared->context.file->close(); !closed) return invocation.fail(fromStorage(closed.error()));
  if (!result) return invocation.fail(explained(*prepared->context.engine, result.error()));
  const auto asked = static_cast<int>(*source) - 1;
  if (asked >= static_cast<int>(result->sources.size()))
    return invocation.fail({ErrorCode::usage, "--source " + std::to_string(asked + 1) + ": there are " + std::to_string(result->sources.size()) + " sources.", ""});
  return invocation.json() ? printJson(invocation, *result, asked) : printRanking(invocation, *result, asked);
}

}  // namespace winnow::cli
