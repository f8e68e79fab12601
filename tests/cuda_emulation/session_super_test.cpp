// SPDX-License-Identifier: GPL-3.0-or-later
// Super weights in whole sessions: found, kept and taken away on the device as on the CPU.
#include "tests/cuda_emulation/sessions.h"
#include "tests/support/planted.h"

using namespace winnow;
using namespace winnow::test;

// In f32: one channel makes most of the logits here, and a step of f16 apart in it would be one of the whole.
TEST(super_weights_are_kept_and_zeroed_as_on_the_cpu) {
  const auto settings = [](const char* what) -> Settings { return {{"weights.layers", "*.down:3"}, {"weights.super", what}, {"compute.activations", "f32"}}; };
  Both both(value(Model::open(planted())), settings("keep"));
  EXPECT_EQ(both.gpu->effective()->config.text("weights.super"), std::string("keep"));
  const double kept = both.promptThenSteps(3, 1);
  both.request(settings("zero"));
  EXPECT_EQ(both.gpu->effective()->config.text("weights.super"), std::string("zero"));
  const double zeroed = both.steps(1);
  EXPECT(kept <= kBound && zeroed <= kBound, kept, zeroed);
}
