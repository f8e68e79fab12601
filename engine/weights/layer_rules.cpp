// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/layer_rules.h"

#include <algorithm>
#include <charconv>

#include "engine/core/suggest.h"

namespace winnow {
namespace {

constexpr int kHighestLayer = 9999;
constexpr std::string_view kBetween = ", \t";

Error usage(int entry, std::string_view text, const std::string& problem, RuleValue kind) {
  return {ErrorCode::usage, "entry " + std::to_string(entry) + " \"" + std::string(text) + "\": " + problem + ".", layerRuleHelp(kind)};
}

std::optional<int> layerNumber(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0 || value > kHighestLayer || text.empty()) return std::nullopt;
  return value;
}

// What is wrong with a value, or "".
std::string readValue(std::string_view text, RuleValue kind, double& value) {
  const std::string shown = text.empty() ? "an empty value" : std::string(text);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool number = error == std::errc() && end == text.data() + text.size();
  if (kind == RuleValue::cache) {
    const bool known = number && (value == 16 || value == 8 || value == 4 || value == 3 || value == 2);
    return known ? "" : shown + " is no bit width of a cache, expected 16, 8, 4, 3 or 2";
  }
  if (kind == RuleValue::bits) {
    const bool known = number && (value == 16 || value == 8 || (value >= 2 && value <= 6 && value == static_cast<int>(value)));
    return known ? "" : shown + " is no bit width, expected 16, 8, 6, 5, 4, 3 or 2";
  }
  return number && value >= 0 && value <= 0.95 ? "" : shown + " is no ratio, expected a number from 0 to 0.95";
}

// What is wrong with a place, or "".
std::string readPlace(std::string_view text, RuleValue kind, LayerRule& rule) {
  const size_t dot = text.find('.');
  std::string_view layers = text.substr(0, dot), matrix = dot == std::string_view::npos ? std::string_view() : text.substr(dot + 1);
  if (dot == std::string_view::npos && !text.empty() && text[0] != '*' && (text[0] < '0' || text[0] > '9')) {
    matrix = text;
    layers = {};
    rule.blocks = false;
  }
  if (!matrix.empty() || dot != std::string_view::npos) {
    const auto found = matrixNames().find(matrix);
    if (found == matrixNames().end()) {
      std::vector<std::string> known;
      for (const auto& [name, role] : matrixNames()) known.push_back(name);
      return (matrix.empty() ? "an empty name" : std::string(matrix)) + " is no matrix, the nearest is " + closest(matrix, known) +
             "; expected q, k, v, o, gate, up, down, embedding or head";
    }
    rule.role = found->second;
    if (kind == RuleValue::cache && *rule.role != TensorRole::k && *rule.role != TensorRole::v)
      return std::string(matrix) + " is no part of the cache, expected k or v";
    if (rule.blocks && (*rule.role == TensorRole::tokenEmbedding || *rule.role == TensorRole::head))
      return "the " + std::string(matrix) + " lies in no layer, expected it alone";
  }
  if (!rule.blocks) return "";
  if (layers == "*") {
    rule.every = true;
    return "";
  }
  const size_t dash = layers.find('-');
  const auto first = layerNumber(layers.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : layerNumber(layers.substr(dash + 1));
  if (!first || !last) return (layers.empty() ? "an empty place" : std::string(layers)) + " is no layer, expected 3, 0-3 or *";
  if (*first > *last) return "the range " + std::string(layers) + " runs backwards, expected the lower layer first";
  rule.first = *first;
  rule.last = *last;
  return "";
}

}  // namespace

const std::map<std::string, TensorRole, std::less<>>& matrixNames() {
  static const std::map<std::string, TensorRole, std::less<>> names = {
      {"embedding", TensorRole::tokenEmbedding}, {"head", TensorRole::head}, {"q", TensorRole::q},   {"k", TensorRole::k},
      {"v", TensorRole::v},                      {"o", TensorRole::o},       {"gate", TensorRole::gate}, {"up", TensorRole::up},
      {"down", TensorRole::down}};
  return names;
}

const char* layerRuleHelp(RuleValue kind) {
  if (kind == RuleValue::cache)
    return "Entries are WHERE:BITS, apart by commas or spaces: a layer (3), a range (0-3), every layer (*), or keys or values alone of those "
           "(0-3.k, *.v). The last entry that matches wins.";
  return "Entries are WHERE:VALUE, apart by commas or spaces: a layer (3), a range (0-3), every layer (*), a matrix of those (0-3.down), "
         "or a matrix alone (down, head). The last entry that matches wins.";
}

Result<std::vector<LayerRule>> parseLayerRules(std::string_view text, RuleValue kind) {
  std::vector<LayerRule> rules;
  for (size_t at = text.find_first_not_of(kBetween); at != std::string_view::npos;) {
    const size_t end = std::min(text.find_first_of(kBetween, at), text.size());
    const std::string_view entry = text.substr(at, end - at);
    const int number = static_cast<int>(rules.size()) + 1;
    at = text.find_first_not_of(kBetween, end);
    const size_t colon = entry.find(':');
    if (colon == std::string_view::npos) return usage(number, entry, "there is no colon, expected WHERE:VALUE such as 0-3:8", kind);
    LayerRule rule;
    std::string problem = readPlace(entry.substr(0, colon), kind, rule);
    if (problem.empty()) problem = readValue(entry.substr(colon + 1), kind, rule.value);
    if (!problem.empty()) return usage(number, entry, problem, kind);
    rules.push_back(rule);
  }
  return rules;
}

std::optional<std::string> outOfModel(const std::vector<LayerRule>& rules, int layers) {
  for (const LayerRule& rule : rules)
    if (rule.blocks && !rule.every && rule.last >= layers)
      return "layer " + std::to_string(rule.last) + " is named, but the model has layers 0 to " + std::to_string(layers - 1) + ".";
  return std::nullopt;
}

std::optional<RuleMatch> matchLayerRules(const std::vector<LayerRule>& rules, TensorRole role, int layer, bool tiedHead) {
  for (auto rule = rules.rbegin(); rule != rules.rend(); ++rule) {
    if (rule->role && *rule->role != role && !(tiedHead && *rule->role == TensorRole::head && role == TensorRole::tokenEmbedding)) continue;
    if (rule->blocks && (layer < 0 || (!rule->every && (layer < rule->first || layer > rule->last)))) continue;
    return RuleMatch{rule->value, rule->role.has_value()};
  }
  return std::nullopt;
}

}  // namespace winnow
