// SPDX-License-Identifier: GPL-3.0-or-later
// Attention against a reference in double, with every tap, for decoding and prefill.
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

void runShape(const Shape& shape) {
  static const auto one = machines(1), two = machines(2), three = machines(3);
  const Setup setup(shape);
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
