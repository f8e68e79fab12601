// SPDX-License-Identifier: GPL-3.0-or-later
// Twins of packed weights: the bits of slices decoded anew, let go with the weights, refused or taken back without harm.
#include "engine/cuda/twins.h"

#include "engine/cuda/products.h"
#include "tests/cuda_emulation/product_problem.h"

using namespace winnow;
using namespace winnow::test;
using cuda::RoadPreference;

namespace {

constexpr WeightFormat kFour{Storage::packed, 4, 32, false};
constexpr int kRows = 300, kCols = 72, kTokens = 70;  // three slices of at most 128 rows
constexpr int64_t kTwinBytes = int64_t{kRows} * kCols * 2;

Matrix matrixOf(const cuda::MatrixArgs& w) {
  Matrix m;
  m.format = w.format;
  m.rows = w.rows;
  m.cols = w.cols;
  m.data = w.data;
  return m;
}

int64_t plenty() { return int64_t{1} << 40; }

// One prompt after another through products whose packed weights are decoded.
struct Prompts {
  Ledger ledger;
  const Problem problem;
  cuda::Products products;

  explicit Prompts(const WeightFormat& format = kFour, int cols = kCols) : problem(format, kRows, cols, kTokens), products(ledger, kTokens, cols, nullptr, 1) {
    products.prefer(RoadPreference::decoded);
  }
  cuda::Twins& twins() { return products.twins(); }
  int64_t kept() const { return ledger.bytes(MemoryTag::prefillTwin); }
  void make(const std::function<int64_t()>& room = plenty) { products.makeTwin(matrixOf(problem.matrix.args()), kTokens, Activations::automatic, room); }
  std::vector<float> next() { return next(problem.matrix.args()); }
  std::vector<float> next(const cuda::MatrixArgs& w) {
    DeviceArray<float> y(std::vector<float>(static_cast<size_t>(kTokens * kRows), 0.25f));
    const cuda::Target target{w, y.data(), kRows, problem.dbias.data(), true};
    products.multiply({&target, 1}, {problem.dx.data(), w.cols}, kTokens, w.cols, Activations::automatic);
    return y.host();
  }
};

struct Limited {
  const size_t before = emulator::memoryLimit();
  explicit Limited(size_t more) { emulator::limitMemory(emulator::allocatedBytes() + more); }
  ~Limited() { emulator::limitMemory(before); }
};

std::vector<float> withoutTwins() { return Prompts().next(); }

}  // namespace

TEST(twins_give_the_bits_of_slices) {
  for (const bool library : kLibraries) {
    emulator::haveLibrary(library);
    const std::vector<float> expected = withoutTwins();
    Prompts p;
    p.make();
    EXPECT_EQ(p.kept(), int64_t{0});  // nobody wants them yet
    for (const PrefillTwin mode : {PrefillTwin::on, PrefillTwin::automatic, PrefillTwin::off, PrefillTwin::on}) {
      p.twins().follow(1, mode);
      p.make();
      EXPECT_EQ(p.kept(), mode == PrefillTwin::off ? 0 : kTwinBytes);
      EXPECT(p.twins().reason().empty() == (mode != PrefillTwin::off));
      for (int prompt = 0; prompt < 3; ++prompt) EXPECT(p.next() == expected, library, static_cast<int>(mode), prompt);
    }
  }
}

TEST(twins_of_codes_and_of_blocks_give_the_bits_of_slices) {
  emulator::haveLibrary(true);
  std::vector<WeightFormat> all = halvedFormats();
  for (const WeightFormat& format : codedFormats())
    if (format.group == 32 || format.group == 0) all.push_back(format);
  for (const WeightFormat& format : all) {
    const int cols = format.group == 16 ? 96 : kCols;  // whole chunks
    const std::vector<float> expected = Prompts(format, cols).next();
    Prompts p(format, cols);
    p.twins().follow(1, PrefillTwin::on);
    p.make();
    EXPECT_EQ(p.kept(), int64_t{kRows} * cols * 2);
    for (int prompt = 0; prompt < 2; ++prompt) EXPECT(p.next() == expected, format.describe(), prompt);
  }
}

TEST(a_twin_is_decoded_once) {
  emulator::haveLibrary(true);
  Prompts p;
  const auto launches = [&] {
    const uint64_t before = emulator::launches();
    p.next();
    return emulator::launches() - before;
  };
  const uint64_t slices = launches();
  p.twins().follow(1, PrefillTwin::on);
  p.make();
  EXPECT_EQ(launches(), slices);
  for (int prompt = 0; prompt < 2; ++prompt) EXPECT_EQ(launches(), slices - 3);
  emulator::haveLibrary(false);
}

// Other codes may come to lie where those of an earlier version lay.
TEST(twins_go_with_their_weights) {
  Prompts p;
  std::vector<uint8_t> codes = p.problem.matrix.codes();
  p.twins().follow(1, PrefillTwin::on);
  p.make();
  const std::vector<float> before = p.next();
  std::reverse(codes.begin(), codes.end());
  mustSucceed(cudaMemcpy(const_cast<void*>(p.problem.matrix.args().data), codes.data(), codes.size(), cudaMemcpyHostToDevice));
  EXPECT(p.next() == before);  // read from the twin
  p.twins().follow(2);
  EXPECT_EQ(p.kept(), int64_t{0});
  p.make();
  const std::vector<float> after = p.next();
  EXPECT(after != before);
  p.twins().follow(2, PrefillTwin::off);
  EXPECT_EQ(p.kept(), int64_t{0});
  EXPECT(p.next() == after);
}

TEST(what_has_no_room_is_decoded_by_slices) {
  const std::vector<float> expected = withoutTwins();
  Prompts p;
  p.twins().follow(1, PrefillTwin::automatic);
  int asked = 0;
  for (int prompt = 0; prompt < 2; ++prompt) {
    p.make([&] { return ++asked, kTwinBytes - 1; });
    EXPECT_EQ(p.kept(), int64_t{0});
    EXPECT(p.next() == expected);
  }
  EXPECT_EQ(asked, 1);  // not again for these weights
  EXPECT(p.twins().reason().find("1 MiB") != std::string::npos, p.twins().reason());
  EXPECT(p.twins().takeNote() == p.twins().reason() && p.twins().takeNote().empty());
  p.twins().follow(2);
  EXPECT(p.twins().reason().empty());
  p.make([] { return kTwinBytes; });
  EXPECT_EQ(p.kept(), kTwinBytes);
  EXPECT(p.next() == expected);
}

TEST(a_refused_allocation_is_no_failure) {
  const std::vector<float> expected = withoutTwins();
  Prompts p;
  p.twins().follow(1, PrefillTwin::on);
  {
    const Limited full(kTwinBytes - 1);
    p.make();
  }
  EXPECT_EQ(p.kept(), int64_t{0});
  EXPECT(p.twins().reason().find("refused") != std::string::npos, p.twins().reason());
  EXPECT(p.next() == expected);
}

TEST(whoever_finds_the_device_full_takes_twins_back) {
  const std::vector<float> expected = withoutTwins();
  Prompts p, neighbour;
  for (Prompts* one : {&p, &neighbour}) {
    one->twins().follow(1, PrefillTwin::on);
    one->make();
    EXPECT(one->next() == expected);
  }
  Ledger planning(true);
  const cuda::Twins planned(planning);
  {
    const Limited full(0);
    Ledger ledger;
    const cuda::DeviceBuffer needed(ledger, MemoryTag::kv, kTwinBytes);
    EXPECT_EQ(p.kept() + neighbour.kept(), int64_t{0});
    bool refused = false;
    try {
      const cuda::DeviceBuffer more(ledger, MemoryTag::kv, 2 * kTwinBytes);
    } catch (const std::bad_alloc&) {
      refused = true;
    }
    EXPECT(refused);
  }
  EXPECT(p.twins().takeNote().find("given back") != std::string::npos);
  p.make();
  EXPECT_EQ(p.kept(), int64_t{0});  // not again for these weights
  EXPECT(p.next() == expected);
}

// Matrices have no addresses in a plan, and each is counted all the same.
TEST(a_plan_counts_what_is_kept) {
  Ledger planning(true);
  cuda::Products products(planning, kTokens, kCols, nullptr);
  products.prefer(RoadPreference::decoded);
  products.twins().follow(1, PrefillTwin::on);
  std::vector<Matrix> matrices;
  matrices.push_back(matrixOf({kFour, kRows, kCols}));
  matrices.push_back(matrixOf({kFour, kRows, kCols}));
  matrices.push_back(matrixOf({{Storage::f16, 16, 0, true}, kRows, kCols}));  // needs none
  for (int prompt = 0; prompt < 2; ++prompt)
    for (const Matrix& m : matrices) products.makeTwin(m, kTokens, Activations::automatic, plenty);
  EXPECT_EQ(planning.bytes(MemoryTag::prefillTwin), 2 * kTwinBytes);
  for (const Activations activations : {Activations::f32, Activations::int8}) {
    products.twins().follow(static_cast<uint64_t>(activations) + 5);
    for (const Matrix& m : matrices) products.makeTwin(m, kTokens, activations, plenty);
    EXPECT_EQ(planning.bytes(MemoryTag::prefillTwin), int64_t{0});
  }
}
