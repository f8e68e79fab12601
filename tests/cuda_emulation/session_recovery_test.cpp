// SPDX-License-Identifier: GPL-3.0-or-later
// Weights that make up for pruned ones are made on the host and reach the device, also where pruning alone would be done there.
#include "tests/cuda_emulation/calibration_text.h"
#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

// In f32 both sides see the calibration text alike to some 1e-6. What a fitted layer makes of its inputs moves by that times the root of the
// condition of the damped second moments, at most 1 + columns / damping = 4401 for 44 inputs: 7e-5, below the bound of whole sessions.
TEST(recovery_computes_as_on_the_cpu) {
  for (const char* method : {"magnitude", "wanda"}) {
    const Settings pruned = {{"prune.method", method},       {"prune.ratio", "0.5"},          {"calibration.text", calibrationText()},
                             {"calibration.tokens", "256"}, {"compute.activations", "f32"}};
    Settings fitted = pruned;
    fitted.emplace_back("prune.recovery", "least-squares");
    Both with("llama3", fitted), without("llama3", pruned);
    for (Both* both : {&with, &without}) {
      const double worst = both->promptThenSteps(9, 2);
      EXPECT(worst <= kBound, method, both == &with, worst);
    }
    EXPECT_EQ(with.gpu->effective()->config.text("prune.recovery"), std::string("least-squares"));
    double apart = 0, norm = 0;
    for (size_t i = 0; i < with.gpu->logits().size(); ++i) {
      const double d = static_cast<double>(with.gpu->logits()[i]) - without.gpu->logits()[i];
      apart += d * d;
      norm += static_cast<double>(without.gpu->logits()[i]) * without.gpu->logits()[i];
    }
    EXPECT(std::sqrt(apart / norm) > 16 * kBound, method, std::sqrt(apart / norm));
    with.request(pruned);
    EXPECT_EQ(with.gpu->effective()->config.text("prune.recovery"), std::string("none"));
    EXPECT(with.steps(2) <= kBound, method);
  }
}

// Biases that come and go while a session runs, in models that have none, some and one everywhere: captured steps follow.
TEST(constants_compute_as_on_the_cpu) {
  for (const char* family : {"llama3", "qwen2", "gpt2"}) {
    const Settings none = {{"prune.method", "wanda"},      {"prune.ratio", "0.5"},           {"calibration.text", calibrationText()},
                           {"calibration.tokens", "256"}, {"compute.activations", "f32"}};
    const auto with = [&](const char* recovery, Settings more = {}) {
      more.insert(more.begin(), none.begin(), none.end());
      more.emplace_back("prune.recovery", recovery);
      return more;
    };
    Both both(family, none);
    EXPECT(std::max(both.prompt(7), both.steps(2)) <= kBound, family);
    for (const Settings& settings : {with("bias"), with("affine", {{"weights.bits", "4"}, {"weights.method", "rtn"}}), with("bias", {{"prune.storage", "sparse"}}), with("regression", {{"prune.width", "0.3"}})}) {
      both.request(settings);
      const double worst = std::max(both.steps(2), both.prompt(7));
      EXPECT(worst <= kBound, family, settings.back().first, worst);
    }
    both.request(none);
    EXPECT(std::max(both.steps(2), both.prompt(7)) <= kBound, family);
  }
}
