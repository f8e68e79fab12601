// SPDX-License-Identifier: GPL-3.0-or-later
// Values per layer and per tensor, as text: "0-3:8, 4-31:4, *.down:6, head:16". An entry is WHERE:VALUE; the last that matches wins.
// Of the cache only keys and values can be named, as the k and v of a layer: "0-1:8, *.k:4, *.v:2".
#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/result.h"
#include "engine/model/model.h"

namespace winnow {

// The matrices a person can name. A tied head is the embedding: naming either means the one matrix.
const std::map<std::string, TensorRole, std::less<>>& matrixNames();

struct LayerRule {
  bool blocks = true;              // false: a matrix alone, in whatever layer and outside them
  bool every = false;              // *
  int first = 0, last = 0;         // layers, both included, when neither of the above
  std::optional<TensorRole> role;  // none: every matrix of the layers
  double value = 0;
};

enum class RuleValue { bits, ratio, cache };  // cache: bits of keys and values

// Entries stand apart by commas or spaces. WHERE is a layer (3), a range (0-3), every layer (*), each of them with .MATRIX or alone, or a
// matrix alone (down, head). Errors (usage) name the entry, what is wrong and what is expected.
Result<std::vector<LayerRule>> parseLayerRules(std::string_view text, RuleValue kind);
const char* layerRuleHelp(RuleValue kind = RuleValue::bits);  // the grammar in a sentence

// Why the rules can't be used on a model of so many layers; nullopt when they can.
std::optional<std::string> outOfModel(const std::vector<LayerRule>& rules, int layers);

struct RuleMatch {
  double value = 0;
  bool named = false;  // the entry names the matrix, not just its layer
};
std::optional<RuleMatch> matchLayerRules(const std::vector<LayerRule>& rules, TensorRole role, int layer, bool tiedHead);

}  // namespace winnow
