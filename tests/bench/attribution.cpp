// SPDX-License-Identifier: GPL-3.0-or-later
// Attribution measured: how much sooner prefix reuse is done than plain leave-one-out with the same scores, and how well every method
// agrees with exact leave-one-out at which cost.
//   bench_attribution speed MODEL [SOURCES] [ROUNDS]
//   bench_attribution quality MODEL FILE.jsonl [--examples N] [--proxy MODEL] [--keep K,..] [--table]
// --table prints the rows of engine/attribute/measured_agreement.cpp.
// A line of the file is {context, question, response?}, the context a text or a list of passages, or one of HotpotQA's {question_text, contexts: [{paragraph_text, is_supporting}]}:
// there both supporting paragraphs stay and as many others, in order, as fit the model's context.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "engine/attribute/agreement.h"
#include "engine/attribute/attribute.h"
#include "engine/text/tokenizer.h"
#include "tests/bench/bench.h"

namespace {

using namespace winnow;
using namespace winnow::bench;

struct Opened {
  std::shared_ptr<Engine> engine;
  std::unique_ptr<Session> session;
  const Tokenizer& tokenizer() const { return *engine->tokenizer(); }
};

// context: tokens, 0 = the model's own. A proxy gets the target's, also where it was trained on less.
Opened open(const std::string& path, int context = 0) {
  Opened out;
  out.engine = need(Engine::create(need(Model::open(path)), EngineOptions{}));
  if (!out.engine->tokenizer()) stop(path + " holds no tokenizer.");
  out.session = need(out.engine->createSession(Config(), {.context = context}, Progress{}));
  return out;
}

std::vector<int> numbers(const std::string& words) {
  std::vector<int> out;
  std::istringstream in(words);
  for (std::string one; std::getline(in, one, ',');) out.push_back(std::max(1, std::atoi(one.c_str())));
  return out;
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
  struct Way {
    const char* name;
    const char* method;
    bool together;
    std::vector<double> ratios{}, cpuRatios{};
  };
  std::vector<Way> ways = {{"plain", "loo", false}, {"reuse", "attribot", false}, {"reuse, branches together", "attribot", true}};
  double largest = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<AttributeResult> results(ways.size());
    std::vector<double> cpu(ways.size());
    for (size_t i = 0; i < ways.size(); ++i) {
      const size_t way = round % 2 == 0 ? i : ways.size() - 1 - i;
      request.method = ways[way].method;
      request.together = ways[way].together;
      const std::clock_t began = std::clock();
      results[way] = need(attribute(*model.session, model.tokenizer(), request, {}));
      cpu[way] = 1000.0 * static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC * results[way].ms / (results[way].ms + results[way].noiseMs);
    }
    std::printf("round %d:", round + 1);
    for (size_t way = 0; way < ways.size(); ++way) {
      const AttributeResult& one = results[way];
      ways[way].ratios.push_back(results[0].ms / one.ms);
      ways[way].cpuRatios.push_back(cpu[0] / cpu[way]);
      for (size_t i = 0; i < one.sources.size(); ++i) largest = std::max(largest, std::fabs(*one.sources[i].score - *results[0].sources[i].score));
      std::printf("%s %s %.0f ms (CPU %.0f), %lld tokens", way > 0 ? ";" : "", ways[way].name, one.ms, cpu[way], static_cast<long long>(one.forwardTokens));
    }
    std::printf("\n");
    std::fflush(stdout);
  }
  const auto count = [&](const std::string& text) { return model.tokenizer().encode(text, false).size(); };
  std::printf("%d sources, context %zu tokens, question and answer %zu; largest difference of a score %.2g nats; medians:\n", sources, count(request.context),
              count(request.question + *request.response), largest);
  for (const Way& way : ways) std::printf("  %s: %.2f x in time, %.2f x in CPU time\n", way.name, median(way.ratios), median(way.cpuRatios));
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

// A text, or passages with a blank line between two.
std::string textOf(const nlohmann::json& context) {
  if (context.is_string()) return context.get<std::string>();
  std::string joined;
  for (const auto& passage : context) joined += (joined.empty() ? "" : "\n\n") + passage.at("text").get<std::string>();
  return joined;
}

struct Agreement {
  double spearman = 0, top1 = 0, top3 = 0, cost = 0, speed = 0;
  std::vector<double> precision{};  // [examples]
  double mean() const { return std::accumulate(precision.begin(), precision.end(), 0.0) / static_cast<double>(precision.size()); }
  double error() const {
    double squares = 0;
    for (const double value : precision) squares += (value - mean()) * (value - mean());
    const auto n = static_cast<double>(precision.size());
    return n > 1 ? std::sqrt(squares / (n - 1) / n) : 0;
  }
};

struct Contender {
  std::string name;
  bool proxy = false;
  AttributeRequest settings{};  // method, tricks, samples
  std::string tricks{};
  int paragraphs = 0, kept = 0;
  Agreement sum{};
};

std::vector<Contender> contenders(bool proxy, const std::vector<int>& keeps) {
  std::vector<Contender> out;
  const auto add = [&](const std::string& name, const std::string& method, const std::string& tricks, bool withProxy, int paragraphs = 0, int kept = 0, int samples = 0) {
    Contender one{name, withProxy};
    one.settings.method = method;
    one.settings.samples = samples;
    one.settings.attribot = need(parseTricks(tricks));
    one.settings.attribot.keepParagraphs = std::max(1, paragraphs);
    one.settings.attribot.keepSources = std::max(1, kept);
    one.paragraphs = paragraphs;
    one.kept = kept;
    one.tricks = method == "attribot" ? tricks : "";
    out.push_back(std::move(one));
  };
  add("prefix reuse", "attribot", "reuse", false);
  for (const int keep : keeps) add("hierarchy, " + std::to_string(keep) + " paragraphs", "attribot", "reuse,hierarchy", false, keep);
  if (proxy) {
    add("proxy in the target's place", "attribot", "reuse,replace", true);
    for (const int keep : keeps) {
      const std::string kept = std::to_string(keep);
      add("proxy in its place, hierarchy, " + kept + " paragraphs", "attribot", "reuse,hierarchy,replace", true, keep);
      add("proxy prunes to " + kept, "attribot", "reuse,prune", true, 0, keep);
      add("proxy prunes to " + kept + ", hierarchy, 3 paragraphs", "attribot", "reuse,hierarchy,prune", true, 3, keep);
    }
  }
  for (const int masks : {16, 64}) add("ContextCite, " + std::to_string(masks) + " masks", "contextcite", "reuse", false, 0, 0, masks);
  add("attention, summed", "attention", "reuse", false);
  add("attention rollout", "rollout", "reuse", false);
  return out;
}

void compare(Agreement& to, const AttributeResult& exact, const AttributeResult& other) {
  const std::vector<double> truth = scoresOf(exact.sources), scores = scoresOf(other.sources);
  to.precision.push_back(averagePrecision(outliers(truth), scores));
  to.spearman += spearman(truth, scores);
  to.top1 += topOverlap(truth, scores, 1);
  to.top3 += topOverlap(truth, scores, 3);
  to.cost += exact.parameterTokens / other.parameterTokens;
  to.speed += exact.ms / other.ms;
}

int quality(const std::string& path, const std::string& file, int most, const std::string& proxyPath, const std::vector<int>& keeps, bool table) {
  Opened model = open(path);
  std::optional<Opened> small;
  std::optional<ProxyModel> proxy;
  if (!proxyPath.empty()) {
    small = open(proxyPath, model.session->context());
    proxy.emplace(ProxyModel{*small->session, small->tokenizer()});
  }
  std::ifstream in(file);
  if (!in) stop(file + " can't be opened.");
  std::vector<Contender> all = contenders(proxy.has_value(), keeps);
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
      example.request.context = textOf(json.at("context"));
      example.request.question = json.at("question").get<std::string>();
      if (json.contains("response")) example.request.response = json.at("response").get<std::string>();
    }
    if (!example.usable || splitSources(example.request.context, SourceUnit::sentence).size() < 2) {
      ++skipped;
      continue;
    }
    if (!example.request.response) {  // every method is asked about the same text
      example.request.method = "attention";
      example.request.response = need(attribute(*model.session, model.tokenizer(), example.request, {})).response;
    }
    example.request.method = "loo";
    const auto exact = need(attribute(*model.session, model.tokenizer(), example.request, {}));
    ++examples;
    dropped += example.dropped;
    sources += static_cast<int>(exact.sources.size());
    exactSeconds += exact.ms / 1000;
    for (Contender& one : all) {
      AttributeRequest request = example.request;
      request.method = one.settings.method;
      request.samples = one.settings.samples;
      request.attribot = one.settings.attribot;
      compare(one.sum, exact, need(attribute(*model.session, model.tokenizer(), request, {}, {}, one.proxy ? &*proxy : nullptr)));
    }
  }
  if (examples == 0) stop("no example fits the model's context.");
  const auto n = static_cast<double>(examples);
  std::printf("%d examples (%d skipped: they don't fit), %.1f sources each, %d paragraphs dropped; exact leave-one-out %.2f s each\n\n", examples, skipped,
              sources / n, dropped, exactSeconds / n);
  std::printf("| method | mAP | Spearman | top 1 | top 3 | parameter-tokens saved | time saved |\n|---|---|---|---|---|---|---|\n");
  for (const Contender& one : all)
    std::printf("| %s | %.3f ± %.3f | %.3f | %.2f | %.2f | %.1f x | %.1f x |\n", one.name.c_str(), one.sum.mean(), one.sum.error(), one.sum.spearman / n, one.sum.top1 / n,
                one.sum.top3 / n, one.sum.cost / n, one.sum.speed / n);
  if (!table) return 0;
  std::printf("\n");
  for (const Contender& one : all)
    std::printf("      {\"%s\", \"%s\", %s, %d, %d, %d, %.3f, %.3f, %.3f},\n", one.settings.method.c_str(), one.tricks.c_str(), one.proxy ? "true" : "false", one.paragraphs, one.kept,
                one.settings.samples, one.sum.mean(), one.sum.error(), one.sum.spearman / n);
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
    return quality(arguments[1], arguments[2], std::atoi(option("--examples", "20").c_str()), option("--proxy", ""), numbers(option("--keep", "3")),
                   std::ranges::find(arguments, "--table") != arguments.end());
  stop("use: speed MODEL [SOURCES] [ROUNDS], or quality MODEL FILE.jsonl [--examples N] [--proxy MODEL] [--keep K]");
}
