// SPDX-License-Identifier: GPL-3.0-or-later
// Matrix products: every format, mode, instruction set and odd shape against a reference in double.
#include "tests/engine/ops/matmul_oracle.h"

using namespace winnow;
using namespace winnow::cpu;
using namespace winnow::test;

namespace {

constexpr int kTokens = 17;

const char* modeName(ActivationMode mode) {
  const char* names[] = {"f32", "f16", "bf16", "int8"};
  return names[static_cast<int>(mode)];
}

void runShape(const WeightFormat& format, int rows, int cols) {
  static const auto one = machines(1), two = machines(2), three = machines(3);
  std::vector<float> values(static_cast<size_t>(rows) * static_cast<size_t>(cols)), bias(static_cast<size_t>(rows));
  fillNormal(values.data(), values.size(), static_cast<uint32_t>(rows * 1000 + cols), 0.1f);
  fillNormal(bias.data(), bias.size(), 7);
  if (format.storage == Storage::packed && !format.symmetric)
    for (size_t i = 0; i < values.size(); ++i) values[i] += 0.3f;
  const Weights weights(format, rows, cols, values);
  const Guarded<float> x(static_cast<size_t>(kTokens * cols));
  fillNormal(x.data(), x.size(), 11);
  for (ActivationMode mode : {ActivationMode::f32, ActivationMode::f16, ActivationMode::bf16, ActivationMode::int8}) {
    if (mode == ActivationMode::int8 && !format.dotsInt8()) continue;
    const Reference ref = reference(weights.m, x, kTokens, bias, mode);
    for (size_t i = 0; i < one.size(); ++i) {
      const auto product = [&](Machine& machine, int tokens, int firstToken = 0) {
        Output y(tokens, rows, 3);
        const MatmulTarget target{&weights.m, y.data(), y.stride(), bias.data(), false};
        matmul(machine.context, {&target, 1}, x.data() + firstToken * cols, cols, tokens, mode);
        return y;
      };
      const std::string name = format.describe() + " " + modeName(mode) + " " + isaName(one[i]->context.isa());
      Output all = product(*one[i], kTokens);
      EXPECT(all.intact(), name, rows, cols);
      double worst = 0;
      for (int t = 0; t < kTokens; ++t)
        for (int r = 0; r < rows; ++r) {
          const size_t at = static_cast<size_t>(t * rows + r);
          worst = std::max(worst, std::fabs(static_cast<double>(all.row(t)[r]) - ref.y[at]) / ref.bound[at]);
        }
      EXPECT(worst <= 1, name, rows, cols, worst);
      EXPECT(product(*two[i], kTokens) == all, name, rows, cols);
      EXPECT(product(*three[i], kTokens) == all, name, rows, cols);
      // One token, two and five give the bits of seventeen.
      for (int tokens : {1, 2, 5}) {
        Output some = product(*one[i], tokens, 3);
        EXPECT(some.intact(), name, rows, cols, tokens);
        for (int t = 0; t < tokens; ++t)
          EXPECT(std::memcmp(some.row(t), all.row(t + 3), static_cast<size_t>(rows) * 4) == 0, name, rows, cols, tokens, t);
        if (tokens == 1) EXPECT(product(*three[i], 1, 3) == some, name, rows, cols);
      }
    }
  }
}

}  // namespace

TEST(matmul_within_the_bound_for_every_format) {
  std::vector<WeightFormat> all = formats();
  for (const WeightFormat& format : superFormats()) all.push_back(format);
  for (const WeightFormat& format : all)
    for (int cols : {31, 32, 172, 256, 1000}) runShape(format, 33, cols);
}

TEST(matmul_of_codes_within_the_bound) {
  for (const WeightFormat& format : codedFormats())
    for (int cols : {31, 32, 172, 256, 1000}) runShape(format, 33, cols);
  for (const WeightFormat& format : halvedFormats())
    for (int cols : {32, 96, 256, 1024}) runShape(format, 33, cols);
}

// Every code where it can lie in a chunk, against the value of its table: x picks one column at a time.
TEST(every_code_of_a_table_meets_its_value) {
  for (const CodeFormat& codes : codeFormats()) {
    const int count = 1 << codes.bits;
    Ledger ledger;
    Matrix m = Matrix::allocate(ledger, {Storage::packed, static_cast<uint8_t>(codes.bits), 32, true, 0, codes.code}, 16, 32);
    for (size_t i = 0; i < m.scaleBuffer.bytes() / 2; ++i) m.scaleBuffer.as<uint16_t>()[i] = 0x3c00;  // 1
    for (size_t i = 0; i < m.stepBuffer.bytes(); ++i) m.stepBuffer.as<uint8_t>()[i] = 127;
    for (int first = 0; first < count; first += 16) {
      std::vector<uint8_t> q(16 * 32);
      const auto codeOf = [&](int r, int k) { return static_cast<uint8_t>((first + r + 3 * k) % count); };
      for (int r = 0; r < 16; ++r)
        for (int k = 0; k < 32; ++k) q[static_cast<size_t>(r * 32 + k)] = std::isfinite(codes.values[codeOf(r, k)]) ? codeOf(r, k) : uint8_t{0};
      packTile(m, 0, q.data());
      for (auto& machine : machines(1))
        for (int k = 0; k < 32; ++k) {
          std::vector<float> x(32);
          x[static_cast<size_t>(k)] = 2;
          Output y(1, 16, 1);
          const MatmulTarget target{&m, y.data(), y.stride(), nullptr, false};
          matmul(machine->context, {&target, 1}, x.data(), 32, 1, ActivationMode::f16);
          for (int r = 0; r < 16; ++r) EXPECT(y.row(0)[r] == 2 * codes.values[q[static_cast<size_t>(r * 32 + k)]], codes.name, isaName(machine->context.isa()), r, k);
        }
    }
  }
}

TEST(matmul_with_every_number_of_rows) {
  for (int rows = 1; rows <= 32; ++rows)
    for (const WeightFormat& format : {WeightFormat{}, WeightFormat{Storage::bf16, 16, 0, true}, WeightFormat{Storage::packed, 4, 32, true},
                                       WeightFormat{Storage::packed, 8, 64, false}})
      runShape(format, rows, 45);
}

TEST(matmul_joins_targets_and_accumulates) {
  std::vector<float> w(64 * 172);
  fillNormal(w.data(), w.size(), 5, 0.1f);
  const auto part = [&](int rows) { return std::vector<float>(w.begin(), w.begin() + rows * 172); };
  const Weights q({Storage::packed, 4, 32, true}, 40, 172, part(40)), k({Storage::packed, 8, 128, false}, 19, 172, part(19)),
      v({Storage::bf16, 16, 0, true}, 33, 172, part(33)), u({Storage::f32, 32, 0, true}, 5, 172, part(5));
  const Matrix* matrices[] = {&q.m, &k.m, &v.m, &u.m};
  const Guarded<float> x(3 * 172);
  fillNormal(x.data(), x.size(), 8);
  for (int threads : {1, 2, 3})
    for (auto& machine : machines(threads))
      for (ActivationMode mode : {ActivationMode::f32, ActivationMode::f16, ActivationMode::bf16, ActivationMode::int8}) {
        const int count = mode == ActivationMode::int8 ? 2 : 4;
        std::vector<Output> together, alone;
        std::vector<MatmulTarget> targets;
        for (int i = 0; i < count; ++i) together.emplace_back(3, matrices[i]->rows, 1, 0.5f), alone.emplace_back(3, matrices[i]->rows, 1);
        for (int i = 0; i < count; ++i)
          targets.push_back(
              {matrices[i], together[static_cast<size_t>(i)].data(), together[static_cast<size_t>(i)].stride(), nullptr, true});
        matmul(machine->context, targets, x.data(), 172, 3, mode);
        for (int i = 0; i < count; ++i) {
          Output& y = alone[static_cast<size_t>(i)];
          const MatmulTarget target{matrices[i], y.data(), y.stride(), nullptr, false};
          matmul(machine->context, {&target, 1}, x.data(), 172, 3, mode);
          EXPECT(together[static_cast<size_t>(i)].intact());
          for (int t = 0; t < 3; ++t)
            for (int r = 0; r < matrices[i]->rows; ++r) EXPECT_EQ(together[static_cast<size_t>(i)].row(t)[r], y.row(t)[r] + 0.5f);
        }
      }
}

// int8 sums are integers, so the only difference between instruction sets is that of a handful of roundings per chunk.
TEST(int8_survives_extreme_activations) {
  std::vector<float> w(16 * 64);
  fillNormal(w.data(), w.size(), 5);
  const Weights weights({Storage::packed, 8, 32, true}, 16, 64, w);
  for (float size : {0.0f, 1e-44f, 1e-40f, 1e30f}) {
    std::vector<float> x(64, size);
    for (auto& machine : machines(1)) {
      Output y(1, 16, 1);
      const MatmulTarget target{&weights.m, y.data(), y.stride(), nullptr, false};
      matmul(machine->context, {&target, 1}, x.data(), 64, 1, ActivationMode::int8);
      std::vector<float> row(64);
      for (int r = 0; r < 16; ++r) {
        dequantizeRow(weights.m, r, row.data());
        double sum = 0, magnitude = 0;
        for (float v : row) sum += v, magnitude += std::fabs(v);
        EXPECT_NEAR(y.row(0)[r], sum * size, magnitude * size * (1.0 / 127 + 1e-6) + magnitude * 1e-43);
      }
    }
  }
}

TEST(plain_weights_and_small_floats_refuse_int8) {
  for (const WeightFormat& format : {WeightFormat{Storage::f32, 32, 0, true}, WeightFormat{Storage::packed, 8, 32, true, 0, Code::e4m3}}) {
    std::vector<float> w(32, 1), x(32, 1), y(1);
    const Weights weights(format, 1, 32, w);
    Machine machine(Isa::scalar, 1);
    const MatmulTarget target{&weights.m, y.data(), 1, nullptr, false};
    bool refused = false;
    try {
      matmul(machine.context, {&target, 1}, x.data(), 32, 1, ActivationMode::int8);
    } catch (const std::logic_error&) {
      refused = true;
    }
    EXPECT(refused, format.describe());
    EXPECT(activationMode(Activations::int8, format) != ActivationMode::int8);
  }
}

// Integers of different offsets and halves beside each other.
TEST(int8_products_of_mixed_formats_equal_those_alone) {
  std::vector<float> w(48 * 256);
  fillNormal(w.data(), w.size(), 5, 0.1f);
  const WeightFormat mixed[] = {{Storage::packed, 4, 32, true}, {Storage::packed, 6, 16, true, 256}, {Storage::packed, 4, 64, true, 0, Code::nf4},
                                {Storage::packed, 4, 32, true, 0, Code::e2m1}, {Storage::packed, 3, 16, true, 256}, {Storage::packed, 3, 32, false}};
  std::vector<std::unique_ptr<Weights>> all;
  for (const WeightFormat& format : mixed) all.push_back(std::make_unique<Weights>(format, 48, 256, w));
  const Guarded<float> x(11 * 256);
  fillNormal(x.data(), x.size(), 8);
  for (auto& machine : machines(2)) {
    std::vector<Output> together;
    std::vector<MatmulTarget> targets;
    for (size_t i = 0; i < all.size(); ++i) together.emplace_back(11, 48, 1);
    for (size_t i = 0; i < all.size(); ++i) targets.push_back({&all[i]->m, together[i].data(), together[i].stride(), nullptr, false});
    matmul(machine->context, targets, x.data(), 256, 11, ActivationMode::int8);
    for (size_t i = 0; i < all.size(); ++i) {
      Output alone(11, 48, 1);
      const MatmulTarget target{&all[i]->m, alone.data(), alone.stride(), nullptr, false};
      matmul(machine->context, {&target, 1}, x.data(), 256, 11, ActivationMode::int8);
      EXPECT(alone == together[i], all[i]->m.format.describe());
    }
  }
}
