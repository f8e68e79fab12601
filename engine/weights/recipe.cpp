// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/recipe.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "engine/core/suggest.h"
#include "engine/prune/method.h"
#include "engine/quantize/method.h"
#include "engine/weights/blocks.h"

namespace winnow {
namespace {

// Names of weights.tensors. A tied head is the embedding: naming either quantizes the one matrix.
const std::map<std::string, TensorRole, std::less<>>& quantizableRoles() {
  static const std::map<std::string, TensorRole, std::less<>> roles = {
      {"embedding", TensorRole::tokenEmbedding}, {"head", TensorRole::head}, {"q", TensorRole::q},   {"k", TensorRole::k},
      {"v", TensorRole::v},                      {"o", TensorRole::o},       {"gate", TensorRole::gate}, {"up", TensorRole::up},
      {"down", TensorRole::down}};
  return roles;
}

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
      for (const auto& [name, role] : quantizableRoles()) roles.chosen.push_back(role);
    } else if (const auto found = quantizableRoles().find(word); found != quantizableRoles().end()) {
      roles.chosen.push_back(found->second);
      if (tiedHead && found->second == TensorRole::head) roles.chosen.push_back(TensorRole::tokenEmbedding);
    } else if (roles.unknown.empty()) {
      roles.unknown = word.empty() ? "an empty name" : word;
    }
  }
  return roles;
}

// Inputs that can be scaled: all matrices that read them are chosen, and the matrix that makes them, if one does.
std::vector<LinearInput> scalable(const Model& model, const Roles& roles) {
  std::vector<LinearInput> out;
  for (const LinearInput input : {LinearInput::attention, LinearInput::output, LinearInput::ffn, LinearInput::down}) {
    bool made = false, all = true;
    for (const MasterTensor& tensor : model.tensors()) {
      if (tensor.layer < 0) continue;
      const bool maker = madeBy(tensor.role, model.config()) == input, reader = inBlock(tensor.role) && linearInputOf(tensor.role) == input;
      made |= maker;
      if (isMatrix(tensor.role) && (maker || reader)) all &= roles.has(tensor.role);
    }
    if (made && all) out.push_back(input);
  }
  return out;
}

// What a method that scales does to one tensor.
void scale(const MasterTensor& tensor, const ModelConfig& model, const std::vector<LinearInput>& inputs, const ScalingChoice& choice, Recipe& recipe) {
  const auto has = [&](LinearInput input) { return std::find(inputs.begin(), inputs.end(), input) != inputs.end(); };
  if (tensor.layer < 0) return;
  if (inBlock(tensor.role) && has(linearInputOf(tensor.role))) recipe.scaledInput = linearInputOf(tensor.role);
  if (has(madeBy(tensor.role, model))) recipe.dividedFor = madeBy(tensor.role, model);
  if (recipe.scaledInput != LinearInput::count || recipe.dividedFor != LinearInput::count) recipe.scaling = choice;
}

WeightFormat quantizedFormat(const Config& config) {
  const std::string& group = config.text("weights.group");
  const auto bits = static_cast<uint8_t>(config.integer("weights.bits"));
  const std::string& symmetric = config.text("weights.symmetric");
  return {Storage::packed, bits, static_cast<uint16_t>(group == "row" ? 0 : std::stoi(group)),
          symmetric == "auto" ? bits > 3 : symmetric == "true"};
}

MethodOptions methodOptions(const QuantizeMethod& method, TensorRole role, const Config& config) {
  MethodOptions out;
  if (method.needs.factor) {
    out.ordered = config.boolean("weights.act_order");
    out.staticGroups = !out.ordered && config.boolean("weights.static_groups");
  }
  // Scores are products of queries and keys: what clipping does to them is not what it does to either.
  if (method.searchScales) out.clip = config.boolean("weights.clip") && role != TensorRole::q && role != TensorRole::k;
  return out;
}

}  // namespace

std::string Recipe::key() const {
  std::string out = format.describe();
  if (!method.empty()) out += " " + method;
  if (!prune.empty()) out += " " + prune + " " + toText(KnobValue{pruneRatio});
  if (!calibration.empty()) out += " [" + calibration + "]";
  if (options.ordered) out += " ordered";
  if (options.staticGroups) out += " static";
  if (options.clip) out += " clipped";
  if (scaledInput != LinearInput::count) out += " scaled";
  if (dividedFor != LinearInput::count) out += " divided for " + scaling.method + " " + scaling.format.describe();
  if (damping > 0) out += " damped " + toText(KnobValue{damping});
  return out;
}

std::string CalibrationChoice::identity() const {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  const auto time = std::filesystem::last_write_time(path, error).time_since_epoch().count();
  return path + " " + std::to_string(error ? 0 : size) + " " + std::to_string(error ? 0 : time) + " " + std::to_string(tokens);
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
  const bool quantize = config.text("weights.method") != "none" && config.integer("weights.bits") < 16;
  const PruneMethod* prune = config.real("prune.ratio") > 0 ? findPruneMethod(config.text("prune.method")) : nullptr;
  Roles roles;
  if (quantize) {
    const bool tied = model.config().tiedHead;
    roles = parseRoles(config.text("weights.tensors"), tied);
    if (!roles.unknown.empty()) {
      std::vector<std::string> known{"all"};
      for (const auto& [name, role] : quantizableRoles()) known.push_back(name);
      target.adjustments.push_back({"weights.tensors", config.get("weights.tensors"), std::string("all"),
                                    "weights.tensors holds " + roles.unknown + ", which is no matrix; the nearest is " +
                                        closest(roles.unknown, known) + ". Use all, or a comma list of embedding, q, k, v, o, gate, up, down, head."});
      roles = parseRoles("all", tied);
    }
  }
  const QuantizeMethod* method = quantize ? findQuantizeMethod(config.text("weights.method")) : nullptr;
  if (prune && prune->needs.gram() && method && method->searchScales) {
    target.adjustments.push_back({"weights.method", method->name, std::string("rtn"),
                                  prune->name + " corrects weights for inputs as they were measured, and " + method->name +
                                      " scales those: only one of the two can act. Choose rtn or gptq beside it."});
    method = findQuantizeMethod("rtn");
  }
  const InputNeeds pruneNeeds = prune ? prune->needs : InputNeeds{}, methodNeeds = method ? method->needs : InputNeeds{};
  std::string statistics;
  if (pruneNeeds.any() || methodNeeds.any()) {
    const std::string& chosen = config.text("calibration.text");
    target.calibration = CalibrationChoice{chosen.empty() ? sampleText : chosen, static_cast<int>(config.integer("calibration.tokens")),
                                           pruneNeeds.gram() || methodNeeds.gram()};
    statistics = target.calibration->identity();
  }
  const bool scales = method && method->searchScales;
  const std::vector<LinearInput> scaledInputs = scales ? scalable(model, roles) : std::vector<LinearInput>();
  for (const MasterTensor& tensor : model.tensors()) {
    Recipe recipe;
    recipe.format = isMatrix(tensor.role) ? ownFormat(tensor) : WeightFormat{};
    if (prune && inBlock(tensor.role)) {
      recipe.prune = prune->name;
      recipe.pruneRatio = config.real("prune.ratio");
      recipe.pruneNeeds = pruneNeeds;
      // A group minimum has no code for zero.
      if (recipe.format.storage == Storage::packed && !recipe.format.symmetric) recipe.format = {Storage::f16, 16, 0, true};
    }
    if (quantize && roles.has(tensor.role)) {
      recipe.format = quantizedFormat(config);
      recipe.method = method->name;
      if (inBlock(tensor.role)) {
        recipe.methodNeeds = methodNeeds;
        recipe.options = methodOptions(*method, tensor.role, config);
      }
    }
    if (scales) scale(tensor, model.config(), scaledInputs, {method->name, quantizedFormat(config)}, recipe);
    if (recipe.pruneNeeds.any() || recipe.methodNeeds.any() || !recipe.scaling.method.empty()) recipe.calibration = statistics;
    if (recipe.pruneNeeds.factor || recipe.methodNeeds.factor) recipe.damping = config.real("calibration.damping");
    target.anyPacked |= recipe.format.storage == Storage::packed;
    target.key += recipe.key() + "\n";
    target.recipes.push_back(std::move(recipe));
  }
  return target;
}

}  // namespace winnow
