// SPDX-License-Identifier: GPL-3.0-or-later
// Greedy, temperature, top-k, top-p, min-p and repetition penalty. Random numbers are Philox(seed, position): the draw at a
// position does not depend on what was drawn before. Ties go to the lowest id.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace winnow {

struct SamplerSettings {
  float temperature = 0.0f;        // 0 = greedy
  int topK = 0;                    // 0 = off
  float topP = 1.0f;               // 1 = off
  float minP = 0.0f;               // 0 = off
  float repetitionPenalty = 1.0f;  // 1 = off
  int repetitionWindow = 64;       // tokens
  uint64_t seed = 1;
};

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);  // Salmon et al. 2011, 10 rounds
double uniformAt(uint64_t seed, uint64_t position);  // [0, 1)

// Order: penalty, top-k, softmax, top-p, min-p, temperature is applied before softmax.
int32_t sample(std::span<const float> logits, std::span<const int32_t> history, const SamplerSettings& settings, uint64_t position);

}  // namespace winnow
