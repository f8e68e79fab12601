// SPDX-License-Identifier: GPL-3.0-or-later
// What can be changed: one declaration per knob, from which the panel row, the CLI flag, the sweep axis, the stored column
// and the chart legend follow. Methods contribute their knobs and enumeration values through their folder's registry.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/core/result.h"
#include "engine/model/config.h"

namespace winnow {

enum class KnobType : uint8_t { boolean, integer, real, enumeration, text, path };
enum class Apply : uint8_t {
  nextToken,       // acts at the next token
  rebuildCache,    // narrowing acts at the next token, widening needs the cache recomputed
  prepareWeights,  // acts when the background converter publishes
  reload,          // needs the model opened again
};
std::string_view knobTypeName(KnobType type);  // boolean integer real enumeration text path
std::string_view applyName(Apply apply);       // next_token rebuild_cache prepare_weights reload

using KnobValue = std::variant<bool, int64_t, double, std::string>;
std::string toText(const KnobValue& value);  // as --set takes it: true, 4, 0.5, rtn

class Config;
struct Knob {
  std::string name;   // weights.bits
  std::string title;  // "Bits per weight"
  std::string group;  // "Weights", "Pruning", "KV cache", "Attention sharing", "Prompts", "Compute", "Calibration"
  std::string help;   // one or two sentences
  std::string paper;  // source; may be empty
  std::string unit;   // "bit", "tokens", "" ...
  KnobType type = KnobType::integer;
  KnobValue defaultValue;
  double minimum = 0, maximum = 0, step = 1;  // integer and real
  bool logarithmic = false;
  std::vector<std::string> choices;  // enumeration: the values. integer: the allowed values, empty = the range
  Apply apply = Apply::nextToken;
  std::string enabledIf;                             // for a person: "kv.policy is streaming, window or h2o"; empty = always
  std::function<bool(const Config&)> enabled;        // empty = always
  // text: what is wrong with it whatever the model ("entry 2 ..."); nullopt when nothing is.
  std::function<std::optional<std::string>(const std::string&)> malformed;
  // Why this value can't be used on this model; nullopt when it can.
  std::function<std::optional<std::string>(const ModelConfig&, const KnobValue&)> refuses;
};

class Schema {
 public:
  static const Schema& instance();  // immutable, built once from the registries
  const std::vector<Knob>& knobs() const { return knobs_; }
  const Knob* find(std::string_view name) const;
  // Text to a value of the knob's type, in range. Errors (code usage) name the knob, the value and what is allowed;
  // an unknown name lists the closest known one.
  Result<KnobValue> parse(std::string_view name, std::string_view text) const;
  Result<KnobValue> check(std::string_view name, KnobValue value) const;  // range and choices; integers convert to real

 private:
  std::vector<Knob> knobs_;
};

// Immutable by convention: with() makes a new one. Holds a value for every knob of the schema.
class Config {
 public:
  Config();  // every knob at its default
  const KnobValue& get(std::string_view name) const;  // CHECKs that the knob exists
  int64_t integer(std::string_view name) const;
  double real(std::string_view name) const;
  bool boolean(std::string_view name) const;
  const std::string& text(std::string_view name) const;
  Config with(std::string_view name, KnobValue value) const;
  Result<Config> parsed(std::string_view name, std::string_view text) const;  // with(parse())
  const std::map<std::string, KnobValue, std::less<>>& values() const { return values_; }
  std::map<std::string, KnobValue, std::less<>> changed() const;  // those that differ from the default
  std::string canonical() const;  // "kv.budget=0.5 weights.bits=4": changed values, sorted; identity of a configuration
  bool operator==(const Config&) const = default;

 private:
  std::map<std::string, KnobValue, std::less<>> values_;
};

// What the engine made of a request. DESIGN §1: requested and effective are two records.
struct Adjustment {
  std::string knob;
  KnobValue requested, effective;
  std::string reason;
};
struct Effective {
  Config requested;
  Config config;  // what runs
  std::vector<Adjustment> adjustments;
  bool asRequested() const { return adjustments.empty(); }
};
// Fills in what follows from the shorthands (weights.bits=4 alone is method rtn, prune.ratio alone is magnitude,
// kv.budget alone is streaming, share.block alone is echoatt; symmetric auto), then applies enabled and refuses.
// Following a shorthand is not an adjustment: the requested record is the one with the shorthand spelled out.
Effective resolve(const Config& requested, const ModelConfig& model);

}  // namespace winnow
