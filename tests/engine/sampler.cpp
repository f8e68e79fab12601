// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/support/check.h"

#include <array>
#include <map>

#include "engine/run/sampler.h"

using namespace winnow;

TEST(philox_matches_the_published_vectors) {
  // Random123 known-answer file, philox4x32-10.
  const auto zero = philox4x32({0, 0, 0, 0}, {0, 0});
  EXPECT(zero == (std::array<uint32_t, 4>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  const auto ones = philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u});
  EXPECT(ones == (std::array<uint32_t, 4>{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  const auto pi = philox4x32({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {0xa4093822u, 0x299f31d0u});
  EXPECT(pi == (std::array<uint32_t, 4>{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

TEST(greedy_takes_the_lowest_id_of_equals) {
  const std::vector<float> logits = {1, 3, 3, 2};
  EXPECT_EQ(sample(logits, {}, {}, 0), 1);
}

TEST(a_draw_depends_on_seed_and_position_alone) {
  std::vector<float> logits(100);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i % 7) * 0.3f;
  SamplerSettings s;
  s.temperature = 1;
  s.seed = 42;
  const int32_t at9 = sample(logits, {}, s, 9);
  for (uint64_t p = 0; p < 9; ++p) sample(logits, {}, s, p);
  EXPECT_EQ(sample(logits, {}, s, 9), at9);
  int differing = 0;
  for (uint64_t p = 0; p < 50; ++p) {
    SamplerSettings other = s;
    other.seed = 43;
    differing += sample(logits, {}, s, p) != sample(logits, {}, other, p);
  }
  EXPECT(differing > 30, differing);
}

TEST(frequencies_follow_the_softmax) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f};  // p = 0.0900, 0.2447, 0.6652
  SamplerSettings s;
  s.temperature = 1;
  std::array<int, 3> count{};
  constexpr int n = 20000;
  for (uint64_t p = 0; p < n; ++p) ++count[static_cast<size_t>(sample(logits, {}, s, p))];
  const double expected[] = {0.09003057, 0.24472847, 0.66524096};
  for (size_t i = 0; i < 3; ++i)  // five standard deviations of a binomial share
    EXPECT_NEAR(count[i] / double{n}, expected[i], 5 * std::sqrt(expected[i] * (1 - expected[i]) / n));
}

TEST(filters_keep_what_they_say) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, 3.0f};
  auto drawn = [&](const SamplerSettings& s) {
    std::map<int32_t, int> seen;
    for (uint64_t p = 0; p < 2000; ++p) ++seen[sample(logits, {}, s, p)];
    return seen;
  };
  SamplerSettings s;
  s.temperature = 1;
  s.topK = 2;
  EXPECT_EQ(drawn(s).size(), size_t{2});
  s.topK = 0;
  s.topP = 0.5f;  // the largest alone has 0.644
  EXPECT_EQ(drawn(s).size(), size_t{1});
  s.topP = 0.65f;
  EXPECT_EQ(drawn(s).size(), size_t{2});
  s.topP = 1;
  s.minP = 0.2f;  // e^-1 = 0.37 stays, e^-2 = 0.135 goes
  EXPECT_EQ(drawn(s).size(), size_t{2});
}

TEST(repetition_penalty_pushes_both_signs_down) {
  const std::vector<int32_t> history = {0, 2};
  SamplerSettings s;
  s.repetitionPenalty = 2;
  EXPECT_EQ(sample(std::vector<float>{3.0f, 2.0f, 1.0f}, history, s, 0), 1);
  EXPECT_EQ(sample(std::vector<float>{-1.0f, -1.5f, -3.0f}, history, s, 0), 1);
  s.repetitionWindow = 1;  // only the last token, id 2
  EXPECT_EQ(sample(std::vector<float>{3.0f, 2.0f, 1.0f}, history, s, 0), 0);
}
