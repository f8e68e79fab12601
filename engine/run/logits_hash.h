// SPDX-License-Identifier: GPL-3.0-or-later
// A hash of logits that changes with any bit of any of them, and whether all are finite, in one pass.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace winnow {

struct LogitsDigest {
  uint64_t hash = 0;
  bool finite = true;
};

// Sixteen lanes of h * 5 + bits (5 is odd: a changed value always changes its lane), joined by FNV-1a.
inline LogitsDigest digestLogits(std::span<const float> logits, uint64_t before) {
  constexpr size_t kLanes = 16;
  uint32_t lane[kLanes] = {};
  int32_t largest[kLanes] = {};
  const auto take = [&](size_t i, float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    lane[i] = lane[i] * 5 + bits;
    const auto magnitude = static_cast<int32_t>(bits & 0x7fffffffu);
    largest[i] = magnitude > largest[i] ? magnitude : largest[i];
  };
  size_t at = 0;
  for (; at + kLanes <= logits.size(); at += kLanes)
    for (size_t i = 0; i < kLanes; ++i) take(i, logits[at + i]);
  for (size_t i = 0; at + i < logits.size(); ++i) take(i, logits[at + i]);
  LogitsDigest out{before ^ 0xcbf29ce484222325u, true};
  for (size_t i = 0; i < kLanes; ++i) {
    out.hash = (out.hash ^ lane[i]) * 0x100000001b3u;
    out.finite &= largest[i] < 0x7f800000;
  }
  return out;
}

}  // namespace winnow
