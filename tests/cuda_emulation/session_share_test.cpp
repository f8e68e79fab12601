// SPDX-License-Identifier: GPL-3.0-or-later
// Aligned heads, outputs and queries fitted anew, on the device against the CPU: prompts that keep probabilities, prompts that make them anew, and steps.
#include "tests/cuda_emulation/calibration_text.h"
#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

namespace {

Settings fitted(const char* align, const char* refit) {
  return {{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}, {"share.align", align}, {"share.refit", refit},
          {"calibration.text", calibrationText()}, {"calibration.tokens", "256"}};
}

}  // namespace

TEST(fitted_sharing_computes_as_on_the_cpu) {
  int moved = 0;
  for (const char* family : {"llama3", "gpt2"})
    for (const int64_t bytes : {int64_t{256} << 20, int64_t{0}, int64_t{20000}}) {
      Both both(family, fitted("true", "true"), {.probabilityBytes = bytes});
      EXPECT(both.cpu->plan().sharing == both.gpu->plan().sharing, family);
      for (const LayerSharing& share : both.gpu->plan().sharing)
        for (size_t head = 0; head < share.heads.size(); ++head) moved += share.heads[head] != static_cast<int>(head);
      const double worst = both.promptThenSteps(19, 4);
      EXPECT(worst <= kBound, family, bytes, worst);
      both.expectSameCache();
    }
  EXPECT(moved > 0);
}

// Keys that are mapped before they are rotated, of learned positions by any map; where queries are normed outputs alone.
TEST(fitted_borrowing_computes_as_on_the_cpu) {
  for (const char* family : {"llama3", "qwen2", "qwen3", "gpt2"})
    for (const char* method : {"cla", "mix"}) {
      Settings settings = fitted("false", "true");
      settings.insert(settings.end(), {{"share.method", method}, {"kv.budget", method == std::string_view("mix") ? "16" : "1"}});
      Both both(family, settings);
      EXPECT(both.gpu->plan().borrows(1) && both.gpu->effective()->config.boolean("share.refit"), family, method);
      const double worst = std::max(both.prompt(19), both.steps(4));
      EXPECT(worst <= kBound, family, method, worst);
      both.expectSameCache();
    }
}

TEST(alignment_comes_and_goes_between_captured_steps) {
  Both both("llama3", fitted("false", "false"));
  EXPECT(both.promptThenSteps(9, 2) <= kBound);
  both.request(fitted("true", "false"));
  EXPECT(!both.gpu->plan().sharing[1].heads.empty());
  EXPECT(both.steps(3) <= kBound);
  both.request(fitted("false", "false"));
  EXPECT(both.gpu->plan().sharing[1].heads.empty());
  EXPECT(both.steps(3) <= kBound);
}
