// SPDX-License-Identifier: GPL-3.0-or-later
// Choices of the method knobs come from the registries: a new method appears here, in the panel, the CLI and sweeps by itself.
#include "engine/knobs/declarations.h"

#include <algorithm>

#include "engine/cache/registry.h"
#include "engine/prune/method.h"
#include "engine/quantize/method.h"
#include "engine/share/registry.h"

namespace winnow {
namespace {

template <class Methods>
std::vector<std::string> names(std::string first, const Methods& methods) {
  std::vector<std::string> out{std::move(first)};
  for (const auto& method : methods)
    if (method.name != out.front()) out.push_back(method.name);
  return out;
}

template <class Methods>
std::string papers(const Methods& methods) {
  std::string out;
  for (const auto& method : methods)
    if (!method.paper.empty()) out += (out.empty() ? "" : "; ") + method.name + ": " + method.paper;
  return out;
}

Knob enumeration(std::string name, std::string title, std::string group, std::vector<std::string> choices, Apply apply) {
  Knob knob;
  knob.name = std::move(name);
  knob.title = std::move(title);
  knob.group = std::move(group);
  knob.type = KnobType::enumeration;
  knob.defaultValue = choices.front();
  knob.choices = std::move(choices);
  knob.apply = apply;
  return knob;
}

Knob integer(std::string name, std::string title, std::string group, int64_t value, double minimum, double maximum, Apply apply) {
  Knob knob;
  knob.name = std::move(name);
  knob.title = std::move(title);
  knob.group = std::move(group);
  knob.type = KnobType::integer;
  knob.defaultValue = value;
  knob.minimum = minimum;
  knob.maximum = maximum;
  knob.apply = apply;
  return knob;
}

Knob text(std::string name, std::string title, std::string group, KnobType type, std::string value, Apply apply) {
  Knob knob;
  knob.name = std::move(name);
  knob.title = std::move(title);
  knob.group = std::move(group);
  knob.type = type;
  knob.defaultValue = std::move(value);
  knob.apply = apply;
  return knob;
}

bool quantizes(const Config& config) { return config.text("weights.method") != "none" || config.integer("weights.bits") < 16; }
bool evicts(const Config& config) { return config.text("kv.policy") != "full" || config.real("kv.budget") != 1.0; }
bool shares(const Config& config) { return config.text("share.method") != "none" || config.integer("share.block") > 1; }

}  // namespace

std::vector<Knob> weightKnobs() {
  const std::string group = "Weights";
  std::vector<Knob> knobs;
  Knob bits = integer("weights.bits", "Bits per weight", group, 16, 2, 16, Apply::prepareWeights);
  bits.choices = {"16", "8", "6", "5", "4", "3", "2"};
  bits.unit = "bit";
  bits.help = "Integer width of the matrices, packed in memory. 16 keeps the file's own type. Fewer bits alone means round-to-nearest.";
  knobs.push_back(bits);

  Knob method = enumeration("weights.method", "Quantization", group, names("none", quantizeMethods()), Apply::prepareWeights);
  method.help = "How weights are rounded to fewer bits.";
  method.paper = papers(quantizeMethods());
  knobs.push_back(method);

  Knob size = enumeration("weights.group", "Group", group, {"32", "64", "128", "row"}, Apply::prepareWeights);
  size.unit = "weights";
  size.help = "Consecutive weights of a row that share one scale. Smaller groups are more exact and cost more scale bytes.";
  size.enabledIf = "weights.bits is below 16";
  size.enabled = quantizes;
  knobs.push_back(size);

  Knob symmetric = enumeration("weights.symmetric", "Symmetric", group, {"auto", "true", "false"}, Apply::prepareWeights);
  symmetric.help = "Symmetric codes around zero, or a minimum per group. auto: asymmetric at 3 bits and below, where it is far better.";
  symmetric.enabledIf = "weights.bits is below 16";
  symmetric.enabled = quantizes;
  knobs.push_back(symmetric);

  Knob tensors = text("weights.tensors", "Tensors", group, KnobType::text, "all", Apply::prepareWeights);
  tensors.help = "Which matrices are quantized: all, or a comma list of embedding, q, k, v, o, gate, up, down, head.";
  tensors.enabledIf = "weights.bits is below 16";
  tensors.enabled = quantizes;
  knobs.push_back(tensors);
  return knobs;
}

std::vector<Knob> pruneKnobs() {
  const std::string group = "Pruning";
  std::vector<Knob> knobs;
  Knob ratio = text("prune.ratio", "Ratio", group, KnobType::real, "", Apply::prepareWeights);
  ratio.defaultValue = 0.0;
  ratio.maximum = 0.95;
  ratio.step = 0.05;
  ratio.help = "Share of the weights of each linear layer set to zero. Zeros are stored like other weights: quality changes, memory and "
               "speed do not.";
  knobs.push_back(ratio);

  Knob method = enumeration("prune.method", "Pruning", group, names("none", pruneMethods()), Apply::prepareWeights);
  method.help = "Which weights go. Wanda measures the inputs of each layer on the calibration text first.";
  method.paper = papers(pruneMethods());
  knobs.push_back(method);

  Knob calibration = text("calibration.text", "Calibration text", "Calibration", KnobType::path, "", Apply::prepareWeights);
  calibration.help = "Text file the statistics are measured on; empty takes the sample that comes with Winnow. Never use the evaluation text.";
  calibration.enabledIf = "prune.method needs calibration";
  calibration.enabled = [](const Config& config) {
    const PruneMethod* chosen = findPruneMethod(config.text("prune.method"));
    return chosen && chosen->needsCalibration;
  };
  Knob tokens = integer("calibration.tokens", "Calibration tokens", "Calibration", 4096, 256, 262144, Apply::prepareWeights);
  tokens.unit = "tokens";
  tokens.logarithmic = true;
  tokens.help = "How much of the calibration text is read.";
  tokens.enabledIf = calibration.enabledIf;
  tokens.enabled = calibration.enabled;
  knobs.push_back(calibration);
  knobs.push_back(tokens);
  return knobs;
}

std::vector<Knob> cacheKnobs() {
  const std::string group = "KV cache";
  std::vector<Knob> knobs;
  Knob policy = enumeration("kv.policy", "Eviction", group, names("full", kvPolicies()), Apply::rebuildCache);
  policy.help = "Which cached tokens stay when the budget is reached.";
  policy.paper = papers(kvPolicies());
  knobs.push_back(policy);

  Knob budget = text("kv.budget", "Budget", group, KnobType::real, "", Apply::rebuildCache);
  budget.defaultValue = 1.0;
  budget.minimum = 0.01;
  budget.maximum = 1048576;
  budget.step = 0.05;
  budget.logarithmic = true;
  budget.help = "Tokens each head keeps: up to 1 a share of the tokens so far, from 2 on a number of tokens. Alone it means streaming.";
  knobs.push_back(budget);

  Knob sinks = integer("kv.sinks", "Sinks", group, 4, 0, 256, Apply::rebuildCache);
  sinks.unit = "tokens";
  sinks.help = "First tokens that always stay: attention parks its surplus there.";
  sinks.enabledIf = "the policy keeps sinks (window, streaming)";
  sinks.enabled = [](const Config& config) {
    for (const KvPolicyInfo& info : kvPolicies())
      if (info.name == config.text("kv.policy")) return info.usesSinks;
    return false;
  };
  knobs.push_back(sinks);

  Knob allocation = enumeration("kv.allocation", "Dealt", group, {"auto", "even", "pyramid", "adaptive"}, Apply::rebuildCache);
  allocation.help = "How the budget is dealt. even: every head keeps as much. pyramid: early layers more than late ones. adaptive: the heads of a "
                    "layer share its budget by comparing scores. auto: as the policy's paper does.";
  allocation.paper = "PyramidKV, arXiv 2406.02069; Ada-KV, arXiv 2407.11550";
  allocation.enabledIf = "kv.policy is not full";
  allocation.enabled = evicts;
  knobs.push_back(allocation);

  Knob seed = integer("kv.seed", "Seed", group, 0, 0, 1000000, Apply::rebuildCache);
  seed.help = "Of the random policy: another seed, another choice. Its chart is the mean of several.";
  seed.enabledIf = "kv.policy is random";
  seed.enabled = [](const Config& config) {
    return std::ranges::any_of(kvPolicies(), [&](const KvPolicyInfo& info) { return info.draws && info.name == config.text("kv.policy"); });
  };
  knobs.push_back(seed);

  Knob interval = integer("kv.interval", "Interval", group, 16, 1, 1024, Apply::nextToken);
  interval.unit = "tokens";
  interval.logarithmic = true;
  interval.help = "Tokens between two evictions. 1 evicts at every token, as most papers do; more costs less time and a little memory.";
  interval.enabledIf = "kv.policy is not full";
  interval.enabled = evicts;
  knobs.push_back(interval);
  return knobs;
}

std::vector<Knob> sharingKnobs() {
  const std::string group = "Attention sharing";
  std::vector<Knob> knobs;
  Knob block = integer("share.block", "Block size", group, 1, 1, 16, Apply::rebuildCache);
  block.unit = "layers";
  block.help = "Consecutive layers that use the attention of the first of them; the others own no keys and project no queries. 1 shares nothing.";
  knobs.push_back(block);

  Knob method = enumeration("share.method", "Sharing", group, names("none", shareMethods()), Apply::rebuildCache);
  method.help = "How layers share attention.";
  method.paper = papers(shareMethods());
  knobs.push_back(method);

  Knob first = integer("share.first", "First layers left alone", group, -1, -1, 1024, Apply::rebuildCache);
  first.unit = "layers";
  first.help = "Their attention is distinctive. -1 takes max(2, layers / 8).";
  first.enabledIf = "share.block is above 1";
  first.enabled = shares;
  knobs.push_back(first);

  Knob last = integer("share.last", "Last layers left alone", group, -1, -1, 1024, Apply::rebuildCache);
  last.unit = "layers";
  last.help = "-1 takes max(1, layers / 16).";
  last.enabledIf = "share.block is above 1";
  last.enabled = shares;
  knobs.push_back(last);
  return knobs;
}

std::vector<Knob> computeKnobs() {
  Knob activations = enumeration("compute.activations", "Activations", "Compute", {"auto", "f32", "16bit", "int8"}, Apply::nextToken);
  activations.help = "What matrix products see of activations. auto: f32 with f32 weights, bf16 with bf16, else f16. int8 (per 32 values) is "
                     "fastest on quantized weights and is what llama.cpp does there; it adds its own error.";
  return {activations};
}

}  // namespace winnow
