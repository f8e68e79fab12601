// SPDX-License-Identifier: GPL-3.0-or-later
// Matrices without their zeros: smaller by what the header says, and in every product and every session the dense ones, bit for bit.
#include "engine/weights/sparse_rows.h"

#include <random>

#include "engine/core/dtype.h"
#include "engine/cpu/isa.h"
#include "engine/run/host_weights.h"
#include "engine/weights/place.h"
#include "engine/weights/export.h"
#include "tests/support/compression_meter.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr Storage kPlain[] = {Storage::f32, Storage::f16, Storage::bf16};

// Of a share of the weights nothing is left; row 1 is empty, row 2 full.
Matrix prunedMatrix(Ledger& ledger, Storage storage, int rows, int cols, double zeros) {
  std::mt19937 rng(static_cast<unsigned>(rows * 1000 + cols));
  std::uniform_real_distribution<double> chance;
  std::normal_distribution<float> normal;
  Matrix m = Matrix::allocate(ledger, {storage, static_cast<uint8_t>(storage == Storage::f32 ? 32 : 16), 0, true}, rows, cols);
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < cols; ++c) {
      const float w = r != 2 && (r == 1 || chance(rng) < zeros) ? (c % 3 == 0 ? -0.0f : 0.0f) : normal(rng);
      const size_t at = static_cast<size_t>(r) * static_cast<size_t>(cols) + static_cast<size_t>(c);
      if (storage == Storage::f32) m.codes.as<float>()[at] = w;
      else m.codes.as<uint16_t>()[at] = storage == Storage::f16 ? floatToF16(w) : floatToBf16(w);
    }
  return m;
}

std::vector<float> rowOf(const Matrix& m, int row) {
  std::vector<float> out(static_cast<size_t>(m.cols));
  dequantizeRow(m, row, out.data());
  return out;
}

size_t weightBytes(const Session& session) { return static_cast<size_t>(bytes(session.memory(), MemoryTag::weights)); }

}  // namespace

TEST(rows_come_back_as_they_were) {
  ThreadPool pool(3);
  for (const Storage storage : kPlain)
    for (const int cols : {1, 31, 32, 33, 64, 100, 257}) {
      Ledger ledger;
      const Matrix dense = prunedMatrix(ledger, storage, 19, cols, 0.6), sparse = withoutZeros(ledger, dense, pool);
      size_t kept = 0;
      for (int r = 0; r < dense.rows; ++r) {
        const std::vector<float> before = rowOf(dense, r);
        EXPECT(before == rowOf(sparse, r), static_cast<int>(storage), cols, r);
        kept += static_cast<size_t>(std::ranges::count_if(before, [](float w) { return w != 0; }));
      }
      EXPECT_EQ(sparse.sparse.count, kept);
      EXPECT_EQ(sparse.bytes(), sparseBytes(19, cols, kept, storage == Storage::f32 ? 4 : 2));
      EXPECT_EQ(ledger.bytes(MemoryTag::weights), static_cast<int64_t>(dense.bytes() + sparse.bytes()));
    }
}

// With every instruction set; nothing is written behind the last word of the mask.
TEST(kernels_expand_as_the_reference_does) {
  ThreadPool pool(1);
  for (const cpu::Isa isa : cpu::availableIsas())
    for (const Storage storage : kPlain)
      for (const int cols : {1, 16, 32, 45, 96, 300}) {
        Ledger ledger;
        const Matrix sparse = withoutZeros(ledger, prunedMatrix(ledger, storage, 9, cols, 0.5), pool);
        const size_t element = sparse.format.elementBytes(), whole = (static_cast<size_t>(cols) + 31) / 32 * 32 * element;
        const cpu::ExpandKernels kernels = cpu::expandKernelsFor(isa);
        for (int r = 0; r < sparse.rows; ++r) {
          std::vector<uint8_t> expected(static_cast<size_t>(cols) * element), got(whole + 64, 0xa5);
          expandRow(sparse, r, expected.data());
          (element == 4 ? kernels.floats : kernels.halves)(static_cast<const std::byte*>(sparse.sparse.values) + sparse.sparse.starts[r] * element,
                                                           sparse.sparse.mask + static_cast<size_t>(r) * sparseMaskBytes(cols), cols, got.data());
          EXPECT(std::equal(expected.begin(), expected.end(), got.begin()), cpu::isaName(isa), static_cast<int>(storage), cols, r);
          EXPECT(std::all_of(got.begin() + static_cast<std::ptrdiff_t>(whole), got.end(), [](uint8_t b) { return b == 0xa5; }), cpu::isaName(isa), cols, r);
        }
      }
}

TEST(products_are_the_dense_ones_bit_for_bit) {
  std::mt19937 rng(5);
  std::normal_distribution<float> normal;
  for (const cpu::Isa isa : cpu::availableIsas())
    for (const Storage storage : kPlain)
      for (const auto& [rows, cols] : {std::pair(50, 96), std::pair(33, 71), std::pair(600, 900)})
        for (const int tokens : {1, 2, 7, 13}) {
          Ledger ledger;
          ThreadPool pool(2);
          const Matrix dense = prunedMatrix(ledger, storage, rows, cols, 0.5), sparse = withoutZeros(ledger, dense, pool);
          std::vector<float> x(static_cast<size_t>(tokens * cols)), bias(static_cast<size_t>(rows));
          for (float& v : x) v = normal(rng);
          for (float& v : bias) v = normal(rng);
          const auto product = [&](const Matrix& w, ActivationMode mode) {
            std::vector<float> y(static_cast<size_t>(tokens * rows), 0.5f);
            cpu::Context context(pool, isa, &ledger);
            const cpu::MatmulTarget target{&w, y.data(), rows, bias.data(), true};
            cpu::matmul(context, {&target, 1}, x.data(), cols, tokens, mode);
            return y;
          };
          for (const ActivationMode mode : {ActivationMode::f32, ActivationMode::f16, ActivationMode::bf16})
            EXPECT(product(dense, mode) == product(sparse, mode), cpu::isaName(isa), static_cast<int>(storage), rows, cols, tokens, static_cast<int>(mode));
        }
}

// Trained weights: half of them gone, in every way to prune and on any number of threads.
TEST(sessions_are_the_dense_ones_and_smaller) {
  for (const char* method : {"magnitude", "wanda", "sparsegpt"})
    for (const char* pattern : {"unstructured", "2:4"}) {
      const CompressionMeter meter(openEngine(kSmallLlama, method[0] == 'w' ? 3 : 1), 1, "512");
      Settings pruned = {{"prune.ratio", "0.5"}, {"prune.method", method}, {"prune.pattern", pattern}};
      const auto session = makeSession(meter.engine(), meter.with({}), {.context = 128});
      const size_t whole = weightBytes(*session);
      const auto change = [&](const Settings& settings) {
        session->request(meter.with(settings));
        ok(session->finishPending({}));
      };
      change(pruned);
      const auto tokens = someTokens(40, meter.engine()->model().config().vocab);
      const auto dense = logitsAfter(*session, tokens);
      const auto step = [&] { ok(session->step(7)); return std::vector<float>(session->logits().begin(), session->logits().end()); };
      const auto denseStep = step();
      const size_t before = weightBytes(*session);
      pruned.push_back({"prune.storage", "sparse"});
      change(pruned);
      EXPECT(session->effective()->asRequested(), method, pattern);
      EXPECT(logitsAfter(*session, tokens) == dense && step() == denseStep, method, pattern);
      // Linear layers in f32: half of 32 bits and one for the mask, of 32. Embedding and head are mapped from the file.
      const double share = static_cast<double>(weightBytes(*session)) / static_cast<double>(before);
      EXPECT(share > 0.5 && share < 0.6, method, pattern, share);
      const MemoryByTag planned = value(meter.engine()->plan(meter.with(pruned), {.context = 128}, 41)), used = session->memory();
      const auto plan = static_cast<double>(bytes(planned, MemoryTag::weights)), real = static_cast<double>(bytes(used, MemoryTag::weights));
      EXPECT(std::fabs(plan - real) <= std::max(0.02 * real, 65536.0), method, pattern, plan, real);
      change({});
      EXPECT_EQ(weightBytes(*session), whole);
    }
}

// What was begun belongs to a ledger that is gone by then.
TEST(nothing_is_left_of_a_matrix_that_was_cancelled) {
  const auto engine = openEngine(kSmallLlama, 1);
  const Model& model = engine->model();
  const WeightTarget target = weightTarget(model, configure({{"prune.method", "magnitude"}, {"prune.ratio", "0.5"}, {"prune.storage", "sparse"}}), "");
  Ledger ledger;
  ThreadPool pool(1);
  HostPlace place(ledger);
  std::stop_source stop;
  stop.request_stop();
  int sparse = 0;
  for (size_t i = 0; i < target.recipes.size(); ++i) {
    if (!target.recipes[i].format.sparse) continue;
    ++sparse;
    WeightVersion version;
    const Progress progress{{}, stop.get_token()};
    ConvertProgress converted(progress, 1);
    EXPECT(place.make({model.tensors()[i], target.recipes[i], {}, pool, converted}, version) == Converted::cancelled);
    EXPECT_EQ(version.matrix.codes.bytes(), size_t{0});
  }
  EXPECT(sparse > 0);
  EXPECT_EQ(ledger.bytes(MemoryTag::weights), int64_t{0});
}

TEST(exported_it_is_the_dense_model) {
  const CompressionMeter meter(kSmallLlama, 1, "512");
  ThreadPool pool(2);
  const auto with = [&](const char* storage, const std::string& name) {
    const HostWeights weights = value(hostWeights(*meter.engine(), meter.with({{"prune.ratio", "0.6"}, {"prune.storage", storage}}), pool, {}));
    const std::string path = (scratch() / (storage + name)).string();
    value(name == ".gguf" ? exportGguf(*weights.set, weights.target, "", path, pool, {}) : exportSafetensors(*weights.set, weights.target, "", path, pool, {}));
    return readFile(name == ".gguf" ? path : path + "/model.safetensors");
  };
  for (const char* name : {".gguf", "-folder"}) {
    const std::string dense = with("dense", name);
    EXPECT(dense.size() > 100000 && dense == with("sparse", name), name, dense.size());
  }
}

TEST(what_cant_leave_its_zeros_out_says_so) {
  const CompressionMeter meter(kSmallLlama, 1, "512");
  const auto reason = [&](Settings settings) {
    settings.push_back({"prune.storage", "sparse"});
    const auto session = makeSession(meter.engine(), meter.with(settings), {.context = 128});
    for (const Adjustment& a : session->effective()->adjustments)
      if (a.knob == "prune.storage" && toText(a.effective) == "dense") return a.reason;
    return std::string();
  };
  EXPECT(reason({{"prune.ratio", "0.5"}}).empty());
  EXPECT(reason({{"prune.ratio", "0.5"}, {"weights.bits", "4"}}).starts_with("no pruned matrix"));
  EXPECT(reason({{"prune.ratio", "0.01"}}).starts_with("no pruned matrix"));
  EXPECT(reason({{"prune.ratio", "0.5"}, {"activation.method", "teal"}}).starts_with("activation.method reads"));
}
