// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/knobs/knobs.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>

#include "engine/core/check.h"
#include "engine/core/suggest.h"
#include "engine/knobs/declarations.h"

namespace winnow {
namespace {

// Shortest text that reads back as the same double.
std::string number(double value) {
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  return {buffer, error == std::errc() ? end : buffer};
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

Error usage(std::string message, std::string hint = {}) { return {ErrorCode::usage, std::move(message), std::move(hint)}; }

Error outOfRange(const Knob& knob, const std::string& shown) {
  const std::string range = knob.choices.empty() ? "from " + number(knob.minimum) + " to " + number(knob.maximum) : "one of " + joined(knob.choices);
  return usage("knob " + knob.name + ": " + shown + " is out of range, expected " + range + ".");
}

}  // namespace

std::string_view knobTypeName(KnobType type) {
  constexpr std::string_view names[] = {"boolean", "integer", "real", "enumeration", "text", "path"};
  return names[static_cast<size_t>(type)];
}

std::string_view applyName(Apply apply) {
  constexpr std::string_view names[] = {"next_token", "rebuild_cache", "prepare_weights", "reload"};
  return names[static_cast<size_t>(apply)];
}

std::string toText(const KnobValue& value) {
  if (const bool* b = std::get_if<bool>(&value)) return *b ? "true" : "false";
  if (const int64_t* i = std::get_if<int64_t>(&value)) return std::to_string(*i);
  if (const double* d = std::get_if<double>(&value)) return number(*d);
  return std::get<std::string>(value);
}

const Schema& Schema::instance() {
  static const Schema schema = [] {
    Schema built;
    for (auto declare : {weightKnobs, pruneKnobs, cacheKnobs, sharingKnobs, prefillKnobs, activationKnobs, computeKnobs})
      for (Knob& knob : declare()) built.knobs_.push_back(std::move(knob));
    return built;
  }();
  return schema;
}

const Knob* Schema::find(std::string_view name) const {
  for (const Knob& knob : knobs_)
    if (knob.name == name) return &knob;
  return nullptr;
}

Result<KnobValue> Schema::parse(std::string_view name, std::string_view text) const {
  const Knob* knob = find(name);
  if (!knob) {
    std::vector<std::string> known;
    for (const Knob& each : knobs_) known.push_back(each.name);
    return usage("there is no knob named \"" + std::string(name) + "\".", "Did you mean " + closest(name, known) + "? winnow-cli knobs lists them all.");
  }
  const std::string shown = "\"" + std::string(text) + "\"";
  const char* end = text.data() + text.size();
  switch (knob->type) {
    case KnobType::boolean:
      if (text == "true" || text == "1" || text == "on") return KnobValue(true);
      if (text == "false" || text == "0" || text == "off") return KnobValue(false);
      return usage("knob " + knob->name + ": " + shown + " is neither true nor false.");
    case KnobType::integer: {
      int64_t value = 0;
      const auto [at, error] = std::from_chars(text.data(), end, value);
      if (error != std::errc() || at != end) return usage("knob " + knob->name + ": " + shown + " is not a whole number.");
      return check(name, KnobValue(value));
    }
    case KnobType::real: {
      double value = 0;
      const auto [at, error] = std::from_chars(text.data(), end, value);
      if (error != std::errc() || at != end || !std::isfinite(value)) return usage("knob " + knob->name + ": " + shown + " is not a number.");
      return check(name, KnobValue(value));
    }
    default:
      return check(name, KnobValue(std::string(text)));
  }
}

Result<KnobValue> Schema::check(std::string_view name, KnobValue value) const {
  const Knob* knob = find(name);
  if (!knob) return parse(name, "");  // its error names the closest knob
  if (knob->type == KnobType::real && std::holds_alternative<int64_t>(value)) value = static_cast<double>(std::get<int64_t>(value));
  if (knob->type == KnobType::enumeration && !std::holds_alternative<std::string>(value)) value = toText(value);
  const std::string shown = toText(value);
  const Error wrongType = usage("knob " + knob->name + ": " + shown + " is not of type " + std::string(knobTypeName(knob->type)) + ".");
  switch (knob->type) {
    case KnobType::boolean:
      if (!std::holds_alternative<bool>(value)) return wrongType;
      return value;
    case KnobType::integer: {
      if (const double* real = std::get_if<double>(&value); real && *real == std::floor(*real) && std::fabs(*real) < 1e15)
        value = static_cast<int64_t>(*real);
      if (!std::holds_alternative<int64_t>(value)) return wrongType;
      const double number = static_cast<double>(std::get<int64_t>(value));
      const bool listed = knob->choices.empty() || std::ranges::find(knob->choices, shown) != knob->choices.end();
      if (number < knob->minimum || number > knob->maximum || !listed) return outOfRange(*knob, shown);
      return value;
    }
    case KnobType::real: {
      if (!std::holds_alternative<double>(value)) return wrongType;
      const double number = std::get<double>(value);
      if (!(number >= knob->minimum && number <= knob->maximum)) return outOfRange(*knob, shown);
      if (knob->name == "kv.budget" && number > 1 && (number < 2 || number != std::floor(number)))
        return usage("knob kv.budget: " + shown + " is neither a share (up to 1) nor a whole number of tokens (from 2 on).");
      return value;
    }
    case KnobType::enumeration:
      if (std::ranges::find(knob->choices, std::get<std::string>(value)) == knob->choices.end()) return outOfRange(*knob, shown);
      return value;
    case KnobType::text:
    case KnobType::path:
      if (!std::holds_alternative<std::string>(value)) return wrongType;
      if (const auto problem = knob->malformed ? knob->malformed(shown) : std::nullopt) return usage("knob " + knob->name + ": " + *problem);
      return value;
  }
  return wrongType;
}

Config::Config() {
  static const std::map<std::string, KnobValue, std::less<>> defaults = [] {
    std::map<std::string, KnobValue, std::less<>> values;
    for (const Knob& knob : Schema::instance().knobs()) values.emplace(knob.name, knob.defaultValue);
    return values;
  }();
  values_ = defaults;
}

const KnobValue& Config::get(std::string_view name) const {
  const auto it = values_.find(name);
  CHECK(it != values_.end(), "no knob", name);
  return it->second;
}

int64_t Config::integer(std::string_view name) const { return std::get<int64_t>(get(name)); }
double Config::real(std::string_view name) const { return std::get<double>(get(name)); }
bool Config::boolean(std::string_view name) const { return std::get<bool>(get(name)); }
const std::string& Config::text(std::string_view name) const { return std::get<std::string>(get(name)); }

Config Config::with(std::string_view name, KnobValue value) const {
  CHECK(get(name).index() == value.index(), name, toText(value));
  Config changed = *this;
  changed.values_.find(name)->second = std::move(value);
  return changed;
}

Result<Config> Config::parsed(std::string_view name, std::string_view text) const {
  Result<KnobValue> value = Schema::instance().parse(name, text);
  if (!value) return value.error();
  return with(name, std::move(*value));
}

std::map<std::string, KnobValue, std::less<>> Config::changed() const {
  std::map<std::string, KnobValue, std::less<>> out;
  for (const Knob& knob : Schema::instance().knobs())
    if (get(knob.name) != knob.defaultValue) out.emplace(knob.name, get(knob.name));
  return out;
}

std::string Config::canonical() const {
  std::string out;
  for (const auto& [name, value] : changed()) out += (out.empty() ? "" : " ") + name + "=" + toText(value);
  return out;
}

}  // namespace winnow
