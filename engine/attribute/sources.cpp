// SPDX-License-Identifier: GPL-3.0-or-later
// Cutting a context into paragraphs and sentences.
#include <algorithm>
#include <array>
#include <cctype>

#include "engine/attribute/attribute.h"
#include "engine/text/utf8.h"

namespace winnow {
namespace {

bool blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }
bool upper(char c) { return c >= 'A' && c <= 'Z'; }
bool lower(char c) { return c >= 'a' && c <= 'z'; }

bool endsSentence(char32_t c) { return c == '.' || c == '!' || c == '?' || c == U'\u2026'; }
bool endsAnywhere(char32_t c) { return c == U'\u3002' || c == U'\uFF01' || c == U'\uFF1F' || c == U'\uFF61'; }  // CJK: no space follows
bool closes(char32_t c) {
  static constexpr std::array<char32_t, 15> all = {'"', '\'', ')', ']', '}', U'\u201D', U'\u2019', U'\u00BB', U'\u203A', U'\u300D', U'\u300F', U'\uFF09', U'\u3011',
                                                   '*', '_'};
  return std::find(all.begin(), all.end(), c) != all.end();
}

// Abbreviations after which a sentence goes on whatever follows, and those after which only a capital starts a new one.
constexpr std::array<std::string_view, 30> kNeverLast = {"mr", "mrs", "ms", "dr", "prof", "rev", "hon", "st", "mt", "gen", "col", "capt", "lt", "sgt", "sen",
                                                        "rep", "gov", "pres", "messrs", "mme", "mlle", "fig", "figs", "eq", "eqs", "cf", "vs", "viz", "e.g", "i.e"};
constexpr std::array<std::string_view, 40> kSeldomLast = {"jr", "sr", "inc", "ltd", "co", "corp", "bros", "dept", "univ", "assn", "etc", "al", "ca", "approx",
                                                         "est", "min", "max", "no", "nos", "vol", "ch", "sec", "pp", "ed", "eds", "art", "jan", "feb", "mar",
                                                         "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "a.m", "p.m"};

template <size_t N>
bool contains(const std::array<std::string_view, N>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

class SentenceScanner {
 public:
  SentenceScanner(std::string_view text, size_t begin, size_t end) : text_(text), at_(begin), end_(end) {}

  // The end (past the terminator and closing marks) of the sentence that begins at `begin`.
  size_t next(size_t begin) {
    at_ = begin;
    while (at_ < end_) {
      const Utf8Char c = utf8Char(text_.substr(at_));
      if (c.codePoint == '\n') return at_;
      const size_t terminator = at_;
      at_ += c.bytes;
      if (endsAnywhere(c.codePoint)) return skipClosing();
      if (endsSentence(c.codePoint)) {
        while (at_ < end_) {  // "?!", "..."
          const Utf8Char more = utf8Char(text_.substr(at_));
          if (!endsSentence(more.codePoint)) break;
          at_ += more.bytes;
        }
        const size_t run = at_;
        const size_t end = skipClosing();
        if (isEnd(begin, terminator, run, end)) return end;
        at_ = end;
      }
    }
    return end_;
  }

 private:
  size_t skipClosing() {
    while (at_ < end_) {
      const Utf8Char c = utf8Char(text_.substr(at_));
      if (!closes(c.codePoint)) break;
      at_ += c.bytes;
    }
    return at_;
  }

  // The word that ends before the terminator, lower case; inner full stops belong to it.
  std::string wordBefore(size_t begin, size_t terminator) const {
    size_t first = terminator;
    while (first > begin && (std::isalpha(static_cast<unsigned char>(text_[first - 1])) || text_[first - 1] == '.')) --first;
    std::string word(text_.substr(first, terminator - first));
    while (!word.empty() && word.front() == '.') word.erase(0, 1);
    return word;
  }

  bool isEnd(size_t begin, size_t terminator, size_t run, size_t end) const {
    if (end >= end_ || text_[end] == '\n') return true;
    if (!blank(text_[end])) return false;  // 3.14, example.com, "Yahoo!'s"
    size_t follow = end;
    while (follow < end_ && blank(text_[follow]) && text_[follow] != '\n') ++follow;
    if (follow >= end_ || text_[follow] == '\n') return true;
    const bool lowerFollows = lower(text_[follow]);
    const bool closed = end > run, several = run - terminator > 1;
    if (lowerFollows && (closed || several || text_[terminator] != '.')) return false;  // "Why?" she asked. Well ... maybe.
    if (text_[terminator] != '.' || several) return true;
    const std::string original = wordBefore(begin, terminator);
    std::string word = original;
    std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (word.empty()) return !listNumber(begin, terminator);
    if (contains(kNeverLast, word)) return false;
    const bool capitalFollows = !lowerFollows && !std::isdigit(static_cast<unsigned char>(text_[follow]));
    if (contains(kSeldomLast, word)) return capitalFollows;
    if (word.find('.') != std::string::npos) return capitalFollows && !allInitials(original);  // "at 5 p.m. Then" but "the U.S. Army"
    if (original.size() == 1 && upper(original[0]) && original != "I") return false;           // J. Smith
    return true;
  }

  static bool allInitials(const std::string& word) {
    for (size_t i = 0; i < word.size(); ++i)
      if (i % 2 == 0 ? !upper(word[i]) : word[i] != '.') return false;
    return true;
  }

  // "1." at the start of a line numbers what follows.
  bool listNumber(size_t begin, size_t terminator) const {
    if (terminator == begin) return false;
    for (size_t i = begin; i < terminator; ++i)
      if (!std::isdigit(static_cast<unsigned char>(text_[i]))) return false;
    return true;
  }

  std::string_view text_;
  size_t at_, end_;
};

struct Span {
  size_t begin, end;
};

// Paragraphs without the white space around them.
std::vector<Span> paragraphs(std::string_view text) {
  std::vector<Span> out;
  size_t line = 0, begin = std::string_view::npos, end = 0;
  while (line < text.size()) {
    size_t stop = text.find('\n', line);
    if (stop == std::string_view::npos) stop = text.size();
    size_t first = line, last = stop;
    while (first < last && blank(text[first])) ++first;
    while (last > first && blank(text[last - 1])) --last;
    if (first == last) {
      if (begin != std::string_view::npos) out.push_back({begin, end});
      begin = std::string_view::npos;
    } else {
      if (begin == std::string_view::npos) begin = first;
      end = last;
    }
    line = stop + 1;
  }
  if (begin != std::string_view::npos) out.push_back({begin, end});
  return out;
}

std::vector<Span> sentences(std::string_view text, Span paragraph) {
  std::vector<Span> out;
  SentenceScanner scanner(text, paragraph.begin, paragraph.end);
  size_t begin = paragraph.begin;
  while (begin < paragraph.end) {
    size_t end = scanner.next(begin);
    const size_t next = end;
    while (end > begin && blank(text[end - 1])) --end;
    if (end > begin) out.push_back({begin, end});
    begin = next;
    while (begin < paragraph.end && blank(text[begin])) ++begin;
  }
  return out;
}

// From one Markdown heading (# to ######) to the next; what stands before the first one too.
std::vector<Span> sections(std::string_view text) {
  std::vector<size_t> begins;
  for (size_t line = 0; line < text.size();) {
    size_t marks = 0;
    while (line + marks < text.size() && text[line + marks] == '#') ++marks;
    if (marks >= 1 && marks <= 6 && line + marks < text.size() && text[line + marks] == ' ') begins.push_back(line);
    const size_t stop = text.find('\n', line);
    line = stop == std::string_view::npos ? text.size() : stop + 1;
  }
  if (begins.empty() || begins.front() > 0) begins.insert(begins.begin(), 0);
  std::vector<Span> out;
  for (size_t i = 0; i < begins.size(); ++i) {
    size_t begin = begins[i], end = i + 1 < begins.size() ? begins[i + 1] : text.size();
    while (begin < end && blank(text[begin])) ++begin;
    while (end > begin && blank(text[end - 1])) --end;
    if (end > begin) out.push_back({begin, end});
  }
  return out;
}

std::vector<Source> asSources(std::string_view context, const std::vector<Span>& spans) {
  std::vector<Source> out;
  for (size_t i = 0; i < spans.size(); ++i) {
    Source source;
    source.id = static_cast<int>(i);
    source.start = static_cast<int64_t>(spans[i].begin);
    source.end = static_cast<int64_t>(spans[i].end);
    source.separatorEnd = static_cast<int64_t>(i + 1 < spans.size() ? spans[i + 1].begin : context.size());
    source.text = std::string(context.substr(spans[i].begin, spans[i].end - spans[i].begin));
    out.push_back(std::move(source));
  }
  return out;
}

}  // namespace

std::vector<Source> splitSources(std::string_view context, SourceUnit unit) {
  std::vector<Span> spans;
  for (const Span& paragraph : paragraphs(context)) {
    if (unit == SourceUnit::paragraph) {
      spans.push_back(paragraph);
    } else {
      for (const Span& sentence : sentences(context, paragraph)) spans.push_back(sentence);
    }
  }
  return asSources(context, spans);
}

std::vector<Source> splitDocuments(std::string_view context, const std::vector<Document>& documents) {
  std::vector<Span> spans;
  for (const Document& document : documents) spans.push_back({static_cast<size_t>(document.start), static_cast<size_t>(document.end)});
  if (documents.empty()) spans = sections(context);
  std::vector<Source> out = asSources(context, spans);
  for (size_t i = 0; i < documents.size(); ++i) out[i].label = !documents[i].title.empty() ? documents[i].title : documents[i].id;
  return out;
}

Result<std::vector<Source>> sourcesOf(std::string_view context, const std::vector<ByteRange>& ranges) {
  const auto inCharacter = [&](int64_t at) { return at < static_cast<int64_t>(context.size()) && (static_cast<unsigned char>(context[static_cast<size_t>(at)]) & 0xC0) == 0x80; };
  std::vector<Span> spans;
  int64_t before = 0;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const ByteRange& range = ranges[i];
    const char* wrong = range.start > range.end                                    ? "ends before it begins"
                        : range.start < before                                     ? "begins before the end of the one before it"
                        : range.end > static_cast<int64_t>(context.size())         ? "reaches past the text's end"
                        : inCharacter(range.start) || inCharacter(range.end)       ? "cuts a character in two"
                                                                                   : nullptr;
    if (wrong)
      return Error{ErrorCode::usage, "Source " + std::to_string(i + 1) + ", bytes " + std::to_string(range.start) + " to " + std::to_string(range.end) + " of " +
                                         std::to_string(context.size()) + ", " + wrong + ".", "Give ranges in order, none over another, between whole characters."};
    spans.push_back({static_cast<size_t>(range.start), static_cast<size_t>(range.end)});
    before = range.end;
  }
  return asSources(context, spans);
}

std::string_view sourceUnitName(SourceUnit unit) {
  static constexpr std::array<std::string_view, 5> names = {"sentence", "paragraph", "window", "document", "given"};
  return names[static_cast<size_t>(unit)];
}

std::optional<SourceUnit> findSourceUnit(std::string_view name) {
  for (const SourceUnit unit : {SourceUnit::sentence, SourceUnit::paragraph, SourceUnit::window, SourceUnit::document, SourceUnit::given})
    if (sourceUnitName(unit) == name) return unit;
  return std::nullopt;
}

std::string contextWith(std::string_view context, const std::vector<Source>& sources, const std::vector<bool>& keep) {
  if (sources.empty()) return std::string(context);
  const auto part = [&](int64_t from, int64_t to) { return context.substr(static_cast<size_t>(from), static_cast<size_t>(to - from)); };
  std::string out(part(0, sources.front().start));
  const Source* before = nullptr;
  for (size_t i = 0; i < sources.size(); ++i) {
    if (!keep[i]) continue;
    if (before) out += part(before->end, before->separatorEnd);
    out += part(sources[i].start, sources[i].end);
    before = &sources[i];
  }
  return out += part(sources.back().end, static_cast<int64_t>(context.size()));
}

std::string contextWithout(std::string_view context, const std::vector<Source>& sources, size_t index) {
  std::vector<bool> keep(sources.size(), true);
  keep[index] = false;
  return contextWith(context, sources, keep);
}

}  // namespace winnow
