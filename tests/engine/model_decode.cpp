// SPDX-License-Identifier: GPL-3.0-or-later
// Stored types against golden values (tests/golden/blocks) and, where a few lines say what they mean, against that.
#include "tests/support/check.h"

#include "engine/core/dtype.h"
#include "engine/model/decode.h"
#include "engine/model/encode.h"

using namespace winnow;

TEST(block_types_decode_bit_by_bit) {
  int types = 0;
  for (int i = 0; i < static_cast<int>(DType::count); ++i) {
    const DType type = static_cast<DType>(i);
    if (!isBlockType(type)) continue;
    const DTypeTraits traits = dtypeTraits(type);
    const std::string file = test::readFile(std::string(WINNOW_TESTS_DIR) + "/golden/blocks/" + std::string(traits.name) + ".bin");
    uint32_t count = 0;
    std::memcpy(&count, file.data(), 4);
    const size_t bytes = count * static_cast<size_t>(traits.blockBytes), values = count * static_cast<size_t>(traits.blockValues);
    EXPECT_EQ(file.size(), 4 + bytes + 4 * values);
    std::vector<float> expected(values), found(values);
    std::memcpy(expected.data(), file.data() + 4 + bytes, 4 * values);
    decodeValues(type, reinterpret_cast<const std::byte*>(file.data()) + 4, static_cast<int64_t>(values), found.data());
    size_t wrong = 0;
    for (size_t v = 0; v < values; ++v) wrong += found[v] != expected[v];
    EXPECT(wrong == 0, traits.name, wrong, "of", values);
    ++types;
  }
  EXPECT_EQ(types, 11);
}

TEST(every_half_is_exact) {
  std::vector<uint16_t> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  std::vector<float> out(65536);
  decodeValues(DType::f16, reinterpret_cast<const std::byte*>(halves.data()), 65536, out.data());
  int wrong = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const bool nan = (i & 0x7c00) == 0x7c00 && (i & 0x3ff) != 0;
    const double magnitude = (i & 0x7c00) == 0 ? std::ldexp(static_cast<double>(i & 0x3ff), -24)
                                               : std::ldexp(static_cast<double>(0x400 | (i & 0x3ff)), static_cast<int>(i >> 10 & 31) - 25);
    const double expected = (i & 0x7c00) == 0x7c00 ? HUGE_VAL : magnitude;
    wrong += nan ? !std::isnan(out[i]) : static_cast<double>(out[i]) != (i & 0x8000 ? -expected : expected);
  }
  EXPECT_EQ(wrong, 0);
  decodeValues(DType::bf16, reinterpret_cast<const std::byte*>(halves.data()), 65536, out.data());
  EXPECT_EQ(out[0x3f80], 1.0f);
  EXPECT_EQ(out[0xc040], -3.0f);
  EXPECT_EQ(out[1], std::ldexp(1.0f, -133));
}

TEST(first_value_that_is_not_finite) {
  for (int i = 0; i < static_cast<int>(DType::count); ++i) {
    const DType type = static_cast<DType>(i);
    const DTypeTraits traits = dtypeTraits(type);
    const int64_t blocks = 9000 / traits.blockValues, values = blocks * traits.blockValues;
    std::vector<std::byte> bytes(static_cast<size_t>(blocks * traits.blockBytes), std::byte{0});
    EXPECT_EQ(firstNotFinite(type, bytes.data(), values), int64_t{-1});
    const int64_t block = blocks - 2;
    // Infinity in the last two bytes of q2_k, q3_k and q6_k, in the first element or scale of the others; mxfp4 has an exponent for it.
    std::byte* at = bytes.data() + block * traits.blockBytes;
    if (type == DType::mxfp4) {
      *at = std::byte{0xff};
    } else if (type == DType::f32) {
      const float infinite = -HUGE_VALF;
      std::memcpy(at, &infinite, 4);
    } else {
      const bool last = type == DType::q2_k || type == DType::q3_k || type == DType::q6_k;
      const uint16_t bits = type == DType::bf16 ? 0x7fc1 : 0x7e01;
      std::memcpy(at + (last ? traits.blockBytes - 2 : 0), &bits, 2);
    }
    EXPECT(firstNotFinite(type, bytes.data(), values) == block * traits.blockValues, traits.name);
  }
}

TEST(encoders_round_as_the_formats_say) {
  float x[32];
  for (int i = 0; i < 32; ++i) x[i] = static_cast<float>(i - 16) * 0.25f;
  std::byte out[34];
  float back[32];
  encodeValues(DType::q8_0, x, 32, out);
  decodeValues(DType::q8_0, out, 32, back);
  for (int i = 0; i < 32; ++i) EXPECT_NEAR(back[i], x[i], 4.0 / 127 / 2 + 1e-3);
  EXPECT_EQ(static_cast<int>(static_cast<int8_t>(out[2])), -127);
  encodeValues(DType::q4_0, x, 32, out);
  decodeValues(DType::q4_0, out, 32, back);
  EXPECT_EQ(back[0], -4.0f);  // the extreme is exact
  for (int i = 0; i < 32; ++i) EXPECT_NEAR(back[i], x[i], 0.5 / 2 + (i == 31 ? 0.25 : 0.0));
  float zero[32] = {};
  encodeValues(DType::q4_0, zero, 32, out);
  decodeValues(DType::q4_0, out, 32, back);
  for (const float v : back) EXPECT_EQ(v, 0.0f);
}
