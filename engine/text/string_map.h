// SPDX-License-Identifier: GPL-3.0-or-later
// From texts to numbers: an open-addressing table over texts that live elsewhere. Built once, then read by any thread.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace winnow {

inline uint64_t mixBits(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a ^ 0x9e3779b97f4a7c15U) * (b ^ 0xd1b54a32d192ed03U);
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t hashText(std::string_view text) {
  const char* p = text.data();
  size_t n = text.size();
  uint64_t h = n * 0x94d049bb133111ebU, a = 0, b = 0;
  for (; n > 16; p += 16, n -= 16) {
    std::memcpy(&a, p, 8);
    std::memcpy(&b, p + 8, 8);
    h = mixBits(h ^ a, b);
  }
  a = b = 0;
  if (n >= 8) {  // the two words may overlap
    std::memcpy(&a, p, 8);
    std::memcpy(&b, p + n - 8, 8);
  } else if (n >= 4) {
    uint32_t low = 0, high = 0;
    std::memcpy(&low, p, 4);
    std::memcpy(&high, p + n - 4, 4);
    a = low;
    b = high;
  } else if (n > 0) {
    a = static_cast<uint64_t>(static_cast<uint8_t>(p[0])) << 16 | static_cast<uint64_t>(static_cast<uint8_t>(p[n / 2])) << 8 |
        static_cast<uint8_t>(p[n - 1]);
  }
  return mixBits(h ^ a, b);
}

class StringMap {
 public:
  explicit StringMap(size_t expected = 0) { resize(expected); }

  int32_t find(std::string_view key) const {  // -1 when absent
    const uint64_t h = hashText(key);
    for (size_t i = h & mask_;; i = (i + 1) & mask_) {
      const Slot& s = slots_[i];
      if (s.value < 0) return -1;
      if (s.hash == static_cast<uint32_t>(h >> 32) && std::string_view(s.text, s.length) == key) return s.value;
    }
  }
  // The first value given for a key stays. The text must outlive the map.
  void insert(std::string_view key, int32_t value) {
    if ((used_ + 1) * 2 > slots_.size()) resize(slots_.size());
    const uint64_t h = hashText(key);
    size_t i = h & mask_;
    for (; slots_[i].value >= 0; i = (i + 1) & mask_)
      if (std::string_view(slots_[i].text, slots_[i].length) == key) return;
    slots_[i] = {key.data(), static_cast<uint32_t>(key.size()), static_cast<uint32_t>(h >> 32), value};
    ++used_;
  }

 private:
  struct Slot {
    const char* text = nullptr;
    uint32_t length = 0;
    uint32_t hash = 0;  // the upper half
    int32_t value = -1;
  };
  void resize(size_t expected) {
    std::vector<Slot> old(std::bit_ceil(std::max<size_t>(16, expected * 2)));
    old.swap(slots_);
    mask_ = slots_.size() - 1;
    for (const Slot& s : old) {
      if (s.value < 0) continue;
      size_t i = hashText({s.text, s.length}) & mask_;
      while (slots_[i].value >= 0) i = (i + 1) & mask_;
      slots_[i] = s;
    }
  }
  std::vector<Slot> slots_;
  size_t mask_ = 0, used_ = 0;
};

}  // namespace winnow
