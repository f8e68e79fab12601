// SPDX-License-Identifier: GPL-3.0-or-later
// How knobs are written down.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "engine/knobs/knobs.h"
#include "engine/weights/layer_rules.h"

namespace winnow {

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

inline Knob enumeration(std::string name, std::string title, std::string group, std::vector<std::string> choices, Apply apply) {
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

inline Knob integer(std::string name, std::string title, std::string group, int64_t value, double minimum, double maximum, Apply apply) {
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

inline Knob text(std::string name, std::string title, std::string group, KnobType type, std::string value, Apply apply) {
  Knob knob;
  knob.name = std::move(name);
  knob.title = std::move(title);
  knob.group = std::move(group);
  knob.type = type;
  knob.defaultValue = std::move(value);
  knob.apply = apply;
  return knob;
}

inline Knob boolean(std::string name, std::string title, const std::string& group, bool value) {
  Knob knob = text(std::move(name), std::move(title), group, KnobType::boolean, "", Apply::prepareWeights);
  knob.defaultValue = value;
  return knob;
}

// Entries such as 0-3:8; an error in them is told as they are typed, layers that the model lacks when it is known.
inline Knob layerRules(std::string name, std::string title, std::string group, RuleValue kind, Apply apply) {
  Knob knob = text(std::move(name), std::move(title), std::move(group), KnobType::text, "", apply);
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

}  // namespace winnow
