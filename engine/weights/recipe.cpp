// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/recipe.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "engine/core/sha256.h"
#include "engine/core/suggest.h"
#include "engine/prune/method.h"
#include "engine/quantize/code_format.h"
#include "engine/quantize/method.h"
#include "engine/recover/method.h"
#include "engine/share/registry.h"
#include "engine/sparsify/method.h"
#include "engine/weights/blocks.h"
#include "engine/weights/head_folds.h"
#include "engine/weights/layer_rules.h"

namespace winnow {
namespace {

bool inBlock(TensorRole role) {  // the linear layers of the blocks
  return isMatrix(role) && role != TensorRole::tokenEmbedding && role != TensorRole::positionEmbedding && role != TensorRole::head;
}

// The input of a layer that a tensor makes alone, without a nonlinear step between: scaling it can be undone there. count = none.
LinearInput madeBy(TensorRole role, const ModelConfig& model) {
  switch (role) {
    case TensorRole::attnNorm:
    case TensorRole::attnNormBias:
      return LinearInput::attention;
    case TensorRole::ffnNorm:
    case TensorRole::ffnNormBias:
      return LinearInput::ffn;
    case TensorRole::v:
    case TensorRole::vBias:
      return model.heads == model.kvHeads ? LinearInput::output : LinearInput::count;
    case TensorRole::up:
    case TensorRole::upBias:
      return model.gatedFfn ? LinearInput::down : LinearInput::count;
    default:
      return LinearInput::count;
  }
}

struct Roles {
  std::vector<TensorRole> chosen;
  std::string unknown;  // the first word that is none
  bool has(TensorRole role) const { return std::find(chosen.begin(), chosen.end(), role) != chosen.end(); }
};

Roles parseRoles(const std::string& text, bool tiedHead) {
  Roles roles;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    std::string word = text.substr(at, comma - at);
    word.erase(0, word.find_first_not_of(' '));
    word.erase(word.find_last_not_of(' ') + 1);
    at = comma + 1;
    if (word == "all") {
      for (const auto& [name, role] : matrixNames()) roles.chosen.push_back(role);
    } else if (const auto found = matrixNames().find(word); found != matrixNames().end()) {
      roles.chosen.push_back(found->second);
      if (tiedHead && found->second == TensorRole::head) roles.chosen.push_back(TensorRole::tokenEmbedding);
    } else if (roles.unknown.empty()) {
      roles.unknown = word.empty() ? "an empty name" : word;
    }
  }
  return roles;
}

// Codes of weights.format where they have this width, else integers.
WeightFormat quantizedFormat(const Config& config, int bits) {
  const std::string& group = config.text("weights.group");
  const std::string& symmetric = config.text("weights.symmetric");
  const CodeFormat* codes = findCodeFormat(config.text("weights.format"));
  if (codes && codes->bits != bits) codes = nullptr;
  int size = group == "row" ? 0 : group == "auto" ? (codes ? codes->group : 32) : std::stoi(group);
  if (codes && codes->fixedGroup) size = codes->group;
  return {Storage::packed, static_cast<uint8_t>(bits), static_cast<uint16_t>(size), codes || (symmetric == "auto" ? bits > 3 : symmetric == "true"), 0,
          codes ? codes->code : Code::integer};
}

// The widths and ratios of each matrix: its own entry, or the knob for all.
class PerMatrix {
 public:
  PerMatrix(const Config& config, bool tiedHead)
      : tiedHead_(tiedHead), bits_(static_cast<int>(config.integer("weights.bits"))), ratio_(config.real("prune.ratio")),
        layers_(rules(config, "weights.layers", RuleValue::bits)), ratios_(rules(config, "prune.ratios", RuleValue::ratio)) {}
  bool quantizes() const { return bits_ < 16 || !layers_.empty(); }
  bool prunes() const { return ratio_ > 0 || !ratios_.empty(); }

  int bits(const MasterTensor& tensor, const Roles& roles) const {
    if (!isMatrix(tensor.role) || tensor.role == TensorRole::positionEmbedding) return 16;
    const auto rule = matchLayerRules(layers_, tensor.role, tensor.layer, tiedHead_);
    if (!roles.has(tensor.role) && !(rule && rule->named)) return 16;
    return rule ? static_cast<int>(rule->value) : bits_;
  }
  double ratio(const MasterTensor& tensor) const {
    if (!inBlock(tensor.role)) return 0;
    const auto rule = matchLayerRules(ratios_, tensor.role, tensor.layer, tiedHead_);
    return rule ? rule->value : ratio_;
  }

 private:
  static std::vector<LayerRule> rules(const Config& config, const char* knob, RuleValue kind) {
    auto parsed = parseLayerRules(config.text(knob), kind);
    return parsed ? std::move(*parsed) : std::vector<LayerRule>();  // resolve() has dropped and reported what is malformed
  }
  bool tiedHead_;
  int bits_;
  double ratio_;
  std::vector<LayerRule> layers_, ratios_;
};

// Inputs that a method scales, per layer, for the format of the matrices that read them: one, of all that do; what makes the input is a norm
// or, where the method takes those too, a matrix that is quantized as well.
using Scalable = std::map<std::pair<int, LinearInput>, ScalingChoice>;

Scalable scalable(const Model& model, const Config& config, const QuantizeMethod& method, const PerMatrix& wanted, const Roles& roles) {
  struct Found {
    std::set<int> widths;  // of the readers
    bool made = false, sound = true;
  };
  std::map<std::pair<int, LinearInput>, Found> found;
  for (const MasterTensor& tensor : model.tensors()) {
    if (tensor.layer < 0) continue;
    const int bits = isMatrix(tensor.role) ? wanted.bits(tensor, roles) : 0;
    if (const LinearInput makes = madeBy(tensor.role, model.config()); makes != LinearInput::count) {
      Found& input = found[{tensor.layer, makes}];
      input.made = true;
      input.sound &= bits < 16 && !(method.scalesNormed && isMatrix(tensor.role));
    }
    if (inBlock(tensor.role)) found[{tensor.layer, linearInputOf(tensor.role)}].widths.insert(bits);
  }
  Scalable out;
  const double strength = method.scalesNormed ? config.real("weights.smoothing") : 0;
  for (const auto& [input, f] : found)
    if (f.made && f.sound && f.widths.size() == 1 && *f.widths.begin() < 16) out[input] = {method.name, quantizedFormat(config, *f.widths.begin()), strength};
  return out;
}

// What a method that scales does to one tensor.
void scale(const MasterTensor& tensor, const ModelConfig& model, const Scalable& inputs, Recipe& recipe) {
  const auto choice = [&](LinearInput input) {
    const auto found = inputs.find({tensor.layer, input});
    return found == inputs.end() ? Scaling() : Scaling{input, found->second};
  };
  if (inBlock(tensor.role)) recipe.multiplied = choice(linearInputOf(tensor.role));
  recipe.divided = choice(madeBy(tensor.role, model));
}

// Of weights.tensors; what it names wrongly is reported, and all are taken.
Roles chosenRoles(const Model& model, const Config& config, WeightTarget& target) {
  const bool tied = model.config().tiedHead;
  Roles roles = parseRoles(config.text("weights.tensors"), tied);
  if (roles.unknown.empty()) return roles;
  std::vector<std::string> known{"all"};
  for (const auto& [name, role] : matrixNames()) known.push_back(name);
  target.adjustments.push_back({"weights.tensors", config.get("weights.tensors"), std::string("all"),
                                "weights.tensors holds " + roles.unknown + ", which is no matrix; the nearest is " + closest(roles.unknown, known) +
                                    ". Use all, or a comma list of embedding, q, k, v, o, gate, up, down, head."});
  return parseRoles("all", tied);
}

MethodOptions methodOptions(const QuantizeMethod& method, TensorRole role, const Config& config) {
  MethodOptions out;
  if (method.needs.factor) {
    out.ordered = config.boolean("weights.act_order");
    out.staticGroups = !out.ordered && config.boolean("weights.static_groups");
  }
  // Scores are products of queries and keys: what clipping does to them is not what it does to either.
  if (method.clips) out.clip = config.boolean("weights.clip") && role != TensorRole::q && role != TensorRole::k;
  return out;
}

// How weights are pruned, and what is left recovered; null: not.
struct Pruning {
  const PruneMethod* method = nullptr;
  const PruneMethod* initial = nullptr;  // whose mask the method corrects; null: it makes its own
  const RecoveryMethod* recovery = nullptr;
  Pruning(const Config& config, bool any)
      : method(any ? findPruneMethod(config.text("prune.method")) : nullptr),
        initial(method && method->needs.gradients ? findPruneMethod(config.text("prune.initial")) : nullptr),
        recovery(method ? findRecoveryMethod(config.text("prune.recovery")) : nullptr) {}
  InputNeeds needs() const { return (method ? method->needs : InputNeeds{}) | (initial ? initial->needs : InputNeeds{}); }
  InputNeeds recoveryNeeds() const { return recovery ? recovery->needs : InputNeeds{}; }
  // Whichever goes by the inputs as they were measured, and how; "" when neither does.
  std::string fits() const {
    if (needs().gram()) return method->name + " corrects weights for";
    if (recoveryNeeds().gram()) return recovery->name + " corrects weights for";
    return needs().gradients ? method->name + " judges weights by" : "";
  }

  void of(double ratio, const Config& config, Recipe& recipe) const {
    recipe.prune = method->name;
    recipe.prunePattern = config.text("prune.pattern");
    const PrunePattern pattern = parsePattern(recipe.prunePattern);
    recipe.pruneRatio = pattern.grouped() ? static_cast<double>(pattern.zeros) / pattern.of : ratio;
    const std::string& scope = config.text("prune.scope");
    recipe.pruneScope = scope != "auto" ? scope : (initial ? initial : method)->scope == PruneScope::row ? "row" : "matrix";
    if (initial) {
      recipe.pruneInitial = initial->name;
      recipe.swapShare = config.real("prune.swap");
    }
    recipe.pruneNeeds = needs();
    recipe.recoveryNeeds = recoveryNeeds();
    if (recovery) recipe.recovery = recovery->name;
    // A group minimum has no code for zero, and the file's scales are not those of other values.
    if (recipe.format.storage == Storage::packed && (!recipe.format.symmetric || method->changesRest || (recovery && recovery->prepare))) recipe.format = {Storage::f16, 16, 0, true};
  }
};

// Whether zeros are left out of a matrix, where that makes it smaller.
bool leavesOut(const Config& config, const MasterTensor& tensor, Recipe& recipe) {
  if (config.text("prune.storage") != "sparse" || recipe.prune.empty() || !recipe.method.empty() || recipe.format.storage == Storage::packed) return false;
  WeightFormat sparse = recipe.format;
  sparse.sparse = true;
  sparse.kept = static_cast<float>(1 - recipe.pruneRatio);
  const auto rows = static_cast<int>(tensor.rows), cols = static_cast<int>(tensor.cols);
  if (sparse.bytes(rows, cols) >= recipe.format.bytes(rows, cols)) return false;
  recipe.format = sparse;
  return true;
}

InputNeeds refitNeeds(const std::string& recovery) {
  const RecoveryMethod* method = findRecoveryMethod(recovery);
  return method ? method->needs : InputNeeds{};
}

// Whether and how feed-forwards are narrowed.
std::optional<WidthChoice> widthChoice(const Config& config) {
  const WidthMethod* method = config.real("prune.width") > 0 ? findWidthMethod(config.text("prune.width_method")) : nullptr;
  if (!method) return std::nullopt;
  const RecoveryMethod* recovery = findRecoveryMethod(config.text("prune.recovery"));
  const std::string own = !method->refits ? "" : recovery && recovery->constant ? "regression" : "least-squares";
  return WidthChoice{method->name, config.real("prune.width"), recovery && (recovery->refits || !method->refits) ? recovery->name : own, config.real("calibration.damping")};
}
InputNeeds widthNeeds(const std::optional<WidthChoice>& choice) {
  if (!choice) return {};
  return findWidthMethod(choice->method)->needs | refitNeeds(choice->recovery);
}

// Whether and how heads are left out.
std::optional<HeadChoice> headChoice(const Config& config) {
  const HeadMethod* method = config.real("prune.heads") > 0 ? findHeadMethod(config.text("prune.heads_method")) : nullptr;
  if (!method) return std::nullopt;
  const RecoveryMethod* recovery = findRecoveryMethod(config.text("prune.recovery"));
  return HeadChoice{method->name, config.real("prune.heads"), recovery ? recovery->name : "", config.real("calibration.damping")};
}
std::optional<HeadDimChoice> headDimChoice(const Config& config) {
  const HeadDimMethod* method = config.real("prune.head_dim") > 0 ? findHeadDimMethod(config.text("prune.head_dim_method")) : nullptr;
  if (!method) return std::nullopt;
  const RecoveryMethod* recovery = method->folds() ? nullptr : findRecoveryMethod(config.text("prune.recovery"));
  return HeadDimChoice{method->name, config.real("prune.head_dim"), recovery ? recovery->name : "", config.real("calibration.damping")};
}
InputNeeds headDimNeeds(const std::optional<HeadDimChoice>& choice) {
  if (!choice) return {};
  return InputNeeds{.moments = findHeadDimMethod(choice->method)->moments} | refitNeeds(choice->recovery);
}
InputNeeds headNeeds(const std::optional<HeadChoice>& choice) {
  if (!choice) return {};
  return InputNeeds{.norms = findHeadMethod(choice->method)->norms} | refitNeeds(choice->recovery);
}

// What activation sparsity needs beside the weights.
void addActivation(const Config& config, const std::string& sampleText, WeightTarget& target) {
  const ActivationMethod* method = findActivationMethod(config.text("activation.method"));
  if (!method) return;
  target.activation = method->name;
  target.key += "activations by " + method->name;
  if (method->calibrates) {
    const std::string& chosen = config.text("calibration.text");
    target.profiled = CalibrationChoice{chosen.empty() ? sampleText : chosen, static_cast<int>(config.integer("calibration.tokens"))};
    target.key += " [" + target.profiled->identity() + "]";
  }
}

// The model in which a first mask is judged: as that leaves it and nothing else.
Config maskedAlone(const Config& config) {
  Config out;
  for (const char* name : {"prune.ratio", "prune.ratios", "prune.pattern", "prune.scope", "calibration.text", "calibration.tokens", "calibration.damping"})
    out = out.with(name, config.get(name));
  return out.with("prune.method", config.get("prune.initial"));
}

}  // namespace

std::string Recipe::key() const {
  std::string out = format.describe();
  if (!method.empty()) out += " " + method;
  if (!prune.empty()) out += " " + prune + " " + toText(KnobValue{pruneRatio}) + " " + prunePattern + " " + pruneScope;
  if (!pruneInitial.empty()) out += " from " + pruneInitial + " " + toText(KnobValue{swapShare}) + " in " + masked;
  if (!recovery.empty()) out += " recovered by " + recovery;
  if (!constantsOf.empty()) out += " and constants of " + constantsOf;
  if (!calibration.empty()) out += " [" + calibration + "]";
  if (options.ordered) out += " ordered";
  if (options.staticGroups) out += " static";
  if (options.clip) out += " clipped";
  if (errorRank > 0) out += " and rank " + std::to_string(errorRank);
  if (!outputFit.empty()) out += " fitted to " + outputFit;
  out += sumKey() + scalingKey();
  if (super != SuperWeights::asOthers) out += (super == SuperWeights::keep ? " super kept " : " super zero ") + std::to_string(superCount);
  if (damping > 0) out += " damped " + toText(KnobValue{damping});
  return out;
}

bool Recipe::addsConstants() const {
  const auto adds = [](const std::string& name) {
    const RecoveryMethod* chosen = findRecoveryMethod(name);
    return chosen && chosen->constant;
  };
  return adds(recovery) || adds(refit);
}

std::string Recipe::sumKey() const {
  std::string out;
  for (const LayerShare& share : sum) out += " + " + toText(KnobValue{double{share.weight}}) + " of layer " + std::to_string(share.layer);
  if (kept) out += " " + kept->key;
  if (folds) out += " folded " + folds->key;
  if (queryScale != 1) out += " times " + toText(KnobValue{double{queryScale}});
  if (!refit.empty()) out += " refitted by " + refit + " damped " + toText(KnobValue{refitDamping});
  if (slice) out += " sliced to " + slice->key();
  return out;
}

std::string Recipe::scalingKey() const {
  const auto text = [](const ScalingChoice& choice) {
    return choice.method + " " + choice.format.describe() + (choice.strength > 0 ? " " + toText(KnobValue{choice.strength}) : "");
  };
  std::string out;
  if (multiplied) out += " multiplied for " + text(multiplied.choice);
  if (divided) out += " divided for " + text(divided.choice);
  return out;
}

std::string Recipe::scoresKey() const { return prune + " " + pruneInitial + " " + pruneScope + " [" + calibration + "]" + scalingKey() + sumKey() + outputFit; }

namespace {

// The file's blocks hold its own values alone.
Recipe withOtherValues(Recipe recipe) {
  if (recipe.method.empty() && recipe.format.storage == Storage::packed) recipe.format = {Storage::f16, 16, 0, true};
  return recipe;
}

}  // namespace

Recipe summed(Recipe recipe, std::vector<LayerShare> sum) {
  recipe.sum = std::move(sum);
  return withOtherValues(std::move(recipe));
}

Recipe refitted(Recipe recipe, std::string fit) {
  recipe.outputFit = std::move(fit);
  return withOtherValues(std::move(recipe));
}

Recipe folded(Recipe recipe, std::shared_ptr<const HeadFolds> folds) {
  recipe.folds = std::move(folds);
  return withOtherValues(std::move(recipe));
}

std::string SharingFitChoice::key() const {
  std::string out = std::string(align ? "aligned" : "") + (refit ? " fitted, damped " + toText(KnobValue{damping}) : "") + " [" + calibration.identity() + "]";
  for (size_t layer = 0; layer < sharing.size(); ++layer)
    if (sharing[layer].attnSource != static_cast<int>(layer)) out += " " + std::to_string(layer) + "<-" + std::to_string(sharing[layer].attnSource);
  for (size_t layer = 0; layer < sharing.size(); ++layer)
    if (sharing[layer].source != static_cast<int>(layer)) out += " " + std::to_string(layer) + " reads " + std::to_string(sharing[layer].source);
  return out;
}

Recipe sliced(Recipe recipe, Bases bases) {
  recipe.slice = std::move(bases);
  return withOtherValues(std::move(recipe));
}

std::string SliceChoice::key() const { return toText(KnobValue{removed}) + " of the stream [" + calibration.identity() + "]"; }

Recipe narrowed(Recipe recipe, TensorRole role, Channels kept, const std::string& recovery, double damping, const std::string& calibration) {
  recipe.kept = std::move(kept);
  if (recipe.queryScale != 1) recipe = withOtherValues(std::move(recipe));
  if (role != TensorRole::down && role != TensorRole::o) return recipe;
  recipe.refit = recovery;
  recipe.refitDamping = recovery.empty() ? 0 : damping;
  if (!recovery.empty()) recipe.calibration = calibration;
  if (!recipe.method.empty() || recipe.format.storage != Storage::packed) return recipe;
  recipe.format = {Storage::packed, 8, 32, true};
  recipe.method = "rtn";
  return recipe;
}

std::string CalibrationChoice::identity() const {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  const auto time = std::filesystem::last_write_time(path, error).time_since_epoch().count();
  return path + " " + std::to_string(error ? 0 : size) + " " + std::to_string(error ? 0 : time) + " " + std::to_string(tokens) +
         (sliced > 0 ? " sliced " + toText(KnobValue{sliced}) : "");
}

WeightFormat ownFormat(const MasterTensor& tensor) {
  switch (tensor.type) {
    case DType::f32: return {Storage::f32, 32, 0, true};
    case DType::f16: return {Storage::f16, 16, 0, true};
    case DType::bf16: return {Storage::bf16, 16, 0, true};
    default: break;
  }
  if (const auto exact = exactFormat(tensor.type); exact && tensor.cols % dtypeTraits(tensor.type).blockValues == 0) return *exact;
  return {Storage::f16, 16, 0, true};
}

bool isWeightKnob(std::string_view name) {
  return name.starts_with("weights.") || name.starts_with("prune.") || name.starts_with("calibration.");
}

WeightTarget weightTarget(const Model& model, const Config& config, const std::string& sampleText) {
  WeightTarget target;
  const PerMatrix wanted(config, model.config().tiedHead);
  const bool quantize = config.text("weights.method") != "none" && wanted.quantizes();
  const Pruning pruning(config, wanted.prunes());
  const Roles roles = quantize ? chosenRoles(model, config, target) : Roles();
  const QuantizeMethod* method = quantize ? findQuantizeMethod(config.text("weights.method")) : nullptr;
  if (!pruning.fits().empty() && method && method->searchScales) {
    target.adjustments.push_back({"weights.method", method->name, std::string("rtn"),
                                  pruning.fits() + " inputs as they were measured, and " + method->name +
                                      " scales those: only one of the two can act. Choose rtn or gptq beside it."});
    method = findQuantizeMethod("rtn");
  }
  const int errorRank = method ? static_cast<int>(config.integer("weights.error_rank")) : 0;
  target.width = widthChoice(config);
  target.heads = headChoice(config);
  target.headDims = headDimChoice(config);
  const InputNeeds methodNeeds = method ? method->needs : InputNeeds{},
                   needs = pruning.needs() | pruning.recoveryNeeds() | methodNeeds | widthNeeds(target.width) | headNeeds(target.heads) | headDimNeeds(target.headDims) | InputNeeds{.moments = errorRank > 0};
  std::string statistics;
  if (const int64_t count = config.integer("prune.layers"); count > 0 && config.text("prune.layers_method") != "none")
    target.layers = {config.text("prune.layers_method"), static_cast<int>(count), protectedLayers(config.integer("prune.layers_protect"), model.config().layers),
                     static_cast<int>(config.integer("prune.merge")), config.real("prune.merge_similarity")};
  const std::string& chosen = config.text("calibration.text");
  CalibrationChoice calibration{chosen.empty() ? sampleText : chosen, static_cast<int>(config.integer("calibration.tokens")), needs.gram()};
  if (const double removed = config.real("prune.slice"); removed > 0) {
    target.slice = SliceChoice{removed, {calibration.path, calibration.tokens}};
    target.key += "sliced by " + target.slice->key() + "\n";
    calibration.sliced = removed;  // what is measured for other methods is what sliced weights read
  }
  if (needs.any() || target.layers.count > 0 || (target.width && findWidthMethod(target.width->method)->shares) || (target.heads && findHeadMethod(target.heads->method)->relevance)) {
    target.calibration = calibration;
    statistics = calibration.identity();
  }
  SharingFitChoice sharing{sharingOf(model.config(), config), model.config().heads, config.boolean("share.align"), config.boolean("share.refit"), config.real("calibration.damping"), calibration};
  if ((sharing.align || sharing.refit) && (sharesAttention(sharing.sharing) || sharesCache(sharing.sharing))) target.sharing = std::move(sharing);
  if (target.layers.count > 0)
    target.key += "without " + layerDropKey(target.layers) + " [" + statistics + "]\n";
  if (target.sharing) target.key += "sharing " + target.sharing->key() + "\n";
  if (target.width) target.key += "without " + widthKey(*target.width) + " [" + statistics + "]\n";
  if (target.heads) {
    target.attentionKey = std::to_string(target.heads->removed) + " of the heads by " + target.heads->method + " [" + calibration.identity() + "]";
    target.key += "without " + headKey(*target.heads) + " [" + statistics + "]\n";
  }
  if (target.headDims) {
    target.attentionKey += std::to_string(target.headDims->removed) + " of the heads' components by " + target.headDims->method + " [" + calibration.identity() + "]";
    target.key += "without " + headDimKey(*target.headDims) + " [" + statistics + "]\n";
  }
  if (pruning.initial) target.masked = std::make_shared<const WeightTarget>(weightTarget(model, maskedAlone(config), sampleText));
  const std::string masked = target.masked ? sha256Hex(target.masked->key) : "";
  const Scalable scalings = method && method->searchScales ? scalable(model, config, *method, wanted, roles) : Scalable();
  bool coded = false;  // some matrix is rounded to weights.format
  bool sparse = false;  // some matrix leaves its zeros out
  for (const MasterTensor& tensor : model.tensors()) {
    Recipe recipe;
    recipe.format = isMatrix(tensor.role) ? ownFormat(tensor) : WeightFormat{};
    if (const double ratio = pruning.method ? wanted.ratio(tensor) : 0; ratio > 0) {
      pruning.of(ratio, config, recipe);
      if (pruning.initial) recipe.masked = masked;
    }
    if (const int bits = quantize ? wanted.bits(tensor, roles) : 16; bits < 16) {
      recipe.format = quantizedFormat(config, method->bits > 0 ? method->bits : bits);
      recipe.format.symmetric |= method->bits > 0;
      recipe.method = method->name;
      if (inBlock(tensor.role)) {
        recipe.methodNeeds = methodNeeds;
        recipe.options = methodOptions(*method, tensor.role, config);
        recipe.errorRank = errorRank;
      }
    }
    if (!scalings.empty() && tensor.layer >= 0) scale(tensor, model.config(), scalings, recipe);
    const InputNeeds asked = recipe.pruneNeeds | recipe.recoveryNeeds | recipe.methodNeeds;
    if (asked.any() || recipe.scaled() || recipe.errorRank > 0) recipe.calibration = statistics;
    if (asked.factor || recipe.recoveryNeeds.gram()) recipe.damping = config.real("calibration.damping");
    if (tensor.role == TensorRole::down) recipe.super = superWeightsNamed(config.text("weights.super"));
    if (recipe.super == SuperWeights::keep && recipe.method.empty()) recipe.super = SuperWeights::asOthers;  // nothing is rounded
    if (recipe.super == SuperWeights::zero && recipe.method.empty() && recipe.format.storage == Storage::packed) recipe.format = {Storage::f16, 16, 0, true};
    if (target.slice && slices(tensor.role)) recipe = withOtherValues(std::move(recipe));
    sparse |= leavesOut(config, tensor, recipe);
    target.superWeights |= recipe.super != SuperWeights::asOthers;
    target.anyPacked |= recipe.format.storage == Storage::packed;
    target.takesInt8 |= recipe.format.dotsInt8();
    coded |= recipe.format.code != Code::integer && !recipe.method.empty();
    target.key += recipe.key() + "\n";
    target.recipes.push_back(std::move(recipe));
  }
  addActivation(config, sampleText, target);
  if (config.text("prune.storage") == "sparse" && pruning.method && !sparse)
    target.adjustments.push_back({"prune.storage", std::string("sparse"), std::string("dense"),
                                  "no pruned matrix would be smaller without its zeros: quantized codes keep theirs, and of 16-bit values more than a sixteenth has to go."});
  if (const CodeFormat* codes = findCodeFormat(config.text("weights.format")); codes && !coded)
    target.adjustments.push_back({"weights.format", codes->name, std::string("integer"),
                                  codes->name + " has codes of " + std::to_string(codes->bits) + " bits, and weights.layers gives no quantized matrix that width."});
  return target;
}

}  // namespace winnow
