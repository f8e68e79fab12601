// SPDX-License-Identifier: GPL-3.0-or-later
// Products on the (emulated) device: every format, mode and odd shape against the reference in double and within the bound that the
// CPU's kernels keep (tests/engine/ops/matmul_oracle.h). A tensor core adds 16 products at a time, so its chains are no longer.
#include "tests/cuda_emulation/product_problem.h"

using namespace winnow;
using namespace winnow::test;

namespace {

void runShape(const WeightFormat& format, int rows, int cols) {
  const Problem p(format, rows, cols, cuda::kMostTokens);
  for (ActivationMode mode : modesOf(format)) {
    const auto all = product(p, mode, cuda::kMostTokens, 0);
    const double worst = worstRatio(p, all, mode, cuda::kMostTokens);
    EXPECT(worst <= 1, format.describe(), static_cast<int>(mode), rows, cols, worst);
    // Fewer tokens give the same bits, under every schedule.
    uint32_t seed = 1;
    for (int tokens : {1, 3}) {
      emulator::setSeed(seed++);
      const auto some = product(p, mode, tokens, 2);
      for (int t = 0; t < tokens; ++t)
        EXPECT(std::memcmp(&some[static_cast<size_t>(t * (rows + 3))], &all[static_cast<size_t>((t + 2) * (rows + 3))],
                           static_cast<size_t>(rows) * 4) == 0,
               format.describe(), static_cast<int>(mode), rows, cols, tokens, t);
    }
    emulator::setSeed(0);
  }
}

}  // namespace

TEST(products_within_the_bound_for_every_format) {
  for (const WeightFormat& format : formats())
    for (int cols : {31, 172, 512}) runShape(format, 21, cols);
  for (const WeightFormat& format : superFormats())
    for (int cols : {31, 172, 576, 2400}) runShape(format, 21, cols);
  for (const WeightFormat& format : codedFormats())
    for (int cols : {31, 172, 512}) runShape(format, 21, cols);
  for (const WeightFormat& format : halvedFormats())
    for (int cols : {32, 160, 512}) runShape(format, 21, cols);
}

TEST(products_with_every_number_of_rows) {
  for (int rows : {1, 2, 3, 4, 5, 15, 16, 17, 32, 33})
    for (const WeightFormat& format : {WeightFormat{}, WeightFormat{Storage::bf16, 16, 0, true}, WeightFormat{Storage::packed, 4, 32, true},
                                       WeightFormat{Storage::packed, 3, 64, false}})
      runShape(format, rows, 45);
}

TEST(long_rows_pass_through_every_stage_of_the_rings) {
  for (uint8_t bits : {2, 3, 4, 5, 6, 8}) runShape({Storage::packed, bits, 64, false}, 16, 2400);
  runShape({Storage::bf16, 16, 0, true}, 4, 2400);
  for (const WeightFormat& format : halvedFormats()) runShape(format, 16, 2400);
  for (const WeightFormat& format : codedFormats())
    if (format.group == 32) runShape(format, 16, 2400);
}

TEST(targets_are_joined_and_accumulate) { expectJoinedTargets(40, 172, 3); }

TEST(int8_survives_extreme_activations) {
  std::vector<float> w(16 * 64);
  fillNormal(w.data(), w.size(), 5);
  const Weights host({Storage::packed, 8, 32, true}, 16, 64, w);
  const DeviceMatrix matrix(host.m);
  for (float size : {0.0f, 1e-44f, 1e-40f, 1e30f}) {
    const DeviceArray<float> x(std::vector<float>(64, size));
    DeviceArray<float> y(16);
    DeviceArray<uint8_t> scratch(cuda::InputForms::bytes(ActivationMode::int8, 1, 64));
    const cuda::Input input = cuda::prepare(nullptr, {x.data(), 64}, 1, 64, ActivationMode::int8, {false, true}, scratch.data());
    const cuda::Target target{matrix.args(), y.data(), 16, nullptr, false};
    cuda::multiply(nullptr, {&target, 1}, input);
    const auto out = y.host();
    std::vector<float> row(64);
    for (int r = 0; r < 16; ++r) {
      dequantizeRow(host.m, r, row.data());
      double sum = 0, magnitude = 0;
      for (float v : row) sum += v, magnitude += std::fabs(v);
      EXPECT_NEAR(out[static_cast<size_t>(r)], sum * size, magnitude * size * (1.0 / 127 + 1e-6) + magnitude * 1e-43);
    }
  }
}
