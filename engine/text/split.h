// SPDX-License-Identifier: GPL-3.0-or-later
// Cuts a text into words by the steps of a pre-tokenizer. Patterns are run by PCRE2, compiled to machine code where possible.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/result.h"
#include "engine/text/pretokenizers.h"

namespace winnow {

class Splitter {
 public:
  static Result<Splitter> create(const std::vector<SplitStep>& steps);
  Splitter(Splitter&&) noexcept;
  Splitter& operator=(Splitter&&) noexcept;
  ~Splitter();

  // The ends of the words, in order; the last is text.size(). Nothing is dropped. The text must be UTF-8. Thread-safe.
  void split(std::string_view text, std::vector<size_t>& ends) const;

 private:
  struct Step;
  Splitter();
  std::vector<Step> steps_;
};

}  // namespace winnow
