// SPDX-License-Identifier: GPL-3.0-or-later
// FP8 products of long prompts: codes and scales to the bit, products against double, twins and slices, what stays in 16 bits.
#include "engine/cuda/fp8.h"

#include "engine/cuda/products.h"
#include "engine/quantize/code_format.h"
#include "tests/cuda_emulation/product_problem.h"

using namespace winnow;
using namespace winnow::test;
using cuda::ProductRoad;
using cuda::RoadPreference;

namespace {

const CodeFormat& e4m3() { return *findCodeFormat("fp8-e4m3"); }

#ifdef WINNOW_ON_DEVICE
bool deviceHasFp8() {
  Ledger planning(true);
  return cuda::Cublas(planning, true).whyNoFp8().empty();
}
#endif
void needLibrary() {
  emulator::haveLibrary(true);
#ifdef WINNOW_ON_DEVICE
  if (!deviceHasFp8()) SKIP("this device has no FP8");
#endif
}

struct Encoded {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  double value(int row, int cols, int k) const { return double{e4m3().values[codes[static_cast<size_t>(row * cols + k)]]} * scales[static_cast<size_t>(row)]; }
};

// As the CPU encodes rows of finite values that are not all zeros.
Encoded onHost(const std::vector<float>& values, int rows, int cols) {
  Encoded out{std::vector<uint8_t>(values.size()), std::vector<float>(static_cast<size_t>(rows))};
  for (int r = 0; r < rows; ++r) {
    const float* row = values.data() + static_cast<size_t>(r * cols);
    float most = 0;
    for (int k = 0; k < cols; ++k) most = std::max(most, std::fabs(row[k]));
    const float scale = out.scales[static_cast<size_t>(r)] = most / 448;
    std::vector<float> scaled(row, row + cols);
    for (float& v : scaled) v *= 1 / scale;
    e4m3().encode(scaled.data(), cols, 1, out.codes.data() + static_cast<size_t>(r * cols));
  }
  return out;
}

Encoded onDevice(const std::vector<float>& values, int rows, int cols) {
  const DeviceArray<float> x(values), scales(static_cast<size_t>(rows));
  const DeviceArray<uint8_t> codes(values.size());
  cuda::encodeInput(nullptr, {x.data(), cols}, rows, cols, codes.data(), scales.data());
  return {codes.host(), scales.host()};
}

std::vector<float> rowsOf(const Matrix& m) {
  std::vector<float> values(static_cast<size_t>(m.rows) * static_cast<size_t>(m.cols));
  for (int r = 0; r < m.rows; ++r) dequantizeRow(m, r, values.data() + static_cast<size_t>(r) * static_cast<size_t>(m.cols));
  return values;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) { return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0; }

}  // namespace

// Every code, every middle between two, and their neighbours, in rows whose largest value is 448: the scale is 1.
TEST(codes_are_those_of_the_cpu) {
  std::vector<float> values;
  const auto put = [&](float v) {
    for (const float x : {v, std::nextafter(v, 0.0f), std::nextafter(v, 1000.0f)})
      if (std::fabs(x) <= 448) values.push_back(x), values.push_back(-x);
  };
  for (size_t code = 0; code < 0x7e; ++code) {
    put(e4m3().values[code]);
    put((e4m3().values[code] + e4m3().values[code + 1]) / 2);
  }
  for (const float tiny : {0x1p-10f, 0x1.8p-10f, 0x1p-11f, 0x1p-126f, 0x1p-149f}) put(tiny);
  while (values.size() % 64 != 0) values.push_back(0);
  const int cols = 68, rows = static_cast<int>(values.size() / 64);
  std::vector<float> x;
  for (int r = 0; r < rows; ++r) {
    x.insert(x.end(), values.begin() + r * 64, values.begin() + r * 64 + 64);
    x.insert(x.end(), {448, -448, 0, -0.0f});
  }
  const Encoded expected = onHost(x, rows, cols);
  underEverySchedule([&] {
    const Encoded found = onDevice(x, rows, cols);
    EXPECT(same(found.scales, expected.scales));
    for (size_t i = 0; i < x.size(); ++i) EXPECT(found.codes[i] == expected.codes[i], x[i], int{found.codes[i]}, int{expected.codes[i]});
  });
  // And nothing lies nearer, with ties to the even code.
  for (size_t i = 0; i < x.size(); ++i) {
    const double size = std::fabs(double{x[i]}), code = expected.codes[i] & 0x7f;
    const double mine = std::fabs(size - double{e4m3().values[static_cast<size_t>(code)]});
    for (size_t other = 0; other < 0x7f; ++other) {
      const double distance = std::fabs(size - double{e4m3().values[other]});
      EXPECT(mine < distance || static_cast<size_t>(code) == other || (mine == distance && expected.codes[i] % 2 == 0), x[i], code, other);
    }
  }
}

TEST(codes_saturate_and_keep_what_is_no_number) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN(), tiny = 0x1p-120f;
  const std::vector<float> x = {1.5f,     nan, -3, 0,            // a scale of the rest
                                infinity, 1,   0,  -infinity,    // nothing to scale
                                0,        0,   0,  -0.0f,        // zeros
                                tiny,     -tiny, 0, 0,           // the scale would be below normal numbers
                                 448 * tiny, -449 * tiny, 100 * tiny, 0};
  const Encoded found = onDevice(x, 5, 4);
  const auto code = [&](size_t i) { return int{found.codes[i]}; };
  EXPECT_EQ(found.scales[0], 3.0f / 448);
  EXPECT_EQ(code(0), 0x76);  // 224
  EXPECT_EQ(code(1) & 0x7f, 0x7f);
  EXPECT_EQ(code(2), 0xfe);
  EXPECT_EQ(code(3), 0);
  EXPECT_EQ(found.scales[1], infinity);
  EXPECT(code(4) == 0x7f || code(4) == 0xff);
  EXPECT(code(5) == 0 && code(6) == 0 && (code(7) & 0x7f) == 0x7f);
  EXPECT_EQ(found.scales[2], 0.0f);
  for (size_t i : {8u, 9u, 10u, 11u}) EXPECT_EQ(code(i) & 0x7f, 0);
  EXPECT_EQ(found.scales[3], 0.0f);
  EXPECT((code(12) & 0x7f) == 0 && (code(13) & 0x7f) == 0);
  EXPECT_EQ(found.scales[4], 449 * tiny / 448);
  EXPECT(code(16) == 0x7e && code(17) == 0xfe && code(18) == 0x6c, code(16), code(17), code(18));  // 447, -448, 99.8: nearer to 96 than to 104
}

TEST(weights_of_every_format_are_encoded_by_rows) {
  std::vector<WeightFormat> all = formats();
  for (const WeightFormat& format : superFormats()) all.push_back(format);
  for (const WeightFormat& format : all)
    for (const int cols : {16, 336}) {
      const int rows = 48;
      const Problem p(format, rows, cols, 1);
      const Encoded expected = onHost(rowsOf(p.weights.m), rows, cols);
      for (const int first : {0, 16}) {
        const int count = rows - first;
        const DeviceArray<uint8_t> codes(static_cast<size_t>(count * cols));
        const DeviceArray<float> scales(static_cast<size_t>(count));
        underEverySchedule([&] { cuda::encodeWeights(nullptr, p.matrix.args(), first, count, codes.data(), scales.data()); });
        EXPECT(same(scales.host(), {expected.scales.begin() + first, expected.scales.end()}), format.describe(), cols);
        EXPECT(codes.host() == std::vector<uint8_t>(expected.codes.begin() + first * cols, expected.codes.end()), format.describe(), cols);
      }
    }
}

TEST(inputs_are_made_on_the_way) {
  using Kind = cuda::Source::Kind;
  const int tokens = 9, cols = 336;
  const auto size = static_cast<size_t>(tokens * cols);
  std::vector<float> x(size), up(size), weight(static_cast<size_t>(cols)), bias(static_cast<size_t>(cols));
  uint32_t seed = 0;
  for (auto* v : {&x, &up, &weight, &bias}) fillNormal(v->data(), v->size(), ++seed);
  const DeviceArray<float> dx(x), dup(up), dweight(weight), dbias(bias);
  for (const Kind kind : {Kind::rms, Kind::layer, Kind::activated}) {
    cuda::Source source{dx.data(), cols, kind};
    source.weight = dweight.data();
    source.bias = kind == Kind::layer ? dbias.data() : nullptr;
    source.eps = 1e-5f;
    source.activation = Activation::silu;
    source.up = dup.data();
    const DeviceArray<float> made(x);
    if (kind == Kind::rms) cuda::rmsNorm(nullptr, dx.data(), dweight.data(), 1e-5f, tokens, cols, made.data());
    if (kind == Kind::layer) cuda::layerNorm(nullptr, dx.data(), dweight.data(), dbias.data(), 1e-5f, tokens, cols, made.data());
    if (kind == Kind::activated) cuda::activate(nullptr, Activation::silu, made.data(), dup.data(), int64_t{tokens} * cols);
    const Encoded expected = onDevice(made.host(), tokens, cols);
    const DeviceArray<uint8_t> codes(size);
    const DeviceArray<float> scales(static_cast<size_t>(tokens));
    underEverySchedule([&] {
      cuda::encodeInput(nullptr, source, tokens, cols, codes.data(), scales.data());
      EXPECT(codes.host() == expected.codes && same(scales.host(), expected.scales), static_cast<int>(kind));
    });
  }
}

TEST(the_road_follows_from_tokens_and_extents) {
  const auto road = [](int rows, int cols, int tokens, bool library, RoadPreference preference = RoadPreference::automatic, bool fp8 = true) {
    return cuda::roadOf({{Storage::packed, 4, 32, true}, rows, cols}, ActivationMode::f16, tokens, library, preference, fp8).road;
  };
  EXPECT(road(64, 64, 512, true) == ProductRoad::fp8);
  EXPECT(road(16, 16, 9, true, RoadPreference::decoded) == ProductRoad::fp8);
  EXPECT(road(64, 64, 511, true) == ProductRoad::fragments && road(64, 64, 8, true, RoadPreference::decoded) == ProductRoad::streamed);
  EXPECT(road(72, 64, 512, true) == ProductRoad::decoded && road(64, 72, 512, true) == ProductRoad::decoded);
  EXPECT(road(64, 64, 512, false) == ProductRoad::fragments);
  EXPECT(road(64, 64, 512, true, RoadPreference::own) == ProductRoad::fragments);
  EXPECT(road(64, 64, 512, true, RoadPreference::automatic, false) == ProductRoad::decoded);
}

namespace {

// A product by whatever road so many tokens take, onto rows of 0.25.
struct Run {
  Ledger ledger;
  const Problem& p;
  int tokens;
  cuda::Products products;

  Run(const Problem& problem, int count, int64_t slice = cuda::Products::kSliceBytes)
      : p(problem), tokens(count), products(ledger, count, problem.weights.m.cols, nullptr, slice) {
    products.prefer(RoadPreference::decoded);
  }
  void twin(uint64_t serial = 1) {
    products.twins().follow(serial, PrefillTwin::on, true);
    Matrix m;
    m.format = p.weights.m.format;
    m.rows = p.weights.m.rows;
    m.cols = p.weights.m.cols;
    m.data = p.matrix.args().data;
    products.makeTwin(m, tokens, Activations::fp8, [] { return int64_t{1} << 40; });
  }
  int64_t kept() const { return ledger.bytes(MemoryTag::prefillTwin); }
  std::vector<float> operator()(Activations activations = Activations::fp8, bool accumulate = true) {
    const int rows = p.weights.m.rows, cols = p.weights.m.cols;
    const DeviceArray<float> y(std::vector<float>(static_cast<size_t>(tokens * rows), 0.25f));
    const cuda::Target target{p.matrix.args(), y.data(), rows, p.dbias.data(), accumulate};
    products.multiply({&target, 1}, {p.dx.data(), cols}, tokens, cols, activations);
    return y.host();
  }
};

}  // namespace

// Codes are exact, and so are their products. The device's sums keep at least 13 bits behind the largest partial sum; the stand-in rounds them once. Then
// come two scales, a bias and what was there: 2^-24 of each result. From the unrounded product both factors of each term are off by a half of the last
// of three fraction bits, 2^-4 of them, or half of the smallest step, 2^-10 scales.
TEST(products_are_those_of_the_codes) {
  needLibrary();
#ifdef WINNOW_ON_DEVICE
  constexpr double kSums = 0x1p-13;
#else
  constexpr double kSums = 0x1p-24;
#endif
  const WeightFormat all[] = {{}, {Storage::bf16, 16, 0, true}, {Storage::packed, 4, 32, false}, {Storage::packed, 8, 0, true}};
  for (const WeightFormat& format : all)
    for (const auto& [rows, cols, tokens] : {std::tuple(16, 16, 9), std::tuple(48, 336, 70), std::tuple(400, 48, 33)}) {
      const Problem p(format, rows, cols, tokens);
      const std::vector<float> values = rowsOf(p.weights.m), x(p.x.begin(), p.x.end());
      const Encoded w = onHost(values, rows, cols), in = onHost(x, tokens, cols);
      for (const bool accumulate : {false, true}) {
        const std::vector<float> y = Run(p, tokens)(Activations::fp8, accumulate);
        double worst = 0, worstUnrounded = 0;
        for (int t = 0; t < tokens; ++t)
          for (int r = 0; r < rows; ++r) {
            double sum = 0, size = 0, exact = 0, rounding = 0;
            for (int k = 0; k < cols; ++k) {
              const double a = w.value(r, cols, k), b = in.value(t, cols, k);
              const double u = values[static_cast<size_t>(r * cols + k)], v = x[static_cast<size_t>(t * cols + k)];
              const double du = std::max(std::fabs(u) * 0x1p-4, double{w.scales[static_cast<size_t>(r)]} * 0x1p-10);
              const double dv = std::max(std::fabs(v) * 0x1p-4, double{in.scales[static_cast<size_t>(t)]} * 0x1p-10);
              sum += a * b, size += std::fabs(a * b), exact += u * v;
              rounding += du * std::fabs(v) + dv * std::fabs(u) + du * dv;
            }
            const double more = double{p.bias[static_cast<size_t>(r)]} + (accumulate ? 0.25 : 0), found = y[static_cast<size_t>(t * rows + r)];
            const double bound = kSums * size + 4 * 0x1p-24 * (size + std::fabs(more) + 0.25);
            worst = std::max(worst, std::fabs(found - sum - more) / bound);
            worstUnrounded = std::max(worstUnrounded, std::fabs(found - exact - more) / (bound + rounding));
          }
        EXPECT(worst <= 1, format.describe(), rows, cols, tokens, accumulate, worst);
        EXPECT(worstUnrounded <= 1 && worstUnrounded > 0.01, format.describe(), rows, cols, tokens, accumulate, worstUnrounded);
      }
    }
}

TEST(slices_and_twins_change_no_bit) {
  needLibrary();
  const Problem p({Storage::packed, 4, 32, false}, 400, 48, 33);
  const std::vector<float> expected = Run(p, 33)();
#ifndef WINNOW_ON_DEVICE  // which may take another algorithm for slices
  EXPECT(Run(p, 33, 1)() == expected);
  EXPECT(Run(p, 33, 48 * 160)() == expected);
#endif
  Run run(p, 33);
  run.twin();
  EXPECT_EQ(run.kept(), int64_t{400} * 48 + 400 * 4);
  for (int prompt = 0; prompt < 2; ++prompt) EXPECT(run() == expected);
  // A twin has one form; prompts in 16 bits take none of these bytes.
  run.products.twins().follow(1, PrefillTwin::on, false);
  EXPECT_EQ(run.kept(), int64_t{0});
  EXPECT(run(Activations::automatic) == Run(p, 33)(Activations::automatic));
  run.twin();
  EXPECT(run.kept() > 0 && run() == expected);
#ifndef WINNOW_ON_DEVICE
  // Whoever finds the device full takes it back.
  const size_t before = emulator::memoryLimit();
  emulator::limitMemory(emulator::allocatedBytes());
  {
    Ledger other;
    const cuda::DeviceBuffer needed(other, MemoryTag::kv, static_cast<size_t>(run.kept()));
    EXPECT_EQ(run.kept(), int64_t{0});
  }
  emulator::limitMemory(before);
  EXPECT(run() == expected);
#endif
}

TEST(a_twin_is_encoded_once) {
  emulator::launches();
  needLibrary();
  const Problem p({Storage::bf16, 16, 0, true}, 64, 48, 33);
  Run run(p, 33);
  const auto launches = [&] {
    const uint64_t before = emulator::launches();
    run();
    return emulator::launches() - before;
  };
  EXPECT_EQ(launches(), uint64_t{3});  // x, w, scales
  run.twin();
  EXPECT_EQ(launches(), uint64_t{3});
  for (int prompt = 0; prompt < 2; ++prompt) EXPECT_EQ(launches(), uint64_t{2});
}

// Of three matrices of one input those that FP8 can't have stay what they are without it.
TEST(other_extents_stay_in_16_bits) {
  needLibrary();
  const int cols = 48, tokens = 33;
  const Problem a({Storage::packed, 4, 32, true}, 64, cols, tokens), b({Storage::packed, 4, 32, true}, 40, cols, tokens), c({Storage::bf16, 16, 0, true}, 24, cols, tokens);
  const auto run = [&](Activations activations) {
    Ledger ledger;
    cuda::Products products(ledger, tokens, cols, nullptr);
    products.prefer(RoadPreference::decoded);
    std::vector<DeviceArray<float>> y;
    std::vector<cuda::Target> targets;
    for (const Problem* p : {&a, &b, &c}) {
      y.emplace_back(static_cast<size_t>(tokens * p->weights.m.rows));
      targets.push_back({p->matrix.args(), y.back().data(), p->weights.m.rows, nullptr, false});
    }
    products.multiply(targets, {a.dx.data(), cols}, tokens, cols, activations);
    return std::array{y[0].host(), y[1].host(), y[2].host()};
  };
  const auto fp8 = run(Activations::fp8), sixteen = run(Activations::automatic);
  EXPECT(fp8[0] != sixteen[0] && fp8[1] == sixteen[1] && fp8[2] == sixteen[2]);
}
