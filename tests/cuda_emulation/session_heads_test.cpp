// SPDX-License-Identifier: GPL-3.0-or-later
// Heads that are left out of attentions or narrowed, on the device: caches, weights and rows of fewer heads, live and in a plan.
#include "tests/cuda_emulation/calibration_text.h"
#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

TEST(fewer_heads_compute_as_on_the_cpu) {
  for (const Settings& settings : {Settings{{"prune.heads", "0.5"}}, Settings{{"prune.heads", "0.5"}, {"prune.heads_method", "minitron"}, {"weights.bits", "4"}},
                                   Settings{{"prune.heads", "0.5"}, {"prune.heads_method", "random"}, {"prune.recovery", "least-squares"}, {"kv.policy", "h2o"}, {"kv.budget", "12"}}}) {
    Both both("llama3", measured({}));
    EXPECT(both.promptThenSteps(14, 3) <= kBound);
    const MemoryByTag whole = both.gpu->memory();
    for (Session* session : {both.cpu.get(), both.gpu.get()}) {
      session->request(configure(measured(settings)));
      ok(session->finishPending({}));
      EXPECT(session->effective()->config.real("prune.heads") == 0, settings[0].second);  // until the cache is recomputed
      ok(session->rebuildCache({}));
      EXPECT(session->effective()->asRequested(), settings[0].second);
    }
    const MemoryByTag narrow = both.gpu->memory();
    EXPECT(narrow[static_cast<size_t>(MemoryTag::weights)] < whole[static_cast<size_t>(MemoryTag::weights)]);
    EXPECT(narrow[static_cast<size_t>(MemoryTag::kv)] * 2 <= whole[static_cast<size_t>(MemoryTag::kv)]);
    const double worst = both.stepsThenPrompt(4, 13);
    EXPECT(worst <= kBound + kPromptRounding, settings[0].second, worst);
    both.request(measured({}));
    for (Session* session : {both.cpu.get(), both.gpu.get()}) ok(session->rebuildCache({}));
    EXPECT(both.steps(2) <= kBound + kPromptRounding);
  }
}

// RoPE with frequencies of its own for each head; biases; positions that are learned.
TEST(narrow_heads_compute_as_on_the_cpu) {
  for (const char* family : {"llama3", "qwen2", "gpt2"})
    for (const Settings& settings : {Settings{{"prune.head_dim", "0.5"}}, Settings{{"prune.head_dim", "0.5"}, {"weights.bits", "8"}},
                                     Settings{{"prune.head_dim", "0.5"}, {"prune.head_dim_method", "random"}, {"prune.recovery", "least-squares"}, {"kv.rotate", "true"}, {"kv.policy", "h2o"}, {"kv.budget", "12"}}}) {
      Both both(family, measured({}));
      EXPECT(both.promptThenSteps(14, 3) <= kBound);
      const MemoryByTag whole = both.gpu->memory();
      both.request(measured(settings));
      for (Session* session : {both.cpu.get(), both.gpu.get()}) {
        ok(session->rebuildCache({}));
        EXPECT(session->effective()->asRequested(), family, settings.back().second);
      }
      EXPECT(both.gpu->memory()[static_cast<size_t>(MemoryTag::kv)] * 2 <= whole[static_cast<size_t>(MemoryTag::kv)], family);
      const double worst = both.stepsThenPrompt(4, 13);
      EXPECT(worst <= kBound + kPromptRounding, family, settings.back().second, worst);
    }
}

TEST(a_plan_knows_the_heads_that_are_left) {
  for (const char* knob : {"prune.heads", "prune.head_dim"}) expectPlanHolds(measured({{knob, "0.5"}}));
}
