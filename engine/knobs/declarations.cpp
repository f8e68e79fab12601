// SPDX-License-Identifier: GPL-3.0-or-later
// Choices of the method knobs come from the registries: a new method appears here, in the panel, the CLI and sweeps by itself.
#include "engine/knobs/declarations.h"

#include "engine/knobs/declare.h"
#include "engine/prune/layer_drop.h"
#include "engine/prune/method.h"
#include "engine/prune/head_dims.h"
#include "engine/prune/heads.h"
#include "engine/prune/slice.h"
#include "engine/prune/width.h"
#include "engine/quantize/code_format.h"
#include "engine/quantize/method.h"
#include "engine/recover/method.h"
#include "engine/sparsify/method.h"

namespace winnow {
namespace {

std::vector<PruneMethod> initialMethods() {  // that make a mask of their own
  std::vector<PruneMethod> out;
  for (const PruneMethod& method : pruneMethods())
    if (!method.needs.gradients) out.push_back(method);
  return out;
}
bool corrects(const Config& config) {  // a mask of another method
  const PruneMethod* chosen = findPruneMethod(config.text("prune.method"));
  return chosen && chosen->needs.gradients;
}
bool prunes(const Config& config) {
  return config.text("prune.method") != "none" || config.real("prune.ratio") > 0 || !config.text("prune.ratios").empty() || config.text("prune.pattern") != "unstructured";
}
bool narrowsWidth(const Config& config) { return config.real("prune.width") > 0; }
const WidthMethod* widthMethodOf(const Config& config) {  // alone it means the first
  const std::string& chosen = config.text("prune.width_method");
  return !narrowsWidth(config) ? nullptr : chosen == "none" ? &widthMethods().front() : findWidthMethod(chosen);
}
InputNeeds recoveryNeeds(const Config& config) {
  const RecoveryMethod* method = findRecoveryMethod(config.text("prune.recovery"));
  return method ? method->needs : InputNeeds{};
}
InputNeeds widthNeeds(const Config& config) {
  const WidthMethod* method = widthMethodOf(config);
  return method ? method->needs | InputNeeds{.moments = method->refits} | recoveryNeeds(config) : InputNeeds{};
}
InputNeeds pruneNeeds(const Config& config) {
  const PruneMethod* chosen = findPruneMethod(config.text("prune.method"));
  const PruneMethod* initial = corrects(config) ? findPruneMethod(config.text("prune.initial")) : nullptr;
  return (chosen ? chosen->needs : InputNeeds{}) | (initial ? initial->needs : InputNeeds{}) | (prunes(config) ? recoveryNeeds(config) : InputNeeds{});
}
InputNeeds methodNeeds(const Config& config) {
  const QuantizeMethod* chosen = findQuantizeMethod(config.text("weights.method"));
  return chosen ? chosen->needs | InputNeeds{.moments = chosen->usualRank > 0} : InputNeeds{};
}
bool narrowsHeads(const Config& config) { return config.real("prune.heads") > 0; }
const HeadMethod* headMethodOf(const Config& config) {  // alone it means the first
  const std::string& chosen = config.text("prune.heads_method");
  return !narrowsHeads(config) ? nullptr : chosen == "none" ? &headMethods().front() : findHeadMethod(chosen);
}
bool refitsHeads(const Config& config) { return narrowsHeads(config) && config.text("prune.recovery") != "none"; }
bool narrowsHeadDim(const Config& config) { return config.real("prune.head_dim") > 0; }
bool readsForHeadDim(const Config& config) {
  const std::string& chosen = config.text("prune.head_dim_method");
  const HeadDimMethod* method = !narrowsHeadDim(config) ? nullptr : chosen == "none" ? &headDimMethods().front() : findHeadDimMethod(chosen);
  return method && (method->moments || config.text("prune.recovery") != "none");
}
bool measuresInputs(const Config& config) {
  const WidthMethod* width = widthMethodOf(config);
  const ActivationMethod* sparse = findActivationMethod(config.text("activation.method"));
  const HeadMethod* heads = headMethodOf(config);
  return (sparse && sparse->calibrates) || (heads && heads->measures()) || refitsHeads(config) || (narrowsHeadDim(config) && config.text("prune.recovery") != "none") || readsForHeadDim(config) || config.real("prune.slice") > 0 || config.integer("prune.layers") > 0 || (width && width->shares) || widthNeeds(config).any() || pruneNeeds(config).any() ||
         methodNeeds(config).any() || config.integer("weights.error_rank") > 0;
}
bool fitsSharing(const Config& config) { return config.boolean("share.align") || config.boolean("share.refit"); }
bool quantizes(const Config& config) {
  return config.text("weights.method") != "none" || config.integer("weights.bits") < 16 || !config.text("weights.layers").empty() ||
         config.text("weights.format") != "integer";
}
const char* const kQuantizes = "weights.bits is below 16, or weights.format or weights.layers is given";
std::vector<Knob> reconstructionKnobs() {
  Knob smoothing = text("weights.smoothing", "Smoothing", "Weights", KnobType::real, "", Apply::prepareWeights);
  smoothing.defaultValue = 0.5;
  smoothing.maximum = 1;
  smoothing.step = 0.05;
  smoothing.help = "SmoothQuant: how much of what is large in activations goes into weights. 0 evens out weights alone, 1 activations alone; published are 0.5 for OPT and "
                   "0.8 to 0.9 for Llama.";
  smoothing.enabledIf = "weights.method is smoothquant";
  smoothing.enabled = [](const Config& config) {
    const QuantizeMethod* chosen = findQuantizeMethod(config.text("weights.method"));
    return chosen && chosen->scalesNormed;
  };

  Knob rank = integer("weights.error_rank", "Error rank", "Weights", 0, 0, 256, Apply::prepareWeights);
  rank.help = "What a matrix of the blocks lost by rounding and pruning is made up for by a 16-bit product of two thin matrices of this rank, fitted to the "
              "calibration text and computed beside it: more memory and time, less error. 0 does without; aser alone takes 32.";
  rank.paper = "ASER, Zhao et al., AAAI 2025 (arXiv 2411.07762)";
  rank.enabledIf = kQuantizes;
  rank.enabled = quantizes;
  return {smoothing, rank};
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
                "head are rounded to nearest. smoothquant alone means 8 bits and int8 activations, aser alone 4 bits and an error rank of 32.";
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
                   "are no integers none has a minimum. 4 bits with a minimum in groups of 64 are FlexGen's scheme.";
  symmetric.enabledIf = kQuantizes;
  symmetric.enabled = quantizes;
  knobs.push_back(symmetric);

  Knob tensors = text("weights.tensors", "Tensors", group, KnobType::text, "all", Apply::prepareWeights);
  tensors.help = "Which matrices are quantized: all, or a comma list of embedding, q, k, v, o, gate, up, down, head.";
  tensors.enabledIf = kQuantizes;
  tensors.enabled = quantizes;
  knobs.push_back(tensors);

  Knob layers = layerRules("weights.layers", "Bits per layer", group, RuleValue::bits, Apply::prepareWeights);
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
  clip.enabled = [](const Config& config) {
    const QuantizeMethod* chosen = findQuantizeMethod(config.text("weights.method"));
    return chosen && chosen->clips;
  };
  knobs.push_back(clip);
  for (Knob& knob : reconstructionKnobs()) knobs.push_back(std::move(knob));
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
                "the layers where it turns the stream least. laco: layers are merged into the one before them and go, from the top down, while the last "
                "hidden states stay alike; laco-released as the paper's own program does it.";
  method.paper = papers(layerDropMethods());

  Knob protect = integer("prune.layers_protect", "Layers kept at the ends", group, -1, -1, 1024, Apply::prepareWeights);
  protect.unit = "layers";
  protect.help = "First and last layers that are never dropped. -1 takes min(2, layers / 4).";
  for (Knob* knob : {&method, &protect}) {
    knob->enabledIf = "prune.layers is above 0";
    knob->enabled = [](const Config& config) { return config.integer("prune.layers") > 0; };
  }
  Knob together = integer("prune.merge", "Layers merged at a time", group, 3, 1, 64, Apply::prepareWeights);
  together.unit = "layers";
  together.help = "How many layers are merged into the one before them at a time; prune.layers is the most that go in all.";

  Knob similarity = text("prune.merge_similarity", "Similarity that stays", group, KnobType::real, "", Apply::prepareWeights);
  similarity.defaultValue = 0.6;
  similarity.minimum = -1;
  similarity.maximum = 1;
  similarity.step = 0.05;
  similarity.help = "A merge is taken back unless the cosine of the last hidden states, over the first windows of the calibration text, lies above this.";
  for (Knob* knob : {&together, &similarity}) {
    knob->enabledIf = "prune.layers_method is laco or laco-released";
    knob->enabled = [](const Config& config) { return config.integer("prune.layers") > 0 && mergesLayers(config.text("prune.layers_method")); };
  }
  return {count, method, protect, together, similarity};
}

std::vector<Knob> widthKnobs() {
  Knob width = text("prune.width", "Channels removed", "Pruning", KnobType::real, "", Apply::prepareWeights);
  width.defaultValue = 0.0;
  width.maximum = 0.9;
  width.step = 0.05;
  width.help = "Share of the channels of the feed-forwards that is left out: rows of gate and up, columns of down. What is left is as dense as before, so memory and time "
               "fall. Layers keep multiples of 128 channels, small models of fewer. Alone it means cfsp; another share is taken from the prepared scores.";
  width.refuses = [](const ModelConfig& model, const KnobValue& value) -> std::optional<std::string> {
    if (std::get<double>(value) == 0 || narrows(model.ffn)) return std::nullopt;
    return "feed-forwards of " + std::to_string(model.ffn) + " channels are too narrow to leave some out.";
  };

  Knob method = enumeration("prune.width_method", "Channels removed by", "Pruning", names("none", widthMethods()), Apply::prepareWeights);
  method.help = "cfsp: layers that turn the residual stream less lose more; channels go by weights and inputs, in cfsp-released by inputs alone as the paper's own "
                "program has it. minitron: every layer loses as many, by mean activation. modegpt: by ridge leverage, with down fitted anew in any case. random: what the others are "
                "compared with. prune.recovery fits down anew for the others.";
  method.paper = papers(widthMethods());
  method.enabledIf = "prune.width is above 0";
  method.enabled = narrowsWidth;
  return {width, method};
}

std::vector<Knob> headKnobs() {
  Knob heads = text("prune.heads", "Heads removed", "Pruning", KnobType::real, "", Apply::prepareWeights);
  heads.defaultValue = 0.0;
  heads.maximum = 0.9;
  heads.step = 0.05;
  heads.help = "Share of the heads of keys and values that is left out, each with all query heads that read it: Q, K, V, O and the cache shrink by as much. Every layer loses "
               "equally many, ranked within the layer, so that what is left is a model of one shape. Alone it means lrp. Another choice of heads needs the cache recomputed.";
  heads.refuses = [](const ModelConfig& model, const KnobValue& value) -> std::optional<std::string> {
    if (std::get<double>(value) == 0 || model.kvHeads > 1) return std::nullopt;
    return "all query heads of this model read one head of keys and values: there is none to leave out.";
  };

  Knob method = enumeration("prune.heads_method", "Heads removed by", "Pruning", names("none", headMethods()), Apply::prepareWeights);
  method.help = "lrp: by how much of the logits of the next tokens passes through a head, found by layer-wise relevance propagation back through the model over the first 4096 "
                "tokens of the calibration text. minitron: by the norm of its output. random: what the others are compared with. prune.recovery fits o anew.";
  method.paper = papers(headMethods());
  method.enabledIf = "prune.heads is above 0";
  method.enabled = narrowsHeads;
  return {heads, method};
}

Knob sliceKnob() {
  Knob slice = text("prune.slice", "Stream removed", "Pruning", KnobType::real, "", Apply::prepareWeights);
  slice.defaultValue = 0.0;
  slice.maximum = 0.5;
  slice.step = 0.05;
  slice.help = "Share of the directions of the residual stream that is left out: the stream is turned into the principal directions of the calibration text, point by point in "
               "network order, and every matrix gets smaller. Two matrices beside each layer turn the stream from one point to the next, and eat part of what is gained; a head "
               "that was the embedding becomes a matrix of its own. What stays is a multiple of 32 (8 below 512). Models with RMSNorm alone.";
  slice.paper = "SliceGPT, Ashkboos et al., ICLR 2024 (arXiv 2401.15024), section 3";
  slice.refuses = [](const ModelConfig& model, const KnobValue& value) { return std::get<double>(value) > 0 ? cannotSlice(model) : std::nullopt; };
  return slice;
}

std::vector<Knob> headDimKnobs() {
  Knob share = text("prune.head_dim", "Components removed", "Pruning", KnobType::real, "", Apply::prepareWeights);
  share.defaultValue = 0.0;
  share.maximum = 0.9;
  share.step = 0.05;
  share.help = "Share of the components of each head that is left out: rows of Q, K and V, columns of O, and as much of the cache. Every head of every layer keeps as many, a "
               "multiple of 8, of 4 where they have fewer than 32; of queries and keys RoPE pairs go whole, so that each that stays turns as before. Alone it means modegpt. Another choice needs the cache recomputed.";
  share.refuses = [](const ModelConfig& model, const KnobValue& value) -> std::optional<std::string> {
    return std::get<double>(value) == 0 ? std::nullopt : cannotNarrowHeads(model);
  };

  Knob method = enumeration("prune.head_dim_method", "Components removed by", "Pruning", names("none", headDimMethods()), Apply::prepareWeights);
  method.help = "modegpt: of queries and keys the components whose products are small on the calibration text, of values and outputs the best approximation of both together. "
                "random: what it is compared with, where prune.recovery fits o anew.";
  method.paper = papers(headDimMethods());
  method.enabledIf = "prune.head_dim is above 0";
  method.enabled = narrowsHeadDim;
  return {share, method};
}

}  // namespace

std::vector<Knob> pruneKnobs() {
  const std::string group = "Pruning";
  std::vector<Knob> knobs;
  Knob ratio = text("prune.ratio", "Ratio", group, KnobType::real, "", Apply::prepareWeights);
  ratio.defaultValue = 0.0;
  ratio.maximum = 0.95;
  ratio.step = 0.05;
  ratio.help = "Share of the weights of each linear layer set to zero. Zeros are stored like other weights unless prune.storage is sparse: quality changes, memory and "
               "speed do not. Another ratio is taken from the prepared scores, without measuring again.";
  knobs.push_back(ratio);

  Knob method = enumeration("prune.method", "Pruning", group, names("none", pruneMethods()), Apply::prepareWeights);
  method.help = "Which weights go. Wanda and SparseGPT measure the inputs of each layer on the calibration text first; SparseGPT lets the weights that "
                "stay make up for those that go, and computes every ratio anew. Sparse-Dense-Sparse gives what was pruned weights again and prunes a second time. LLM-Barber exchanges weights where whole attentions and "
                "feed-forwards, pruned as they are, lose by the choice of another method; it measures every ratio anew.";
  method.paper = papers(pruneMethods());
  knobs.push_back(method);

  const std::vector<PruneMethod> first = initialMethods();
  Knob initial = enumeration("prune.initial", "First mask by", group, names(first.front().name, first), Apply::prepareWeights);
  initial.defaultValue = std::string("wanda");
  initial.help = "The method whose choice LLM-Barber corrects. Weights that stay have the file's values: what SparseGPT changes in them is not kept.";
  Knob swap = text("prune.swap", "Share exchanged", group, KnobType::real, "", Apply::prepareWeights);
  swap.defaultValue = 0.1;
  swap.maximum = 1;
  swap.step = 0.05;
  swap.help = "Of the weights of a row or matrix whose exchange would pay, how many change places. 0 leaves the first mask as it is.";
  for (Knob* knob : {&initial, &swap}) {
    knob->enabledIf = "prune.method is barber";
    knob->enabled = corrects;
    knobs.push_back(std::move(*knob));
  }

  Knob ratios = layerRules("prune.ratios", "Ratio per layer", group, RuleValue::ratio, Apply::prepareWeights);
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
  recovery.help = "What the weights that stay become, so that a layer makes of the calibration text what it made of it before: nothing to compute at run time but "
                  "a bias where the method has a constant. bias: a constant per output, which takes its mean error away; weights stay as they are. scale: one factor per row. "
                  "affine: both. least-squares: every weight, exactly; slow above some thousand inputs. regression: the same with a constant. admm: nearly least-squares, by steps that rows "
                  "share. Channels that prune.width, prune.heads or prune.head_dim removes leave the last three one exact fit, and MoDeGPT's own fit takes the constant of the others. calibration.damping holds the weights where pruning left them.";
  recovery.paper = papers(recoveryMethods());
  recovery.enabledIf = "prune.method is not none, or prune.width, prune.heads or prune.head_dim is above 0";
  recovery.enabled = [](const Config& config) { return prunes(config) || narrowsWidth(config) || narrowsHeads(config) || narrowsHeadDim(config); };
  knobs.push_back(recovery);

  Knob storage = enumeration("prune.storage", "Zeros", group, {"dense", "sparse"}, Apply::prepareWeights);
  storage.help = "dense: zeros are stored as other weights are. sparse: a bit per weight and the values that stay, 16-bit or f32 ones; at half the weights nine "
                 "sixteenths of the memory. Rows are expanded before they are multiplied, so that results are the same bit for bit. Quantized weights stay dense.";
  storage.enabledIf = "prune.method is not none and weights.method is none";
  storage.enabled = [](const Config& config) { return prunes(config) && config.text("weights.method") == "none"; };
  knobs.push_back(storage);

  for (Knob& knob : layerKnobs()) knobs.push_back(std::move(knob));
  for (Knob& knob : widthKnobs()) knobs.push_back(std::move(knob));
  for (Knob& knob : headKnobs()) knobs.push_back(std::move(knob));
  for (Knob& knob : headDimKnobs()) knobs.push_back(std::move(knob));
  knobs.push_back(sliceKnob());

  Knob calibration = text("calibration.text", "Calibration text", "Calibration", KnobType::path, "", Apply::prepareWeights);
  calibration.help = "Text file the statistics are measured on; empty takes the sample that comes with Winnow. Never use the evaluation text.";
  calibration.enabledIf = "prune.method, prune.recovery, weights.method or weights.error_rank looks at the inputs of layers, layers are dropped, feed-forwards or heads narrowed, heads left out or the stream sliced, "
                          "share.align or share.refit is on, or activation.method goes by thresholds";
  calibration.enabled = [](const Config& config) { return measuresInputs(config) || fitsSharing(config); };
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
  damping.enabledIf = "prune.method, prune.recovery or weights.method corrects what is left for its errors, prune.width_method is modegpt, or share.refit is on";
  damping.enabled = [](const Config& config) {
    return pruneNeeds(config).gram() || widthNeeds(config).gram() || ((narrowsHeads(config) || narrowsHeadDim(config)) && recoveryNeeds(config).gram()) || methodNeeds(config).factor || config.boolean("share.refit");
  };
  knobs.push_back(calibration);
  knobs.push_back(tokens);
  knobs.push_back(damping);
  return knobs;
}

}  // namespace winnow
