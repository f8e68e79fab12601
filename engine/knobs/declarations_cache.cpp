// SPDX-License-Identifier: GPL-3.0-or-later
// Knobs of the cache, of attention that layers share, and of products.
#include <algorithm>

#include "engine/cache/allocation.h"
#include "engine/cache/kv_format.h"
#include "engine/cache/registry.h"
#include "engine/knobs/declarations.h"
#include "engine/knobs/declare.h"
#include "engine/share/registry.h"
#include "engine/share/spans.h"

namespace winnow {
namespace {

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
bool evicts(const Config& config) {
  return config.text("kv.policy") == "full" ? config.real("kv.budget") != 1.0 : !policyHas(config, &KvPolicyInfo::selects);
}
bool quantizesKeys(const Config& config) { return config.integer("kv.k_bits") < 16 || !config.text("kv.layers").empty(); }
bool quantizesAny(const Config& config) { return quantizesKeys(config) || config.integer("kv.v_bits") < 16; }
Knob bitsPerLayer(const std::string& group) {
  Knob layers = layerRules("kv.layers", "Bits per layer", group, RuleValue::cache, Apply::rebuildCache);
  layers.help = "Bits of keys and values of single layers before kv.k_bits and kv.v_bits, such as 0-1:8, *.v:2. " + std::string(layerRuleHelp(RuleValue::cache));
  return layers;
}
bool sharesBlocks(const Config& config) {
  const std::string& method = config.text("share.method");
  return method == "echoatt" || method == "cla" || method == "mix" || (method == "none" && config.integer("share.block") > 1);
}

bool copiesAttention(const Config& config) {
  const std::string& method = config.text("share.method");
  return method == "echoatt" || (method == "none" && config.integer("share.block") > 1) || config.text("share.method") == "spans" || (config.text("share.method") == "none" && !config.text("share.spans").empty());
}

}  // namespace

std::vector<Knob> cacheKnobs() {
  const std::string group = "KV cache";
  std::vector<Knob> knobs;
  Knob policy = enumeration("kv.policy", "Eviction", group, names("full", kvPolicies()), Apply::rebuildCache);
  policy.help = "Which cached tokens stay when the budget is reached. quest keeps all and reads, at each step, those the query needs; minikv "
                "chooses once, at the end of a prompt. keyformer adds up at most 32 of the queries that came since it last chose, evenly spread, each "
                "for its neighbours; its paper adds all.";
  policy.paper = papers(kvPolicies());
  knobs.push_back(policy);

  Knob budget = text("kv.budget", "Budget", group, KnobType::real, "", Apply::rebuildCache);
  budget.defaultValue = 1.0;
  budget.minimum = 0.01;
  budget.maximum = 1048576;
  budget.step = 0.05;
  budget.logarithmic = true;
  budget.help = "Tokens each head keeps: up to 1 a share of the tokens so far, from 2 on a number of tokens. Alone it means streaming. Of quest: tokens each step reads.";
  knobs.push_back(budget);

  Knob sinks = integer("kv.sinks", "Sinks", group, 4, 0, 256, Apply::rebuildCache);
  sinks.unit = "tokens";
  sinks.help = "First tokens that always stay: attention parks its surplus there.";
  sinks.enabledIf = "kv.policy is " + policiesWith(&KvPolicyInfo::usesSinks);
  sinks.enabled = [](const Config& config) { return policyHas(config, &KvPolicyInfo::usesSinks); };
  knobs.push_back(sinks);

  Knob positions = enumeration("kv.positions", "Positions", group, {"original", "cache"}, Apply::rebuildCache);
  positions.help = "How far away what is left counts. original: as far as in the text. cache: as far as in the cache, so that a text may be longer than "
                   "any the model was trained on; what is evicted is forgotten all the same.";
  positions.paper = "Xiao et al., ICLR 2024, arXiv 2309.17453";
  positions.enabledIf = "kv.policy is " + policiesWith(&KvPolicyInfo::keepsRuns);
  positions.enabled = [](const Config& config) { return policyHas(config, &KvPolicyInfo::keepsRuns); };
  positions.refuses = [](const ModelConfig& model, const KnobValue& value) -> std::optional<std::string> {
    if (std::get<std::string>(value) == "original" || model.position == PositionKind::rope) return std::nullopt;
    return "this model's positions are learned and part of every layer's input: a cached key cannot be moved to another one.";
  };
  knobs.push_back(positions);

  Knob allocation = enumeration("kv.allocation", "Allocation", group, kvAllocationNames(), Apply::rebuildCache);
  allocation.help = "How the budget is dealt. even: every head keeps as much. pyramid: early layers more than late ones. adaptive: the heads of a "
                    "layer share its budget by comparing scores. auto: as the policy's paper does.";
  allocation.paper = "PyramidKV, arXiv 2406.02069; Ada-KV, arXiv 2407.11550";
  allocation.enabledIf = "kv.policy evicts";
  allocation.enabled = evicts;
  knobs.push_back(allocation);

  Knob seed = integer("kv.seed", "Seed", group, 0, 0, 1000000, Apply::rebuildCache);
  seed.help = "Of the draws of the policy: another seed, another choice. Its chart is the mean of several.";
  seed.enabledIf = "kv.policy is " + policiesWith(&KvPolicyInfo::draws);
  seed.enabled = [](const Config& config) { return policyHas(config, &KvPolicyInfo::draws); };
  knobs.push_back(seed);

  Knob interval = integer("kv.interval", "Interval", group, 0, 0, 1024, Apply::nextToken);
  interval.unit = "tokens";
  interval.help = "Tokens between two evictions. 1 evicts at every token, as most papers do; more costs less time and a little memory. 0 takes 16, or a "
                  "thirty-second of what stays where that is more: an eviction moves all of it.";
  interval.enabledIf = "kv.policy evicts, and not just once";
  interval.enabled = [](const Config& config) { return evicts(config) && !policyHas(config, &KvPolicyInfo::once); };
  knobs.push_back(interval);

  Knob when = enumeration("kv.when", "When", group, {"interval", "prompt_end"}, Apply::rebuildCache);
  when.help = "interval: also while a prompt is read, batch by batch. prompt_end: a prompt is read whole, attends to all of itself, and is cut at its end, as kvpress does; the "
              "whole prompt has to fit. What is generated is cut every kv.interval tokens either way.";
  when.enabledIf = interval.enabledIf;
  when.enabled = interval.enabled;
  knobs.push_back(when);

  Knob oldest = integer("kv.oldest", "Oldest kept", group, 0, 0, 4096, Apply::rebuildCache);
  oldest.unit = "tokens";
  oldest.help = "First tokens that stay whatever the policy thinks of them, an instruction for instance. Policies with sinks protect them by kv.sinks.";
  oldest.enabledIf = "kv.policy evicts, not just once, and has no sinks";
  oldest.enabled = [](const Config& config) { return evicts(config) && !policyHas(config, &KvPolicyInfo::once) && !policyHas(config, &KvPolicyInfo::usesSinks); };
  knobs.push_back(oldest);

  Knob recent = integer("kv.recent", "Newest kept", group, 0, 0, 4096, Apply::rebuildCache);
  recent.unit = "tokens";
  recent.help = "Newest tokens that stay whatever the policy thinks of them, as far as the budget goes beside the first ones. Policies with a window of their own have it besides.";
  recent.enabledIf = interval.enabledIf;
  recent.enabled = interval.enabled;
  knobs.push_back(recent);

  for (const bool keys : {true, false}) {
    Knob bits = integer(keys ? "kv.k_bits" : "kv.v_bits", keys ? "Bits per key" : "Bits per value", group, 16, 2, 16, Apply::rebuildCache);
    bits.choices = {"16", "8", "4", "3", "2"};
    bits.unit = "bit";
    bits.help = std::string(keys ? "Keys" : "Values") + " of full pages, packed in memory; the newest page stays 16 bit, and a prompt's pages do until it has been read, so that it attends to what it says exactly. "
                "Scales add one bit per value in groups of 32.";
    knobs.push_back(bits);
  }
  knobs.push_back(bitsPerLayer(group));
  Knob quantizer = enumeration("kv.quantizer", "Scales of keys", group, names(kvQuantizers().front().name, kvQuantizers()), Apply::rebuildCache);
  quantizer.help = "per_token: one scale per 32 values of a key. kivi: one per channel and up to 32 tokens, since large key values stay in their channels. "
                   "Values are always quantized per token.";
  quantizer.paper = papers(kvQuantizers());
  quantizer.enabledIf = "kv.k_bits is below 16, or kv.layers is given";
  quantizer.enabled = quantizesKeys;
  knobs.push_back(quantizer);

  Knob rotate = text("kv.rotate", "Rotate keys", group, KnobType::boolean, "", Apply::rebuildCache);
  rotate.defaultValue = false;
  rotate.help = "Passes keys and queries through a Hadamard matrix: the same scores, and no channel that stands out when keys are rounded.";
  rotate.enabledIf = "kv.k_bits is below 16, or kv.layers is given";
  rotate.enabled = quantizesKeys;
  knobs.push_back(rotate);

  Knob outliers = text("kv.outliers", "Outliers", group, KnobType::real, "", Apply::rebuildCache);
  outliers.defaultValue = 0.0;
  outliers.maximum = 0.05;
  outliers.step = 0.005;
  outliers.help = "Share of the values of each key and value that stay 16 bit beside the codes, at least one of a head: those that would widen the range "
                  "of the others the most. Each takes 4 bytes.";
  outliers.paper = "KVQuant: Hooper et al., NeurIPS 2024, arXiv 2401.18079";
  outliers.enabledIf = "kv.k_bits or kv.v_bits is below 16, or kv.layers is given";
  outliers.enabled = quantizesAny;
  knobs.push_back(outliers);

  Knob aligned = integer("kv.aligned", "Aligned reading", group, 0, 0, 64, Apply::rebuildCache);
  aligned.unit = "binades";
  aligned.help = "Keys and values of 16 bits lie in bit planes, and each token reads 12 bits of those whose part in a sum is so many binades below the "
                 "largest, 8 of those twice as far. Saves reading, not memory; prompts read everything. 4 is the paper's, where the error is that of "
                 "rounding once; 64 leaves nothing out. 0: rows as they are.";
  aligned.paper = "AlignedKV: Tan et al., 2024, arXiv 2409.16546";
  knobs.push_back(aligned);
  return knobs;
}

std::vector<Knob> sharingKnobs() {
  const std::string group = "Attention sharing";
  std::vector<Knob> knobs;
  Knob block = integer("share.block", "Block size", group, 1, 1, 16, Apply::rebuildCache);
  block.unit = "layers";
  block.help = "Consecutive layers that share with the first of them. Of echoatt: its attention, and the others own no keys and project no queries. Of cla and mix: its keys "
               "and values, and the others own no cache. 1 shares nothing. With share.first and share.last 0 echoatt's are LazyFormer's (arXiv 2102.12702).";
  knobs.push_back(block);

  Knob method = enumeration("share.method", "Sharing", group, names("none", shareMethods()), Apply::rebuildCache);
  method.help = "echoatt, spans: layers use the attention of another on values of their own. cla: layers read the keys and values of another with queries of their own, so a "
                "group takes the cache of one layer; share.spans may name the groups. mix: that, and most layers keep a window of the text alone (kv.policy and kv.budget; streaming "
                "over 1024 tokens by itself). Models are trained for cla and mix: one that was not loses most of what it knows.";
  method.paper = papers(shareMethods());
  knobs.push_back(method);

  Knob first = integer("share.first", "First layers left alone", group, -1, -1, 1024, Apply::rebuildCache);
  first.unit = "layers";
  first.help = "Their attention is distinctive. -1 takes max(2, layers / 8).";
  first.enabledIf = "share.block is above 1, or share.method is echoatt, cla or mix";
  first.enabled = sharesBlocks;
  knobs.push_back(first);

  Knob last = integer("share.last", "Last layers left alone", group, -1, -1, 1024, Apply::rebuildCache);
  last.unit = "layers";
  last.help = "-1 takes max(1, layers / 16).";
  last.enabledIf = first.enabledIf;
  last.enabled = sharesBlocks;
  knobs.push_back(last);

  Knob full = integer("share.full", "Layers of full attention", group, -1, -1, 1024, Apply::rebuildCache);
  full.unit = "layers";
  full.help = "Layers of mix that keep the whole text, spread evenly and rather deep. -1 takes one in six of those that own a cache.";
  full.paper = "MixAttention, arXiv 2409.15012";
  full.enabledIf = "share.method is mix";
  full.enabled = [](const Config& config) { return config.text("share.method") == "mix"; };
  knobs.push_back(full);

  Knob spans = text("share.spans", "Spans", group, KnobType::text, "", Apply::rebuildCache);
  spans.help = "Layers that share with the first of them, such as 4-6, 9-10: attention, or with cla and mix keys and values. winnow-cli similarity finds those that attend alike.";
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

  Knob align = boolean("share.align", "Align heads", group, false);
  align.help = "Each head of a layer that shares attention takes that of the leader's head which attends most like it on the calibration text, instead "
               "of the one of its own number. Nothing to compute when the model runs.";
  align.paper = "LISA, arXiv 2408.01890: heads shared in the order they come do not match";
  align.enabledIf = "layers share attention";
  align.enabled = copiesAttention;
  knobs.push_back(align);

  Knob refit = boolean("share.refit", "Fit outputs anew", group, false);
  refit.help = "The output projections of layers that share become those that make of it, by least squares over the calibration text, what the layers' own attention "
               "gave. Of cla and mix their queries too, once for each head of keys: a turn and a scale of every pair that RoPE turns, any map where nothing is turned, nothing "
               "where queries are normed. One or two passes over the text for each such layer; nothing when the model runs. calibration.damping holds them to the file's.";
  refit.paper = "in place of the training of EchoAtt (arXiv 2409.14595) and Cross-Layer Attention (arXiv 2405.12981): closed form";
  refit.enabledIf = "layers share attention, or keys and values";
  refit.enabled = [](const Config& config) { return copiesAttention(config) || sharesBlocks(config); };
  knobs.push_back(refit);
  return knobs;
}

std::vector<Knob> prefillKnobs() {
  const std::string group = "Prompts";
  const auto chooses = [](const Config& config) { return config.text("prefill.method") != "dense"; };
  Knob method = enumeration("prefill.method", "Prompt attention", group, {"dense", "critiprefill"}, Apply::rebuildCache);
  method.help = "What the tokens of a long prompt attend to. dense: all before them. critiprefill: segments of the prompt choose the blocks of 32 tokens that "
                "matter to them; the first layer, the beginning and the last segment attend to all. The whole cache is kept.";
  method.paper = "CritiPrefill: Lv et al., 2024, arXiv 2409.12490";

  Knob budget = integer("prefill.budget", "Prompt budget", group, 2048, 32, 1048576, Apply::rebuildCache);
  budget.unit = "tokens";
  budget.step = 32;
  budget.logarithmic = true;
  budget.help = "Tokens before a segment that each of its key-value heads attends to. Segments that begin within twice as many attend to all.";
  budget.enabledIf = "prefill.method is critiprefill";
  budget.enabled = chooses;

  Knob segment = integer("prefill.segment", "Segment", group, 512, 16, 512, Apply::rebuildCache);
  segment.unit = "tokens";
  segment.help = "Neighbouring tokens that choose together. Fewer choose more closely and cost more time.";
  segment.enabledIf = budget.enabledIf;
  segment.enabled = chooses;
  return {method, budget, segment};
}

std::vector<Knob> computeKnobs() {
  Knob activations = enumeration("compute.activations", "Activations", "Compute", {"auto", "f32", "16bit", "int8", "fp8"}, Apply::nextToken);
  activations.help = "What matrix products see of activations. auto: f32 with f32 weights, bf16 with bf16, else f16. int8 (per 32 values) is "
                     "fastest on quantized weights and is what llama.cpp does there; it adds its own error. auto with smoothquant means int8. fp8: as auto, but "
                     "on a GPU that has FP8 prompts of 512 tokens and more multiply weights (a scale per row) and activations (per token) rounded to E4M3.";

  Knob twin = enumeration("compute.prefill_twin", "Prefill twin", "Compute", {"auto", "on", "off"}, Apply::nextToken);
  twin.help = "On a GPU, 16-bit copies of quantized weights: the first long prompt decodes them, later ones read them. They take 2 bytes a weight and change no "
              "result; with compute.activations=fp8 they are FP8 copies of any weights, 1 byte each. auto: while the whole cache and a tenth of the GPU's memory stay "
              "free. on: as many as fit.";
  twin.enabledIf = "compute.activations is auto, 16bit or fp8";
  twin.enabled = [](const Config& c) { return c.text("compute.activations") != "f32" && c.text("compute.activations") != "int8"; };

  Knob publish = enumeration("compute.publish", "New weights", "Compute", {"whole", "layers"}, Apply::nextToken);
  publish.help = "When weights that were prepared in the background act. whole: all of them at one token. layers: each layer as soon as it is done, from the first on, so that "
                 "little more memory than that of one set is taken; until the last one results mix, which is said. Sets with other layers, heads or channels come whole.";
  return {activations, twin, publish};
}

}  // namespace winnow
