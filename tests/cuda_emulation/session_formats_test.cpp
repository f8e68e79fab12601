// SPDX-License-Identifier: GPL-3.0-or-later
// Weights in codes that are no integers, and blocks of 256 values of GGUF files, in whole sessions on the device as on the CPU: chosen while a
// sequence goes on, beside pruning, low-rank errors and super weights.
#include "tests/cuda_emulation/calibration_text.h"
#include "tests/cuda_emulation/sessions.h"
#include "tests/support/planted.h"

using namespace winnow;
using namespace winnow::test;

namespace {

const char* kFormats[] = {"nf4", "fp8-e4m3", "fp8-e5m2", "mxfp4"};

}  // namespace

TEST(every_code_and_rounding_computes_as_on_the_cpu) {
  int exactRows = 0;  // first rows in int8 without a step apart
  for (const char* format : kFormats)
    for (const char* mode : {"auto", "f32", "int8"}) {
      const bool int8 = std::string(mode) == "int8";
      Both both("qwen3", {{"weights.format", format}, {"compute.activations", mode}});
      EXPECT_EQ(both.gpu->effective()->config.text("weights.format"), std::string(format));
      EXPECT_EQ(both.gpu->effective()->config.text("compute.activations"), both.cpu->effective()->config.text("compute.activations"));
      const double worst = both.promptThenSteps(9, 2);
      EXPECT(worst <= (int8 ? kInt8Bound : std::string(mode) == "f32" ? kBound : kBound + kPromptRounding), format, mode, worst);
      exactRows += int8 && both.firstRow <= kBound;
    }
  EXPECT(exactRows >= 2, exactRows);  // 8-bit floats take inputs of 16 bits
}

TEST(codes_are_chosen_while_a_sequence_goes_on) {
  Both both("llama3");
  double worst = both.prompt(11);
  for (const char* format : kFormats) {
    both.request({{"weights.format", format}});
    worst = std::max(worst, both.stepsThenPrompt(2, 10));
  }
  both.request({{"weights.bits", "4"}});
  worst = std::max(worst, both.steps(1));
  EXPECT(worst <= kBound + kPromptRounding, worst);
}

TEST(codes_beside_pruning_low_rank_errors_and_mixed_widths) {
  const Settings all[] = {{{"weights.format", "nf4"}, {"prune.ratio", "0.4"}, {"weights.error_rank", "4"}, {"calibration.text", calibrationText()}, {"calibration.tokens", "256"}},
                          {{"weights.format", "fp8-e4m3"}, {"weights.group", "64"}, {"prune.ratio", "0.5"}, {"prune.pattern", "2:4"}},
                          {{"weights.format", "mxfp4"}, {"weights.layers", "0:4, 1:8, *.down:6"}, {"weights.tensors", "all"}}};
  for (const Settings& settings : all) {
    Both both("llama3", settings);
    const double worst = both.promptThenSteps(9, 2);
    EXPECT(worst <= kBound + kPromptRounding, settings[0].second, worst);
  }
}

// In f32: see session_super_test.cpp.
TEST(super_weights_are_kept_beside_codes) {
  for (const char* format : {"nf4", "mxfp4"}) {
    Both both(value(Model::open(planted())), {{"weights.format", format}, {"weights.tensors", "down"}, {"weights.super", "keep"}, {"compute.activations", "f32"}});
    EXPECT_EQ(both.gpu->effective()->config.text("weights.super"), std::string("keep"));
    const double worst = both.promptThenSteps(3, 1);
    EXPECT(worst <= kBound, format, worst);
  }
}

// 4 layers: a prompt rounds once more than those of device_bounds.h.
TEST(blocks_of_256_stay_packed_and_compute_as_on_the_cpu) {
  for (const char* type : {"Q6_K", "Q3_K"})
    for (const char* mode : {"auto", "int8"}) {
      Both both(value(Model::open(sharedData(std::string("models/random-llama-256-") + type + ".gguf"))), {{"compute.activations", mode}});
      const ModelConfig& config = both.gpuEngine->model().config();  // the host's norms lie in the file
      const int64_t norms = int64_t{4} * config.hidden * (2 * config.layers + 1);
      EXPECT_EQ(bytes(both.gpu->memory(), MemoryTag::weights), bytes(both.cpu->memory(), MemoryTag::weights) + norms);
      const double worst = both.promptThenSteps(9, 2);
      EXPECT(worst <= (std::string(mode) == "int8" ? kInt8Bound : kBound + 4 * 3 * 0x1p-11), type, mode, worst);
    }
}
