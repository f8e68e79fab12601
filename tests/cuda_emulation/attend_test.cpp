// SPDX-License-Identifier: GPL-3.0-or-later
// Decode attention on the (emulated) device against the oracle and the bounds of the CPU's (tests/engine/ops/attend_oracle.h).
#include "tests/cuda_emulation/device_cache.h"

using namespace winnow;
using namespace winnow::test;

namespace {

enum class Tap { none, probabilities, all };

struct Attended {
  std::vector<float> out, probabilities, sums;
};

Attended attendOnce(const AttendSetup& setup, const DeviceCache& cache, Tap tap, const std::vector<float>* reuse = nullptr, int spare = 0) {
  const AttendShape& s = setup.shape;
  const DeviceArray<float> q(setup.q);
  DeviceArray<float> out(static_cast<size_t>(s.heads * s.headDim)), p(static_cast<size_t>(s.heads * setup.stride)),
      sums(std::vector<float>(static_cast<size_t>(s.kvHeads * setup.stride), 0.25f));
  const DeviceArray<float> given(reuse ? *reuse : std::vector<float>(1));
  const int longest = *std::max_element(s.tokens.begin(), s.tokens.end()) + spare;
  const int most = tap == Tap::none && !reuse ? longest : std::min(longest, setup.stride);
  DeviceArray<float> partial(cuda::decodeScratchFloats(s.heads, s.headDim, most));
  const std::vector<uint32_t> zeros(static_cast<size_t>(s.heads));
  const DeviceArray<uint32_t> tickets(zeros);
  cuda::AttendArgs args;
  args.heads = s.heads;
  args.kvHeads = s.kvHeads;
  args.headDim = s.headDim;
  args.kv = cache.tables();
  args.added = 0;  // lengths count everything
  args.mostTokens = most;
  args.scale = static_cast<float>(1 / std::sqrt(s.headDim));
  args.slidingWindow = s.window;
  args.out = out.data();
  args.partial = partial.data();
  args.tickets = tickets.data();
  args.probabilityStride = setup.stride;
  if (reuse) {
    args.reuse = given.data();
    args.kv.keys = nullptr;
  } else {
    args.q = q.data();
    if (tap != Tap::none) args.probabilities = p.data();
  }
  if (tap == Tap::all) args.columnSums = sums.data(), args.columnStride = setup.stride;
  cuda::attendDecode(nullptr, args);
  EXPECT(tickets.host() == zeros);
  return {out.host(), args.probabilities ? p.host() : std::vector<float>(), sums.host()};
}

void runShape(const AttendShape& shape) {
  const AttendSetup setup(shape);
  const DeviceCache cache(setup);
  const AttendExpected e = expectAttend(setup);
  const auto where = "heads " + std::to_string(shape.heads) + "/" + std::to_string(shape.kvHeads) + " dim " +
                     std::to_string(shape.headDim) + " tokens " + std::to_string(shape.tokens[0]) + " page " +
                     std::to_string(shape.pageTokens) + " window " + std::to_string(shape.window);
  const Attended bare = attendOnce(setup, cache, Tap::none), tapped = attendOnce(setup, cache, Tap::all);
  EXPECT(bare.out == tapped.out, "observers change the output", where);
  const double out = worstRatio(bare.out.data(), e.out, e.outBound, 0, e.out.size());
  EXPECT(out <= 1, where, out);
  const double p = worstRatio(tapped.probabilities.data(), e.p, e.pBound, 0, e.p.size());
  EXPECT(p <= 1, where, p);
  const double sums = worstSumRatio(tapped.sums.data(), e);
  EXPECT(sums <= 1, where, sums);
  // A follower that is handed the leader's probabilities computes the leader's output, and its column sums.
  const Attended follower = attendOnce(setup, cache, Tap::all, &tapped.probabilities);
  for (size_t c = 0; c < e.out.size(); ++c) EXPECT_NEAR(follower.out[c], bare.out[c], 2 * e.outBound[c]);
  EXPECT(follower.sums == tapped.sums, where);
  // A wider grid and any schedule give the same bits.
  for (uint32_t seed : kSeeds) {
    emulator::setSeed(seed);
    const Attended again = attendOnce(setup, cache, Tap::probabilities, nullptr, static_cast<int>(seed) * 2);
    EXPECT(again.out == bare.out && again.probabilities == tapped.probabilities, where, seed);
    EXPECT(attendOnce(setup, cache, Tap::none, &tapped.probabilities).out == follower.out, where, seed);
  }
  emulator::setSeed(0);
}

}  // namespace

TEST(attend_decodes_one_query) {
  for (int window : {0, 20})
    for (int page : {16, 64})
      for (const AttendShape& s :
           {AttendShape{4, 2, 64, 1, page, window, {400, 140}}, AttendShape{1, 1, 8, 1, page, window, {1}},
            AttendShape{7, 1, 80, 1, page, window, {65}}, AttendShape{3, 3, 128, 1, page, window, {5, 64, 257}},
            AttendShape{6, 2, 12, 1, page, window, {128, 256}}, AttendShape{2, 1, 256, 1, page, window, {129}}})
        runShape(s);
}

// Beyond 131072 slots the factors of the chunks no longer fit where the sums were.
TEST(a_bound_on_very_many_slots_changes_no_bit) {
  const AttendSetup setup(AttendShape{4, 2, 64, 1, 64, 0, {400, 140}});
  const DeviceCache cache(setup);
  EXPECT(attendOnce(setup, cache, Tap::none, nullptr, 140000).out == attendOnce(setup, cache, Tap::none).out);
}

TEST(unsupported_heads_are_refused) {
  for (int n : {4, 8, 12, 64, 80, 100, 128, 256}) EXPECT(cuda::attendSupports(n), n);
  for (int n : {0, 2, 6, 132, 260, 264, 512}) EXPECT(!cuda::attendSupports(n), n);
}
