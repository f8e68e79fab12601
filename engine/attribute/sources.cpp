// SPDX-License-Identifier: GPL-3.0-or-later
// Cutting a context into paragraphs and sentences. Every byte belongs to one source or to the separator after it.
#include <algorithm>
#include <array>

#include "engine/attribute/attribute.h"

namespace winnow {
namespace {

bool isSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// A full stop after these does not end a sentence.
constexpr std::array<std::string_view, 30> kAbbreviations = {"mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "vs", "etc", "e.g", "i.e", "cf", "al", "no",
                                                             "vol", "fig", "eq", "sec", "ch", "pp", "ed", "inc", "ltd", "co", "corp", "dept", "approx", "ca", "capt"};

bool afterAbbreviation(std::string_view text, size_t stop) {
  size_t begin = stop;
  while (begin > 0 && !isSpace(text[begin - 1]) && text[begin - 1] != '(' && text[begin - 1] != '"') --begin;
  std::string word(text.substr(begin, stop - begin));
  std::ranges::transform(word, word.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (word.size() == 1 && std::isalpha(static_cast<unsigned char>(word[0])) && word != "i") return true;  // an initial: J. Smith
  return std::ranges::find(kAbbreviations, word) != kAbbreviations.end();
}

// Length of a sentence end at `at`: . ! ? or … or a full-width mark, with repeated marks, closing quotes and brackets. 0 if none.
size_t sentenceEnd(std::string_view text, size_t at) {
  constexpr std::array<std::string_view, 4> wide = {"。", "！", "？", "…"};
  constexpr std::array<std::string_view, 4> closing = {"”", "’", "」", "』"};
  size_t end = at;
  bool fullWidth = false;
  for (bool more = true; more && end < text.size();) {
    more = false;
    if (text[end] == '.' || text[end] == '!' || text[end] == '?') {
      ++end;
      more = true;
    }
    for (std::string_view mark : wide)
      if (text.substr(end).starts_with(mark)) {
        end += mark.size();
        more = fullWidth = true;
      }
  }
  if (end == at) return 0;
  for (bool more = true; more && end < text.size();) {
    more = false;
    if (text[end] == '"' || text[end] == '\'' || text[end] == ')' || text[end] == ']') {
      ++end;
      more = true;
    }
    for (std::string_view mark : closing)
      if (text.substr(end).starts_with(mark)) {
        end += mark.size();
        more = true;
      }
  }
  if (fullWidth) return end - at;
  if (end < text.size() && !isSpace(text[end])) return 0;  // 3.14, example.com
  if (text[at] == '.' && end == at + 1 && afterAbbreviation(text, at)) return 0;
  return end - at;
}

class Cutter {
 public:
  explicit Cutter(std::string_view context) : context_(context) {}

  // [begin, end) of a source; trims white space into the separators.
  void add(size_t begin, size_t end) {
    while (begin < end && isSpace(context_[begin])) ++begin;
    while (end > begin && isSpace(context_[end - 1])) --end;
    if (begin == end) return;
    Source source;
    source.id = static_cast<int>(sources_.size());
    source.text = std::string(context_.substr(begin, end - begin));
    source.start = static_cast<int64_t>(begin);
    source.end = static_cast<int64_t>(end);
    sources_.push_back(std::move(source));
  }

  std::vector<Source> take() {
    for (size_t i = 0; i < sources_.size(); ++i)
      sources_[i].separatorEnd = i + 1 < sources_.size() ? sources_[i + 1].start : static_cast<int64_t>(context_.size());
    return std::move(sources_);
  }

 private:
  std::string_view context_;
  std::vector<Source> sources_;
};

}  // namespace

std::vector<Source> splitSources(std::string_view context, SourceUnit unit) {
  Cutter cutter(context);
  size_t begin = 0;
  for (size_t at = 0; at < context.size();) {
    if (context[at] == '\n') {
      size_t next = at + 1, newlines = 1;
      while (next < context.size() && isSpace(context[next])) newlines += context[next++] == '\n';
      if (newlines >= 2) {  // a blank line ends paragraphs and sentences
        cutter.add(begin, at);
        begin = next;
      }
      at = next;
      continue;
    }
    if (unit == SourceUnit::sentence)
      if (const size_t length = sentenceEnd(context, at); length > 0) {
        cutter.add(begin, at + length);
        begin = at + length;
        at = begin;
        continue;
      }
    ++at;
  }
  cutter.add(begin, context.size());
  return cutter.take();
}

}  // namespace winnow
