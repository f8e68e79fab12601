// SPDX-License-Identifier: GPL-3.0-or-later
// Error factors in whole sessions: fitted on the host, computed on the device as on the CPU.
#include <fstream>

#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

// Ranks that fill rows of 16 bytes and such that do not.
TEST(factors_compute_as_on_the_cpu) {
  const std::string text = (scratch() / "calibration.txt").string();
  std::ofstream(text) << readFile(sharedData("corpora/tinystories_val.txt")).substr(400000, 4000);
  const auto model = value(Model::open(sharedData(kStories)));
  const auto settings = [&](const char* rank, const char* mode) -> Settings {
    return {{"weights.bits", "3"}, {"weights.error_rank", rank}, {"compute.activations", mode}, {"calibration.text", text.c_str()}, {"calibration.tokens", "256"}};
  };
  Both both(model, settings("5", "f32"));
  const double odd = both.promptThenSteps(11, 2);
  EXPECT(odd <= kBound, odd);
  both.request(settings("16", "auto"));
  const double even = both.promptThenSteps(11, 2);
  EXPECT(even <= kBound, even);
  both.request(settings("16", "int8"));
  const double int8 = both.promptThenSteps(11, 1);
  EXPECT(int8 <= kInt8Bound, int8);
  int64_t expected = 0;
  for (const MasterTensor& tensor : model->tensors())
    if (isMatrix(tensor.role) && tensor.layer >= 0) expected += 2 * 16 * (tensor.rows + tensor.cols);
  const int64_t with = bytes(both.gpu->memory(), MemoryTag::weights);
  both.request({{"weights.bits", "3"}});
  EXPECT_EQ(with - bytes(both.gpu->memory(), MemoryTag::weights), expected);
}
