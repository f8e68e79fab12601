// SPDX-License-Identifier: GPL-3.0-or-later
// Products of one token that read some channels of their matrices, on the (emulated) device: what takes part to the entry, sums against double precision
// (the bound is that of tests/engine/sparsify.cpp), the same bits under every schedule.
#include "engine/cuda/sparse.h"

#include <algorithm>
#include <cmath>

#include "engine/cuda/weights.h"
#include "tests/cuda_emulation/product_problem.h"

using namespace winnow;
using namespace winnow::test;

namespace {

// Everything that keepRow() writes, between sentinels.
struct Row {
  int cols, padded;
  DeviceArray<float> masked, rounded, values;
  DeviceArray<uint32_t> masks, ticket;
  DeviceArray<int32_t> list, count;
  explicit Row(int n)
      : cols(n), padded((n + ChannelMajor::kUnit - 1) / ChannelMajor::kUnit * ChannelMajor::kUnit), masked(static_cast<size_t>(n)), rounded(static_cast<size_t>(padded)),
        values(std::vector<float>(static_cast<size_t>(n), 7)), masks(static_cast<size_t>(WeightFormat::chunks(n))), ticket(std::vector<uint32_t>(1)),
        list(std::vector<int32_t>(static_cast<size_t>(n), -1)), count(std::vector<int32_t>(1, -1)) {}
  cuda::KeptRow args() const { return {masked.data(), rounded.data(), masks.data(), list.data(), values.data(), count.data()}; }
  void keep(const cuda::Source& source, float threshold, ActivationMode mode, const uint32_t* within = nullptr) const {
    cuda::keepRow(nullptr, {source, cols, threshold, within, mode, args(), ticket.data()});
    EXPECT_EQ(ticket.at(0), 0u);
  }
};

std::vector<float> valuesOf(int n, uint32_t seed) {
  std::vector<float> x(static_cast<size_t>(n));
  fillNormal(x.data(), x.size(), seed);
  return x;
}

// Bits of an entry say that it takes part; lists are theirs, and nothing behind them was written.
void expectRow(const Row& row, const std::vector<float>& x, const std::vector<bool>& kept, ActivationMode mode, const std::string& where) {
  std::vector<float> left(x);
  for (size_t k = 0; k < x.size(); ++k)
    if (!kept[k]) left[k] = 0;
  const std::vector<double> expected = activations(left.data(), row.cols, mode);
  const auto masked = row.masked.host(), rounded = row.rounded.host(), values = row.values.host();
  const auto masks = row.masks.host();
  const auto list = row.list.host();
  size_t n = 0;
  for (size_t k = 0; k < x.size(); ++k) {
    EXPECT((masks[k / 32] >> (k % 32) & 1) == (kept[k] ? 1u : 0u), where, k);
    EXPECT(masked[k] == left[k] || (std::isnan(left[k]) && std::isnan(masked[k])), where, k);
    if (!std::isnan(left[k])) EXPECT(std::fabs(double{rounded[k]} - expected[k]) <= 0x1p-23 * std::fabs(expected[k]), where, k, rounded[k], expected[k]);
    if (!kept[k]) continue;
    EXPECT(list[n] == static_cast<int32_t>(k) && (values[n] == rounded[k] || std::isnan(left[k])), where, k, n);
    ++n;
  }
  for (size_t k = x.size(); k < rounded.size(); ++k) EXPECT_EQ(rounded[k], 0.0f);
  for (size_t i = n; i < list.size(); ++i) EXPECT(list[i] == -1 && values[i] == 7, where, i);
  EXPECT_EQ(row.count.at(0), static_cast<int32_t>(n));
}

struct ByChannel {
  Ledger ledger;
  ThreadPool pool{1};
  std::shared_ptr<const ChannelMajor> columns, rows;
  explicit ByChannel(const cuda::MatrixArgs& args) {
    Matrix m;
    m.format = args.format;
    m.rows = args.rows;
    m.cols = args.cols;
    m.data = args.data;
    m.scales = args.scales;
    m.mins = args.mins;
    m.steps = args.steps;
    columns = cuda::channelsOnDevice(ledger, m, true, pool, {});
    if (m.format.storage == Storage::packed) rows = cuda::channelsOnDevice(ledger, m, false, pool, {});
  }
};

// Sums over the kept columns and of listed rows.
void runShape(const WeightFormat& format, int rows, int cols) {
  const std::string where = format.describe() + " " + std::to_string(rows) + " x " + std::to_string(cols);
  const Problem p(format, rows, cols, 1);
  const ByChannel channels(p.matrix.args());
  const Row row(cols), whole(cols);
  row.keep({p.dx.data(), cols}, 0.6f, ActivationMode::f32);
  const std::vector<float> x = row.masked.host();
  whole.keep({row.masked.data(), cols}, -1, ActivationMode::f32);
  std::vector<double> exact(static_cast<size_t>(rows)), bound(exact);
  std::vector<float> w(static_cast<size_t>(cols));
  for (int r = 0; r < rows; ++r) {
    dequantizeRow(p.weights.m, r, w.data());
    const auto at = static_cast<size_t>(r);
    double largest = 0, magnitude = std::fabs(exact[at] = p.bias[at]);
    for (int c = 0; c < cols; ++c) {
      const float least = format.storage == Storage::packed && !format.symmetric ? minimumOf(p.weights.m, r, c) : 0;
      largest = std::max(largest, std::fabs(double{w[static_cast<size_t>(c)]}) + 2 * std::fabs(double{least}));
    }
    for (int c = 0; c < cols; ++c) {
      exact[at] += double{w[static_cast<size_t>(c)]} * x[static_cast<size_t>(c)];
      magnitude += largest * std::fabs(double{x[static_cast<size_t>(c)]});
    }
    bound[at] = (cols + 80) * 0x1p-24 * (magnitude + 0.5);  // besides the columns the parts of the list, their warps, bias and what was there
  }
  std::vector<int32_t> listed;
  for (int r = rows > 3 ? 2 : 0; r < rows; r += 1 + r % 3) listed.push_back(r);
  const DeviceArray<int32_t> list(listed), count(std::vector<int32_t>(1, static_cast<int32_t>(listed.size())));
  const int parts = cuda::columnParts(rows);
  const DeviceArray<float> partial(cuda::columnScratchFloats(parts));
  const DeviceArray<uint32_t> tickets(std::vector<uint32_t>(static_cast<size_t>(parts)));
  std::vector<float> first;
  underEverySchedule([&] {
    const DeviceArray<float> y(std::vector<float>(static_cast<size_t>(rows), 0.5f)), z(std::vector<float>(static_cast<size_t>(rows), 7.0f));
    const cuda::ChannelTarget added{channels.columns.get(), p.matrix.args(), y.data(), p.dbias.data(), true}, some{channels.rows.get(), p.matrix.args(), z.data(), p.dbias.data(), false};
    cuda::multiplyColumns(nullptr, {&added, 1}, row.args(), cols, {partial.data(), tickets.data()});
    cuda::multiplyRows(nullptr, {&some, 1}, list.data(), count.data(), rows, whole.rounded.data());
    auto out = y.host();
    const auto ofRows = z.host();
    for (size_t r = 0; r < out.size(); ++r) EXPECT(std::fabs(out[r] - (exact[r] + 0.5)) <= bound[r], where, "columns", r, out[r], exact[r] + 0.5, bound[r]);
    for (int r = 0; r < rows; ++r) {
      const auto at = static_cast<size_t>(r);
      if (std::ranges::binary_search(listed, r))
        EXPECT(std::fabs(ofRows[at] - exact[at]) <= bound[at], where, "row", r, ofRows[at], exact[at], bound[at]);
      else
        EXPECT_EQ(ofRows[at], 7.0f);
    }
    out.insert(out.end(), ofRows.begin(), ofRows.end());
    if (first.empty()) first = out;
    EXPECT(out == first, where);
  });
}

}  // namespace

TEST(what_is_above_the_threshold_takes_part) {
  for (const int cols : {1, 31, 32, 100, 257, 9000})
    for (const ActivationMode mode : {ActivationMode::f32, ActivationMode::f16, ActivationMode::bf16, ActivationMode::int8})
      for (const float threshold : {-1.0f, 0.0f, 0.7f, 100.0f}) {
        std::vector<float> x = valuesOf(cols, 5);
        for (size_t k = 0; k < x.size(); k += 9) x[k] = 0;
        if (cols == 100 && mode != ActivationMode::int8) x[50] = std::nanf("");
        std::vector<uint32_t> bits(static_cast<size_t>(WeightFormat::chunks(cols)), 0x9bdf7531u);
        const DeviceArray<float> dx(x);
        const DeviceArray<uint32_t> within(bits);
        for (const bool outside : {false, true}) {
          const Row row(cols);
          std::vector<bool> kept;
          for (size_t k = 0; k < x.size(); ++k) kept.push_back(!(std::fabs(x[k]) <= threshold) && (!outside || (bits[k / 32] >> (k % 32) & 1) != 0));
          emulator::setSeed(static_cast<uint32_t>(cols) % 4);
          row.keep({dx.data(), cols}, threshold, mode, outside ? within.data() : nullptr);
          emulator::setSeed(0);
          expectRow(row, x, kept, mode, std::to_string(cols) + " " + std::to_string(static_cast<int>(mode)) + " " + std::to_string(threshold));
        }
      }
}

TEST(norms_and_activations_are_made_on_the_way) {
  constexpr int kCols = 200;
  const std::vector<float> x = valuesOf(kCols, 6), gain = valuesOf(kCols, 7);
  const DeviceArray<float> dx(x), dgain(gain), normed(static_cast<size_t>(kCols)), activated(x);
  cuda::rmsNorm(nullptr, dx.data(), dgain.data(), 1e-5f, 1, kCols, normed.data());
  cuda::activate(nullptr, Activation::silu, activated.data(), dgain.data(), kCols);
  cuda::Source rms{dx.data(), kCols, cuda::Source::Kind::rms}, gate{dx.data(), kCols, cuda::Source::Kind::activated};
  rms.weight = dgain.data();
  rms.eps = 1e-5f;
  gate.activation = Activation::silu;
  gate.up = dgain.data();
  for (const auto& [source, values] : {std::pair(rms, normed.host()), std::pair(gate, activated.host())}) {
    const Row row(kCols);
    row.keep(source, 0.3f, ActivationMode::f32);
    std::vector<bool> kept;
    for (const float v : values) kept.push_back(!(std::fabs(v) <= 0.3f));
    expectRow(row, values, kept, ActivationMode::f32, "made");
  }
}

TEST(products_by_channel_are_those_of_the_matrix) {
  for (const WeightFormat& format : formats())
    for (const int cols : {31, 172, 512}) runShape(format, 21, cols);
  for (const WeightFormat& format : superFormats()) runShape(format, 21, 576);
  for (const WeightFormat& format : codedFormats())
    for (const int cols : {31, 172}) runShape(format, 21, cols);
  for (const WeightFormat& format : halvedFormats()) runShape(format, 21, 160);
}

TEST(products_with_every_number_of_rows) {
  for (const int rows : {1, 2, 127, 128, 129, 300, 600})
    for (const WeightFormat& format : {WeightFormat{}, WeightFormat{Storage::bf16, 16, 0, true}, WeightFormat{Storage::packed, 4, 32, true}, WeightFormat{Storage::packed, 3, 64, false}})
      runShape(format, rows, 200);
}

// Three matrices of one input in one product: each as alone.
TEST(targets_are_joined) {
  const Problem a({Storage::packed, 4, 32, true}, 300, 172, 1), b({Storage::packed, 4, 128, false}, 19, 172, 1), c({Storage::packed, 8, 32, true}, 33, 172, 1);
  const Row row(172);
  row.keep({a.dx.data(), 172}, 0.4f, ActivationMode::f16);
  std::vector<std::unique_ptr<ByChannel>> channels;
  std::vector<DeviceArray<float>> together, alone;
  std::vector<cuda::ChannelTarget> targets;
  for (const Problem* p : {&a, &b, &c}) {
    const auto rows = static_cast<size_t>(p->weights.m.rows);
    channels.push_back(std::make_unique<ByChannel>(p->matrix.args()));
    together.emplace_back(rows);
    alone.emplace_back(rows);
    targets.push_back({channels.back()->columns.get(), p->matrix.args(), together.back().data(), nullptr, false});
  }
  const DeviceArray<float> partial(cuda::columnScratchFloats(4));
  const DeviceArray<uint32_t> tickets(std::vector<uint32_t>(4));
  const cuda::ColumnScratch scratch{partial.data(), tickets.data()};
  cuda::multiplyColumns(nullptr, targets, row.args(), 172, scratch);
  for (size_t i = 0; i < targets.size(); ++i) {
    cuda::ChannelTarget target = targets[i];
    target.y = alone[i].data();
    cuda::multiplyColumns(nullptr, {&target, 1}, row.args(), 172, scratch);
    EXPECT(together[i].host() == alone[i].host(), i);
  }
}

TEST(squares_of_a_prompt_add_up) {
  constexpr int kTokens = 19;
  for (const int cols : {5, 300})
    for (const bool unit : {false, true}) {
      const std::vector<float> gate = valuesOf(kTokens * cols, 3), up = valuesOf(kTokens * cols, 4);
      const DeviceArray<float> dgate(gate), dup(up), weights(static_cast<size_t>(kTokens)), out(static_cast<size_t>(cols));
      cuda::Source source{dgate.data(), cols, cuda::Source::Kind::activated};
      source.activation = Activation::silu;
      source.up = dup.data();
      cuda::sumSquares(nullptr, source, kTokens, cols, unit, weights.data(), out.data());
      std::vector<double> expected(static_cast<size_t>(cols));
      for (int t = 0; t < kTokens; ++t) {
        std::vector<double> squares;
        double all = 0;
        for (int c = 0; c < cols; ++c) {
          const double g = gate[static_cast<size_t>(t * cols + c)], v = g / (1 + std::exp(-g)) * up[static_cast<size_t>(t * cols + c)];
          squares.push_back(v * v);
          all += v * v;
        }
        for (int c = 0; c < cols; ++c) expected[static_cast<size_t>(c)] += squares[static_cast<size_t>(c)] / (unit ? all : 1);
      }
      const auto found = out.host();
      // A value is off by 8 roundings, its square by twice that and one; the sum of a token and of all tokens by one a term.
      for (size_t c = 0; c < found.size(); ++c) EXPECT_NEAR(found[c], expected[c], (20 + kTokens + cols) * 0x1p-24 * expected[c]);
    }
}
