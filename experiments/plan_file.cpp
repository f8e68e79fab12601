// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/plan_file.h"

#include <QDir>
#include <QFileInfo>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <cmath>
#include <set>

#include "engine/core/suggest.h"
#include "experiments/model_source.h"
#include "experiments/text_file.h"

namespace winnow {
namespace {

constexpr qint64 kLargestPlan = 4 << 20;   // bytes
constexpr size_t kMostPoints = 100000;

std::vector<std::pair<const char*, const char*>> attributionMethodChoices() {
  std::vector<std::pair<const char*, const char*>> choices;
  for (const AttributionMethod& method : attributionMethods()) choices.emplace_back(method.name.c_str(), method.name.c_str());
  return choices;
}

// Reads one object: every key is looked at once, what is left over is an error that names its path.
class Reader {
 public:
  Reader(QJsonObject object, QString path) : object_(std::move(object)), path_(std::move(path)) {}

  bool has(const char* key) const { return object_.contains(QLatin1String(key)); }
  QJsonValue take(const char* key) {
    seen_.insert(key);
    return object_.value(QLatin1String(key));
  }
  QString at(const char* key) const { return path_.isEmpty() ? QLatin1String(key) : path_ + QLatin1Char('.') + QLatin1String(key); }

  QString text(const char* key, const QString& fallback = {}) {
    const QJsonValue value = take(key);
    if (value.isUndefined()) return fallback;
    if (!value.isString()) fail(at(key) + QStringLiteral(" is not a text."));
    return value.toString();
  }
  int integer(const char* key, int fallback, int minimum, int maximum) {
    const QJsonValue value = take(key);
    if (value.isUndefined()) return fallback;
    const double number = value.toDouble(NAN);
    if (!(number >= minimum && number <= maximum) || number != std::floor(number))
      fail(QStringLiteral("%1 is not a whole number from %2 to %3.").arg(at(key)).arg(minimum).arg(maximum));
    return std::isfinite(number) ? static_cast<int>(number) : fallback;
  }
  double real(const char* key, double fallback, double minimum, double maximum) {
    const QJsonValue value = take(key);
    if (value.isUndefined()) return fallback;
    const double number = value.toDouble(NAN);
    if (!(number >= minimum && number <= maximum)) fail(QStringLiteral("%1 is not a number from %2 to %3.").arg(at(key)).arg(minimum).arg(maximum));
    return number;
  }
  bool boolean(const char* key, bool fallback) {
    const QJsonValue value = take(key);
    if (value.isUndefined()) return fallback;
    if (!value.isBool()) fail(at(key) + QStringLiteral(" is neither true nor false."));
    return value.toBool();
  }
  std::vector<int> integers(const char* key, std::vector<int> fallback) {
    const QJsonValue value = take(key);
    if (value.isUndefined()) return fallback;
    std::vector<int> out;
    const QJsonArray list = value.isArray() ? value.toArray() : QJsonArray{value};
    for (const QJsonValue& item : list) {
      const double number = item.toDouble(NAN);
      if (!(number >= 0 && number <= 1 << 20) || number != std::floor(number))
        fail(at(key) + QStringLiteral(" holds something that is not a whole number."));
      else if (number > 0 || qstrcmp(key, "depth") == 0)
        out.push_back(static_cast<int>(number));
    }
    return out;
  }
  std::vector<double> reals(const char* key, const std::vector<double>& fallback, double minimum, double maximum) {
    const QJsonValue value = take(key);
    if (value.isUndefined()) return fallback;
    std::vector<double> out;
    const QJsonArray list = value.isArray() ? value.toArray() : QJsonArray{value};
    for (const QJsonValue& item : list) {
      const double number = item.toDouble(NAN);
      if (!(number >= minimum && number <= maximum)) fail(QStringLiteral("%1 holds something that is not a number from %2 to %3.").arg(at(key)).arg(minimum).arg(maximum));
      out.push_back(number);
    }
    if (out.empty()) fail(at(key) + QStringLiteral(" is empty."));
    return out;
  }
  QJsonObject object(const char* key) {
    const QJsonValue value = take(key);
    if (!value.isUndefined() && !value.isObject()) fail(at(key) + QStringLiteral(" is not an object."));
    return value.toObject();
  }
  // One of a few words.
  template <class Value>
  Value choice(const char* key, const std::vector<std::pair<const char*, Value>>& known) {
    const QString word = text(key, QLatin1String(known.front().first));
    QStringList names;
    for (const auto& [name, value] : known) {
      if (word == QLatin1String(name)) return value;
      names << QLatin1String(name);
    }
    fail(QStringLiteral("%1 is \"%2\", which is none of %3.").arg(at(key), word, names.join(QStringLiteral(", "))));
    return known.front().second;
  }
  void finish() {
    for (auto it = object_.begin(); it != object_.end(); ++it)
      if (!seen_.contains(it.key().toStdString())) {
        const std::string near = closest(it.key().toStdString(), {seen_.begin(), seen_.end()});
        fail(QStringLiteral("%1 is not a key of a plan.").arg(path_.isEmpty() ? it.key() : path_ + QLatin1Char('.') + it.key()),
             QStringLiteral("Did you mean %1?").arg(QString::fromStdString(near)));
      }
  }
  void fail(const QString& message, const QString& hint = {}) {
    if (!error_) error_ = Error{ErrorCode::usage, "the plan can't be used: " + message.toStdString(), hint.toStdString()};
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  QJsonObject object_;
  QString path_;
  std::set<std::string> seen_;
  std::optional<Error> error_;
};

Result<KnobValue> knobValue(const QString& knob, const QJsonValue& json, const QString& path) {
  KnobValue value;
  if (json.isBool())
    value = json.toBool();
  else if (json.isDouble()) {
    const double number = json.toDouble();
    const Knob* known = Schema::instance().find(knob.toStdString());
    value = known && known->type == KnobType::integer && number == std::floor(number) ? KnobValue(static_cast<int64_t>(number)) : KnobValue(number);
    if (known && known->type == KnobType::enumeration) value = toText(number == std::floor(number) ? KnobValue(static_cast<int64_t>(number)) : KnobValue(number));
  } else if (json.isString())
    return [&]() -> Result<KnobValue> {
      auto parsed = Schema::instance().parse(knob.toStdString(), json.toString().toStdString());
      if (!parsed) return Error{ErrorCode::usage, "the plan can't be used: " + path.toStdString() + ": " + parsed.error().message, parsed.error().hint};
      return parsed;
    }();
  else
    return Error{ErrorCode::usage, "the plan can't be used: " + path.toStdString() + " is not a knob value.", ""};
  auto checked = Schema::instance().check(knob.toStdString(), value);
  if (!checked) return Error{ErrorCode::usage, "the plan can't be used: " + path.toStdString() + ": " + checked.error().message, checked.error().hint};
  return checked;
}

// A file named in a plan: as given when absolute, else beside the plan, else a resource name is left to the caller.
QString resolved(const QString& path, const QString& folder) {
  if (path.isEmpty() || QFileInfo(path).isAbsolute()) return path;
  return QDir(folder).absoluteFilePath(path);
}

SamplerSettings sampler(Reader& r) {
  SamplerSettings s;
  s.temperature = static_cast<float>(r.real("temperature", 0, 0, 100));
  s.topK = r.integer("top_k", 0, 0, 1 << 24);
  s.topP = static_cast<float>(r.real("top_p", 1, 0, 1));
  s.minP = static_cast<float>(r.real("min_p", 0, 0, 1));
  s.repetitionPenalty = static_cast<float>(r.real("repetition_penalty", 1, 0.1, 10));
  s.seed = static_cast<uint64_t>(r.integer("seed", 1, 0, INT32_MAX));
  return s;
}

RetrieveSpec readRetrieve(Reader& r, const QString& folder) {
  RetrieveSpec s;
  s.textPath = resolved(r.text("text"), folder);
  s.dataPath = resolved(r.text("data"), folder);
  if (!s.textPath.isEmpty() && !s.dataPath.isEmpty()) r.fail(r.at("text") + QStringLiteral(" and ") + r.at("data") + QStringLiteral(" are both there: questions of a file have their own texts."));
  s.limit = r.integer("limit", s.limit, 1, 100000);
  s.tasks.task = r.choice<RetrievalTask>("task", {{"needle", RetrievalTask::needle}, {"passkey", RetrievalTask::passkey}, {"pairs", RetrievalTask::pairs}});
  s.tasks.lengths = r.integers("lengths", s.tasks.lengths);
  if (s.tasks.lengths.empty()) r.fail(r.at("lengths") + QStringLiteral(" is empty."));
  s.tasks.depths = r.reals("depths", s.tasks.depths, 0, 1);
  s.tasks.trials = r.integer("trials", s.tasks.trials, 1, 1000);
  s.tasks.seed = static_cast<uint64_t>(r.integer("seed", 0, 0, INT32_MAX));
  s.queryAware = r.boolean("query_aware", false);
  s.againstBaseline = r.choice<bool>("against", {{"baseline", true}, {"none", false}});
  return s;
}

Experiment readExperiment(Reader& r, const QString& folder) {
  const QString kind = r.text("kind");
  if (kind == QLatin1String("generate")) {
    GenerateSpec s;
    s.prompt = r.text("prompt");
    if (s.prompt.isEmpty()) r.fail(r.at("prompt") + QStringLiteral(" is missing: a generation needs a prompt."));
    s.tokens = r.integer("n", 64, 1, 1 << 20);
    s.chat = r.boolean("chat", false);
    s.ignoreEos = r.boolean("ignore_eos", false);
    s.sampler = sampler(r);
    return s;
  }
  if (kind == QLatin1String("evaluate")) {
    EvaluateSpec s;
    s.textPath = resolved(r.text("text"), folder);
    if (s.textPath.isEmpty()) r.fail(r.at("text") + QStringLiteral(" is missing: an evaluation needs a text file."));
    s.context = r.integer("context", 512, 4, 1 << 20);
    s.chunks = r.integer("chunks", 0, 0, 1 << 30);
    s.mode = r.choice<PerplexityMode>("mode", {{"llama", PerplexityMode::llama}, {"llama-stride", PerplexityMode::llamaStride},
                                               {"hf-doc", PerplexityMode::hfDoc}, {"hf-exact", PerplexityMode::hfExact}});
    if (r.has("stepwise")) s.stepwise = r.boolean("stepwise", true);
    s.depths = r.integers("depths", {});
    s.scored = r.integer("scored", s.scored, 1, 1 << 20);
    const QString against = r.text("against", QStringLiteral("baseline"));
    s.againstBaseline = against == QLatin1String("baseline");
    if (!s.againstBaseline && against != QLatin1String("none")) s.againstModel = resolved(against, folder);
    return s;
  }
  if (kind == QLatin1String("attribute")) {
    AttributeSpec s;
    s.dataPath = resolved(r.text("data"), folder);
    s.limit = r.integer("limit", s.limit, 1, 100000);
    s.contextPath = resolved(r.text("context"), folder);
    s.question = r.text("question");
    if (s.dataPath.isEmpty() == s.contextPath.isEmpty())
      r.fail(r.at("context") + QStringLiteral(" or ") + r.at("data") + QStringLiteral(" is missing, or both are there: an attribution needs a text file or a set of questions."));
    if (s.dataPath.isEmpty() && s.question.isEmpty()) r.fail(r.at("question") + QStringLiteral(" is missing: an attribution needs a question."));
    s.response = r.text("response");
    s.method = QLatin1String(r.choice("method", attributionMethodChoices()));
    s.unit = r.choice<SourceUnit>("unit", {{"sentence", SourceUnit::sentence}, {"paragraph", SourceUnit::paragraph}, {"window", SourceUnit::window}, {"document", SourceUnit::document}});
    s.windowTokens = r.integer("window", s.windowTokens, 1, 4096);
    s.responseTokens = r.integer("n", 48, 1, 4096);
    s.samples = r.integer("samples", 0, 0, 100000);
    s.seed = static_cast<uint64_t>(r.integer("seed", 0, 0, INT32_MAX));
    s.seconds = r.real("seconds", 0, 0, 1e6);
    s.fit = r.boolean("fit", false);
    s.proxyPath = r.text("proxy");
    if (!isBundledModel(s.proxyPath.toStdString())) s.proxyPath = resolved(s.proxyPath, folder);
    const auto tricks = parseTricks(r.text("tricks", QString::fromStdString(tricksText(s.attribot))).toStdString());
    if (tricks)
      s.attribot = *tricks;
    else
      r.fail(r.at("tricks") + QStringLiteral(": ") + QString::fromStdString(tricks.error().message));
    s.attribot.keepParagraphs = r.integer("keep_paragraphs", s.attribot.keepParagraphs, 1, 100000);
    s.attribot.keepSources = r.integer("keep_sources", s.attribot.keepSources, 1, 100000);
    s.attribot.keepSentences = r.integer("keep_sentences", s.attribot.keepSentences, 1, 100000);
    return s;
  }
  if (kind == QLatin1String("retrieve")) return readRetrieve(r, folder);
  if (kind != QLatin1String("bench")) r.fail(r.at("kind") + QStringLiteral(" is none of generate, evaluate, bench, attribute, retrieve."));
  BenchSpec s;
  s.prompt = r.integers("p", {512});
  s.generate = r.integers("n", {128});
  s.depth = r.integers("depth", {0});
  s.repetitions = r.integer("r", 5, 1, 1000);
  s.textPath = resolved(r.text("text"), folder);
  return s;
}

}  // namespace

Result<PlanFile> PlanFile::read(const QString& path) {
  const auto json = readTextFile(path, kLargestPlan);
  if (!json) return json.error();
  const QFileInfo info(path);
  auto plan = parse(QByteArray::fromStdString(*json), info.absolutePath());
  if (!plan) return plan;
  plan->path = info.absoluteFilePath();
  if (plan->name.isEmpty()) plan->name = info.completeBaseName();
  return plan;
}

Result<PlanFile> PlanFile::parse(const QByteArray& json, const QString& folder) {
  QJsonParseError syntax;
  const QJsonDocument document = QJsonDocument::fromJson(json, &syntax);
  if (syntax.error != QJsonParseError::NoError)
    return Error{ErrorCode::badInput, "the plan is not JSON: " + syntax.errorString().toStdString() + " at byte " + std::to_string(syntax.offset) + ".", ""};
  if (!document.isObject()) return Error{ErrorCode::badInput, "the plan is not a JSON object.", ""};
  Reader r(document.object(), {});
  PlanFile plan;
  if (r.integer("winnow_plan", 0, 0, 1000) != 1) return Error{ErrorCode::badInput, "the plan has no \"winnow_plan\": 1, the version this program reads.", ""};
  plan.name = r.text("name");
  plan.model = r.text("model", QStringLiteral("starter"));
  if (!isBundledModel(plan.model.toStdString())) plan.model = resolved(plan.model, folder);
  plan.repeats = r.integer("repeats", 1, 1, 1000);
  const QJsonObject set = r.object("set");
  for (auto it = set.begin(); it != set.end(); ++it) {
    auto value = knobValue(it.key(), it.value(), QStringLiteral("set.") + it.key());
    if (!value) return value.error();
    plan.set.emplace_back(it.key(), std::move(*value));
  }
  const QJsonObject axes = r.object("axes");
  for (auto it = axes.begin(); it != axes.end(); ++it) {
    const QString path = QStringLiteral("axes.") + it.key();
    const QJsonArray values = it.value().toArray();
    if (values.isEmpty()) return Error{ErrorCode::usage, "the plan can't be used: " + path.toStdString() + " is not a list of values.", ""};
    Axis axis{it.key(), {}};
    for (int i = 0; i < values.size(); ++i) {
      auto value = knobValue(it.key(), values[i], QStringLiteral("%1[%2]").arg(path).arg(i));
      if (!value) return value.error();
      axis.values.push_back(std::move(*value));
    }
    plan.axes.push_back(std::move(axis));
  }
  const QJsonArray experiments = r.take("experiments").toArray();
  if (experiments.isEmpty()) return Error{ErrorCode::usage, "the plan can't be used: experiments is not a list of experiments.", "Give at least one, for example {\"kind\":\"bench\"}."};
  for (int i = 0; i < experiments.size(); ++i) {
    const QString path = QStringLiteral("experiments[%1]").arg(i);
    if (!experiments[i].isObject()) return Error{ErrorCode::usage, "the plan can't be used: " + path.toStdString() + " is not an object.", ""};
    Reader one(experiments[i].toObject(), path);
    plan.experiments.push_back(readExperiment(one, folder));
    one.finish();
    if (one.error()) return *one.error();
  }
  r.finish();
  if (r.error()) return *r.error();
  size_t count = 0;
  for (const Experiment& experiment : plan.experiments) {
    const auto* attribute = std::get_if<AttributeSpec>(&experiment);
    count += static_cast<size_t>(plan.repeats) * static_cast<size_t>(attribute && !attribute->dataPath.isEmpty() ? attribute->limit : 1);
  }
  for (const Axis& axis : plan.axes) {
    count *= axis.values.size();
    if (count > kMostPoints) return Error{ErrorCode::usage, "the plan has more than 100 000 points.", "Use fewer values on its axes."};
  }
  return plan;
}

QByteArray PlanFile::toJson() const {
  const auto json = [](const KnobValue& value) -> QJsonValue {
    if (const bool* b = std::get_if<bool>(&value)) return *b;
    if (const int64_t* i = std::get_if<int64_t>(&value)) return static_cast<qint64>(*i);
    if (const double* d = std::get_if<double>(&value)) return *d;
    return QString::fromStdString(std::get<std::string>(value));
  };
  QJsonObject setJson, axesJson;
  for (const auto& [knob, value] : set) setJson[knob] = json(value);
  for (const Axis& axis : axes) {
    QJsonArray values;
    for (const KnobValue& value : axis.values) values.append(json(value));
    axesJson[axis.knob] = values;
  }
  QJsonArray list;
  for (const Experiment& experiment : experiments) list.append(QJsonDocument::fromJson(experimentJson(experiment)).object());
  return QJsonDocument(QJsonObject{{QStringLiteral("winnow_plan"), 1}, {QStringLiteral("name"), name}, {QStringLiteral("model"), model}, {QStringLiteral("set"), setJson},
                                   {QStringLiteral("axes"), axesJson}, {QStringLiteral("experiments"), list}, {QStringLiteral("repeats"), repeats}})
      .toJson(QJsonDocument::Compact);
}

QString experimentKind(const Experiment& experiment) {
  constexpr const char* names[] = {"generate", "evaluate", "bench", "attribute", "retrieve"};  // in the order of Experiment
  static_assert(std::size(names) == std::variant_size_v<Experiment>);
  return QLatin1String(names[experiment.index()]);
}

QByteArray experimentJson(const Experiment& experiment) {
  QJsonObject o;
  const auto array = [](const std::vector<int>& values) {
    QJsonArray out;
    for (int value : values) out.append(value);
    return out;
  };
  if (const auto* g = std::get_if<GenerateSpec>(&experiment)) {
    o = {{"kind", "generate"}, {"prompt", g->prompt}, {"n", g->tokens}, {"chat", g->chat}, {"ignore_eos", g->ignoreEos}, {"temperature", g->sampler.temperature},
         {"top_k", g->sampler.topK}, {"top_p", g->sampler.topP}, {"min_p", g->sampler.minP}, {"repetition_penalty", g->sampler.repetitionPenalty},
         {"seed", static_cast<qint64>(g->sampler.seed)}};
  } else if (const auto* e = std::get_if<EvaluateSpec>(&experiment)) {
    o = {{"kind", "evaluate"}, {"text", e->textPath}, {"context", e->context}, {"chunks", e->chunks}, {"mode", QString::fromUtf8(perplexityModeName(e->mode))},
         {"against", !e->againstModel.isEmpty() ? e->againstModel : QLatin1String(e->againstBaseline ? "baseline" : "none")}};
    if (e->stepwise) o["stepwise"] = *e->stepwise;
    if (!e->depths.empty()) {
      o["depths"] = array(e->depths);
      o["scored"] = e->scored;
    }
  } else if (const auto* b = std::get_if<BenchSpec>(&experiment)) {
    o = {{"kind", "bench"}, {"p", array(b->prompt)}, {"n", array(b->generate)}, {"depth", array(b->depth)}, {"r", b->repetitions}};
    if (!b->textPath.isEmpty()) o["text"] = b->textPath;
  } else if (const auto* found = std::get_if<RetrieveSpec>(&experiment)) {
    o = {{"kind", "retrieve"}, {"query_aware", found->queryAware}, {"against", QLatin1String(found->againstBaseline ? "baseline" : "none")}};
    if (!found->dataPath.isEmpty()) {
      o["data"] = found->dataPath;
      o["limit"] = found->limit;
    } else {
      o["task"] = QString::fromUtf8(retrievalTaskName(found->tasks.task));
      o["lengths"] = array(found->tasks.lengths);
      QJsonArray depths;
      for (const double depth : found->tasks.depths) depths.append(depth);
      o["depths"] = depths;
      o["trials"] = found->tasks.trials;
      o["seed"] = static_cast<qint64>(found->tasks.seed);
      if (!found->textPath.isEmpty()) o["text"] = found->textPath;
    }
  } else if (const auto* a = std::get_if<AttributeSpec>(&experiment)) {
    o = {{"kind", "attribute"}, {"method", a->method}, {"unit", QString::fromStdString(std::string(sourceUnitName(a->unit)))}, {"n", a->responseTokens}, {"samples", a->samples},
         {"tricks", QString::fromStdString(tricksText(a->attribot))}, {"keep_paragraphs", a->attribot.keepParagraphs}, {"keep_sources", a->attribot.keepSources}};
    if (a->dataPath.isEmpty()) {
      o["context"] = a->contextPath;
      o["question"] = a->question;
    } else {
      o["data"] = a->dataPath;
      o["limit"] = a->limit;
    }
    const AttributeSpec usual;
    if (a->dataPath.isEmpty() || !a->response.isEmpty()) o["response"] = a->response;
    if (a->windowTokens != usual.windowTokens) o["window"] = a->windowTokens;
    if (a->attribot.keepSentences != usual.attribot.keepSentences) o["keep_sentences"] = a->attribot.keepSentences;
    if (a->seed > 0) o["seed"] = static_cast<qint64>(a->seed);
    if (a->seconds > 0) o["seconds"] = a->seconds;
    if (a->fit) o["fit"] = true;
    if (a->item >= 0) o["item"] = a->item;
    if (!a->proxyPath.isEmpty()) o["proxy"] = a->proxyPath;
  }
  return QJsonDocument(o).toJson(QJsonDocument::Compact);
}

std::vector<PlanFile::Point> PlanFile::points() const {
  Config base;
  for (const auto& [knob, value] : set) base = base.with(knob.toStdString(), value);
  std::vector<Config> configs{base};
  for (const Axis& axis : axes) {
    std::vector<Config> next;
    for (const Config& config : configs)
      for (const KnobValue& value : axis.values) next.push_back(config.with(axis.knob.toStdString(), value));
    configs.swap(next);
  }
  const auto items = [](const Experiment& experiment) {
    const auto* attribute = std::get_if<AttributeSpec>(&experiment);
    return attribute && !attribute->dataPath.isEmpty() ? attribute->limit : 0;
  };
  int most = 1;
  for (const Experiment& experiment : experiments) most = std::max(most, items(experiment));
  std::vector<Point> out;
  for (int repeat = 0; repeat < repeats; ++repeat)
    for (const Config& config : configs)
      for (int item = 0; item < most; ++item)
        for (size_t e = 0; e < experiments.size(); ++e) {
          const int all = items(experiments[e]);
          if (item < std::max(all, 1)) out.push_back({config, static_cast<int>(e), repeat, all > 0 ? item : -1});
        }
  return out;
}

Experiment PlanFile::experimentOf(const Point& point) const {
  Experiment experiment = experiments[static_cast<size_t>(point.experiment)];
  if (auto* attribute = std::get_if<AttributeSpec>(&experiment)) attribute->item = point.item;
  return experiment;
}

}  // namespace winnow
