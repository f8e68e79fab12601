// SPDX-License-Identifier: GPL-3.0-or-later
// Products with many tokens on the (emulated) device: every format, mode and odd shape within the bound of the products with few
// (tests/engine/ops/matmul_oracle.h), and the same bits however many tokens come along.
#include "tests/cuda_emulation/product_problem.h"

using namespace winnow;
using namespace winnow::test;

namespace {

void runShape(const WeightFormat& format, int rows, int cols, int tokens, uint32_t seed = 0) {
  const Problem p(format, rows, cols, tokens);
  for (ActivationMode mode : modesOf(format)) {
    emulator::setSeed(seed);
    const auto all = product(p, mode, tokens, 0);
    const double worst = worstRatio(p, all, mode, tokens);
    EXPECT(worst <= 1, format.describe(), static_cast<int>(mode), rows, cols, tokens, worst);
    if (tokens < 12) continue;
    emulator::setSeed(seed + 1);
    const int fewer = tokens - 3;
    const auto some = product(p, mode, fewer, 2);
    for (int t = 0; t < fewer; ++t)
      EXPECT(std::memcmp(&some[static_cast<size_t>(t * (rows + 3))], &all[static_cast<size_t>((t + 2) * (rows + 3))],
                         static_cast<size_t>(rows) * 4) == 0,
             format.describe(), static_cast<int>(mode), rows, cols, tokens, t);
  }
  emulator::setSeed(0);
}

std::vector<WeightFormat> someFormats() {
  return {{},
          {Storage::f16, 16, 0, true},
          {Storage::bf16, 16, 0, true},
          {Storage::packed, 4, 32, true},
          {Storage::packed, 3, 64, false},
          {Storage::packed, 8, 32, true},
          {Storage::packed, 5, 32, false, 256},
          {Storage::packed, 4, 64, true, 0, Code::nf4},
          {Storage::packed, 4, 32, true, 0, Code::e2m1},
          {Storage::packed, 8, 0, true, 0, Code::e4m3}};
}

}  // namespace

TEST(every_format_within_the_bound) {
  auto all = formats();
  for (const WeightFormat& format : superFormats()) all.push_back(format);
  for (const WeightFormat& format : codedFormats()) all.push_back(format);
  for (const WeightFormat& format : all) runShape(format, 21, 172, 9);
  for (const WeightFormat& format : halvedFormats()) runShape(format, 21, 160, 9);
}

// 172 and 45 columns: rows that do not begin at 16 bytes; 40 and 168: a chunk cut short.
TEST(odd_shapes_in_narrow_blocks) {
  for (const WeightFormat& format : someFormats()) {
    for (int cols : {31, 40, 45, 168}) runShape(format, 17, cols, 13, 3);
    for (int rows : {1, 15, 65, 80}) runShape(format, rows, 64, 30, 5);
  }
  for (const WeightFormat& format : halvedFormats()) runShape(format, 65, 64, 30, 5);
}

TEST(odd_shapes_in_wide_blocks) {
  for (const WeightFormat& format : someFormats()) runShape(format, 130, 40, 37, 7);
  for (const WeightFormat& format : halvedFormats()) runShape(format, 130, 64, 37, 7);
  runShape({Storage::bf16, 16, 0, true}, 40, 96, 135, 9);
  runShape({Storage::packed, 4, 32, true}, 40, 96, 135, 9);
}

TEST(long_rows_pass_through_every_stage_of_the_ring) {
  for (const WeightFormat& format : someFormats()) runShape(format, 16, 1000, 10, 1);
  for (const WeightFormat& format : halvedFormats()) runShape(format, 16, 992, 10, 1);
}

TEST(targets_are_joined_and_accumulate) { expectJoinedTargets(70, 72, 11); }

// The same meaning as with few tokens: both keep the bound, so they are at most two bounds apart, far below a step of any 16-bit type.
TEST(few_and_many_tokens_agree) {
  for (const WeightFormat& format : {WeightFormat{Storage::packed, 4, 32, true}, WeightFormat{Storage::packed, 2, 32, false}}) {
    const int rows = 32, cols = 512;
    const Problem p(format, rows, cols, 12);
    for (ActivationMode mode : modesOf(format)) {
      const Reference ref = reference(p.weights.m, p.x, 3, p.bias, mode);
      const auto few = product(p, mode, 3, 0), many = product(p, mode, 12, 0);
      for (int t = 0; t < 3; ++t)
        for (int r = 0; r < rows; ++r) {
          const size_t at = static_cast<size_t>(t * (rows + 3) + r);
          EXPECT_NEAR(few[at], many[at], 2 * ref.bound[static_cast<size_t>(t * rows + r)]);
        }
    }
  }
}
