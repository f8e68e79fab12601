// SPDX-License-Identifier: GPL-3.0-or-later
// The roads of a product: which is taken and why, and that weights decoded to f16 give what f16 weights of those values give.
#include "engine/cuda/products.h"

#include "tests/cuda_emulation/product_problem.h"

using namespace winnow;
using namespace winnow::test;
using cuda::ProductRoad;
using cuda::RoadPreference;

namespace {

ProductRoad road(WeightFormat format, int cols, ActivationMode mode, int tokens, bool library,
                 RoadPreference preference = RoadPreference::automatic) {
  const cuda::RoadChoice choice = cuda::roadOf({format, 64, cols}, mode, tokens, library, preference);
  EXPECT(std::string(choice.reason).size() > 5);
  return choice.road;
}

constexpr WeightFormat kHalf{Storage::f16, 16, 0, true}, kBrain{Storage::bf16, 16, 0, true}, kFour{Storage::packed, 4, 32, true};

}  // namespace

TEST(the_road_follows_from_tokens_format_and_mode) {
  for (bool library : {false, true}) {
    for (int tokens : {1, 8}) EXPECT(road(kFour, 64, ActivationMode::f16, tokens, library) == ProductRoad::streamed);
    EXPECT(road({}, 64, ActivationMode::f32, 2048, library) == ProductRoad::fma);
    for (const WeightFormat& format : codedFormats()) EXPECT(road(format, 64, ActivationMode::f16, 100, library) == ProductRoad::fragments);
    EXPECT(road(kHalf, 64, ActivationMode::f32, 2048, library) == ProductRoad::fma);
    EXPECT(road(kBrain, 44, ActivationMode::bf16, 2048, library) == ProductRoad::fma);
    for (ActivationMode mode : {ActivationMode::f32, ActivationMode::int8})
      EXPECT(road(kFour, 64, mode, 2048, library, RoadPreference::decoded) == ProductRoad::fragments);
    EXPECT(road(kFour, 44, ActivationMode::f16, 2048, library, RoadPreference::decoded) == ProductRoad::fragments);
    EXPECT(road(kFour, 64, ActivationMode::f16, 2048, library, RoadPreference::own) == ProductRoad::fragments);
    EXPECT(road(kFour, 64, ActivationMode::f16, 9, library, RoadPreference::decoded) == ProductRoad::decoded);
    EXPECT(road(kBrain, 64, ActivationMode::bf16, 9, library) == ProductRoad::fragments);
  }
  EXPECT(road(kBrain, 64, ActivationMode::bf16, 2048, true) == ProductRoad::library);
  EXPECT(road(kBrain, 64, ActivationMode::bf16, 2048, false) == ProductRoad::fragments);
  EXPECT(road(kFour, 64, ActivationMode::f16, 2048, true) == ProductRoad::decoded);
  EXPECT(road(kFour, 64, ActivationMode::f16, 100, true) == ProductRoad::fragments);
}

TEST(a_library_that_is_not_there_has_a_reason) {
  emulator::haveLibrary(false);
  Ledger ledger;
  const cuda::Products products(ledger, 32, 64, nullptr);
#ifdef WINNOW_ON_DEVICE
  if (products.library().available()) SKIP("the toolkit's cuBLASLt is there");
#endif
  EXPECT(!products.library().available() && !products.library().reason().empty());
}

TEST(decoded_rows_are_the_cpus_rounded_to_f16) {
  std::vector<WeightFormat> all = superFormats();
  for (const WeightFormat& format : formats())
    if (format.storage == Storage::packed) all.push_back(format);
  for (const WeightFormat& format : codedFormats()) all.push_back(format);
  for (const WeightFormat& format : halvedFormats()) all.push_back(format);
  for (const WeightFormat& format : all) {
    const int rows = 37, cols = format.group == 16 ? 192 : 168;
    const Problem p(format, rows, cols, 1);
    std::vector<float> row(static_cast<size_t>(cols));
    for (int first : {0, 16}) {
      const int count = rows - first - 2;
      DeviceArray<uint16_t> out(static_cast<size_t>(count * cols));
      underEverySchedule([&] { cuda::decodeToHalves(nullptr, p.matrix.args(), first, count, out.data()); });
      const auto found = out.host();
      for (int r = 0; r < count; ++r) {
        dequantizeRow(p.weights.m, first + r, row.data());
        for (int k = 0; k < cols; ++k)
          EXPECT_EQ(found[static_cast<size_t>(r * cols + k)], floatToF16(row[static_cast<size_t>(k)]));
      }
    }
  }
}

// With the library and without: both products take the same one way then.
TEST(the_decoded_road_multiplies_f16_weights_of_the_same_values) {
  const int rows = 300, cols = 72, tokens = 64;
  const Problem packed({Storage::packed, 4, 32, false}, rows, cols, tokens);
  std::vector<float> values;
  std::vector<float> row(static_cast<size_t>(cols));
  for (int r = 0; r < rows; ++r) {
    dequantizeRow(packed.weights.m, r, row.data());
    values.insert(values.end(), row.begin(), row.end());
  }
  const Weights halves(kHalf, rows, cols, values);
  const DeviceMatrix half(halves.m);
  const auto run = [&](const cuda::MatrixArgs& w, RoadPreference preference, int64_t slice = cuda::Products::kSliceBytes) {
    Ledger ledger;
    cuda::Products products(ledger, tokens, cols, nullptr, slice);
    products.prefer(preference);
    DeviceArray<float> y(std::vector<float>(static_cast<size_t>(tokens * rows), 0.25f));
    const cuda::Target target{w, y.data(), rows, packed.dbias.data(), true};
    products.multiply({&target, 1}, {packed.dx.data(), cols}, tokens, cols, Activations::automatic);
    return y.host();
  };
  for (const bool library : kLibraries) {
    emulator::haveLibrary(library);
    EXPECT(run(packed.matrix.args(), RoadPreference::decoded) == run(half.args(), RoadPreference::automatic), library);
#ifndef WINNOW_ON_DEVICE  // which may take another algorithm for slices of 128 rows
    EXPECT(run(packed.matrix.args(), RoadPreference::decoded, 1) == run(half.args(), RoadPreference::automatic), library);
#endif
  }
  // Own tiles keep the packed values as they are: half a step of f16 apart at most, and not equal.
  const auto exact = run(packed.matrix.args(), RoadPreference::own), decoded = run(packed.matrix.args(), RoadPreference::decoded);
  EXPECT(exact != decoded);
  for (int t = 0; t < tokens; ++t)
    for (int r = 0; r < rows; ++r) {
      double magnitude = 0;
      for (int k = 0; k < cols; ++k)
        magnitude += std::fabs(static_cast<double>(values[static_cast<size_t>(r * cols + k)]) * packed.x[static_cast<size_t>(t * cols + k)]);
      const size_t at = static_cast<size_t>(t * rows + r);
      EXPECT_NEAR(exact[at], decoded[at], magnitude * 0x1.2p-11 + 1e-5);
    }
}

TEST(biases_are_added_to_every_row) {
  const int rows = 300, tokens = 3;
  std::vector<float> x(static_cast<size_t>(rows * tokens)), bias(static_cast<size_t>(rows));
  fillNormal(x.data(), x.size(), 1);
  fillNormal(bias.data(), bias.size(), 2);
  const DeviceArray<float> dbias(bias);
  underEverySchedule([&] {
    DeviceArray<float> y(x);
    cuda::addBiasRows(nullptr, y.data(), rows, dbias.data(), tokens, rows);
    const auto found = y.host();
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(found[i], x[i] + bias[i % static_cast<size_t>(rows)]);
  });
}

// A norm or an activation made on the way into a product is the norm or activation of its own kernel, bit by bit, in every form.
TEST(sources_are_made_on_the_way) {
  using Kind = cuda::Source::Kind;
  for (int tokens : {1, 3, 70}) {
    const int cols = 200, chunks = 7;
    const auto size = static_cast<size_t>(tokens * cols);
    std::vector<float> x(size), up(size), weight(static_cast<size_t>(cols)), bias(static_cast<size_t>(cols));
    fillNormal(x.data(), size, 1);
    fillNormal(up.data(), size, 2);
    fillNormal(weight.data(), weight.size(), 3);
    fillNormal(bias.data(), bias.size(), 4);
    const DeviceArray<float> dx(x), dup(up), dweight(weight), dbias(bias);
    for (Kind kind : {Kind::rms, Kind::layer, Kind::activated}) {
      cuda::Source source{dx.data(), cols, kind};
      source.weight = dweight.data();
      source.bias = kind == Kind::layer ? dbias.data() : nullptr;
      source.eps = 1e-5f;
      source.activation = Activation::silu;
      source.up = dup.data();
      DeviceArray<float> made(x);
      if (kind == Kind::rms) cuda::rmsNorm(nullptr, dx.data(), dweight.data(), 1e-5f, tokens, cols, made.data());
      if (kind == Kind::layer) cuda::layerNorm(nullptr, dx.data(), dweight.data(), dbias.data(), 1e-5f, tokens, cols, made.data());
      if (kind == Kind::activated) cuda::activate(nullptr, Activation::silu, made.data(), dup.data(), int64_t{tokens} * cols);
      for (ActivationMode mode : {ActivationMode::f32, ActivationMode::f16, ActivationMode::bf16, ActivationMode::int8}) {
        const bool few = tokens <= cuda::kMostTokens, sixteen = mode == ActivationMode::f16 || mode == ActivationMode::bf16;
        const cuda::InputForms forms{mode != ActivationMode::int8, !(few && mode == ActivationMode::bf16), sixteen && !few};
        const auto run = [&](const cuda::Source& from) {
          DeviceArray<uint8_t> scratch(std::vector<uint8_t>(cuda::InputForms::bytes(mode, tokens, cols)));
          const cuda::Input in = cuda::prepare(nullptr, from, tokens, cols, mode, forms, scratch.data());
          std::vector<uint8_t> all;
          const auto add = [&](const void* p, size_t bytes) {
            if (!p) return;
            all.resize(all.size() + bytes);
            cudaMemcpy(all.data() + all.size() - bytes, p, bytes, cudaMemcpyDeviceToHost);
          };
          if (forms.plain) add(in.x, size * 4);
          const size_t perChunk = static_cast<size_t>(chunks * tokens) * 4;
          add(in.pieces, perChunk * (mode == ActivationMode::f32 ? 48 : mode == ActivationMode::int8 ? 8 : 16));
          add(in.totals, perChunk);
          if (mode == ActivationMode::int8) add(in.scales, perChunk), add(in.sums, perChunk);
          add(in.halves, size * 2);
          return all;
        };
        const auto expected = run({made.data(), cols});
        EXPECT(expected.size() > 100);
        for (uint32_t seed : {0u, 5u}) {
          emulator::setSeed(seed);
          EXPECT(run(source) == expected, tokens, static_cast<int>(kind), static_cast<int>(mode), seed);
        }
        emulator::setSeed(0);
      }
    }
  }
}

namespace {

// Two targets of a source as one row makes them, and as its forms made beforehand.
void expectSameRow(const Problem& a, const Problem& b, const cuda::Source& source, ActivationMode mode) {
  const int cols = a.weights.m.cols;
  const auto run = [&](bool own) {
    std::vector<float> all;
    std::vector<cuda::Target> targets;
    std::vector<DeviceArray<float>> outs;
    for (const Problem* p : {&a, &b}) {
      outs.emplace_back(std::vector<float>(static_cast<size_t>(p->weights.m.rows), 0.5f));
      targets.push_back({p->matrix.args(), outs.back().data(), p->weights.m.rows, p->dbias.data(), p == &b});
    }
    EXPECT(cuda::multipliesRow(targets, cols, mode));
    if (own) {
      cuda::multiplyRow(nullptr, targets, source, cols, mode);
    } else {
      DeviceArray<uint8_t> scratch(cuda::InputForms::bytes(mode, 1, cols));
      cuda::multiply(nullptr, targets, cuda::prepare(nullptr, source, 1, cols, mode, cuda::InputForms::of(targets, mode, 1), scratch.data()));
    }
    for (const auto& out : outs) {
      const auto host = out.host();
      all.insert(all.end(), host.begin(), host.end());
    }
    return all;
  };
  const std::vector<float> expected = run(false);
  for (uint32_t seed : {0u, 5u}) {
    emulator::setSeed(seed);
    EXPECT(run(true) == expected, a.weights.m.format.describe(), static_cast<int>(source.kind), static_cast<int>(mode), seed);
  }
  emulator::setSeed(0);
}

}  // namespace

// What each block makes of a row for itself is what was made of it for all of them.
TEST(a_row_is_multiplied_as_its_forms_are) {
  using Kind = cuda::Source::Kind;
  for (const int cols : {200, 420}) {
    std::vector<float> x(static_cast<size_t>(cols)), up(x.size()), weight(x.size()), bias(x.size());
    uint32_t seed = 0;
    for (auto* v : {&x, &up, &weight, &bias}) fillNormal(v->data(), v->size(), ++seed);
    const DeviceArray<float> dx(x), dup(up), dweight(weight), dbias(bias);
    std::vector<WeightFormat> all = {{}, kHalf, kBrain, kFour, {Storage::packed, 3, 32, false}, {Storage::packed, 8, 32, true}};
    for (const WeightFormat& format : superFormats()) all.push_back(format);
    for (const WeightFormat& format : codedFormats())
      if (format.group == 32) all.push_back(format);
    for (const WeightFormat& format : all) {
      const Problem a(format, 37, cols, 1), b(format, 19, cols, 1);
      for (const ActivationMode mode : modesOf(format))
        for (const Kind kind : {Kind::rows, Kind::rms, Kind::layer, Kind::activated}) {
          cuda::Source source{dx.data(), cols, kind};
          source.weight = dweight.data();
          source.bias = kind == Kind::layer ? dbias.data() : nullptr;
          source.eps = 1e-5f;
          source.activation = Activation::silu;
          source.up = dup.data();
          expectSameRow(a, b, source, mode);
        }
    }
  }
}

TEST(blocks_of_a_large_matrix_take_several_tiles_of_a_row) {
  const int cols = 32;
  const Problem small(kFour, 16, cols, 1), packed(kFour, 16 * 515, cols, 1), one(kHalf, 4, cols, 1), plain(kHalf, 4 * 1030, cols, 1);
  const cuda::Source source{packed.dx.data(), cols};
  expectSameRow(packed, small, source, ActivationMode::f16);
  expectSameRow(plain, one, source, ActivationMode::f16);
}

TEST(rows_beyond_shared_memory_are_prepared) {
  const auto fits = [](WeightFormat format, int cols, ActivationMode mode) {
    const cuda::Target target{{format, 16, cols}};
    return cuda::multipliesRow({&target, 1}, cols, mode);
  };
  EXPECT(fits(kFour, 24576, ActivationMode::f16) && !fits(kFour, 24608, ActivationMode::f16));
  EXPECT(fits(kFour, 8192, ActivationMode::f32) && !fits(kFour, 8224, ActivationMode::f32));
  EXPECT(fits(kBrain, 12288, ActivationMode::bf16) && !fits(kBrain, 12289, ActivationMode::bf16));
}
