// SPDX-License-Identifier: GPL-3.0-or-later
// Storing into the cache (norms, RoPE, f16) and eviction's gather on the (emulated) device. u = 2^-24.
#include "engine/model/config.h"
#include "tests/cuda_emulation/device_cache.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr double u = 0x1p-24;

std::vector<float> normal(int n, uint32_t seed) {
  std::vector<float> v(static_cast<size_t>(n));
  fillNormal(v.data(), v.size(), seed);
  return v;
}

struct StoreShape {
  int heads, kvHeads, headDim, ropeDims, tokens;
  bool norm, follower;
};

// One head as it should be, and by how much it may differ: the norm moves a component by (n/8 + 12) u of its size, the rotation adds
// 4 u of both.
void expectedHead(std::vector<double> x, const std::vector<float>* norm, const std::vector<float>& frequencies, int position,
                  std::vector<double>& y, std::vector<double>& bound) {
  const size_t n = x.size(), half = frequencies.size();
  double factor = 1, squares = 0;
  for (double v : x) squares += v * v;
  if (norm) factor = 1 / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(1e-6f));
  for (size_t c = 0; c < n; ++c) x[c] *= factor * (norm ? (*norm)[c] : 1.0f);
  const double r = norm ? (static_cast<double>(n) / 8 + 12) * u : 0;
  y = x;
  bound.assign(n, 0);
  for (size_t c = 0; c < n; ++c) bound[c] = std::fabs(x[c]) * r;
  for (size_t c = 0; c < half; ++c) {
    const double angle = static_cast<double>(position) * frequencies[c], a = x[c], b = x[half + c], size = std::fabs(a) + std::fabs(b);
    y[c] = a * std::cos(angle) - b * std::sin(angle);
    y[half + c] = a * std::sin(angle) + b * std::cos(angle);
    bound[c] = bound[half + c] = size * (r + 4 * u);
  }
}

void runStore(const StoreShape& s, int32_t shift) {
  const std::vector<int32_t> lengths = {5, 16, 30};
  std::vector<int32_t> ids;
  for (int t = 0; t < s.tokens; ++t) ids.push_back(shift + 3 * t);
  RopeConfig rope;
  rope.dims = s.ropeDims;
  const std::vector<float> frequencies = s.ropeDims ? ropeFrequencies(rope) : std::vector<float>();
  const auto q = normal(s.tokens * s.heads * s.headDim, 1), k = normal(s.tokens * s.kvHeads * s.headDim, 2),
             v = normal(s.tokens * s.kvHeads * s.headDim, 3), qNorm = normal(s.headDim, 4), kNorm = normal(s.headDim, 5);
  const DeviceArray<float> dv(v), dqNorm(qNorm), dkNorm(kNorm), df(frequencies.empty() ? std::vector<float>(1) : frequencies);
  const DeviceArray<int32_t> dids(ids);
  const size_t angles = std::max<size_t>(1, frequencies.size() * static_cast<size_t>(s.tokens));
  underEverySchedule([&] {
    DeviceArray<float> dq(q), dk(k), cosines(angles), sines(angles);
    DeviceCache cache(s.kvHeads, s.headDim, 16, 48);
    cache.setLengths({lengths.begin(), lengths.begin() + s.kvHeads});
    if (s.ropeDims) cuda::prepareRotations(nullptr, df.data(), s.ropeDims, dids.data(), s.tokens, cosines.data(), sines.data());
    cuda::StoreArgs args;
    if (!s.follower) args.q = dq.data(), args.k = dk.data();
    args.v = dv.data();
    args.tokens = s.tokens;
    args.heads = s.heads;
    args.kvHeads = s.kvHeads;
    args.headDim = s.headDim;
    if (s.norm) args.qNorm = dqNorm.data(), args.kNorm = dkNorm.data();
    args.eps = 1e-6f;
    if (s.ropeDims) args.cosines = cosines.data(), args.sines = sines.data();
    args.ropeDims = s.ropeDims;
    args.positionIds = dids.data();
    args.kv = cache.tables();
    cuda::rotateAndStore(nullptr, args);
    std::vector<double> y, bound;
    const auto turned = dq.host();
    for (int t = 0; t < s.tokens; ++t) {
      for (int h = 0; h < s.heads && !s.follower; ++h) {
        const size_t at = static_cast<size_t>((t * s.heads + h) * s.headDim);
        expectedHead({q.begin() + static_cast<long>(at), q.begin() + static_cast<long>(at) + s.headDim}, s.norm ? &qNorm : nullptr,
                     frequencies, ids[static_cast<size_t>(t)], y, bound);
        for (size_t c = 0; c < y.size(); ++c) EXPECT_NEAR(turned[at + c], y[c], bound[c] + 1e-36);
      }
      for (int h = 0; h < s.kvHeads; ++h) {
        const long at = (t * s.kvHeads + h) * s.headDim;
        const int slot = lengths[static_cast<size_t>(h)] + t;
        if (!s.follower) {
          expectedHead({k.begin() + at, k.begin() + at + s.headDim}, s.norm ? &kNorm : nullptr, frequencies, ids[static_cast<size_t>(t)], y,
                       bound);
          const auto stored = cache.slot(h, slot, 0);
          for (size_t c = 0; c < y.size(); ++c)
            EXPECT_NEAR(f16ToFloat(stored[c]), y[c], bound[c] * 1.001 + std::fabs(y[c]) * 0x1p-11 + 0x1p-25);
        }
        const auto stored = cache.slot(h, slot, 1);
        for (size_t c = 0; c < stored.size(); ++c) EXPECT_EQ(uint16_t{stored[c]}, floatToF16(v[static_cast<size_t>(at) + c]));
        int32_t position = 0;
        cudaMemcpy(&position, cache.positions().data() + h * cache.positionStride() + slot, 4, cudaMemcpyDeviceToHost);
        EXPECT_EQ(position, ids[static_cast<size_t>(t)]);
      }
    }
  });
}

}  // namespace

TEST(heads_are_normed_turned_and_stored) {
  for (int32_t shift : {0, 100000})
    for (const StoreShape& s : {StoreShape{4, 2, 64, 64, 3, false, false}, StoreShape{3, 1, 16, 12, 1, true, false},
                                StoreShape{6, 3, 80, 80, 2, true, false}, StoreShape{2, 2, 64, 0, 2, false, false},
                                StoreShape{4, 2, 128, 128, 2, true, true}})
      runStore(s, shift);
}

TEST(lengths_advance_together) {
  DeviceArray<int32_t> lengths(std::vector<int32_t>(300, 7));
  cuda::advance(nullptr, lengths.data(), 300, 5);
  for (int32_t n : lengths.host()) EXPECT_EQ(n, 12);
}

// Keeping everything, nothing, the last, every other: the bytes of the kept slots in order, whatever the schedule.
TEST(kept_slots_move_to_the_front) {
  for (int page : {16, 64})
    for (const AttendShape& shape : {AttendShape{2, 2, 64, 1, page, 0, {300, 130}}, AttendShape{2, 2, 12, 1, page, 0, {257, 33}}}) {
      const AttendSetup setup(shape);
      underEverySchedule([&] {
        for (int choice = 0; choice < 5; ++choice) {
          DeviceCache cache(setup);
          const int stride = 320;
          std::vector<int32_t> keep(static_cast<size_t>(2 * stride)), kept;
          std::mt19937 rng(static_cast<uint32_t>(choice));
          for (int h = 0; h < 2; ++h) {
            const int n = shape.tokens[static_cast<size_t>(h)];
            int count = 0;
            for (int s = 0; s < n; ++s) {
              const bool take = choice == 0 || (choice == 1 && s == n - 1) || (choice == 2 && s % 2) || (choice == 3 && s > 40) ||
                                (choice == 4 && rng() % 3);
              if (take) keep[static_cast<size_t>(h * stride + count++)] = s;
            }
            kept.push_back(count);
          }
          std::vector<float> sums(static_cast<size_t>(2 * stride));
          for (size_t i = 0; i < sums.size(); ++i) sums[i] = static_cast<float>(i);
          const DeviceArray<int32_t> dkeep(keep), dkept(kept);
          DeviceArray<float> dsums(sums);
          const auto before = cache.positions().host();
          cuda::GatherArgs args;
          args.kv = cache.tables();
          args.kvHeads = 2;
          args.headDim = shape.headDim;
          args.keep = dkeep.data();
          args.kept = dkept.data();
          args.keepStride = stride;
          args.columnSums = dsums.data();
          args.columnStride = stride;
          cuda::gatherSlots(nullptr, args);
          const auto after = cache.positions().host();
          const auto sumsAfter = dsums.host();
          for (int h = 0; h < 2; ++h) {
            for (int i = 0; i < kept[static_cast<size_t>(h)]; ++i) {
              const int from = keep[static_cast<size_t>(h * stride + i)];
              for (int side = 0; side < 2; ++side) {
                const auto slot = cache.slot(h, i, side);
                for (int c = 0; c < shape.headDim; ++c)
                  EXPECT_EQ(f16ToFloat(slot[static_cast<size_t>(c)]), setup.key(h, from, c, side == 1));
              }
              EXPECT_EQ(int{after[static_cast<size_t>(h * cache.positionStride() + i)]},
                        int{before[static_cast<size_t>(h * cache.positionStride() + from)]});
              EXPECT_EQ(float{sumsAfter[static_cast<size_t>(h * stride + i)]}, static_cast<float>(h * stride + from));
            }
            for (int i = kept[static_cast<size_t>(h)]; i < shape.tokens[static_cast<size_t>(h)]; ++i)
              EXPECT_EQ(float{sumsAfter[static_cast<size_t>(h * stride + i)]}, 0.0f);
          }
        }
      });
    }
}
