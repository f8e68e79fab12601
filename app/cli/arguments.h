// SPDX-License-Identifier: GPL-3.0-or-later
// The command line: a command declares its options, the parser checks them, usage text follows from the declaration.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "engine/core/result.h"

namespace winnow::cli {

struct Option {
  std::string name;       // "--context", "-p"
  std::string value;      // "N"; empty = a switch
  std::string help;
  bool repeated = false;  // may be given more than once
};

struct Usage {
  std::string name;        // "perplexity"
  std::string positional;  // "MODEL"
  int minimum = 0, maximum = 0;  // positional arguments
  std::string summary;
  std::vector<Option> options;
};

class Arguments {
 public:
  static Result<Arguments> parse(const Usage& usage, const std::vector<std::string>& words);

  const std::vector<std::string>& positional() const { return positional_; }
  bool has(const std::string& name) const { return values_.contains(name); }
  std::string text(const std::string& name, const std::string& fallback = {}) const;  // the last one given
  std::vector<std::string> all(const std::string& name) const;
  // Errors (usage) name the option and what is allowed.
  Result<int64_t> integer(const std::string& name, int64_t fallback, int64_t minimum, int64_t maximum) const;
  Result<double> real(const std::string& name, double fallback, double minimum, double maximum) const;
  Result<std::vector<int>> integers(const std::string& name, std::vector<int> fallback, int minimum, int maximum) const;  // "1,4"
  Result<std::vector<double>> reals(const std::string& name, std::vector<double> fallback, double minimum, double maximum) const;  // "0,0.5"


 private:
  template <class Number>
  Result<std::vector<Number>> numbers(const std::string& name, std::vector<Number> fallback, Number minimum, Number maximum, const std::string& expected) const;

  std::vector<std::string> positional_;
  std::map<std::string, std::vector<std::string>> values_;
};

const std::vector<Option>& commonOptions();
std::string usageText(const Usage& usage);

}  // namespace winnow::cli
