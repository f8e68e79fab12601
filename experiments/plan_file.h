// SPDX-License-Identifier: GPL-3.0-or-later
// A plan: a model, settings, axes and experiments (DESIGN §6). Expanded into points before it starts, so that cancel, crash
// and "go on another evening" are one code path: run what is to do.
#pragma once
#include <QString>
#include <QStringList>
#include <optional>
#include <variant>
#include <vector>

#include "engine/attribute/attribute.h"
#include "engine/core/result.h"
#include "engine/evaluate/perplexity.h"
#include "engine/evaluate/retrieval_tasks.h"
#include "engine/knobs/knobs.h"
#include "engine/run/sampler.h"

namespace winnow {

struct GenerateSpec {
  QString prompt;
  int tokens = 64;
  bool chat = false, ignoreEos = false;
  SamplerSettings sampler;
};
struct EvaluateSpec {
  QString textPath;              // file; or textInline
  QString textInline;
  PerplexityMode mode = PerplexityMode::llama;
  int context = 512, chunks = 0;
  std::vector<int> depths;       // not empty: instead of mode and context, predictions at these depths (PerplexityRequest)
  int scored = 128;              // at each of them
  std::optional<bool> stepwise;
  bool againstBaseline = true;   // KL divergence against every knob at its default
  QString againstModel;          // or against another model with the same vocabulary
};
struct RetrieveSpec {
  RetrievalTasks tasks;          // its haystack is filled in from:
  QString textPath;              // file; or textInline; neither = the built-in sample
  QString textInline;
  QString dataPath;              // instead of a task: a JSONL of questions with their answers, as in AttributeSpec
  int limit = 20;                // of those
  bool queryAware = false;
  bool againstBaseline = true;   // the same questions with every knob at its default
};
struct BenchSpec {
  std::vector<int> prompt = {512}, generate = {128}, depth = {0};
  int repetitions = 5;
  QString textPath;              // real text instead of random ids
};
struct AttributeSpec {
  QString context, question, response;  // response empty = generate
  QString contextPath;          // instead of context: a text or Markdown file, or a JSONL of passages (context_file.h)
  std::vector<Document> documents;      // passages of `context`, of the unit document
  std::vector<ByteRange> ranges;        // of the unit given
  std::optional<ResponseSpan> span;     // of the response; unset = all
  QString method = QStringLiteral("attribot");
  SourceUnit unit = SourceUnit::sentence;
  int windowTokens = 8;         // of the unit window
  int responseTokens = 48;
  int samples = 0;              // 0 = the method's default
  uint64_t seed = 0;
  AttribotOptions attribot{};
  QString proxyPath;            // a second, smaller model, or "starter-proxy"; attribot only
  double seconds = 0;           // > 0: best answer in that time; method, tricks, kept sources and samples are then chosen
  bool fit = false;             // passages that do not fit the model's context are dropped, the last first, and counted
  QString dataPath;             // in a plan: a JSONL of questions, each asked; context, question and response come from there
  int limit = 20;               // of those
  int item = -1;                // the one asked, set for each point
  std::optional<qint64> resume; // a run of this session that was stopped: what it has computed is not done again (jobs.h)
};

using Experiment = std::variant<GenerateSpec, EvaluateSpec, BenchSpec, AttributeSpec, RetrieveSpec>;
QString experimentKind(const Experiment& experiment);    // generate, evaluate ...
QByteArray experimentJson(const Experiment& experiment);  // as it stands in a plan

struct PlanFile {
  QString name, path, model;     // model: "starter", "starter-proxy" or a path (resolved against the plan's folder)
  std::vector<std::pair<QString, KnobValue>> set;
  struct Axis {
    QString knob;
    std::vector<KnobValue> values;
  };
  std::vector<Axis> axes;
  std::vector<Experiment> experiments;
  int repeats = 1;

  // Unknown keys, unknown knobs, values out of range and empty axes are errors that name the key's path ("axes.weights.bits[1]").
  static Result<PlanFile> read(const QString& path);
  static Result<PlanFile> parse(const QByteArray& json, const QString& folder);
  QByteArray toJson() const;
  struct Point {
    Config config;
    int experiment = 0;
    int repeat = 0;
    int item = -1;               // question of its set
  };
  std::vector<Point> points() const;  // repeats outermost, so that drift hits all points alike; a question by every method in turn
  Experiment experimentOf(const Point& point) const;
};

}  // namespace winnow
