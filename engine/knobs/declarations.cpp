// SPDX-License-Identifier: GPL-3.0-or-later
// Choices of the method knobs come from the registries: a new method appears here, in the panel, the CLI and sweeps by itself.
#include "engine/knobs/declarations.h"

#include <algorithm>

#include "engine/cache/allocation.h"
#include "engine/cache/kv_format.h"
#include "engine/cache/registry.h"
#include "engine/prune/layer_drop.h"
#include "engine/prune/method.h"
#include "engine/quantize/code_format.h"
#include "engine/quantize/method.h"
#include "engine/recover/method.h"
#include "engine/share/registry.h"
#include "engine/share/spans.h"
#include "engine/weights/layer_rules.h"

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

Knob boolean(std::string name, std::string title, const std::string& group, bool value) {
  Knob knob = text(std::move(name), std::move(title), group, KnobType::boolean, "", Apply::prepareWeights);
  knob.defaultValue = value;
  return knob;
}

bool prunes(const Config& config) {
  return config.text("prune.method") != "none" || config.real("prune.ratio") > 0 || !config.text("prune.ratios").empty() || config.text("prune.pattern") != "unstructured";
}
InputNeeds pruneNeeds(const Config& config) {
  const PruneMethod* chosen = findPruneMethod(config.text("prune.method"));
  const RecoveryMethod* recovery = prunes(config) ? findRecoveryMethod(config.text("prune.recovery")) : nullptr;
  return (chosen ? chosen->needs : InputNeeds{}) | (recovery ? recovery->needs : InputNeeds{});
}
InputNeeds methodNeeds(const Config& config) {
  const QuantizeMethod* chosen = findQuantizeMethod(config.text("weights.method"));
  return chosen ? chosen->needs : InputNeeds{};
}
bool quantizes(const Config& config) {
  return config.text("weights.method") != "none" || config.integer("weights.bits") < 16 || !config.text("weights.layers").empty() ||
         config.text("weights.format") != "integer";
}
const char* const kQuantizes = "weights.bits is below 16, or weights.format or weights.layers is given";
Knob layerRules(std::string name, std::string title, std::string group, RuleValue kind) {
  Knob knob = text(std::move(name), std::move(title), std::move(group), KnobType::text, "", Apply::prepareWeights);
  knob.malformed = [kind](const std::string& value) -> std::optional<std::string> {
    const auto rules = parseLayerRules(value, kind);
    return rules ? std::nullopt : std::optional(rules.error().message);
  };
  knob.refuses = [kind](const ModelConfig& model, const KnobValue& value) -> std::optional<std::string> {
    const auto rules = parseLayerRules(std::get<std::string>(value), kind);
    return rules ? outOfModel(*rules, model.layers) : rules.error().message;
  };
  return knob;
}

bool policyHas(const Config& config, bool KvPolicyInfo::*trait) {
  return std::ranges::any_of(kvPolicies(), [&](const KvPolicyInfo& info) { return info.*trait && info.name == config.text("kv.policy"); });
}
std::string policiesWith(bool KvPolicyInfo::*trait) {  // "a, b or c"
  std::vector<std::string> names;
  for (const KvPolicyInfo& info : kvPolicies())
    if (info.*trait) names.push_back(info.name);
  std::string out;
  for (size_t i = 0; i < names.size(); ++i) out += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + names[i];
  return out;
}
bool evicts(const Config& config) { return config.text("kv.policy") != "full" || config.real("kv.budget") != 1.0; }
bool quantizesKeys(const Config& config) { return config.integer("kv.k_bits") < 16; }
bool sharesBlocks(const Config& config) {
  return config.text("share.method") == "echoatt" || (config.text("share.method") == "none" && config.integer("share.block") > 1);
}

}  // namespace

std::vector<Knob> weightKnobs() {
  const std::string group = "Weights";
  std::vector<Knob> knobs;
  Knob bits = integer("weights.bits", "Bits per weight", group, 16, 2, 16, Apply::prepareWeights);
  bits.choices = {"16", "8", "6", "5", "4", "3", "2"};
  bits.unit = "bit";
  bits.help = "Width of the matrices' codes, packed in memory. 16 keeps the file's own type. Fewer bits alone means round-to-nearest.";
  knobs.push_back(bits);

  Knob method = enumeration("weights.method", "Quantization", group, names("none", quantizeMethods()), Apply::prepareWeights);
  method.help = "How weights are rounded to fewer bits. Methods that measure the calibration text do so for the matrices of the blocks; embedding and "
                "head are rounded to nearest.";
  method.paper = papers(quantizeMethods());
  knobs.push_back(method);

  Knob format = enumeration("weights.format", "Codes", group, names("integer", codeFormats()), Apply::prepareWeights);
  format.help = "What codes stand for: evenly spaced integers, or values that lie closer together near zero. nf4 and mxfp4 have 4 bits, fp8-e4m3 and "
                "fp8-e5m2 have 8; one of them alone sets weights.bits and rounds to nearest. Matrices to which weights.layers gives another width get integers.";
  format.paper = papers(codeFormats());
  knobs.push_back(format);

  Knob size = enumeration("weights.group", "Group", group, {"auto", "32", "64", "128", "row"}, Apply::prepareWeights);
  size.unit = "weights";
  size.help = "Consecutive weights of a row that share one scale. Smaller groups are more exact and cost more scale bytes. auto: 32 for integers, 64 for "
              "nf4, the whole row for 8-bit floats; mxfp4 has 32 always.";
  size.enabledIf = kQuantizes;
  size.enabled = quantizes;
  knobs.push_back(size);

  Knob symmetric = enumeration("weights.symmetric", "Symmetric", group, {"auto", "true", "false"}, Apply::prepareWeights);
  symmetric.help = "Symmetric codes around zero, or a minimum per group. auto: asymmetric at 3 bits and below, where it is far better. Of codes that "
                   "are no integers none has a minimum.";
  symmetric.enabledIf = kQuantizes;
  symmetric.enabled = quantizes;
  knobs.push_back(symmetric);

  Knob tensors = text("weights.tensors", "Tensors", group, KnobType::text, "all", Apply::prepareWeights);
  tensors.help = "Which matrices are quantized: all, or a comma list of embedding, q, k, v, o, gate, up, down, head.";
  tensors.enabledIf = kQuantizes;
  tensors.enabled = quantizes;
  knobs.push_back(tensors);

  Knob layers = layerRules("weights.layers", "Bits per layer", group, RuleValue::bits);
  layers.help = "Bit widths of single layers and matrices before weights.bits, such as 0-3:8, 4-31:4, *.down:6. " + std::string(layerRuleHelp()) +
                " 16 keeps the file's own type; an entry without a matrix follows weights.tensors.";
  knobs.push_back(layers);
  Knob super = enumeration("weights.super", "Super weights", group, {"off", "keep", "zero"}, Apply::prepareWeights);
  super.help = "Single weights of down projections that the whole model relies on, found by a forward pass. keep: they stay exact at any width. zero: "
               "they are taken away, which shows what they do.";
  super.paper = "Yu et al. 2024 (arXiv 2411.07191), section 3";
  knobs.push_back(super);

  const auto compensates = [](const Config& config) { return methodNeeds(config).factor; };
  Knob order = boolean("weights.act_order", "Order by activity", group, true);
  order.help = "GPTQ rounds the columns of the most active inputs first, while most columns are left to make up for them. Implies static groups.";
  order.enabledIf = "weights.method is gptq";
  order.enabled = compensates;
  knobs.push_back(order);

  Knob grids = boolean("weights.static_groups", "Static groups", group, false);
  grids.help = "GPTQ fits the grid of a group to the original weights instead of those that earlier errors have changed.";
  grids.enabledIf = "weights.method is gptq and weights.act_order is off";
  grids.enabled = [compensates](const Config& config) { return compensates(config) && !config.boolean("weights.act_order"); };
  knobs.push_back(grids);

  Knob clip = boolean("weights.clip", "Clip", group, true);
  clip.help = "AWQ clips the largest weights of a group where a finer grid for the others is worth more.";
  clip.enabledIf = "weights.method is awq";
  clip.enabled = [](const Config& config) { return config.text("weights.method") == "awq"; };
  knobs.push_back(clip);
  return knobs;
}

namespace {

std::vector<Knob> layerKnobs() {
  const std::string group = "Pruning";
  Knob count = integer("prune.layers", "Layers dropped", group, 0, 0, 1024, Apply::prepareWeights);
  count.unit = "layers";
  count.help = "Layers, or parts of layers, that are left out: no time, no weights, no cache. Which ones is measured on the calibration text. Alone it "
               "means shortgpt. Bringing layers back needs the cache recomputed.";

  Knob method = enumeration("prune.layers_method", "Layers dropped by", group, names("none", layerDropMethods()), Apply::prepareWeights);
  method.help = "shortgpt: the layers that turn the residual stream least. contiguous: the run of layers that does. attention, ffn: only that part of "
                "the layers where it turns the stream least.";
  method.paper = papers(layerDropMethods());

  Knob protect = integer("prune.layers_protect", "Layers kept at the ends", group, -1, -1, 1024, Apply::prepareWeights);
  protect.unit = "layers";
  protect.help = "First and last layers that are never dropped. -1 takes min(2, layers / 4).";
  for (Knob* knob : {&method, &protect}) {
    knob->enabledIf = "prune.layers is above 0";
    knob->enabled = [](const Config& config) { return config.integer("prune.layers") > 0; };
  }
  return {count, method, protect};
}

}  // namespace

std::vector<Knob> pruneKnobs() {
  const std::string group = "Pruning";
  std::vector<Knob> knobs;
  Knob ratio = text("prune.ratio", "Ratio", group, KnobType::real, "", Apply::prepareWeights);
  ratio.defaultValue = 0.0;
  ratio.maximum = 0.95;
  ratio.step = 0.05;
  ratio.help = "Share of the weights of each linear layer set to zero. Zeros are stored like other weights: quality changes, memory and "
               "speed do not. Another ratio is taken from the prepared scores, without measuring again.";
  knobs.push_back(ratio);

  Knob method = enumeration("prune.method", "Pruning", group, names("none", pruneMethods()), Apply::prepareWeights);
  method.help = "Which weights go. Wanda and SparseGPT measure the inputs of each layer on the calibration text first; SparseGPT lets the weights that "
                "stay make up for those that go, and computes every ratio anew. Sparse-Dense-Sparse gives what was pruned weights again and prunes a second time.";
  method.paper = papers(pruneMethods());
  knobs.push_back(method);

  Knob ratios = layerRules("prune.ratios", "Ratio per layer", group, RuleValue::ratio);
  ratios.help = "Ratios of single layers and matrices before prune.ratio, such as 0-3:0.2, *.down:0.6. " + std::string(layerRuleHelp()) +
                " Embeddings and head are never pruned.";
  knobs.push_back(ratios);

  const std::span<const std::string> patterns = prunePatterns();
  Knob pattern = enumeration("prune.pattern", "Pattern", group, {patterns.begin(), patterns.end()}, Apply::prepareWeights);
  pattern.help = "unstructured: any weights of a row or matrix. 2:4 and 4:8: two of every four, four of every eight consecutive inputs, half of "
                 "all: what sparse tensor cores ask for. Alone it means magnitude.";
  knobs.push_back(pattern);

  Knob scope = enumeration("prune.scope", "Compared within", group, {"auto", "row", "matrix"}, Apply::prepareWeights);
  scope.help = "Which weights compete when none has to go from every few. auto is the method's own: magnitude within the matrix, Wanda within "
               "each row, which keeps every output alive.";
  scope.enabledIf = "prune.method is not none and the pattern is unstructured";
  scope.enabled = [](const Config& config) { return config.text("prune.pattern") == "unstructured" && (config.text("prune.method") != "none" || config.real("prune.ratio") > 0); };
  knobs.push_back(scope);

  Knob recovery = enumeration("prune.recovery", "Recovery", group, names("none", recoveryMethods()), Apply::prepareWeights);
  recovery.help = "What the weights that stay become, so that a layer makes of the calibration text what it made of it before: nothing to compute at run time. "
                  "scale: one factor per row. least-squares: every weight, exactly; slow above some thousand inputs. admm: nearly the same by steps that rows "
                  "share. calibration.damping holds the weights where pruning left them.";
  recovery.paper = papers(recoveryMethods());
  recovery.enabledIf = "prune.method is not none";
  recovery.enabled = prunes;
  knobs.push_back(recovery);

  for (Knob& knob : layerKnobs()) knobs.push_back(std::move(knob));

  Knob calibration = text("calibration.text", "Calibration text", "Calibration", KnobType::path, "", Apply::prepareWeights);
  calibration.help = "Text file the statistics are measured on; empty takes the sample that comes with Winnow. Never use the evaluation text.";
  calibration.enabledIf = "prune.method, prune.recovery or weights.method looks at the inputs of layers, or layers are dropped";
  calibration.enabled = [](const Config& config) { return config.integer("prune.layers") > 0 || pruneNeeds(config).any() || methodNeeds(config).any(); };
  Knob tokens = integer("calibration.tokens", "Calibration tokens", "Calibration", 4096, 256, 262144, Apply::prepareWeights);
  tokens.unit = "tokens";
  tokens.logarithmic = true;
  tokens.help = "How much of the calibration text is read.";
  tokens.enabledIf = calibration.enabledIf;
  tokens.enabled = calibration.enabled;
  Knob damping = text("calibration.damping", "Damping", "Calibration", KnobType::real, "", Apply::prepareWeights);
  damping.defaultValue = 0.01;
  damping.minimum = 0.0001;
  damping.maximum = 1;
  damping.step = 0.0001;
  damping.logarithmic = true;
  damping.help = "Share of the mean second moment that is added to each before they are inverted: more keeps corrections smaller.";
  damping.enabledIf = "prune.method, prune.recovery or weights.method corrects what is left for its errors";
  damping.enabled = [](const Config& config) { return pruneNeeds(config).gram() || methodNeeds(config).factor; };
  knobs.push_back(calibration);
  knobs.push_back(tokens);
  knobs.push_back(damping);
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
  sinks.enabledIf = "kv.policy is " + policiesWith(&KvPolicyInfo::usesSinks);
  sinks.enabled = [](const Config& config) { return policyHas(config, &KvPolicyInfo::usesSinks); };
  knobs.push_back(sinks);

  Knob allocation = enumeration("kv.allocation", "Allocation", group, kvAllocationNames(), Apply::rebuildCache);
  allocation.help = "How the budget is dealt. even: every head keeps as much. pyramid: early layers more than late ones. adaptive: the heads of a "
                    "layer share its budget by comparing scores. auto: as the policy's paper does.";
  allocation.paper = "PyramidKV, arXiv 2406.02069; Ada-KV, arXiv 2407.11550";
  allocation.enabledIf = "kv.policy is not full";
  allocation.enabled = evicts;
  knobs.push_back(allocation);

  Knob seed = integer("kv.seed", "Seed", group, 0, 0, 1000000, Apply::rebuildCache);
  seed.help = "Of the draws of the policy: another seed, another choice. Its chart is the mean of several.";
  seed.enabledIf = "kv.policy is " + policiesWith(&KvPolicyInfo::draws);
  seed.enabled = [](const Config& config) { return policyHas(config, &KvPolicyInfo::draws); };
  knobs.push_back(seed);

  Knob interval = integer("kv.interval", "Interval", group, 16, 1, 1024, Apply::nextToken);
  interval.unit = "tokens";
  interval.logarithmic = true;
  interval.help = "Tokens between two evictions. 1 evicts at every token, as most papers do; more costs less time and a little memory.";
  interval.enabledIf = "kv.policy is not full";
  interval.enabled = evicts;
  knobs.push_back(interval);

  for (const bool keys : {true, false}) {
    Knob bits = integer(keys ? "kv.k_bits" : "kv.v_bits", keys ? "Bits per key" : "Bits per value", group, 16, 2, 16, Apply::rebuildCache);
    bits.choices = {"16", "8", "4", "3", "2"};
    bits.unit = "bit";
    bits.help = std::string(keys ? "Keys" : "Values") + " of full pages, packed in memory; the newest page and what attends within a prompt chunk stay 16 bit. "
                "Scales add one bit per value in groups of 32.";
    knobs.push_back(bits);
  }
  Knob quantizer = enumeration("kv.quantizer", "Scales of keys", group, names(kvQuantizers().front().name, kvQuantizers()), Apply::rebuildCache);
  quantizer.help = "per_token: one scale per 32 values of a key. kivi: one per channel and up to 32 tokens, since large key values stay in their channels. "
                   "Values are always quantized per token.";
  quantizer.paper = papers(kvQuantizers());
  quantizer.enabledIf = "kv.k_bits is below 16";
  quantizer.enabled = quantizesKeys;
  knobs.push_back(quantizer);

  Knob rotate = text("kv.rotate", "Rotate keys", group, KnobType::boolean, "", Apply::rebuildCache);
  rotate.defaultValue = false;
  rotate.help = "Passes keys and queries through a Hadamard matrix: the same scores, and no channel that stands out when keys are rounded.";
  rotate.enabledIf = "kv.k_bits is below 16";
  rotate.enabled = quantizesKeys;
  knobs.push_back(rotate);
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
  first.enabled = sharesBlocks;
  knobs.push_back(first);

  Knob last = integer("share.last", "Last layers left alone", group, -1, -1, 1024, Apply::rebuildCache);
  last.unit = "layers";
  last.help = "-1 takes max(1, layers / 16).";
  last.enabledIf = "share.block is above 1";
  last.enabled = sharesBlocks;
  knobs.push_back(last);

  Knob spans = text("share.spans", "Spans", group, KnobType::text, "", Apply::rebuildCache);
  spans.help = "Layers that use the attention of the first of them, such as 4-6, 9-10. winnow-cli similarity finds those that are alike.";
  spans.paper = "Shared Attention, arXiv 2407.12866";
  spans.malformed = [](const std::string& value) -> std::optional<std::string> {
    const auto parsed = parseSpans(value);
    return parsed ? std::nullopt : std::optional(parsed.error().message);
  };
  spans.refuses = [](const ModelConfig& model, const KnobValue& value) -> std::optional<std::string> {
    const auto parsed = parseSpans(std::get<std::string>(value));
    return parsed ? outOfModel(*parsed, model.layers) : parsed.error().message;
  };
  knobs.push_back(spans);
  return knobs;
}

std::vector<Knob> computeKnobs() {
  Knob activations = enumeration("compute.activations", "Activations", "Compute", {"auto", "f32", "16bit", "int8"}, Apply::nextToken);
  activations.help = "What matrix products see of activations. auto: f32 with f32 weights, bf16 with bf16, else f16. int8 (per 32 values) is "
                     "fastest on quantized weights and is what llama.cpp does there; it adds its own error.";
  return {activations};
}

}  // namespace winnow
