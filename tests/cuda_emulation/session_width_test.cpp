// SPDX-License-Identifier: GPL-3.0-or-later
// Narrowed feed-forwards on the device: channels leave and come back between tokens, every layer has its own width, and memory falls by as much.
#include "tests/cuda_emulation/calibration_text.h"
#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

TEST(narrowed_feed_forwards_compute_as_on_the_cpu) {
  for (const Settings& settings : {Settings{{"prune.width", "0.5"}, {"prune.width_method", "random"}}, Settings{{"prune.width", "0.5"}},
                                   Settings{{"prune.width", "0.3"}, {"prune.width_method", "minitron"}, {"weights.bits", "4"}},
                                   Settings{{"prune.width", "0.3"}, {"prune.recovery", "least-squares"}, {"prune.ratio", "0.3"}}}) {
    Both both("llama3", measured({}));
    EXPECT(both.promptThenSteps(14, 3) <= kBound);
    const int64_t whole = both.gpu->memory()[static_cast<size_t>(MemoryTag::weights)];
    both.request(measured(settings));
    EXPECT(both.gpu->effective()->asRequested(), settings[0].second);
    for (int layer = 0; layer < 3; ++layer) {
      EXPECT_EQ(both.gpu->ffnWidth(layer), both.cpu->ffnWidth(layer));
      EXPECT(both.gpu->ffnWidth(layer) < 44, layer);
    }
    EXPECT(both.gpu->memory()[static_cast<size_t>(MemoryTag::weights)] < whole, settings[0].second);
    const double worst = both.stepsThenPrompt(4, 13);
    EXPECT(worst <= kBound + kPromptRounding, settings[0].second, worst);
    both.request(measured({}));
    EXPECT_EQ(both.gpu->ffnWidth(0), 44);
    EXPECT(both.steps(2) <= kBound + kPromptRounding);
  }
}

TEST(a_plan_knows_the_narrowed_weights) {
  for (const char* method : {"cfsp", "minitron"}) expectPlanHolds(measured({{"prune.width", "0.4"}, {"prune.width_method", method}}));
}
