// SPDX-License-Identifier: GPL-3.0-or-later
// How much of the attention over a text falls on what a cache setting keeps.
#include <QJsonArray>
#include <cstdio>

#include "app/cli/command.h"
#include "experiments/kept_mass.h"

namespace winnow::cli {
namespace {

QJsonArray jsonOf(const KeptMass& kept) {
  QJsonArray layers;
  for (int layer = 0; layer < kept.layers; ++layer) {
    if (!kept.attends[static_cast<size_t>(layer)]) continue;
    QJsonArray heads;
    for (int head = 0; head < kept.heads; ++head) heads.append(kept.at(layer, head).mass);
    const KeptMass::Head mean = kept.mean(layer);
    layers.append(QJsonObject{{"layer", layer}, {"mass", mean.mass}, {"held", mean.held}, {"heads", heads}});
  }
  return layers;
}

void print(const KeptMass& kept) {
  std::vector<std::vector<std::string>> rows{{"Layer", "Attention kept", "Least head", "Positions held"}};
  for (int layer = 0; layer < kept.layers; ++layer) {
    if (!kept.attends[static_cast<size_t>(layer)]) continue;
    const KeptMass::Head mean = kept.mean(layer);
    const int least = kept.least(layer);
    rows.push_back({std::to_string(layer), fixed(100 * mean.mass, 2) + " %", fixed(100 * kept.at(layer, least).mass, 2) + " % (" + std::to_string(least) + ")", fixed(100 * mean.held, 1) + " %"});
  }
  printTable(rows, true);
  const KeptMass::Head all = kept.mean();
  std::printf("All layers: %s %% of the whole cache's attention kept, %s %% of positions held; %lld queries after a prompt of %lld tokens\n", fixed(100 * all.mass, 2).c_str(),
              fixed(100 * all.held, 1).c_str(), static_cast<long long>(kept.queries), static_cast<long long>(kept.prompt));
}

}  // namespace

int runKept(const Invocation& invocation) {
  const Arguments& arguments = invocation.arguments();
  if (!arguments.has("--text")) return invocation.fail({ErrorCode::usage, "kept needs --text FILE.", ""});
  const auto tokens = arguments.integer("--tokens", 512, 2, 1 << 20), prompt = arguments.integer("--prompt", 0, 0, 1 << 20);
  for (const auto* number : {&tokens, &prompt})
    if (!*number) return invocation.fail(number->error());
  auto text = readText(arguments.text("--text"));
  if (!text) return invocation.fail(text.error());
  const auto engine = invocation.openEngine(arguments.positional()[0]);
  if (!engine) return invocation.fail(engine.error());
  const auto effective = invocation.resolved(**engine);
  if (!effective) return invocation.fail(effective.error());
  const auto kept = keptMassRun(**engine, effective->requested, {std::move(*text), static_cast<int>(*tokens), static_cast<int>(*prompt)}, invocation.progress());
  if (!kept) return invocation.fail(kept.error());
  const KeptMass::Head all = kept->mean();
  if (invocation.json())
    return invocation.print({{"prompt", static_cast<qint64>(kept->prompt)}, {"queries", static_cast<qint64>(kept->queries)}, {"mass", all.mass}, {"held", all.held}, {"layers", jsonOf(*kept)}});
  print(*kept);
  return 0;
}

}  // namespace winnow::cli
