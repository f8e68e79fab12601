// SPDX-License-Identifier: GPL-3.0-or-later
// Attribution measured: how much sooner prefix reuse is done than plain leave-one-out with the same scores, and how well every method
// agrees with exact leave-one-out at which cost.
//   bench_attribution speed MODEL [SOURCES] [ROUNDS]
//   bench_attribution quality MODEL FILE.jsonl [--examples N] [--proxy MODEL] [--keep K]
// A line of the file is {context, question, response?} or one of HotpotQA's {question_text, contexts: [{paragraph_text, is_supporting}]}:
// there both supporting paragraphs stay and as many others, in order, as fit the model's context.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/attribute/agreement.h"
#include "engine/attribute/attribute.h"
#include "engine/text/tokenizer.h"

namespace {

using namespace winnow;

struct Opened {
  std::shared_ptr<Engine> engine;
  std::unique_ptr<Session> session;
  const Tokenizer& tokenizer() const { return *engine->tokenizer(); }
};

[[noreturn]] void stop(const std::string& message) {
  std::fprintf(stderr, "bench_attribution: %s\n", message.c_str());
  std::exit(1);
}

template <class T>
T take(Result<T> result) {
  if (!result) stop(result.error().message);
  return std::move(*result);
}

// context: tokens, 0 = the model's own. A proxy gets the target's, also where it was trained on less.
Opened open(const std::string& path, int context = 0) {
  Opened out;
  out.engine = take(Engine::create(take(Model::open(path)), EngineOptions{}));
  if (!out.engine->tokenizer()) stop(path + " holds no tokenizer.");
  out.session = take(out.engine->createSession(Config(), {.context = context}, Progress{}));
  return out;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// Equal sentences, no two of them the same.
std::string equalSentences(int count) {
  constexpr const char* adjectives[] = {"red", "big", "old", "new", "sad", "hot", "wet", "dry"};
  constexpr const char* nouns[] = {"dog", "cat", "car", "cup", "hat", "box", "bed", "bus"};
  std::string out;
  for (int i = 0; i < count; ++i) {
    const auto word = [&](const char* const* list, int shift) { return std::string(list[(i >> shift) & 7]); };
    out += "The " + word(adjectives, 0) + " " + word(nouns, 3) + " saw the " + word(adjectives, 1) + " " + word(nouns, 0) + ". ";
  }
  out.pop_back();
  return out;
}

int speed(const std::string& path, int sources, int rounds) {
  Opened model = open(path);
  AttributeRequest request;
  request.context = equalSentences(sources);
  request.question = "Then the dog went to the";
  request.response = " old car.";
  const auto run = [&](const char* method) {
    request.method = method;
    return take(attribute(*model.session, model.tokenizer(), request, {}));
  };
  std::vector<double> ratios;
  double largest = 0;
  for (int round = 0; round < rounds; ++round) {
    const bool plainFirst = round % 2 == 0;
    AttributeResult first = run(plainFirst ? "loo" : "attribot"), second = run(plainFirst ? "attribot" : "loo");
    const AttributeResult &plain = plainFirst ? first : second, &reused = plainFirst ? second : first;
    ratios.push_back(plain.ms / reused.ms);
    for (size_t i = 0; i < plain.sources.size(); ++i) largest = std::max(largest, std::fabs(*plain.sources[i].score - *reused.sources[i].score));
    std::printf("round %d: loo %.0f ms, %lld tokens; reuse %.0f ms, %lld tokens; %.2f x\n", round + 1, plain.ms, static_cast<long long>(plain.forwardTokens), reused.ms,
                static_cast<long long>(reused.forwardTokens), ratios.back());
  }
  const auto count = [&](const std::string& text) { return model.tokenizer().encode(text, false).size(); };
  std::printf("%d sources, context %zu tokens, question and answer %zu; median %.2f x; largest difference of a score %.2g nats\n", sources, count(request.context),
              count(request.question + *request.response), median(ratios), largest);
  return 0;
}

// What a line of the file asks. dropped: paragraphs that did not fit.
struct Example {
  AttributeRequest request;
  int dropped = 0;
  bool usable = true;
};

Example hotpot(const nlohmann::json& line, const Opened& model, int room) {
  Example out;
  out.request.question = line.at("question_text").get<std::string>();
  const auto& paragraphs = line.at("contexts");
  std::vector<bool> keep;
  for (const auto& paragraph : paragraphs) keep.push_back(paragraph.at("is_supporting").get<bool>());
  const auto text = [&] {
    std::string joined;
    for (size_t i = 0; i < keep.size(); ++i)
      if (keep[i]) joined += (joined.empty() ? "" : "\n\n") + paragraphs[i].at("paragraph_text").get<std::string>();
    return joined;
  };
  const auto fits = [&] { return static_cast<int>(model.tokenizer().encode(attributionPrompt(text(), out.request.question), true).size()) <= room; };
  out.usable = fits();
  for (size_t i = 0; i < keep.size() && out.usable; ++i) {
    if (keep[i]) continue;
    keep[i] = true;
    if (fits()) continue;
    keep[i] = false;
    ++out.dropped;
  }
  out.request.context = text();
  return out;
}

struct Agreement {
  double precision = 0, spearman = 0, top1 = 0, top3 = 0, cost = 0, speed = 0, seconds = 0;
  int examples = 0;
};

struct Contender {
  std::string name;
  bool proxy = false;
  AttributeRequest settings{};  // method, tricks, samples
  Agreement sum{};
};

std::vector<Contender> contenders(bool proxy, int keep) {
  std::vector<Contender> out;
  const auto add = [&](const std::string& name, const std::string& method, const std::string& tricks, bool withProxy) {
    Contender one{name, withProxy};
    one.settings.method = method;
    one.settings.attribot = take(parseTricks(tricks));
    one.settings.attribot.keepParagraphs = std::max(1, keep);
    one.settings.attribot.keepSources = std::max(1, keep);
    out.push_back(std::move(one));
  };
  add("prefix reuse", "attribot", "reuse", false);
  add("hierarchy", "attribot", "hierarchy", false);
  add("hierarchy + reuse", "attribot", "reuse,hierarchy", false);
  if (proxy) {
    add("proxy", "attribot", "reuse,replace", true);
    add("proxy + hierarchy", "attribot", "reuse,hierarchy,replace", true);
    add("proxy prunes", "attribot", "reuse,prune", true);
    add("proxy prunes + hierarchy", "attribot", "reuse,hierarchy,prune", true);
  }
  add("contextcite", "contextcite", "reuse", false);
  add("attention", "attention", "reuse", false);
  add("rollout", "rollout", "reuse", false);
  return out;
}

void compare(Agreement& to, const AttributeResult& exact, const AttributeResult& other) {
  const std::vector<double> truth = scoresOf(exact.sources), scores = scoresOf(other.sources);
  to.precision += averagePrecision(outliers(truth), scores);
  to.spearman += spearman(truth, scores);
  to.top1 += topOverlap(truth, scores, 1);
  to.top3 += topOverlap(truth, scores, 3);
  to.cost += exact.parameterTokens / other.parameterTokens;
  to.speed += exact.ms / other.ms;
  to.seconds += other.ms / 1000;
  ++to.examples;
}

int quality(const std::string& path, const std::string& file, int most, const std::string& proxyPath, int keep) {
  Opened model = open(path);
  std::optional<Opened> small;
  std::optional<ProxyModel> proxy;
  if (!proxyPath.empty()) {
    small = open(proxyPath, model.session->context());
    proxy.emplace(ProxyModel{*small->session, small->tokenizer()});
  }
  std::ifstream in(file);
  if (!in) stop(file + " can't be opened.");
  std::vector<Contender> all = contenders(proxy.has_value(), keep);
  int examples = 0, skipped = 0, dropped = 0, sources = 0;
  double exactSeconds = 0;
  for (std::string line; examples < most && std::getline(in, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_discarded()) stop(file + ", line " + std::to_string(examples + skipped + 1) + ": no JSON.");
    Example example;
    if (json.contains("contexts")) {
      example = hotpot(json, model, model.session->context() - 24);
      example.request.responseTokens = 16;
    } else {
      example.request.context = json.at("context").get<std::string>();
      example.request.question = json.at("question").get<std::string>();
      if (json.contains("response")) example.request.response = json.at("response").get<std::string>();
    }
    if (!example.usable || splitSources(example.request.context, SourceUnit::sentence).size() < 2) {
      ++skipped;
      continue;
    }
    if (!example.request.response) {  // every method is asked about the same text
      example.request.method = "attention";
      example.request.response = take(attribute(*model.session, model.tokenizer(), example.request, {})).response;
    }
    example.request.method = "loo";
    const auto exact = take(attribute(*model.session, model.tokenizer(), example.request, {}));
    ++examples;
    dropped += example.dropped;
    sources += static_cast<int>(exact.sources.size());
    exactSeconds += exact.ms / 1000;
    for (Contender& one : all) {
      AttributeRequest request = example.request;
      request.method = one.settings.method;
      request.attribot = one.settings.attribot;
      compare(one.sum, exact, take(attribute(*model.session, model.tokenizer(), request, {}, {}, one.proxy ? &*proxy : nullptr)));
    }
  }
  if (examples == 0) stop("no example fits the model's context.");
  const auto n = static_cast<double>(examples);
  std::printf("%d examples (%d skipped: they don't fit), %.1f sources each, %d paragraphs dropped; exact leave-one-out %.2f s each\n\n", examples, skipped,
              sources / n, dropped, exactSeconds / n);
  std::printf("| method | mAP | Spearman | top 1 | top 3 | parameter-tokens saved | time saved |\n|---|---|---|---|---|---|---|\n");
  for (const Contender& one : all)
    std::printf("| %s | %.3f | %.3f | %.2f | %.2f | %.1f x | %.1f x |\n", one.name.c_str(), one.sum.precision / n, one.sum.spearman / n, one.sum.top1 / n, one.sum.top3 / n,
                one.sum.cost / n, one.sum.speed / n);
  return 0;
}

}  // namespace

int main(int count, char** words) {
  const std::vector<std::string> arguments(words + 1, words + count);
  const auto option = [&](const std::string& name, const std::string& fallback) {
    for (size_t i = 0; i + 1 < arguments.size(); ++i)
      if (arguments[i] == name) return arguments[i + 1];
    return fallback;
  };
  const auto at = [&](size_t i, int fallback) { return arguments.size() > i ? std::atoi(arguments[i].c_str()) : fallback; };
  if (arguments.size() >= 2 && arguments[0] == "speed") return speed(arguments[1], at(2, 40), at(3, 5));
  if (arguments.size() >= 3 && arguments[0] == "quality")
    return quality(arguments[1], arguments[2], std::atoi(option("--examples", "20").c_str()), option("--proxy", ""), std::atoi(option("--keep", "3").c_str()));
  stop("use: speed MODEL [SOURCES] [ROUNDS], or quality MODEL FILE.jsonl [--examples N] [--proxy MODEL] [--keep K]");
}
