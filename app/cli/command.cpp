// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/cli/command.h"

#include <unistd.h>

#include <QJsonArray>
#include <QJsonDocument>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "engine/attribute/attribute.h"
#include "engine/sparsify/use.h"
#include "experiments/model_source.h"
#include "experiments/text_file.h"

namespace winnow::cli {

namespace {

std::string methodNames() {
  std::string names;
  for (const AttributionMethod& method : attributionMethods()) names += (names.empty() ? "" : "|") + method.name;
  return names;
}

}  // namespace

std::span<const Command> commands() {
  static const Option context{"--context", "N", "tokens of context", false};
  static const std::vector<Command> all = {
      {{"doctor", "", 0, 0, "What this machine and this build can do, what is missing and what that means.", {}}, runDoctor},
      {{"knobs", "[MODEL]", 0, 1, "Everything that can be changed while a model runs.", {}}, runKnobs},
      {{"info", "MODEL", 1, 1, "What a model file holds.", {}}, runInfo},
      {{"plan", "MODEL", 1, 1, "Memory by tag before loading, counted by the code that allocates it.",
        {{"--context", "N", "tokens the cache will hold (default: the model's own, at most 4096)", false}}},
       runPlan},
      {{"tokenize", "MODEL", 1, 1, "Token ids and pieces of a text; a vocabulary-only GGUF or a tokenizer folder will do.",
        {{"--text", "FILE|-", "the text, read byte for byte", false}, {"--no-special", "", "add no begin and end tokens", false}}},
       runTokenize},
      {{"generate", "MODEL", 1, 1, "Generates text and measures every token.",
        {{"--prompt", "TEXT", "what to continue", false},
         {"-n", "N", "new tokens (default 64)", false},
         {"--chat", "", "wrap the prompt in the model's chat template", false},
         {"--temperature", "T", "0 = greedy (default)", false},
         {"--top-k", "K", "0 = off", false},
         {"--top-p", "P", "1 = off", false},
         {"--min-p", "P", "0 = off", false},
         {"--repetition-penalty", "R", "1 = off", false},
         {"--seed", "N", "of the sampler (default 1)", false},
         {"--ignore-eos", "", "go on after the end token", false},
         context}},
       runGenerate},
      {{"perplexity", "MODEL", 1, 1, "Perplexity of a text by a published protocol; KL divergence against a baseline.",
        {{"--text", "FILE|-", "the text", false},
         {"--context", "N", "tokens per window (default 512)", false},
         {"--mode", "llama|llama-stride|hf-doc|hf-exact", "the protocol (default llama)", false},
         {"--chunks", "N", "windows (default: all)", false},
         {"--stride", "N", "of llama-stride and hf-*", false},
         {"--against", "baseline|MODEL", "also measure the divergence from it", false},
         {"--stepwise", "", "feed the second half of each window token by token (the default with a cache method or activation sparsity)", false},
         {"--depths", "N,..", "instead of --context: the same predictions from the last N tokens before them, token by token, for each N", false},
         {"--scored", "N", "predictions at each of these depths (default 128)", false}}},
       runPerplexity},
      {{"retrieve", "MODEL", 1, 1, "Whether facts in a context are still found: hidden at every depth of contexts of every length, or questions of your own.",
        {{"--task", "needle|passkey|pairs", "a sentence, a number, or one of many equal facts (default needle)", false},
         {"--lengths", "N,..", "tokens of context (default 512)", false},
         {"--depths", "X,..", "where the fact stands, 0 = at the start, 1 = at the end (default 0,0.25,0.5,0.75,1)", false},
         {"--trials", "N", "facts for each length and depth (default 3)", false},
         {"--text", "FILE", "what needles and pass keys are hidden in (default: the built-in sample)", false},
         {"--data", "FILE.jsonl", "instead: lines of {\"context\", \"question\", \"response\"}", false},
         {"--limit", "N", "of those (default 20)", false},
         {"--query-aware", "", "the cache is compressed after the question instead of before it", false},
         {"--against", "baseline", "also ask with every knob at its default", false},
         {"--seed", "N", "of the facts (default 0)", false}}},
       runRetrieve},
      {{"similarity", "MODEL", 1, 1, "How much alike the attention of layers is on a text (the cache whole, nothing shared), and spans that could share it.",
        {{"--text", "FILE|-", "the text", false},
         {"--context", "N", "tokens per window (default 256, or the model's context where that is less)", false},
         {"--tokens", "N", "of the text at most (default 2048)", false},
         {"--of", "rows|no-sink|windows|head-mean", "what is compared (default rows)", false},
         {"--threshold", "X", "likeness to the first layer from which one joins its span (default 0.95)", false},
         {"--most", "N", "layers in a span (default 4)", false},
         {"--first", "N", "layers left alone at the beginning (default max(2, layers / 8))", false},
         {"--last", "N", "layers left alone at the end (default max(1, layers / 16))", false}}},
       runSimilarity},
      {{"kept", "MODEL", 1, 1, "How much of the whole cache's attention over a text falls on what a cache setting keeps, by layer and head.",
        {{"--text", "FILE|-", "the text", false},
         {"--tokens", "N", "of the text at most (default 512)", false},
         {"--prompt", "N", "of them fed at once; the others attend one by one (default: half)", false}}},
       runKept},
      {{"bench", "MODEL", 1, 1, "Tokens per second of prompt processing and generation, as llama-bench defines them, beside the roofline.",
        {{"-p", "N,..", "prompt lengths, 0 = none (default 512)", false},
         {"-n", "N,..", "generated lengths, 0 = none (default 128)", false},
         {"-d", "N,..", "depths (default 0)", false},
         {"-r", "N", "repetitions (default 5)", false},
         {"--text", "FILE", "real text instead of random tokens", false},
         {"--batch", "N,..", "sequences decoded together (default 1)", false}}},
       runBench},
      {{"attribute", "MODEL", 1, 1, "Which parts of a context made the answer.",
        {{"--context", "FILE", "the text to attribute to: text, Markdown, or a .jsonl of passages {\"text\", \"title\"?, \"id\"?}", false},
         {"--question", "TEXT", "asked after the context", false},
         {"--response", "TEXT", "the answer (default: generated greedily)", false},
         {"--method", methodNames(), "(default attribot)", false},
         {"--unit", "sentence|paragraph|window|document", "what is left out (default sentence); a document is a passage, or a section under a heading", false},
         {"--window", "N", "tokens of a window (default 8; 1 = single tokens)", false},
         {"--ranges", "FROM:TO,..", "sources of your own, in bytes of the context", false},
         {"--fit", "", "leave out the passages that do not fit the model's context, and say how many", false},
         {"--span", "FROM:TO", "attribute these tokens of the response, counted from 0", false},
         {"--span-bytes", "FROM:TO", "or the tokens that touch these bytes", false},
         {"--source", "N", "also: what source N supported, token by token", false},
         {"--seconds", "T", "the best answer in that time: chooses method, tricks and how much is kept, and says how sure it is", false},
         {"--proxy", "MODEL", "a small model, or starter-proxy, that chooses the sources, or scores in the model's place (attribot)", false},
         {"--tricks", "LIST", "of attribot: reuse,hierarchy,prune (default), replace for prune, or none", false},
         {"--keep-paragraphs", "K", "that attribot looks into (default 3)", false},
         {"--keep-sentences", "K", "of these, whose windows it looks into (default 3)", false},
         {"--keep-sources", "K", "that a proxy leaves to the model (default 3)", false},
         {"--samples", "N", "masks of contextcite (64), pairs of orders of shapley (50)", false},
         {"--seed", "N", "of what is drawn at random (default 0)", false},
         {"--against", "KNOB=VALUE", "attribute the same response under this too, and show the difference", true},
         {"--against-method", "NAME", "or by another method: attention beside attribot shows attention mass against effect", false},
         {"--session", "FILE.winnow", "keep the run, its scores and its forwards there", false},
         {"--resume", "", "go on with the attribution of this question that was stopped there", false},
         {"-n", "N", "tokens to generate without --response (default 48)", false}}},
       runAttribute},
      {{"run", "PLAN.json", 1, 1, "Runs the experiments and sweeps of a plan into a session file.",
        {{"--session", "FILE.winnow", "created if it is not there", false}, {"--resume", "", "go on with what is to do", false}}},
       runRun},
      {{"sessions", "FILE.winnow", 1, 1, "The runs of a session file with their summaries.", {}}, runSessions},
      {{"export", "FILE.winnow", 1, 1, "A chart of a session as a file.",
        {{"--chart", "NAME", "latency memory perplexity comparison pareto attribution attribution-pareto kv retrieval depth; an .html takes several: comparison,pareto", false},
         {"--runs", "IDS", "1,2,5 (default: all that fit)", false},
         {"--out", "FILE", ".png .svg .pdf .csv .json .html", false},
         {"--theme", "light|dark", "(default light)", false}}},
       runExport},
      {{"export-model", "MODEL", 1, 1, "Writes the weights under --set as a GGUF, exact where a block type holds the codes, or as a folder of Hugging Face.",
        {{"--out", "FILE.gguf|FOLDER", "a folder, new or empty, gets config.json, model.safetensors and the tokenizer", false}}},
       runExportModel},
      {{"synthesize", "", 0, 0, "Writes a model of a real shape with random weights, for speed work.",
        {{"--shape", "NAME", "0.1b 0.3b 0.5b 1b 3b 8b", false},
         {"--type", "f32|bf16|f16|q8_0|q4_0", "of the matrices (default bf16)", false},
         {"--out", "FILE.gguf", "", false},
         {"--seed", "N", "(default 1)", false}}},
       runSynthesize},
  };
  return all;
}

Progress Invocation::progress() const {
  Progress progress;
  progress.stop = stop_;
  if (isatty(STDERR_FILENO))
    progress.report = [last = std::chrono::steady_clock::time_point()](double fraction, std::string_view what) mutable {
      const auto now = std::chrono::steady_clock::now();
      if (now - last < std::chrono::milliseconds(100) && fraction < 1) return;
      last = now;
      std::fprintf(stderr, "\r\033[K%3.0f %% %.*s", fraction * 100, static_cast<int>(what.size()), what.data());
      if (fraction >= 1) std::fputs("\r\033[K", stderr);
    };
  return progress;
}

namespace {

// Parts of the program write their sentences with or without the full stop; a person reads them the same.
std::string sentence(std::string words) {
  while (!words.empty() && (words.back() == '\n' || words.back() == ' ')) words.pop_back();
  std::ranges::replace(words, '\n', ' ');
  if (!words.empty() && words.back() != '.' && words.back() != '!' && words.back() != '?') words += '.';
  return words;
}

// Over the progress line, where there is one.
void line(const std::string& words) { std::fprintf(stderr, "%swinnow-cli: %s\n", isatty(STDERR_FILENO) ? "\r\033[K" : "", words.c_str()); }

QJsonObject errorJson(const Error& error) {
  return {{"code", static_cast<int>(error.code)}, {"message", text(error.message)}, {"hint", text(error.hint)}};
}

}  // namespace

int Invocation::fail(const Error& error) const { return failBeside({}, error); }

int Invocation::failBeside(QJsonObject partial, const Error& error) const {
  const Error told{error.code, sentence(error.message), sentence(error.hint)};
  line(told.message + (told.hint.empty() ? "" : " ") + told.hint);
  if (json()) {
    partial["error"] = errorJson(told);
    print(partial);
  }
  return static_cast<int>(error.code);
}

int Invocation::stopped(QJsonObject partial) const {
  return failBeside(std::move(partial), {ErrorCode::cancelled, command_ + " was stopped; what it had done is shown.", ""});
}

int Invocation::print(const QJsonObject& object) const {
  const QByteArray text = QJsonDocument(object).toJson(QJsonDocument::Compact);
  std::fwrite(text.constData(), 1, static_cast<size_t>(text.size()), stdout);
  std::fputc('\n', stdout);
  return 0;  // main looks at the stream once
}

void Invocation::warn(const std::string& words) const {
  if (warned_.insert(words).second) line("warning: " + sentence(words));
}

Result<std::vector<std::pair<std::string, KnobValue>>> Invocation::settings(const std::string& option) const {
  std::vector<std::pair<std::string, KnobValue>> out;
  for (const std::string& setting : arguments_.all(option)) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos) return Error{ErrorCode::usage, option + " " + setting + ": expected knob=value.", "For example " + option + " weights.bits=4."};
    Result<KnobValue> value = Schema::instance().parse(setting.substr(0, equals), setting.substr(equals + 1));
    if (!value) return value.error();
    out.emplace_back(setting.substr(0, equals), std::move(*value));
  }
  return out;
}

Result<Config> Invocation::config() const {
  const auto given = settings();
  if (!given) return given.error();
  Config config;
  for (const auto& [name, value] : *given) config = config.with(name, value);
  return config;
}

Result<EngineOptions> Invocation::engineOptions() const {
  EngineOptions options;
  options.device = arguments_.text("--device", "auto");
  if (options.device != "auto" && options.device != "cpu" && options.device != "cuda")
    return Error{ErrorCode::usage, "--device " + options.device + ": expected auto, cpu or cuda.", ""};
  const Result<int64_t> threads = arguments_.integer("--threads", 0, 1, 1024);
  if (!threads) return threads.error();
  options.threads = static_cast<int>(*threads);
  options.calibrationSample = findResource("texts/calibration.txt");
  return options;
}

Result<std::shared_ptr<Engine>> Invocation::openEngine(const std::string& name) const {
  const Result<EngineOptions> options = engineOptions();
  if (!options) return options.error();
  const Result<std::string> source = resolveModel(name);
  if (!source) return source.error();
  auto model = Model::open(*source);
  if (!model) return model.error();
  for (const std::string& note : (*model)->notes()) warn(note);
  return Engine::create(std::move(*model), *options);
}

namespace {

std::string shown(const KnobValue& value) {
  const std::string text = toText(value);
  return text.empty() ? "empty" : text;
}

}  // namespace

Status Invocation::tellAdjustments(const std::vector<Adjustment>& adjustments) const {
  std::string reasons;
  for (const Adjustment& adjustment : adjustments)
    reasons += (reasons.empty() ? "" : " ") + adjustment.knob + " is " + shown(adjustment.effective) + ", not " + shown(adjustment.requested) + ": " + adjustment.reason;
  if (reasons.empty()) return Done{};
  if (arguments_.has("--strict")) return Error{ErrorCode::badInput, reasons, "--strict was given."};
  warn(reasons);
  return Done{};
}

void Invocation::tellIdle(const Effective& effective) const {
  const Config& requested = effective.requested;
  for (const auto& [name, value] : requested.changed()) {
    const Knob& knob = *Schema::instance().find(name);
    const bool told = std::ranges::any_of(effective.adjustments, [&](const Adjustment& a) { return a.knob == name; });
    if (knob.enabled && !knob.enabled(requested) && !told) warn(name + "=" + shown(value) + " does nothing here: it acts where " + knob.enabledIf + ".");
  }
}

Result<Effective> Invocation::resolved(const Engine& engine) const {
  const Result<Config> requested = config();
  if (!requested) return requested.error();
  Effective effective = engine.resolved(*requested);
  if (const Status told = tellAdjustments(effective.adjustments); !told) return told.error();
  tellIdle(effective);
  return effective;
}

Result<std::unique_ptr<Session>> Invocation::openSession(Engine& engine, int context) const {
  const Result<Config> requested = config();
  if (!requested) return requested.error();
  SessionOptions options;
  options.context = context;
  auto session = engine.createSession(*requested, options, progress());
  if (!session) return session;
  if (const Status told = tellAdjustments((*session)->effective()->adjustments); !told) return told.error();
  tellIdle(*(*session)->effective());
  for (const EngineEvent& event : (*session)->takeEvents())
    if (event.kind == EngineEvent::Kind::warning) warn(event.text);
  return session;
}

Result<std::string> readText(const std::string& path) {
  if (path == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  return readTextFile(text(path));
}

QString text(const std::string& utf8) { return QString::fromStdString(utf8); }

QJsonValue jsonValue(const KnobValue& value) {
  if (const bool* b = std::get_if<bool>(&value)) return *b;
  if (const int64_t* i = std::get_if<int64_t>(&value)) return static_cast<qint64>(*i);
  if (const double* d = std::get_if<double>(&value)) return *d;
  return text(std::get<std::string>(value));
}

Error noTokenizer() { return {ErrorCode::badInput, "the model file holds no tokenizer: text can't be read.", "Use a file with its vocabulary."}; }

QJsonObject configJson(const Effective& effective) {
  const auto object = [](const Config& config) {
    QJsonObject out;
    for (const auto& [name, value] : config.values()) out[text(name)] = jsonValue(value);
    return out;
  };
  QJsonObject reasons;
  for (const Adjustment& adjustment : effective.adjustments) reasons[QString::fromStdString(adjustment.knob)] = QString::fromStdString(adjustment.reason);
  return {{"requested", object(effective.requested)}, {"effective", object(effective.config)}, {"reasons", reasons}};
}

QJsonObject memoryJson(const MemoryByTag& memory) {
  QJsonObject out;
  int64_t total = 0;
  for (size_t i = 0; i < memory.size(); ++i) {
    const std::string_view name = memoryTagName(static_cast<MemoryTag>(i));
    out[QString::fromUtf8(name.data(), static_cast<qsizetype>(name.size()))] = static_cast<qint64>(memory[i]);
    total += memory[i];
  }
  out["total"] = static_cast<qint64>(total);
  return out;
}

QJsonObject sparseJson(const Session& session) {
  constexpr std::array<const char*, SparseUse::kNeurons + 1> places = {"attention", "output", "ffn", "down", "neurons"};
  const SparseUse& use = sparseUse(session);
  if (use.steps == 0) return {};
  const auto shares = [&](const auto& counts) {
    QJsonObject out;
    for (size_t place = 0; place < places.size(); ++place)
      if (counts[place].of > 0) out[places[place]] = counts[place].skipped();
    return out;
  };
  QJsonArray layers;
  std::array<SparseCount, SparseUse::kNeurons + 1> all;
  for (const auto& layer : use.layers) {
    layers.append(shares(layer));
    for (size_t place = 0; place < places.size(); ++place) {
      all[place].kept += layer[place].kept;
      all[place].of += layer[place].of;
    }
  }
  return {{"tokens", static_cast<qint64>(use.steps)}, {"skipped_bytes_per_token", static_cast<qint64>(use.bytes / use.steps)}, {"skipped", shares(all)}, {"layers", layers}};
}

std::string bytesText(int64_t bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  return fixed(value, unit == 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2) + " " + units[unit];
}

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

void printTable(const std::vector<std::vector<std::string>>& rows, bool heading) {
  std::vector<size_t> width;
  for (const auto& row : rows) {
    width.resize(std::max(width.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], static_cast<size_t>(QString::fromStdString(row[i]).size()));
  }
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const size_t pad = width[i] - static_cast<size_t>(QString::fromStdString(row[i]).size());
      const bool number = heading && !row[i].empty() && (std::isdigit(static_cast<unsigned char>(row[i][0])) || row[i][0] == '-' || row[i].starts_with("±") || row[i].starts_with("+") || row[i].starts_with("−"));
      if (number) std::fputs(std::string(pad, ' ').c_str(), stdout);
      std::fputs(row[i].c_str(), stdout);
      if (i + 1 < row.size()) std::fputs(std::string((number ? 0 : pad) + 2, ' ').c_str(), stdout);
    }
    std::fputc('\n', stdout);
  }
}

}  // namespace winnow::cli
