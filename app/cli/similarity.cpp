// SPDX-License-Identifier: GPL-3.0-or-later
// Which layers attend alike, and what share.spans could be.
#include <QJsonArray>
#include <cstdio>

#include "app/cli/command.h"
#include "engine/share/methods.h"
#include "experiments/similarity.h"

namespace winnow::cli {
namespace {

struct Asked {
  SimilaritySpec spec;
  int most = 0, first = 0, last = 0;
  double threshold = 0;
  SimilarityOf of = SimilarityOf::rows;
};

Result<Asked> read(const Invocation& invocation, int layers) {
  const Arguments& arguments = invocation.arguments();
  Asked asked;
  const auto context = arguments.integer("--context", 0, 4, 1 << 16), tokens = arguments.integer("--tokens", 2048, 4, 1 << 24),
             most = arguments.integer("--most", 4, 2, 1024), first = arguments.integer("--first", firstLayersAlone(layers), 0, 1024),
             last = arguments.integer("--last", lastLayersAlone(layers), 0, 1024);
  const auto threshold = arguments.real("--threshold", 0.95, -1, 1);
  for (const auto* number : {&context, &tokens, &most, &first, &last})
    if (!*number) return number->error();
  if (!threshold) return threshold.error();
  const std::string of = arguments.text("--of", similarityName(SimilarityOf::rows));
  while (asked.of != SimilarityOf::count && of != similarityName(asked.of))
    asked.of = static_cast<SimilarityOf>(static_cast<int>(asked.of) + 1);
  if (asked.of == SimilarityOf::count)
    return Error{ErrorCode::usage, "--of " + of + ": expected rows, no-sink, windows or head-mean.", ""};
  auto text = readText(arguments.text("--text"));
  if (!text) return text.error();
  asked.spec = {std::move(*text), static_cast<int>(*context), static_cast<int>(*tokens)};
  asked.most = static_cast<int>(*most);
  asked.first = static_cast<int>(*first);
  asked.last = static_cast<int>(*last);
  asked.threshold = *threshold;
  return asked;
}

QJsonObject jsonOf(const SimilarityMap& map) {
  QJsonObject maps;
  for (int of = 0; of < static_cast<int>(SimilarityOf::count); ++of) {
    QJsonArray rows;
    for (int a = 0; a < map.layers; ++a) {
      QJsonArray row;
      for (int b = 0; b < map.layers; ++b) row.append(map.at(static_cast<SimilarityOf>(of), a, b));
      rows.append(row);
    }
    maps[QString::fromLatin1(similarityName(static_cast<SimilarityOf>(of)))] = rows;
  }
  return maps;
}

void print(const SimilarityMap& map, const Asked& asked, const std::string& spans) {
  std::vector<std::vector<std::string>> rows{{"Layer"}};
  for (int b = 0; b < map.layers; ++b) rows[0].push_back(std::to_string(b));
  for (int a = 0; a < map.layers; ++a) {
    rows.push_back({std::to_string(a)});
    for (int b = 0; b <= a; ++b) rows.back().push_back(fixed(map.at(asked.of, a, b), 2));
  }
  printTable(rows, true);
  std::printf("%lld tokens; cosine of %s\n", static_cast<long long>(map.tokens), similarityName(asked.of));
  if (spans.empty()) std::printf("No span of layers is alike to %s or more.\n", fixed(asked.threshold, 2).c_str());
  else std::printf("Alike to %s or more: --set \"share.spans=%s\"\n", fixed(asked.threshold, 2).c_str(), spans.c_str());
}

}  // namespace

int runSimilarity(const Invocation& invocation) {
  if (!invocation.arguments().has("--text")) return invocation.fail({ErrorCode::usage, "similarity needs --text FILE.", ""});
  const auto engine = invocation.openEngine(invocation.arguments().positional()[0]);
  if (!engine) return invocation.fail(engine.error());
  const auto asked = read(invocation, (*engine)->model().config().layers);
  if (!asked) return invocation.fail(asked.error());
  const auto effective = invocation.resolved(**engine);
  if (!effective) return invocation.fail(effective.error());
  const auto map = similarityRun(**engine, effective->requested, asked->spec, invocation.progress());
  if (!map) return invocation.fail(map.error());
  const std::string spans = spansText(similarSpans(*map, asked->of, asked->first, asked->last, asked->threshold, asked->most));
  if (invocation.json())
    return invocation.print({{"layers", map->layers}, {"tokens", static_cast<qint64>(map->tokens)}, {"similarity", jsonOf(*map)},
                             {"of", text(similarityName(asked->of))}, {"threshold", asked->threshold}, {"spans", text(spans)}});
  print(*map, *asked, spans);
  return 0;
}

}  // namespace winnow::cli
