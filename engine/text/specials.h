// SPDX-License-Identifier: GPL-3.0-or-later
// Finds tokens that are taken out of a text as they are written, before any other step: user-defined and control tokens.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace winnow {

class SpecialTokens {
 public:
  struct Piece {
    size_t begin = 0, end = 0;
    int32_t id = -1;  // -1 for ordinary text
  };

  // The text must outlive this object. `always` tokens are found in every call, the others only on request; tokens that `strip`
  // swallow the white space after them.
  void add(std::string_view text, int32_t id, bool always, bool strip);
  void finish();
  bool empty() const { return entries_.empty(); }

  // The longest token wins wherever it stands; among tokens of the same length the lower id. Of one token the leftmost occurrence.
  std::vector<Piece> split(std::string_view text, bool all) const;

 private:
  struct Entry {
    std::string_view text;
    int32_t id;
    bool always, strip;
  };
  std::vector<uint32_t> present(std::string_view text, bool all) const;

  std::vector<Entry> entries_;       // longest first
  std::vector<uint32_t> sorted_;     // entries by text
  std::vector<uint32_t> firstByte_;  // [257] where the entries that begin with a byte start in sorted_
};

}  // namespace winnow
