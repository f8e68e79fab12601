// SPDX-License-Identifier: GPL-3.0-or-later
// Attention against a reference in double, with every tap, for decoding and prefill.
#include <numeric>

#include "tests/engine/ops/attend_oracle.h"

using namespace winnow;
using namespace winnow::cpu;
using namespace winnow::test;

namespace {

using Shape = AttendShape;
using Setup = AttendSetup;
using Expected = AttendExpected;

struct Result {
  Output out, probabilities, sums;
};

Result attendOnce(Machine& machine, const Setup& setup, bool taps, const float* reuse = nullptr) {
  const Shape& s = setup.shape;
  Result r{Output(s.queries, s.heads * s.headDim, 2, NAN), Output(1, s.heads * s.queries * setup.stride, 0, NAN),
           Output(1, s.kvHeads * setup.stride, 0, 0.25f)};
  AttendArgs args;
  args.heads = s.heads;
  args.kvHeads = s.kvHeads;
  args.headDim = s.headDim;
  args.queries = s.queries;
  args.pageTokens = s.pageTokens;
  args.q = reuse ? nullptr : setup.q.data();
  args.qStride = s.heads * s.headDim;
  args.kv = setup.kv.data();
  args.scale = static_cast<float>(1 / std::sqrt(s.headDim));
  args.slidingWindow = s.window;
  if (!setup.frequencies.empty()) args.turns = {setup.frequencies.data(), static_cast<int>(setup.frequencies.size()), setup.hadamard};
  args.out = r.out.data();
  args.outStride = r.out.stride();
  args.probabilityStride = setup.stride;
  args.reuse = reuse;
  if (taps) {
    args.columnSums = r.sums.data();
    args.columnStride = setup.stride;
    args.probabilities = r.probabilities.data();
  }
  attend(machine.context, args);
  EXPECT(r.out.intact() && r.probabilities.intact() && r.sums.intact());
  return r;
}

enum class Keys { asStored, turned, turnedHadamard };
std::vector<float> frequenciesFor(int headDim) {
  RopeConfig rope;
  rope.dims = headDim / 2 * 2;
  return winnow::ropeFrequencies(rope);
}

void runShape(const Shape& shape, Keys keys = Keys::asStored) {
  static const auto one = machines(1), two = machines(2), three = machines(3);
  Setup setup(shape);
  if (keys != Keys::asStored) setup.frequencies = frequenciesFor(shape.headDim);
  setup.hadamard = keys == Keys::turnedHadamard;
  const Expected e = expectAttend(setup);
  const size_t width = static_cast<size_t>(shape.heads * shape.headDim);
  for (size_t i = 0; i < one.size(); ++i) {
    const auto where = isaName(one[i]->context.isa()) + " heads " + std::to_string(shape.heads) + "/" + std::to_string(shape.kvHeads) +
                       " dim " + std::to_string(shape.headDim) + " queries " + std::to_string(shape.queries) + " tokens " +
                       std::to_string(shape.tokens[0]) + " page " + std::to_string(shape.pageTokens) + " window " +
                       std::to_string(shape.window);
    Result bare = attendOnce(*one[i], setup, false), tapped = attendOnce(*one[i], setup, true);
    EXPECT(bare.out == tapped.out, "observers change the output", where);
    for (int t = 0; t < shape.queries; ++t) {
      const double worst = worstRatio(bare.out.row(t), e.out, e.outBound, static_cast<size_t>(t) * width, width);
      EXPECT(worst <= 1, where, worst);
    }
    const double p = worstRatio(tapped.probabilities.data(), e.p, e.pBound, 0, e.p.size());
    EXPECT(p <= 1, where, p);
    const double sums = worstSumRatio(tapped.sums.data(), e);
    EXPECT(sums <= 1, where, sums);
    for (auto* other : {two[i].get(), three[i].get()}) {
      const Result same = attendOnce(*other, setup, true);
      EXPECT(same.out == tapped.out && same.probabilities == tapped.probabilities && same.sums == tapped.sums, where, "threads",
             other->pool.threads());
    }
    // A follower that is handed the leader's probabilities computes the leader's output.
    Result follower = attendOnce(*one[i], setup, true, tapped.probabilities.data());
    EXPECT(follower.probabilities == tapped.probabilities, where);
    for (int t = 0; t < shape.queries; ++t)
      for (size_t c = 0; c < width; ++c) {
        const double bound = 2 * e.outBound[static_cast<size_t>(t) * width + c];
        EXPECT_NEAR(follower.out.row(t)[c], bare.out.row(t)[c], bound);
      }
    EXPECT(attendOnce(*two[i], setup, false, tapped.probabilities.data()).out == follower.out, where);
  }
}

}  // namespace

TEST(attend_decodes_one_query) {
  for (int window : {0, 20})
    for (int page : {16, 64})
      for (const Shape& s :
           {Shape{4, 2, 64, 1, page, window, {700, 300}}, Shape{1, 1, 8, 1, page, window, {1}}, Shape{7, 1, 80, 1, page, window, {65}},
            Shape{3, 3, 128, 1, page, window, {5, 64, 257}}, Shape{6, 2, 12, 1, page, window, {256, 512}}})
        runShape(s);
}

TEST(attend_prefills_blocks_of_queries) {
  for (int window : {0, 20})
    for (int page : {16, 64})
      for (const Shape& s :
           {Shape{4, 2, 64, 64, page, window, {64, 200}}, Shape{1, 1, 8, 3, page, window, {3}}, Shape{7, 1, 80, 17, page, window, {65}},
            Shape{3, 3, 128, 5, page, window, {5, 64, 257}}, Shape{2, 1, 12, 130, page, window, {130}}})
        runShape(s);
}

// The two paths sum in different orders, so they agree within the sum of their bounds: n tokens at once equal n steps of one.
TEST(attend_prefill_equals_decode_within_the_bound) {
  const Shape all{4, 2, 64, 40, 16, 0, {90, 90}};
  for (auto& machine : machines(1)) {
    const Setup setup(all);
    const Expected e = expectAttend(setup);
    Result prefill = attendOnce(*machine, setup, false);
    for (int i = 0; i < all.queries; ++i) {
      Setup step(all);
      step.shape.queries = 1;
      for (auto& kv : step.kv) kv.tokens = 90 - 40 + i + 1;
      step.q.assign(setup.q.begin() + i * 256, setup.q.begin() + (i + 1) * 256);
      Result decode = attendOnce(*machine, step, false);
      for (int c = 0; c < 256; ++c)
        EXPECT_NEAR(decode.out.row(0)[c], prefill.out.row(i)[c], 2 * e.outBound[static_cast<size_t>(i * 256 + c)]);
    }
  }
}

// Positions within the cache: scores are those of keys turned by what is missing behind them.
TEST(turned_keys_are_keys_at_the_positions_of_the_cache) {
  for (const Keys keys : {Keys::turned, Keys::turnedHadamard})
    for (int window : {0, 20})
      for (int page : {16, 64})
        for (const Shape& s : {Shape{4, 2, 64, 1, page, window, {700, 300}}, Shape{7, 1, 32, 1, page, window, {65}}, Shape{3, 3, 128, 5, page, window, {5, 64, 257}},
                               Shape{4, 2, 16, 60, page, window, {64, 200}}})
          runShape(s, keys);
  runShape({6, 2, 12, 1, 16, 0, {256, 512}}, Keys::turned);
}

// The same keys made at those positions and stored so, but for their rounding to f16: R(s) R(p) k = R(p + s) k.
TEST(turned_keys_equal_keys_that_were_rotated_there) {
  constexpr int kDim = 64, kHalf = 32;
  const std::vector<float> frequencies = frequenciesFor(kDim);
  const auto rotated = [&](const std::vector<double>& x, double position) {
    std::vector<double> out(x);
    for (size_t c = 0; c < kHalf; ++c) {
      const double a = position * static_cast<double>(frequencies[c]);
      out[c] = x[c] * std::cos(a) - x[kHalf + c] * std::sin(a);
      out[kHalf + c] = x[c] * std::sin(a) + x[kHalf + c] * std::cos(a);
    }
    return out;
  };
  const Shape shape{1, 1, kDim, 1, 16, 0, {80}};
  Setup stored(shape), made(shape);
  stored.frequencies = frequencies;
  std::mt19937 random(9);
  std::normal_distribution<float> normal;  // of one size: every slot counts
  for (float& x : stored.q) x = normal(random);
  made.q = stored.q;
  double rounding = 0;  // of scores: 2^-11 of each value, both times
  const double norm = std::sqrt(std::inner_product(stored.q.begin(), stored.q.end(), stored.q.begin(), 0.0));
  auto& positions = stored.heads[0].positions;
  for (int s = 0; s < 80; ++s) positions[static_cast<size_t>(s)] = s < 4 ? s : s + 5000 - 80;  // sinks and a window
  for (int s = 0; s < 80; ++s) {
    std::vector<double> key;
    for (int c = 0; c < kDim; ++c) key.push_back(normal(random));
    const std::vector<double> here = rotated(key, positions[static_cast<size_t>(s)]), there = rotated(key, s + 5000 - 80);  // the query's own stays
    for (int c = 0; c < kDim; ++c) {
      const auto page = static_cast<size_t>(s / 16 * 2), in = static_cast<size_t>(s % 16 * kDim + c);
      (*stored.heads[0].pages[page])[in] = floatToF16(static_cast<float>(here[static_cast<size_t>(c)]));
      (*made.heads[0].pages[page])[in] = floatToF16(static_cast<float>(there[static_cast<size_t>(c)]));
      (*made.heads[0].pages[page + 1])[in] = (*stored.heads[0].pages[page + 1])[in];
    }
    rounding = std::max(rounding, 2 * 0x1p-11 * norm * std::sqrt(std::inner_product(key.begin(), key.end(), key.begin(), 0.0)) / 8);
  }
  const Expected e = expectAttend(made);
  for (auto& machine : machines(1)) {
    Result got = attendOnce(*machine, stored, false);
    stored.frequencies.clear();
    Result unturned = attendOnce(*machine, stored, false);
    stored.frequencies = frequencies;
    double apart = 0;
    for (int c = 0; c < kDim; ++c) {
      double weighed = 0;  // sum of p |v|
      for (int s = 0; s < 80; ++s) weighed += e.p[static_cast<size_t>(s)] * std::fabs(made.key(0, s, c, true));
      const auto at = static_cast<size_t>(c);
      EXPECT_NEAR(got.out.row(0)[c], e.out[at], e.outBound[at] + 2 * std::expm1(2 * rounding) * weighed);
      apart = std::max(apart, std::fabs(unturned.out.row(0)[c] - e.out[at]));
    }
    EXPECT(apart > 1e-3, "the sinks count for nothing", apart);
  }
}
