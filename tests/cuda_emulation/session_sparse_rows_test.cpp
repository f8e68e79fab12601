// SPDX-License-Identifier: GPL-3.0-or-later
// prune.storage=sparse in whole sessions on the device: against the CPU, and bit for bit what the device computes with dense zeros.
#include "engine/cuda/products.h"
#include "engine/weights/sparse_rows.h"
#include "tests/cuda_emulation/calibration_text.h"
#include "tests/cuda_emulation/product_problem.h"
#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

namespace {

WeightFormat plain(Storage storage) { return {storage, static_cast<uint8_t>(storage == Storage::f32 ? 32 : 16), 0, true}; }

// A matrix that lost four of seven weights and the whole of row 3, on the device with its zeros and without.
struct Pruned {
  Problem problem;
  ThreadPool pool{1};
  Ledger ledger;
  Matrix sparse;
  DeviceMatrix dense;
  DeviceArray<uint8_t> memory;
  Pruned(Storage storage, int rows, int cols, int tokens)
      : problem(plain(storage), rows, cols, tokens), sparse(withoutZeros(ledger, zeroed(problem.weights.m), pool)), dense(problem.weights.m),
        memory(std::vector<uint8_t>(sparse.codes.as<uint8_t>(), sparse.codes.as<uint8_t>() + sparse.codes.bytes())) {}
  static Matrix& zeroed(Matrix& m) {
    const size_t element = m.format.elementBytes(), cols = static_cast<size_t>(m.cols);
    for (size_t i = 0; i < static_cast<size_t>(m.rows) * cols; ++i)
      if (i * 2654435761u % 7 < 4 || i / cols == 3) std::memset(static_cast<char*>(const_cast<void*>(m.data)) + i * element, 0, element);
    return m;
  }
  cuda::MatrixArgs args() const {
    cuda::MatrixArgs out{sparse.format, sparse.rows, sparse.cols};
    out.sparse = sparseParts(memory.data(), sparse.rows, sparse.sparse.count, sparse.format.elementBytes());
    return out;
  }
};

}  // namespace

TEST(rows_are_expanded_byte_for_byte) {
  for (const Storage storage : {Storage::f32, Storage::f16, Storage::bf16})
    for (const int cols : {1, 32, 45, 96, 257}) {
      const Pruned p(storage, 21, cols, 1);
      const size_t rowBytes = p.sparse.format.elementBytes() * static_cast<size_t>(cols);
      EXPECT(p.sparse.sparse.count < static_cast<size_t>(21 * cols) / 2 + 2, cols);
      for (const auto& [first, count] : {std::pair(0, 21), std::pair(2, 9), std::pair(20, 1)}) {
        DeviceArray<uint8_t> out(static_cast<size_t>(count) * rowBytes);
        underEverySchedule([&] { cuda::expandRows(nullptr, p.args(), first, count, out.data()); });
        const std::vector<uint8_t> found = out.host();
        EXPECT(std::memcmp(found.data(), static_cast<const uint8_t*>(p.problem.weights.m.data) + static_cast<size_t>(first) * rowBytes, found.size()) == 0,
               static_cast<int>(storage), cols, first, count);
      }
    }
}

// A slice holds few rows of these, so that a matrix takes several.
TEST(sliced_products_are_the_dense_ones) {
  for (const Storage storage : {Storage::f32, Storage::f16, Storage::bf16})
    for (const int tokens : {1, 5, 40}) {
      const int rows = 300, cols = 64;
      const Pruned p(storage, rows, cols, tokens);
      Ledger ledger;
      cuda::Products products(ledger, tokens, cols, nullptr, 16 << 10);
      EXPECT(products.reserveExpanded(int64_t{1} << 30) && !products.reserveExpanded(1));
      const auto product = [&](const cuda::MatrixArgs& w) {
        DeviceArray<float> y(std::vector<float>(static_cast<size_t>(tokens * rows), 0.25f));
        const cuda::Target target{w, y.data(), rows, p.problem.dbias.data(), true};
        products.multiply({&target, 1}, {p.problem.dx.data(), cols}, tokens, cols, Activations::automatic);
        return y.host();
      };
      EXPECT(product(p.args()) == product(p.dense.args()), static_cast<int>(storage), tokens);
    }
}

TEST(sessions_are_those_with_dense_zeros) {
  for (const char* family : {"llama3", "gpt2", "qwen2"})
    for (const char* method : {"magnitude", "wanda"}) {
      const std::string text = calibrationText();
      Settings settings = {{"prune.ratio", "0.5"}, {"prune.method", method}, {"calibration.text", text.c_str()}, {"calibration.tokens", "256"}};
      Both dense(family, settings);
      settings.push_back({"prune.storage", "sparse"});
      Both sparse(family, settings);
      EXPECT(sparse.gpu->effective()->asRequested(), family, method);
      for (Both* both : {&dense, &sparse}) {
        const double prompt = both->prompt(12), steps = both->steps(4);
        EXPECT(prompt <= kBound && steps <= kBound, family, method, prompt, steps);
      }
      EXPECT(std::ranges::equal(dense.gpu->logits(), sparse.gpu->logits()), family, method);
      EXPECT(bytes(sparse.gpu->memory(), MemoryTag::weights) < bytes(dense.gpu->memory(), MemoryTag::weights), family, method);
      // Live: back to the file's weights, and once more without the zeros.
      sparse.request({});
      EXPECT(sparse.steps(2) <= kBound, family, method);
      sparse.request(settings);
      EXPECT(sparse.steps(2) <= kBound, family, method);
    }
}
