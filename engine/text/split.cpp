// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/text/split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "engine/core/check.h"
#include "engine/model/message.h"
#include "engine/text/utf8.h"

namespace winnow {
namespace {

struct FreeCode {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
};
struct FreeMatch {
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};
struct FreeContext {
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
};
struct FreeStack {
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};
using Code = std::unique_ptr<pcre2_code, FreeCode>;

bool asciiDigit(char c) { return c >= '0' && c <= '9'; }

// What one call of split() needs to run patterns.
struct Matcher {
  std::unique_ptr<pcre2_match_data, FreeMatch> data{pcre2_match_data_create(1, nullptr)};
  std::unique_ptr<pcre2_match_context, FreeContext> context;
  std::unique_ptr<pcre2_jit_stack, FreeStack> stack;

  // The first match at or after `from`; start == npos when there is none. False when the pattern ran into a limit.
  bool next(const pcre2_code* code, bool jit, std::string_view text, size_t from, uint32_t options, size_t& start, size_t& end) {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    int found = jit ? pcre2_jit_match(code, subject, text.size(), from, options, data.get(), context.get())
                    : pcre2_match(code, subject, text.size(), from, options | PCRE2_NO_UTF_CHECK, data.get(), nullptr);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT && !stack) {
      stack.reset(pcre2_jit_stack_create(size_t{1} << 16, size_t{1} << 24, nullptr));
      context.reset(pcre2_match_context_create(nullptr));
      if (stack && context) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
      found = pcre2_jit_match(code, subject, text.size(), from, options, data.get(), context.get());
    }
    start = std::string_view::npos;
    if (found == PCRE2_ERROR_NOMATCH) return true;
    if (found < 0) return false;
    start = pcre2_get_ovector_pointer(data.get())[0];
    end = pcre2_get_ovector_pointer(data.get())[1];
    return true;
  }
};

// Words that end inside [base, base + text.size()); every word is ended once and empty ones are left out.
struct Ends {
  std::vector<size_t>& out;
  size_t last;
  void add(size_t end) {
    if (end == last) return;
    out.push_back(end);
    last = end;
  }
};

void cutThousands(std::string_view text, size_t base, Ends& ends) {
  for (size_t i = 0; i < text.size();) {
    size_t stop = i;
    while (stop < text.size() && asciiDigit(text[stop])) ++stop;
    for (size_t cut = i + (stop - i) % 3; cut < stop; cut += 3) ends.add(base + cut);
    i = std::max(stop, i + 1);
  }
  ends.add(base + text.size());
}

}  // namespace

struct Splitter::Step {
  SplitStep::Kind kind{};
  Code code;  // matches the runs of digits for digitsFromRight
  bool jit = false;

  void run(Matcher& matcher, std::string_view text, size_t base, Ends& ends) const;
  void cutDigits(std::string_view run, size_t base, Ends& ends) const;
};

// The text before a run stays with the run's first group.
void Splitter::Step::cutDigits(std::string_view run, size_t base, Ends& ends) const {
  size_t count = 0;
  for (size_t i = 0; i < run.size(); i += utf8Char(run.substr(i)).bytes) ++count;
  size_t until = count % 3 == 0 ? 3 : count % 3;
  for (size_t i = 0; i < run.size();) {
    i += utf8Char(run.substr(i)).bytes;
    if (--until == 0) {
      ends.add(base + i);
      until = 3;
    }
  }
}

void Splitter::Step::run(Matcher& matcher, std::string_view text, size_t base, Ends& ends) const {
  if (kind == SplitStep::Kind::thousandsCuts) return cutThousands(text, base, ends);
  size_t from = 0;
  uint32_t options = 0;
  while (from < text.size()) {
    size_t start = 0, end = 0;
    // A pattern that runs into a limit leaves the rest as one word.
    if (!matcher.next(code.get(), jit, text, from, options, start, end) || start == std::string_view::npos) break;
    if (kind == SplitStep::Kind::digitsFromRight) {
      cutDigits(text.substr(start, end - start), base + start, ends);
    } else {
      ends.add(base + start);
      ends.add(base + end);
    }
    options = end == start ? PCRE2_NOTEMPTY_ATSTART : 0;  // an empty match is a cut
    from = end;
  }
  ends.add(base + text.size());
}

Splitter::Splitter() = default;
Splitter::Splitter(Splitter&&) noexcept = default;
Splitter& Splitter::operator=(Splitter&&) noexcept = default;
Splitter::~Splitter() = default;

Result<Splitter> Splitter::create(const std::vector<SplitStep>& steps) {
  Splitter out;
  for (const SplitStep& step : steps) {
    Step made;
    made.kind = step.kind;
    const std::string pattern = step.kind == SplitStep::Kind::digitsFromRight ? expandPattern(R"(\p{N}+)") : step.pattern;
    if (!pattern.empty()) {
      int code = 0;
      PCRE2_SIZE at = 0;
      made.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, nullptr));
      if (!made.code) {
        char message[256] = {};
        pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
        return badInput("the tokenizer's split pattern ", shown(pattern), " can't be used: ", message, " at byte ", at);
      }
      made.jit = pcre2_jit_compile(made.code.get(), PCRE2_JIT_COMPLETE) == 0;
    }
    out.steps_.push_back(std::move(made));
  }
  return out;
}

void Splitter::split(std::string_view text, std::vector<size_t>& ends) const {
  ends.clear();
  if (text.empty()) return;
  Matcher matcher;
  CHECK(matcher.data != nullptr);
  ends.push_back(text.size());
  std::vector<size_t> next;
  for (const Step& step : steps_) {
    next.clear();
    Ends collect{next, 0};
    size_t begin = 0;
    for (const size_t end : ends) {
      step.run(matcher, text.substr(begin, end - begin), begin, collect);
      begin = end;
    }
    ends.swap(next);
  }
}

}  // namespace winnow
