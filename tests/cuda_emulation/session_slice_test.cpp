// SPDX-License-Identifier: GPL-3.0-or-later
// A sliced residual stream on the device: it goes through its shortcuts as on the CPU, in prompts, single tokens and graphs that are replayed, and comes
// back whole.
#include "tests/cuda_emulation/calibration_text.h"
#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

TEST(a_sliced_stream_computes_as_on_the_cpu) {
  for (const char* family : {"llama3", "qwen2", "qwen3"})
    for (const Settings& settings : {Settings{{"prune.slice", "0.25"}}, Settings{{"prune.slice", "0.5"}, {"weights.bits", "4"}}, Settings{{"prune.slice", "0.25"}, {"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}}) {
      Both both(family, measured({}));
      EXPECT(both.promptThenSteps(14, 3) <= kBound);
      const int64_t whole = both.gpu->memory()[static_cast<size_t>(MemoryTag::weights)];
      const int width = both.cpu->streamWidth();
      both.request(measured(settings));
      EXPECT(both.gpu->effective()->asRequested(), family, settings.size());
      EXPECT(both.gpu->streamWidth() < width && both.gpu->streamWidth() == both.cpu->streamWidth(), both.gpu->streamWidth());
      EXPECT(both.gpu->plan().shortcuts, family);
      if (settings.size() == 2) EXPECT(both.gpu->memory()[static_cast<size_t>(MemoryTag::weights)] < whole, family);
      const double worst = both.stepsThenPrompt(4, 13);
      EXPECT(worst <= kBound + kPromptRounding, family, settings.size(), worst);
      both.request(measured({}));
      EXPECT_EQ(both.gpu->streamWidth(), width);
      EXPECT(both.steps(2) <= kBound + kPromptRounding);
    }
}

TEST(a_plan_knows_the_sliced_weights) {
  for (const char* share : {"0.25", "0.5"}) expectPlanHolds(measured({{"prune.slice", share}}));
}
