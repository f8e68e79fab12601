// SPDX-License-Identifier: GPL-3.0-or-later
// Conversion on the (emulated) device: the bytes the CPU makes, for every format and for values of all sorts.
#include "engine/prune/method.h"
#include "tests/cuda_emulation/device_matrix.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::vector<float> weights(int rows, int cols, int kind) {
  std::vector<float> w(static_cast<size_t>(rows * cols));
  fillNormal(w.data(), w.size(), 9, 0.1f);
  for (size_t i = 0; i < w.size(); ++i) {
    const size_t block = i / 64;
    if (kind == 1) w[i] += 50;                                        // far from zero
    if (kind == 2) w[i] = std::round(w[i] * 4) / 4;                    // ties
    if (kind == 3) w[i] *= std::ldexp(1.0f, static_cast<int>(block % 60) - 40);  // f16 subnormals and overflow
    if (kind == 4) w[i] = block % 3 == 0 ? 0.0f : block % 3 == 1 ? 0.3f : -w[i] * w[i];  // constant and one-sided groups
    if (kind == 5) w[i] *= 1e6f;
  }
  return w;
}

void compare(const WeightFormat& format, int rows, int cols, Storage storage, int kind) {
  std::vector<float> w = weights(rows, cols, kind);
  std::vector<uint16_t> half(w.size());
  for (size_t i = 0; i < w.size() && storage != Storage::f32; ++i) {
    half[i] = storage == Storage::f16 ? floatToF16(w[i]) : floatToBf16(w[i]);
    w[i] = storage == Storage::f16 ? f16ToFloat(half[i]) : bf16ToFloat(half[i]);
    if (!std::isfinite(w[i])) half[i] = 0, w[i] = 0;
  }
  const Weights cpu(format, rows, cols, w);
  const DeviceArray<float> df(w);
  const DeviceArray<uint16_t> dh(half);
  Ledger ledger;
  const Matrix empty = Matrix::allocate(ledger, format, rows, cols);
  const DeviceArray<uint8_t> codes(format.codeBytes(rows, cols));
  const DeviceArray<uint16_t> scales(format.scaleBytes(rows, cols) / 2), mins(format.scaleBytes(rows, cols) / 2);
  const DeviceArray<uint8_t> steps(format.stepBytes(rows, cols));
  const cuda::MatrixArgs out{format, rows, cols, codes.data(), format.exponents() ? nullptr : scales.data(), format.symmetric ? nullptr : mins.data(),
                             format.exponents() ? steps.data() : nullptr};
  underEverySchedule([&] {
    const int first = rows > 16 ? 16 : rows;  // in two calls, as a stream of rows arrives
    const auto part = [&](int row, int count) {
      const void* from = storage == Storage::f32 ? static_cast<const void*>(df.data() + row * cols) : dh.data() + row * cols;
      cuda::quantizeRtn(nullptr, from, storage, row, count, out);
    };
    part(0, first);
    if (rows > first) part(first, rows - first);
    const std::string where =
        format.describe() + " rows " + std::to_string(rows) + " cols " + std::to_string(cols) + " kind " + std::to_string(kind);
    const auto c = codes.host();
    EXPECT(std::memcmp(c.data(), cpu.m.data, c.size()) == 0, where);
    const auto s = scales.host();
    EXPECT(format.exponents() || std::memcmp(s.data(), cpu.m.scales, s.size() * 2) == 0, where);
    const auto e = steps.host();
    EXPECT(!format.exponents() || (e.size() > 1 && std::memcmp(e.data(), cpu.m.steps, e.size()) == 0), where);
    if (!cpu.m.mins) return;
    // The sign of a minimum of zero depends, on the CPU, on where in a vector the zero stood.
    const auto m = mins.host();
    const auto same = [](uint16_t a, uint16_t b) { return a == b || ((a | b) & 0x7fff) == 0; };
    for (size_t i = 0; i < m.size(); ++i) EXPECT(same(m[i], cpu.m.mins[i]), where, i, m[i], cpu.m.mins[i]);
  });
}

}  // namespace

TEST(rounding_makes_the_bytes_of_the_cpu) {
  int i = 0;
  std::vector<WeightFormat> all = codedFormats();
  for (const WeightFormat& format : formats())
    if (format.storage == Storage::packed) all.push_back(format);
  for (const WeightFormat& format : all) {
    for (int kind = 0; kind < 6; ++kind, ++i) {
      const Storage storage = i % 3 == 0 ? Storage::f32 : i % 3 == 1 ? Storage::bf16 : Storage::f16;
      compare(format, 21, i % 2 ? 96 : 131, storage, kind);
    }
    compare(format, 16, 31, Storage::f32, 0);
  }
}

TEST(pruning_zeroes_what_the_cpu_zeroes) {
  for (int kind : {0, 2, 4})
    for (double ratio : {0.0, 0.01, 0.37, 0.5, 0.999, 1.0}) {
      const int rows = 37, cols = 131;
      const auto w = weights(rows, cols, kind);
      PruneInput input;
      input.rows = rows;
      input.cols = cols;
      input.scope = PruneScope::matrix;
      input.decode = [&](int row, int count, float* out) { std::copy_n(w.begin() + row * cols, count * cols, out); };
      auto expected = w;
      Ledger ledger;
      findPruneMethod("magnitude")->prepare(input, ledger)->at({ratio, {}}, input)->apply(expected.data(), 0, rows);
      underEverySchedule([&] {
        DeviceArray<float> dw(w);
        DeviceArray<uint8_t> scratch(cuda::pruneScratchBytes(rows));
        cuda::pruneMagnitude(nullptr, dw.data(), rows, cols, ratio, scratch.data());
        const auto found = dw.host();
        EXPECT(std::memcmp(found.data(), expected.data(), found.size() * 4) == 0, kind, ratio);
      });
    }
}
