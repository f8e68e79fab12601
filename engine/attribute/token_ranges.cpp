// SPDX-License-Identifier: GPL-3.0-or-later
// Token windows, and where tokens stand in a text.
#include "engine/attribute/token_ranges.h"

#include <algorithm>

#include "engine/attribute/attribute.h"

namespace winnow {

std::vector<int64_t> tokenEnds(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, std::string_view text) {
  std::vector<int64_t> ends;
  std::string joined;
  for (const int32_t id : ids) {
    joined += tokenizer.isControl(id) ? std::string() : tokenizer.piece(id);
    ends.push_back(static_cast<int64_t>(joined.size()));
  }
  if (!std::string_view(joined).ends_with(text)) return {};
  const auto added = static_cast<int64_t>(joined.size() - text.size());  // SentencePiece's space before the text
  for (int64_t& end : ends) end = std::max<int64_t>(end - added, 0);
  return ends;
}

std::vector<Source> splitWindows(std::string_view context, const Tokenizer& tokenizer, int tokens, const std::vector<Source>& within) {
  const std::vector<int64_t> ends = tokenEnds(tokenizer, tokenizer.encode(context, false), context);
  const auto inCharacter = [&](int64_t at) { return at < static_cast<int64_t>(context.size()) && (static_cast<unsigned char>(context[static_cast<size_t>(at)]) & 0xC0) == 0x80; };
  std::vector<Source> out;
  const auto cut = [&](int64_t begin, int64_t end, int64_t separatorEnd) {
    Source source;
    source.id = static_cast<int>(out.size());
    source.start = begin;
    source.end = end;
    source.separatorEnd = separatorEnd;
    source.text = std::string(context.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
    out.push_back(std::move(source));
  };
  const auto all = static_cast<int64_t>(context.size());
  std::vector<ByteRange> pieces;
  for (const Source& piece : within) pieces.push_back({piece.start, piece.end});
  if (within.empty()) pieces.push_back({0, all});
  size_t at = 0;  // of the tokens
  for (size_t piece = 0; piece < pieces.size(); ++piece) {
    const int64_t stop = pieces[piece].end, next = piece + 1 < pieces.size() ? pieces[piece + 1].start : all;
    int64_t begin = pieces[piece].start;
    int held = 0;
    while (at < ends.size() && ends[at] <= begin) ++at;
    for (; begin < stop && at < ends.size(); ++at) {
      const int64_t end = std::min(ends[at], stop);
      const bool last = end == stop || at + 1 == ends.size();
      if ((++held < tokens && !last) || (inCharacter(end) && !last) || end == begin) continue;
      cut(begin, end, end == stop ? next : end);
      begin = end;
      held = 0;
    }
  }
  return out;
}

}  // namespace winnow
