// SPDX-License-Identifier: GPL-3.0-or-later
// From what was asked to what runs. Shorthands are spelled out in both records; every other difference carries a reason.
#include <algorithm>
#include <cmath>

#include "engine/cache/allocation.h"
#include "engine/cache/kv_format.h"
#include "engine/cache/registry.h"
#include "engine/knobs/knobs.h"
#include "engine/quantize/code_format.h"
#include "engine/quantize/method.h"
#include "engine/prune/head_dims.h"
#include "engine/prune/heads.h"
#include "engine/prune/layer_drop.h"
#include "engine/prune/method.h"
#include "engine/prune/width.h"
#include "engine/share/methods.h"
#include "engine/share/registry.h"

namespace winnow {
namespace {

bool sharesCaches(const Config& config) { return config.text("share.method") == "cla" || config.text("share.method") == "mix"; }
bool makesBlocks(const Config& config) { return config.text("share.method") == "echoatt" || sharesCaches(config); }

int64_t cacheOwners(const ModelConfig& model, const Config& config) {  // of cla and mix
  const std::vector<LayerSharing> map = claSharing(model, config);
  int64_t owners = 0;
  for (size_t layer = 0; layer < map.size(); ++layer) owners += map[layer].source == static_cast<int>(layer);
  return owners;
}

// weights.bits=4 alone is round-to-nearest, and so on (DESIGN §3). Defaults that depend on the model become numbers.
Config spelledOut(Config config, const ModelConfig& model) {
  const bool perLayer = !config.text("weights.layers").empty();
  const CodeFormat* codes = findCodeFormat(config.text("weights.format"));
  if ((config.integer("weights.bits") < 16 || perLayer || codes) && config.text("weights.method") == "none")
    config = config.with("weights.method", std::string("rtn"));
  const QuantizeMethod* method = findQuantizeMethod(config.text("weights.method"));
  if (method && method->bits > 0) {
    codes = nullptr;  // it has its own
    if (config.integer("weights.bits") == 16 && !perLayer) config = config.with("weights.bits", int64_t{method->bits});
    if (config.text("weights.symmetric") == "auto") config = config.with("weights.symmetric", std::string("true"));
  }
  if (codes && !perLayer) {
    if (config.integer("weights.bits") == 16) config = config.with("weights.bits", int64_t{codes->bits});
    if (config.text("weights.symmetric") == "auto") config = config.with("weights.symmetric", std::string("true"));
  }
  if (method) {
    if (method->usualBits > 0 && config.integer("weights.bits") == 16 && !perLayer) config = config.with("weights.bits", int64_t{method->usualBits});
    if (method->usualRank > 0 && config.integer("weights.error_rank") == 0) config = config.with("weights.error_rank", int64_t{method->usualRank});
    if (method->usualInt8 && config.text("compute.activations") == "auto") config = config.with("compute.activations", std::string("int8"));
  }
  // With widths per layer auto is decided for each matrix.
  if (method && config.text("weights.group") == "auto" && !perLayer)
    config = config.with("weights.group", codes && codes->group == 0 ? std::string("row") : std::to_string(codes ? codes->group : 32));
  if (config.text("weights.method") != "none" && config.text("weights.symmetric") == "auto" && !perLayer)
    config = config.with("weights.symmetric", std::string(config.integer("weights.bits") <= 3 ? "false" : "true"));
  if (config.text("prune.pattern") != "unstructured" && config.real("prune.ratio") == 0 && config.text("prune.ratios").empty()) config = config.with("prune.ratio", 0.5);
  if ((config.real("prune.ratio") > 0 || !config.text("prune.ratios").empty()) && config.text("prune.method") == "none")
    config = config.with("prune.method", std::string("magnitude"));
  if (config.integer("prune.layers") > 0 && config.text("prune.layers_method") == "none") config = config.with("prune.layers_method", std::string("shortgpt"));
  if (config.real("prune.width") > 0 && config.text("prune.width_method") == "none") config = config.with("prune.width_method", widthMethods().front().name);
  if (config.real("prune.heads") > 0 && config.text("prune.heads_method") == "none") config = config.with("prune.heads_method", headMethods().front().name);
  if (config.text("share.method") == "mix" && config.real("kv.budget") == 1.0) config = config.with("kv.budget", 1024.0);
  if (config.real("prune.head_dim") > 0 && config.text("prune.head_dim_method") == "none") config = config.with("prune.head_dim_method", headDimMethods().front().name);
  if (config.real("kv.budget") != 1.0 && config.text("kv.policy") == "full") config = config.with("kv.policy", std::string("streaming"));
  if (!config.text("share.spans").empty() && config.text("share.method") == "none") config = config.with("share.method", std::string("spans"));
  if (config.integer("share.block") > 1 && config.text("share.method") == "none") config = config.with("share.method", std::string("echoatt"));
  if (makesBlocks(config) && !(sharesCaches(config) && !config.text("share.spans").empty())) {
    if (config.integer("share.first") < 0) config = config.with("share.first", int64_t{firstLayersAlone(model.layers)});
    if (config.integer("share.last") < 0) config = config.with("share.last", int64_t{lastLayersAlone(model.layers)});
  }
  if (config.text("share.method") == "mix" && config.integer("share.full") < 0)
    config = config.with("share.full", int64_t{fullAttentionLayers(static_cast<int>(cacheOwners(model, config)))});
  return config;
}

class Resolver {
 public:
  Resolver(const Config& requested, const ModelConfig& model) : model_(model) {
    effective_.requested = spelledOut(requested, model);
    effective_.config = effective_.requested;
  }

  Effective run() {
    for (const Knob& knob : Schema::instance().knobs()) {
      if (!knob.refuses) continue;
      if (const auto reason = knob.refuses(model_, effective_.config.get(knob.name))) adjust(knob.name, knob.defaultValue, *reason);
    }
    slicing();
    quantization();
    heads();
    headDim();
    pattern();
    layers();
    sharing();
    sharingFit();
    sinks();
    protection();
    interval();
    positions();
    cacheFormat();
    prompts();
    wholeSteps();
    return std::move(effective_);
  }

 private:
  void adjust(const std::string& knob, const KnobValue& value, const std::string& reason) {
    effective_.adjustments.push_back({knob, effective_.requested.get(knob), value, reason});
    effective_.config = effective_.config.with(knob, value);
  }

  // What looks at layers in the directions of the file, or at layers that a sliced stream was not measured through.
  void slicing() {
    if (effective_.config.real("prune.slice") == 0) return;
    if (effective_.config.integer("prune.layers") > 0 || effective_.config.real("prune.width") > 0 || effective_.config.real("prune.heads") > 0 ||
        effective_.config.real("prune.head_dim") > 0)
      return adjust("prune.slice", 0.0, "the directions of the stream are measured in a model with all of its layers, channels and heads: set prune.layers, prune.width, prune.heads and prune.head_dim to 0 to slice it.");
    const PruneMethod* prune = findPruneMethod(effective_.config.text("prune.method"));
    if (prune && prune->needs.gradients)
      adjust("prune.method", effective_.config.get("prune.initial"), prune->name + " judges masks by whole attentions and feed-forwards of the file's width, and prune.slice leaves narrower ones.");
    if (effective_.config.text("weights.super") != "off")
      adjust("weights.super", std::string("off"), "super weights stand out in the file's own directions of the stream, and prune.slice turns them away.");
    if (effective_.config.text("activation.method") != "none")
      adjust("activation.method", std::string("none"), "thresholds of activations are measured on layers of the file's width, and prune.slice leaves narrower ones.");
    for (const char* knob : {"share.align", "share.refit"})
      if (effective_.config.boolean(knob)) adjust(knob, false, "what it fits to shared attention are layers in the file's own directions, which prune.slice turns.");
  }

  void quantization() {
    const Config& config = effective_.config;
    if (config.text("weights.method") != "none" && config.integer("weights.bits") == 16 && config.text("weights.layers").empty())
      adjust("weights.method", std::string("none"), "16 bits keep the file's own type: choose weights.bits below 16, or weights.layers, to quantize.");
    const QuantizeMethod* method = findQuantizeMethod(effective_.config.text("weights.method"));
    if (effective_.config.integer("weights.error_rank") > 0 && (!method || method->bits > 0))
      adjust("weights.error_rank", int64_t{0}, !method ? "nothing is rounded: choose weights.bits below 16 to have an error to make up for."
                                                       : method->name + " codes are there to be summed without products, which low-rank factors are.");
    if (const CodeFormat* format = findCodeFormat(effective_.config.text("weights.format"))) codes(*format, method);
    if (!method || method->bits == 0) return;
    const std::string codes = method->name + " has symmetric codes of " + std::to_string(method->bits) + " bits alone.";
    if (effective_.config.integer("weights.bits") < 16 && effective_.config.integer("weights.bits") != method->bits)
      adjust("weights.bits", int64_t{method->bits}, codes);
    if (effective_.config.text("weights.symmetric") != "true") adjust("weights.symmetric", std::string("true"), codes);
    if (effective_.config.text("weights.super") == "keep")
      adjust("weights.super", std::string("off"), method->name + " codes are there to be summed without products, and a weight that is kept exact needs one.");
  }

  void codes(const CodeFormat& format, const QuantizeMethod* method) {
    if (!method || method->bits > 0) return adjust("weights.format", std::string("integer"), method ? method->name + " has codes of its own." : "nothing is quantized.");
    if (!effective_.config.text("weights.layers").empty()) return;  // other widths take integers, which have all of these
    const std::string has = format.name + " has ";
    if (effective_.config.integer("weights.bits") != format.bits) adjust("weights.bits", int64_t{format.bits}, has + "codes of " + std::to_string(format.bits) + " bits.");
    if (effective_.config.text("weights.symmetric") != "true") adjust("weights.symmetric", std::string("true"), has + "a scale per group and no minimum.");
    if (format.fixedGroup && effective_.config.text("weights.group") != std::to_string(format.group))
      adjust("weights.group", std::to_string(format.group), has + "blocks of " + std::to_string(format.group) + " weights.");
  }

  // Heads are judged and found in the layers of the file.
  void heads() {
    const Config& config = effective_.config;
    if (config.real("prune.heads") == 0) return;
    if (config.integer("prune.layers") > 0 && mergesLayers(config.text("prune.layers_method")))
      return adjust("prune.heads", 0.0, config.text("prune.layers_method") + " makes layers whose heads are sums of other layers' heads: none of those was judged. Choose another prune.layers_method.");
    if (const std::vector<LayerSharing> sharing = sharingOf(model_, config); sharesAttention(sharing) || sharesCache(sharing))
      adjust("prune.heads", 0.0, "each layer loses other heads, so that what one layer attends to or keeps does not fit another: choose prune.heads or layers that share attention or caches.");
  }

  void headDim() {
    const Config& config = effective_.config;
    if (config.real("prune.head_dim") == 0) return;
    const auto refuse = [&](const std::string& reason) { adjust("prune.head_dim", 0.0, reason); };
    if (config.real("prune.heads") > 0) return refuse("heads are left out or narrowed, not both: choose prune.heads or prune.head_dim.");
    if (config.integer("prune.layers") > 0 && mergesLayers(config.text("prune.layers_method")))
      return refuse(config.text("prune.layers_method") + " makes layers whose heads are sums of other layers' heads: none of those was judged. Choose another prune.layers_method.");
    if (const std::vector<LayerSharing> sharing = sharingOf(model_, config); sharesAttention(sharing) || sharesCache(sharing)) return refuse("components of one layer's heads do not belong to those of another: choose prune.head_dim or layers that share attention or caches.");
    if (config.text("kv.positions") != "original") return refuse("positions within the cache turn keys by the frequencies of whole heads: choose prune.head_dim or kv.positions.");
    if (config.text("kv.policy") == "expected") return refuse("expected foretells queries by the frequencies of whole heads: choose prune.head_dim or another kv.policy.");
    const HeadDimMethod* method = findHeadDimMethod(config.text("prune.head_dim_method"));
    if (!method || !method->folds()) return;
    const PruneMethod* prune = findPruneMethod(config.text("prune.method"));
    const QuantizeMethod* quantize = findQuantizeMethod(config.text("weights.method"));
    const bool reads = (prune && (prune->needs.any() || config.text("prune.recovery") != "none")) || (quantize && (quantize->needs.any() || quantize->searchScales)) || config.integer("weights.error_rank") > 0;
    if (reads) return refuse(method->name + " gives o other inputs than those that were measured, at which pruning or quantization looks: choose prune.head_dim_method=random, or methods that look at weights alone.");
    if (config.text("prune.recovery") != "none" && !prune && config.real("prune.width") == 0)
      adjust("prune.recovery", std::string("none"), method->name + " fits values and outputs in any case, and nothing else is pruned.");
  }

  // What goes in steps that are large beside the share asked for, as heads do of which there are few.
  void wholeSteps() {
    constexpr double kTold = 0.025;  // half a step of the slider: nearer ones are as they were asked for
    const auto nearest = [&](const char* knob, int left, int all, const std::string& of) {
      const double share = 1 - static_cast<double>(left) / all;
      if (std::fabs(share - effective_.config.real(knob)) > kTold)
        adjust(knob, share, "of " + std::to_string(all) + " " + of + " " + std::to_string(all - left) + " can go, which is nearest to that.");
    };
    if (const double asked = effective_.config.real("prune.heads"); asked > 0) nearest("prune.heads", kvHeadsLeft(asked, model_.kvHeads), model_.kvHeads, "heads of keys and values");
    if (const double asked = effective_.config.real("prune.head_dim"); asked > 0) nearest("prune.head_dim", headDimLeft(asked, model_.headDim), model_.headDim, "components of a head");
  }

  void pattern() {
    const Config& config = effective_.config;
    const bool narrowed = config.real("prune.width") > 0 || config.real("prune.heads") > 0 || config.real("prune.head_dim") > 0;
    if (config.text("prune.recovery") != "none" && !narrowed && (config.text("prune.method") == "none" || (config.real("prune.ratio") == 0 && config.text("prune.ratios").empty())))
      adjust("prune.recovery", std::string("none"), "nothing is pruned: choose prune.ratio, prune.ratios, prune.pattern, prune.width, prune.heads or prune.head_dim to have something to recover from.");
    const PruneMethod* prune = findPruneMethod(config.text("prune.method"));
    if (prune && prune->needs.gradients && narrowed)
      adjust("prune.method", config.get("prune.initial"), prune->name + " judges masks by blocks of full width, and prune.width, prune.heads and prune.head_dim narrow them.");
    prune = findPruneMethod(effective_.config.text("prune.method"));
    if (prune && prune->changesRest && config.text("prune.scope") != "auto")
      adjust("prune.scope", std::string("auto"), prune->name + " compares weights as it works through them.");
    if (config.text("prune.storage") == "sparse" && config.text("activation.method") != "none")
      adjust("prune.storage", std::string("dense"), "activation.method reads rows and columns of matrices by their place, and sparse ones have none.");
    const PrunePattern pattern = parsePattern(config.text("prune.pattern"));
    if (!pattern.grouped()) return;
    const double ratio = static_cast<double>(pattern.zeros) / pattern.of;
    if (config.real("prune.ratio") > 0 && config.real("prune.ratio") != ratio) adjust("prune.ratio", ratio, "the pattern " + config.text("prune.pattern") + " zeroes exactly half of the weights.");
  }

  void layers() {
    const Config& config = effective_.config;
    const bool merges = mergesLayers(config.text("prune.layers_method"));
    const int64_t between = std::max<int64_t>(model_.layers - 2 * int64_t{protectedLayers(config.integer("prune.layers_protect"), model_.layers)}, 0);
    const int64_t most = merges ? std::max<int64_t>(between - 1, 0) : between;
    if (config.integer("prune.layers") > most)
      adjust("prune.layers", most, "of " + std::to_string(model_.layers) + " layers " + std::to_string(between) + " are not protected at the ends" +
                                       (merges ? ", and one of those is what the others are merged into." : "."));
    const PruneMethod* prune = findPruneMethod(effective_.config.text("prune.method"));
    if (merges && effective_.config.integer("prune.layers") > 0 && prune && prune->needs.gradients)
      adjust("prune.method", effective_.config.get("prune.initial"), prune->name + " judges masks by the weights of the file, and merged layers have others.");
  }

  void sharing() {
    const Config& config = effective_.config;
    const bool spans = config.text("share.method") == "spans";
    const bool either = sharesCaches(config) && !config.text("share.spans").empty();
    if ((spans || either) && config.integer("share.block") > 1) adjust("share.block", int64_t{1}, "share.spans says which layers share.");
    if (spans && config.text("share.spans").empty()) adjust("share.method", std::string("none"), "share.spans names no layers.");
    if (!spans && !either && !config.text("share.spans").empty()) adjust("share.spans", std::string(), "share.method=" + config.text("share.method") + " makes its own blocks.");
    if (const std::string& policy = config.text("kv.policy"); config.text("share.method") == "mix" && kvPolicy(policy).selects)
      adjust("kv.policy", std::string("streaming"), policy + " frees nothing, and share.method=mix keeps a window of the text in most layers.");
    if (config.text("share.method") == "mix" && config.integer("share.full") > cacheOwners(model_, config))
      adjust("share.full", cacheOwners(model_, config), "no more layers own a cache: all of them keep the whole text.");
    if (!makesBlocks(config) || config.integer("share.block") <= 1) return;
    const int64_t inner = model_.layers - config.integer("share.first") - config.integer("share.last");
    if (inner < 2)
      adjust("share.block", int64_t{1},
             "of " + std::to_string(model_.layers) + " layers " + std::to_string(std::max<int64_t>(inner, 0)) +
                 " lie between share.first and share.last: two are needed to share.");
  }

  void sharingFit() {
    const Config& config = effective_.config;
    const std::vector<LayerSharing> sharing = sharingOf(model_, config);
    const bool attention = sharesAttention(sharing), cache = sharesCache(sharing);
    if (config.boolean("share.align") && !attention)
      adjust("share.align", false, cache ? "share.method=" + config.text("share.method") + " leaves every layer its own attention: there are no heads of a leader to match."
                                         : "no layers share attention: choose share.block or share.spans.");
    if (config.boolean("share.refit") && !attention && !cache)
      adjust("share.refit", false, "no layers share attention, keys or values: choose share.block or share.spans.");
    const std::string& policy = effective_.config.text("kv.policy");
    const bool adaptive = policy != "full" && kvAllocation(effective_.config.text("kv.allocation"), kvPolicy(policy).allocation) == KvAllocation::adaptive;
    if (effective_.config.boolean("share.align") && policy != "full" && (adaptive || !kvPolicy(policy).keepsRuns))
      adjust("share.align", false, policy + " keeps other tokens for each head, so that attention of one does not fit the values of another.");
  }

  // The newest token stays besides the first ones, so a budget in tokens bounds them.
  void sinks() {
    const Config& config = effective_.config;
    const double budget = config.real("kv.budget");
    const KvPolicyInfo& info = kvPolicy(config.text("kv.policy"));
    if (info.name == "full" || info.selects || info.once || budget < 2) return;
    const char* const knob = info.protectedFirst();
    const int64_t room = static_cast<int64_t>(budget) - 1;
    if (config.integer(knob) <= room) return;
    const std::string what = info.usesSinks ? "sink" : "first token";
    adjust(knob, room, "a budget of " + std::to_string(room + 1) + " tokens has room for " + std::to_string(room) + " " + what + (room == 1 ? "" : "s") + " beside the newest token.");
  }

  // Newest tokens beside the first ones, and whole prompts.
  void protection() {
    const Config& config = effective_.config;
    const std::string& policy = config.text("kv.policy");
    const KvPolicyInfo& info = kvPolicy(policy);
    const int64_t room = static_cast<int64_t>(config.real("kv.budget")) - (info.once ? 0 : config.integer(info.protectedFirst()));
    if (config.real("kv.budget") >= 2 && policy != "full" && !info.selects && config.integer("kv.recent") > room)
      adjust("kv.recent", room, "the budget has room for " + std::to_string(room) + " tokens beside the first ones.");
    if (config.text("kv.when") == "prompt_end" && info.reads.carries)
      adjust("kv.when", std::string("interval"),
             policy + " adds up what every token attends to, and " + std::to_string(info.observes.newest) + " queries are remembered between two evictions: prompts are longer.");
  }

  // What adds up the attention of every token remembers so many queries between two evictions.
  void interval() {
    for (const KvPolicyInfo& info : kvPolicies()) {
      if (info.name != effective_.config.text("kv.policy") || !info.reads.carries || effective_.config.integer("kv.interval") <= info.observes.newest) continue;
      adjust("kv.interval", int64_t{info.observes.newest},
             info.name + " adds up what every token attends to, and " + std::to_string(info.observes.newest) + " queries are remembered between two evictions.");
    }
  }

  void positions() {
    const std::string& policy = effective_.config.text("kv.policy");
    if (effective_.config.text("kv.positions") == "original" || policy == "full" || kvPolicy(policy).keepsRuns) return;
    adjust("kv.positions", std::string("original"),
           policy + (kvPolicy(policy).selects ? " evicts nothing" : " keeps single tokens, and scores them where they were") +
               ": positions within the cache are for window and streaming.");
  }

  void cacheFormat() {
    constexpr int64_t kSmallestSet = 16;  // tokens
    const auto chosen = [&] { return KvFormat::of(effective_.config, model_.layers); };
    ModelConfig cached = model_;
    if (const double removed = effective_.config.real("prune.head_dim"); removed > 0) cached.headDim = headDimLeft(removed, model_.headDim);
    if (const auto reason = cannotSeal(cached); reason && chosen().quantizes()) {
      for (const char* knob : {"kv.k_bits", "kv.v_bits"})
        if (effective_.config.integer(knob) < 16) adjust(knob, int64_t{16}, *reason);
      if (!effective_.config.text("kv.layers").empty()) adjust("kv.layers", std::string(), *reason);
    }
    if (effective_.config.integer("kv.aligned") > 0) {
      const KvFormat asked = chosen();
      bool whole = false;
      for (int layer = 0; layer < model_.layers; ++layer) whole = whole || asked.bits(true, layer) == 16 || asked.bits(false, layer) == 16;
      if (const auto reason = cannotSplit(cached))
        adjust("kv.aligned", int64_t{0}, *reason);
      else if (!whole)
        adjust("kv.aligned", int64_t{0}, "keys and values are quantized in all layers: a page has codes or planes, and planes hold 16 bits.");
    }
    const KvFormat format = chosen();
    if (const auto reason = cannotRotate(cached); reason && format.rotateKeys) adjust("kv.rotate", false, *reason);
    if (const std::string& policy = effective_.config.text("kv.policy"); format.keysPerChannel && policy != "full" && !kvPolicy(policy).selects && effective_.config.integer("kv.interval") > 0 &&
        effective_.config.integer("kv.interval") < kSmallestSet)
      adjust("kv.interval", kSmallestSet,
             "keys quantized per channel share scales among tokens: evicting every " + std::to_string(kSmallestSet) + " tokens lets those that stay keep theirs.");
  }

  void prompts() {
    const std::string& policy = effective_.config.text("kv.policy");
    if (effective_.config.text("prefill.method") == "dense" || policy == "full" || kvPolicy(policy).selects) return;
    adjust("prefill.method", std::string("dense"), policy + " evicts while the prompt is read, so that blocks of the cache are not blocks of the text: choose one of the two.");
  }

  const ModelConfig& model_;
  Effective effective_;
};

}  // namespace

Effective resolve(const Config& requested, const ModelConfig& model) { return Resolver(requested, model).run(); }

}  // namespace winnow
