// SPDX-License-Identifier: GPL-3.0-or-later
// The streaming read that bandwidth is measured with reads every word once.
#include "engine/core/dtype.h"
#include "engine/cuda/roofline.h"
#include "tests/cuda_emulation/harness.h"

#include <bit>

using namespace winnow;
using namespace winnow::test;

TEST(every_word_is_read_once) {
  for (int64_t words : {int64_t{4}, int64_t{2048}, int64_t{8192 + 12}, int64_t{3 * 4 * 4 * cuda::kReadThreads + 400}})
    for (int blocks : {1, 3}) {
      std::vector<uint32_t> values(static_cast<size_t>(words));
      std::mt19937 rng(static_cast<uint32_t>(words));
      uint32_t expected = 0;
      for (uint32_t& v : values) expected ^= v = rng();
      const DeviceArray<uint32_t> data(values);
      DeviceArray<uint32_t> sums(static_cast<size_t>(blocks));
      underEverySchedule([&] { cuda::readStream(nullptr, data.data(), words, blocks, sums.data()); });
      uint32_t found = 0;
      for (uint32_t s : sums.host()) found ^= s;
      EXPECT_EQ(found, expected);
    }
}

TEST(random_values_are_where_they_should_be) {
  const int64_t count = 3001;
  for (Storage storage : {Storage::f32, Storage::f16, Storage::bf16}) {
    DeviceArray<float> wide(static_cast<size_t>(count));
    DeviceArray<uint16_t> half(static_cast<size_t>(count));
    void* data = storage == Storage::f32 ? static_cast<void*>(wide.data()) : half.data();
    underEverySchedule([&] { cuda::fillUniform(nullptr, data, storage, count, -0.5f, 1.5f, 7); });
    std::vector<float> v;
    if (storage == Storage::f32) v = wide.host();
    else
      for (uint16_t h : half.host()) v.push_back(storage == Storage::f16 ? f16ToFloat(h) : bf16ToFloat(h));
    double mean = 0, squares = 0;
    for (float x : v) {
      EXPECT(x >= -0.5f && x <= 1.5f, x);
      mean += x / static_cast<double>(count), squares += x * x / static_cast<double>(count);
    }
    EXPECT_NEAR(mean, 0.5, 0.05);                     // five deviations of a mean of 3001
    EXPECT_NEAR(squares - mean * mean, 1.0 / 3, 0.05);
  }
  DeviceArray<uint32_t> a(1000), b(1000);
  cuda::fillBits(nullptr, a.data(), 4000, 1);
  cuda::fillBits(nullptr, b.data(), 4000, 2);
  int ones = 0, same = 0;
  const auto x = a.host(), y = b.host();
  for (size_t i = 0; i < x.size(); ++i) ones += std::popcount(x[i]), same += x[i] == y[i];
  EXPECT(ones > 15500 && ones < 16500, ones);
  EXPECT_EQ(same, 0);
}

TEST(bandwidth_is_measured) {
  const double gbs = cuda::measureReadBandwidth(nullptr, 1 << 14);
  EXPECT(gbs > 0 && std::isfinite(gbs), gbs);
}
