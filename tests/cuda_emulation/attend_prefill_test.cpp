// SPDX-License-Identifier: GPL-3.0-or-later
// Attention of many queries on the (emulated) device against the oracle (tests/engine/ops/attend_oracle.h). Two pieces of f16 hold 22 bits
// of q and of the weights, which its bounds cover; one piece rounds both by 2^-11. Weights are 2^15 at most, and f16 ends in steps of
// 2^-24: half a step is 2^-40 of the largest.
#include "tests/cuda_emulation/device_cache.h"

using namespace winnow;
using namespace winnow::test;

namespace {

enum class Tap { none, sums, all };

struct Attended {
  std::vector<float> out, probabilities, sums;
};

Attended attendOnce(const AttendSetup& setup, const DeviceCache& cache, bool precise, Tap tap, const std::vector<float>* reuse = nullptr) {
  const AttendShape& s = setup.shape;
  const DeviceArray<float> q(setup.q);
  DeviceArray<float> out(setup.q.size()), p(static_cast<size_t>(s.heads * s.queries * setup.stride)),
      sums(std::vector<float>(static_cast<size_t>(s.kvHeads * setup.stride), 0.25f)), states(static_cast<size_t>(2 * s.heads * s.queries));
  const DeviceArray<float> given(reuse ? *reuse : std::vector<float>(1));
  cuda::AttendArgs args;
  args.queries = s.queries;
  args.heads = s.heads;
  args.kvHeads = s.kvHeads;
  args.headDim = s.headDim;
  args.kv = cache.tables();
  args.mostTokens = *std::max_element(s.tokens.begin(), s.tokens.end());
  args.scale = static_cast<float>(1 / std::sqrt(s.headDim));
  args.slidingWindow = s.window;
  args.precise = precise;
  args.out = out.data();
  args.states = states.data();
  args.probabilityStride = setup.stride;
  if (reuse) {
    args.reuse = given.data();
    args.kv.keys = nullptr;
  } else {
    args.q = q.data();
    if (tap == Tap::all) args.probabilities = p.data();
    if (tap != Tap::none) args.columnSums = sums.data(), args.columnStride = setup.stride;
  }
  cuda::attendPrefill(nullptr, args);
  return {out.host(), tap == Tap::all ? p.host() : std::vector<float>(), sums.host()};
}

void runShape(const AttendShape& shape) {
  const AttendSetup setup(shape);
  const DeviceCache cache(setup);
  const auto where = "heads " + std::to_string(shape.heads) + "/" + std::to_string(shape.kvHeads) + " dim " +
                     std::to_string(shape.headDim) + " queries " + std::to_string(shape.queries) + " tokens " +
                     std::to_string(shape.tokens[0]) + " page " + std::to_string(shape.pageTokens) + " window " +
                     std::to_string(shape.window);
  for (bool precise : {true, false}) {
    const AttendExpected e = expectAttend(setup, precise ? AttendRounding{0, 0, 0x1p-40} : AttendRounding{0x1p-11, 0x1p-11, 0x1p-40});
    const Attended bare = attendOnce(setup, cache, precise, Tap::none), tapped = attendOnce(setup, cache, precise, Tap::all);
    EXPECT(bare.out == tapped.out, "observers change the output", where);
    const double out = worstRatio(bare.out.data(), e.out, e.outBound, 0, e.out.size());
    EXPECT(out <= 1, where, precise, out);
    const double p = worstRatio(tapped.probabilities.data(), e.p, e.pBound, 0, e.p.size());
    EXPECT(p <= 1, where, precise, p);
    const double sums = worstSumRatio(tapped.sums.data(), e);
    EXPECT(sums <= 1, where, precise, sums);
    EXPECT(attendOnce(setup, cache, precise, Tap::sums).sums == tapped.sums, where);
    // A follower that is handed the leader's probabilities computes the leader's output.
    const Attended follower = attendOnce(setup, cache, precise, Tap::none, &tapped.probabilities);
    for (size_t c = 0; c < e.out.size(); ++c) EXPECT_NEAR(follower.out[c], bare.out[c], 2 * e.outBound[c]);
    for (uint32_t seed : {precise ? 1u : 2u}) {
      emulator::setSeed(seed);
      const Attended again = attendOnce(setup, cache, precise, Tap::all);
      EXPECT(again.out == bare.out && again.probabilities == tapped.probabilities && again.sums == tapped.sums, where, seed);
      EXPECT(attendOnce(setup, cache, precise, Tap::none, &tapped.probabilities).out == follower.out, where, seed);
    }
    emulator::setSeed(0);
  }
}

}  // namespace

TEST(many_queries_attend_within_the_bound) {
  for (int window : {0, 20})
    for (const AttendShape& s :
         {AttendShape{4, 2, 64, 40, 16, window, {40, 40}}, AttendShape{1, 1, 8, 70, 64, window, {70}},
          AttendShape{7, 1, 80, 9, 64, window, {73}}, AttendShape{3, 3, 128, 5, 16, window, {5, 64, 150}},
          AttendShape{6, 2, 12, 30, 16, window, {128, 190}}, AttendShape{2, 1, 256, 3, 64, window, {67}}})
      runShape(s);
}

// Queries behind a cache of which each head has kept another number of slots; one query is the smallest chunk.
TEST(queries_behind_evicted_slots) {
  for (int queries : {1, 2, 17})
    for (int window : {0, 33}) runShape({4, 2, 20, queries, 16, window, {queries, 130 + queries}});
}

// Rows of q of any size, down to subnormals and up to where f16 ends long since.
TEST(rows_of_any_size_keep_their_precision) {
  for (float size : {0.0f, 1e-40f, 1e-12f, 3e4f}) {
    AttendSetup setup({2, 1, 16, 6, 16, 0, {24}});
    for (float& x : setup.q) x *= size;
    const DeviceCache cache(setup);
    const AttendExpected e = expectAttend(setup, {0, 0, 0x1p-40});
    const Attended found = attendOnce(setup, cache, true, Tap::all);
    EXPECT(worstRatio(found.out.data(), e.out, e.outBound, 0, e.out.size()) <= 1, size);
    EXPECT(worstRatio(found.probabilities.data(), e.p, e.pBound, 0, e.p.size()) <= 1, size);
  }
}
