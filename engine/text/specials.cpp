// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/text/specials.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace winnow {
namespace {
bool white(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
}  // namespace

void SpecialTokens::add(std::string_view text, int32_t id, bool always, bool strip) {
  if (!text.empty()) entries_.push_back({text, id, always, strip});
}

void SpecialTokens::finish() {
  std::ranges::stable_sort(entries_, [](const Entry& a, const Entry& b) {
    return a.text.size() != b.text.size() ? a.text.size() > b.text.size() : a.id < b.id;
  });
  sorted_.resize(entries_.size());
  std::iota(sorted_.begin(), sorted_.end(), 0U);
  std::ranges::sort(sorted_, [&](uint32_t a, uint32_t b) { return entries_[a].text < entries_[b].text; });
  firstByte_.assign(257, 0);
  for (const Entry& e : entries_) ++firstByte_[static_cast<uint8_t>(e.text[0]) + 1U];
  std::partial_sum(firstByte_.begin(), firstByte_.end(), firstByte_.begin());
}

// The entries that occur anywhere in the text, in order. One pass: at each position the sorted list is narrowed byte by byte.
std::vector<uint32_t> SpecialTokens::present(std::string_view text, bool all) const {
  std::vector<bool> seen(entries_.size(), false);
  for (size_t at = 0; at < text.size(); ++at) {
    const auto first = static_cast<uint8_t>(text[at]);
    auto low = sorted_.begin() + firstByte_[first], high = sorted_.begin() + firstByte_[first + 1U];
    for (size_t depth = 1; low != high; ++depth) {
      for (; low != high && entries_[*low].text.size() == depth; ++low) seen[*low] = true;  // ends here
      if (low == high || at + depth >= text.size()) break;
      const auto byte = static_cast<uint8_t>(text[at + depth]);
      const auto value = [&](uint32_t entry) { return static_cast<uint8_t>(entries_[entry].text[depth]); };
      low = std::partition_point(low, high, [&](uint32_t e) { return value(e) < byte; });
      high = std::partition_point(low, high, [&](uint32_t e) { return value(e) <= byte; });
    }
  }
  std::vector<uint32_t> out;
  for (uint32_t i = 0; i < entries_.size(); ++i)
    if (seen[i] && (all || entries_[i].always)) out.push_back(i);
  return out;
}

std::vector<SpecialTokens::Piece> SpecialTokens::split(std::string_view text, bool all) const {
  std::vector<Piece> pieces;
  if (text.empty()) return pieces;
  pieces.push_back({0, text.size(), -1});
  if (entries_.empty()) return pieces;
  std::vector<Piece> next;
  for (const uint32_t index : present(text, all)) {
    const Entry& entry = entries_[index];
    next.clear();
    for (const Piece& piece : pieces) {
      size_t begin = piece.begin;
      while (piece.id < 0 && piece.end - begin >= entry.text.size()) {
        const void* place = ::memmem(text.data() + begin, piece.end - begin, entry.text.data(), entry.text.size());
        const auto* found = static_cast<const char*>(place);
        if (!found) break;
        const size_t at = static_cast<size_t>(found - text.data());
        if (at > begin) next.push_back({begin, at, -1});
        next.push_back({at, at + entry.text.size(), entry.id});
        begin = at + entry.text.size();
        while (entry.strip && begin < piece.end && white(text[begin])) ++begin;
      }
      if (begin < piece.end) next.push_back({begin, piece.end, piece.id});
    }
    pieces.swap(next);
  }
  return pieces;
}

}  // namespace winnow
