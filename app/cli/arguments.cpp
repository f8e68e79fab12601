// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/cli/arguments.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "engine/core/suggest.h"

namespace winnow::cli {
namespace {

Error usageError(const std::string& message, const std::string& hint = {}) { return {ErrorCode::usage, message, hint}; }

template <class Number>
bool parseNumber(const std::string& text, Number& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

std::string range(double low, double high) {
  std::ostringstream out;
  out << "from " << low << " to " << high;
  return out.str();
}

}  // namespace

const std::vector<Option>& commonOptions() {
  static const std::vector<Option> options = {
      {"--json", "", "machine-readable output", false},
      {"--set", "KNOB=VALUE", "change a knob (winnow-cli knobs lists them)", true},
      {"--strict", "", "fail when the effective configuration differs from the requested one", false},
      {"--device", "auto|cpu|cuda", "where to run (default auto)", false},
      {"--threads", "N", "CPU threads (default: all)", false},
      {"--help", "", "this text", false},
  };
  return options;
}

Result<Arguments> Arguments::parse(const Usage& usage, const std::vector<std::string>& words) {
  std::vector<Option> options = usage.options;
  options.insert(options.end(), commonOptions().begin(), commonOptions().end());
  Arguments out;
  bool onlyPositional = false;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (onlyPositional || word.size() < 2 || word[0] != '-') {
      out.positional_.push_back(word);
      continue;
    }
    if (word == "--") {
      onlyPositional = true;
      continue;
    }
    const size_t equals = word.starts_with("--") ? word.find('=') : std::string::npos;
    const std::string name = word.substr(0, equals);
    const auto option = std::ranges::find(options, name, &Option::name);
    if (option == options.end()) {
      std::vector<std::string> names;
      for (const Option& each : options) names.push_back(each.name);
      return usageError(usage.name + " has no option " + name + ".", "Did you mean " + closest(name, names) + "? winnow-cli " + usage.name + " --help lists them.");
    }
    std::string value;
    if (option->value.empty()) {
      if (equals != std::string::npos) return usageError(name + " takes no value.");
    } else if (equals != std::string::npos) {
      value = word.substr(equals + 1);
    } else if (i + 1 < words.size()) {
      value = words[++i];
    } else {
      return usageError(name + " needs a value: " + name + " " + option->value + ".");
    }
    if (out.has(name) && !option->repeated) return usageError(name + " is given twice.");
    out.values_[name].push_back(value);
  }
  const int count = static_cast<int>(out.positional_.size());
  if (!out.has("--help") && (count < usage.minimum || count > usage.maximum))
    return usageError(usage.name + " takes " + (usage.positional.empty() ? "no arguments" : usage.positional) + ", " + std::to_string(count) + " given.",
                      "winnow-cli " + usage.name + " --help");
  return out;
}

std::string Arguments::text(const std::string& name, const std::string& fallback) const {
  const auto it = values_.find(name);
  return it == values_.end() ? fallback : it->second.back();
}

std::vector<std::string> Arguments::all(const std::string& name) const {
  const auto it = values_.find(name);
  return it == values_.end() ? std::vector<std::string>() : it->second;
}

Result<int64_t> Arguments::integer(const std::string& name, int64_t fallback, int64_t minimum, int64_t maximum) const {
  if (!has(name)) return fallback;
  int64_t value = 0;
  if (!parseNumber(text(name), value) || value < minimum || value > maximum)
    return usageError(name + " " + text(name) + ": expected a whole number from " + std::to_string(minimum) + " to " + std::to_string(maximum) + ".");
  return value;
}

Result<double> Arguments::real(const std::string& name, double fallback, double minimum, double maximum) const {
  if (!has(name)) return fallback;
  double value = 0;
  if (!parseNumber(text(name), value) || !std::isfinite(value) || value < minimum || value > maximum)
    return usageError(name + " " + text(name) + ": expected a number " + range(minimum, maximum) + ".");
  return value;
}

template <class Number>
Result<std::vector<Number>> Arguments::numbers(const std::string& name, std::vector<Number> fallback, Number minimum, Number maximum, const std::string& expected) const {
  if (!has(name)) return fallback;
  std::vector<Number> out;
  std::istringstream parts(text(name));
  for (std::string part; std::getline(parts, part, ',');) {
    Number value = 0;
    if (!parseNumber(part, value) || !(value >= minimum && value <= maximum)) return usageError(name + " " + text(name) + ": expected " + expected + ", separated by commas.");
    out.push_back(value);
  }
  if (out.empty()) return usageError(name + " needs at least one number.");
  return out;
}

Result<std::vector<int>> Arguments::integers(const std::string& name, std::vector<int> fallback, int minimum, int maximum) const {
  return numbers(name, std::move(fallback), minimum, maximum, "whole numbers from " + std::to_string(minimum) + " to " + std::to_string(maximum));
}

Result<std::vector<double>> Arguments::reals(const std::string& name, std::vector<double> fallback, double minimum, double maximum) const {
  return numbers(name, std::move(fallback), minimum, maximum, "numbers " + range(minimum, maximum));
}

std::string usageText(const Usage& usage) {
  std::ostringstream out;
  out << "winnow-cli " << usage.name << (usage.positional.empty() ? "" : " ") << usage.positional << " [options]\n  " << usage.summary << "\n\n";
  size_t width = 0;
  std::vector<std::pair<std::string, std::string>> rows;
  for (const auto* options : {&usage.options, &commonOptions()})
    for (const Option& option : *options) {
      rows.emplace_back(option.name + (option.value.empty() ? "" : " " + option.value), option.help);
      width = std::max(width, rows.back().first.size());
    }
  for (const auto& [name, help] : rows) out << "  " << name << std::string(width - name.size() + 2, ' ') << help << "\n";
  return out.str();
}

}  // namespace winnow::cli
