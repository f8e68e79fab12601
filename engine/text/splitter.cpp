// SPDX-License-Identifier: GPL-3.0-or-later
#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/text/splitter.h"

#include <pcre2.h>

namespace winnow {

struct Splitter::Pattern {
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  std::unique_ptr<pcre2_code, Free> code;
};

namespace {

struct FreeMatch {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

// Matches become pieces, and so does what lies between them. A match that gives up (its limits are PCRE2's own) leaves the
// rest as one piece: slower to merge, never lost.
void apply(const pcre2_code* code, pcre2_match_data* data, std::string_view text, std::vector<std::string_view>& out) {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t at = 0, taken = 0;
  while (at < text.size()) {
    if (pcre2_match(code, subject, text.size(), at, PCRE2_NO_UTF_CHECK, data, nullptr) < 0) break;
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(data);
    if (span[1] <= span[0]) {  // an empty match cuts nothing: step over one character
      at = span[0] + 1;
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
      continue;
    }
    if (span[0] > taken) out.push_back(text.substr(taken, span[0] - taken));
    out.push_back(text.substr(span[0], span[1] - span[0]));
    at = taken = span[1];
  }
  if (taken < text.size()) out.push_back(text.substr(taken));
}

}  // namespace

Splitter::Splitter() = default;
Splitter::Splitter(Splitter&&) noexcept = default;
Splitter& Splitter::operator=(Splitter&&) noexcept = default;
Splitter::~Splitter() = default;

Result<Splitter> Splitter::create(const std::vector<std::string>& patterns) {
  Splitter splitter;
  for (const std::string& text : patterns) {
    int error = 0;
    PCRE2_SIZE where = 0;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), PCRE2_UTF | PCRE2_UCP, &error, &where, nullptr);
    if (!code) {
      PCRE2_UCHAR message[256];
      pcre2_get_error_message(error, message, sizeof message);
      return Error{ErrorCode::badInput,
                   "the tokenizer's split expression is not valid at character " + std::to_string(where) + ": " + reinterpret_cast<const char*>(message) + ".",
                   "The expression begins with: " + text.substr(0, 60)};
    }
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without JIT pcre2_match interprets: same result
    Pattern pattern;
    pattern.code.reset(code);
    splitter.patterns_.push_back(std::move(pattern));
  }
  return splitter;
}

void Splitter::split(std::string_view text, std::vector<std::string_view>& pieces) const {
  if (text.empty()) return;
  std::vector<std::string_view> now{text}, next;
  for (const Pattern& pattern : patterns_) {
    const std::unique_ptr<pcre2_match_data, FreeMatch> data(pcre2_match_data_create_from_pattern(pattern.code.get(), nullptr));
    next.clear();
    for (const std::string_view piece : now) apply(pattern.code.get(), data.get(), piece, next);
    now.swap(next);
  }
  pieces.insert(pieces.end(), now.begin(), now.end());
}

}  // namespace winnow
