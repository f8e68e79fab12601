// SPDX-License-Identifier: GPL-3.0-or-later
// CritiPrefill on the (emulated) device: the blocks that the CPU chooses, and attention over them against double precision (the bound is attend_oracle.h's).
#include "engine/cuda/critical.h"

#include <cmath>

#include "engine/cpu/critical_blocks.h"
#include "tests/cuda_emulation/caches.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr int kQueryHeads = 4, kGroup = kQueryHeads / kHeads, kBlock = kCriticalSlots;

ModelConfig modelWith(int headDim, int window) {
  ModelConfig model = modelOf(headDim);
  model.slidingWindow = window;
  return model;
}

// A segment of `queries` behind `before` slots, of which the newest slots are its own.
struct Segment {
  Caches c;
  int before, queries, window, stride;
  std::vector<float> q;
  cpu::Context context;
  cpu::CriticalBlocks host;
  std::vector<DeviceArray<int32_t>> integers;  // blocks, taken, counts, slots
  DeviceArray<float> centers, fresh, worth, dq;
  Segment(int dim, int slots, int segment, int sight, int room, const KvFormat& format)
      : c(room, modelWith(dim, sight), format), before(slots), queries(segment), window(sight), stride((room + kBlock - 1) / kBlock),
        q(static_cast<size_t>(segment * kQueryHeads * dim)), context(c.pool, cpu::availableIsas().back()), host(c.cpuLedger, kHeads, room),
        centers(static_cast<size_t>(kQueryHeads * dim)), fresh(static_cast<size_t>(kHeads * stride)), worth(fresh.size()), dq(q.size()) {
    for (const size_t count : {fresh.size(), fresh.size(), size_t{kHeads}, size_t{kHeads}}) integers.emplace_back(count);
    c.feed(before, 61);
    c.feed(queries, queries);
    c.gpu.prepare();
  }
  float scale() const { return static_cast<float>(1 / std::sqrt(c.dim)); }
  void ask(uint32_t seed) {
    fillNormal(q.data(), q.size(), seed);
    for (size_t i = 0; i < q.size(); ++i) q[i] += std::sin(static_cast<float>(i % static_cast<size_t>(c.dim))) + (i % 7 == 0 ? 0.5f : 0.0f);  // of one mind
    dq.set(q);
  }
  cpu::AttendArgs hostArgs(int layer) {
    cpu::AttendArgs args;
    args.q = q.data();
    args.queries = queries;
    args.heads = kQueryHeads;
    args.kvHeads = kHeads;
    args.headDim = c.dim;
    args.pageTokens = c.cpu.pageTokens();
    args.qStride = kQueryHeads * c.dim;
    args.kv = c.cpu.view(layer, layer).data();
    args.scale = scale();
    args.slidingWindow = window;
    return args;
  }
  cuda::CriticalList choose(int layer, int budget, bool mixes) {
    cuda::CriticalArgs args;
    args.q = dq.data();
    args.queries = queries;
    args.heads = kQueryHeads;
    args.kvHeads = kHeads;
    args.headDim = c.dim;
    args.kv = c.gpu.tables(layer, layer);
    args.before = before;
    args.count = std::max(budget / kBlock, 1);
    args.scale = scale();
    args.slidingWindow = window;
    args.mixes = mixes;
    args.centers = centers.data();
    args.fresh = fresh.data();
    args.worth = worth.data();
    args.stride = stride;
    args.blocks = integers[0].data();
    args.taken = integers[1].data();
    args.counts = integers[2].data();
    args.slots = integers[3].data();
    return cuda::chooseCritical(nullptr, args);
  }
  // The list, its flags and its counts say what the CPU chose.
  void expectChosen(const cuda::CriticalList& list, const std::string& where) const {
    const auto counts = integers[2].host(), slots = integers[3].host();
    int64_t kept = 0;
    for (int head = 0; head < kHeads; ++head) {
      std::vector<int32_t> expected;
      const int blocks = (before + kBlock - 1) / kBlock;
      for (int block = 0; block < blocks; ++block)
        if (host.has(head, block * kBlock)) expected.push_back(block);
      EXPECT(fromDevice(list.blocks + head * stride, static_cast<size_t>(counts[static_cast<size_t>(head)])) == expected, where, head);
      const auto taken = fromDevice(list.taken + head * stride, static_cast<size_t>(blocks));
      for (int block = 0; block < blocks; ++block) EXPECT(taken[static_cast<size_t>(block)] == (host.has(head, block * kBlock) ? 1 : 0), where, head, block);
      kept += slots[static_cast<size_t>(head)];
    }
    EXPECT_EQ(kept, host.kept());
  }

  struct Attended {
    std::vector<float> out, probabilities, sums;
  };
  Attended attend(const cuda::CriticalList& list, bool taps, const std::vector<float>* reuse = nullptr) const {
    const int tokens = before + queries, room = (tokens + 63) / 64 * 64;
    DeviceArray<float> out(q.size()), states(static_cast<size_t>(2 * kQueryHeads * queries)), p(static_cast<size_t>(kQueryHeads * queries * room)),
        sums(std::vector<float>(static_cast<size_t>(kHeads * room)));
    const DeviceArray<float> given(reuse ? *reuse : std::vector<float>(1));
    cuda::AttendArgs args;
    args.q = reuse ? nullptr : dq.data();
    args.queries = queries;
    args.heads = kQueryHeads;
    args.kvHeads = kHeads;
    args.headDim = c.dim;
    args.kv = c.gpu.tables(0, 0);
    args.mostTokens = tokens;
    args.scale = scale();
    args.slidingWindow = window;
    args.precise = true;
    args.out = out.data();
    args.states = states.data();
    args.probabilityStride = args.columnStride = room;
    if (taps) args.probabilities = p.data(), args.columnSums = sums.data();
    if (reuse) args.reuse = given.data();
    cuda::attendPrefill(nullptr, args, list);
    return {out.host(), taps ? p.host() : std::vector<float>(), sums.host()};
  }
  std::vector<float> rows(int head, bool keys) {
    std::vector<float> out(static_cast<size_t>(c.cpu.slots(0, head) * c.dim));
    c.cpu.readRows(0, head, keys, out.data());
    return out;
  }
  // Attention over the CPU's choice in double.
  void expectAttention(const Attended& found, const std::string& where) {
    const int n = c.dim, tokens = before + queries, room = (tokens + 63) / 64 * 64;
    for (int h = 0; h < kQueryHeads; ++h) {
      const std::vector<float> keys = rows(h / kGroup, true), values = rows(h / kGroup, false);
      for (int i = 0; i < queries; ++i) {
        const float* query = q.data() + (i * kQueryHeads + h) * n;
        std::vector<double> p(static_cast<size_t>(tokens));
        double largest = -INFINITY, worst = 0, sum = 0, seen = 0;
        const auto sees = [&](int s) { return s <= before + i && host.has(h / kGroup, s) && (window == 0 || s > before + i - window); };
        for (int s = 0; s < tokens; ++s) {
          if (!sees(s)) continue;
          double dot = 0, size = 0;
          for (int k = 0; k < n; ++k) {
            const double part = double{query[k]} * keys[static_cast<size_t>(s * n + k)];
            dot += part;
            size += std::fabs(part) * scale();
          }
          worst = std::max(worst, size);
          largest = std::max(largest, p[static_cast<size_t>(s)] = dot * scale());
          ++seen;
        }
        for (int s = 0; s < tokens; ++s) sum += p[static_cast<size_t>(s)] = sees(s) ? std::exp(p[static_cast<size_t>(s)] - largest) : 0;
        constexpr double u = 0x1p-24;
        const double r = std::expm1(2 * (n + 12) * u * worst) + 0x1p-18 + (seen / 4 + 40) * u, rOut = r + (seen + 40) * u;
        std::vector<double> out(static_cast<size_t>(n)), bound(out);
        for (int s = 0; s < tokens; ++s) {
          const double share = p[static_cast<size_t>(s)] / sum;
          if (!found.probabilities.empty()) EXPECT_NEAR(found.probabilities[static_cast<size_t>((h * queries + i) * room + s)], share, share * r + (sees(s) ? 0x1p-40 : 0));
          for (int k = 0; k < n; ++k) {
            const double v = share * values[static_cast<size_t>(s * n + k)];
            out[static_cast<size_t>(k)] += v;
            bound[static_cast<size_t>(k)] += std::fabs(v) * rOut + 0x1p-40 * std::fabs(double{values[static_cast<size_t>(s * n + k)]});
          }
        }
        for (int k = 0; k < n; ++k) EXPECT_NEAR(found.out[static_cast<size_t>((i * kQueryHeads + h) * n + k)], out[static_cast<size_t>(k)], bound[static_cast<size_t>(k)]);
      }
    }
    (void)where;
  }
};

}  // namespace

TEST(the_blocks_are_those_of_the_cpu) {
  for (const auto& [dim, before, queries, window, room, bits] :
       {std::tuple(64, 256, 32, 0, 512, 16), std::tuple(12, 301, 21, 0, 4096, 16), std::tuple(128, 207, 5, 0, 512, 16), std::tuple(64, 290, 40, 120, 512, 16), std::tuple(64, 231, 17, 0, 4096, 8),
        std::tuple(256, 97, 2, 60, 512, 16)})
    for (const int budget : {32, 96, 10000}) {
      Segment s(dim, before, queries, window, room, formatOf(bits, bits));
      const std::string where = "dim " + std::to_string(dim) + " before " + std::to_string(before) + " budget " + std::to_string(budget);
      s.host.begin();
      for (int layer = 0; layer < 2; ++layer) {
        s.ask(static_cast<uint32_t>(7 + layer));
        s.host.choose(s.context, s.hostArgs(layer), budget);
        emulator::setSeed(static_cast<uint32_t>(layer + 1));
        const cuda::CriticalList list = s.choose(layer, budget, layer > 0);
        emulator::setSeed(0);
        s.expectChosen(list, where);
      }
    }
}

TEST(attention_reads_the_listed_blocks) {
  for (const auto& [dim, before, queries, window, budget] : {std::tuple(64, 256, 32, 0, 96), std::tuple(12, 301, 21, 0, 64), std::tuple(128, 207, 5, 0, 64), std::tuple(64, 290, 40, 120, 96),
                                                             std::tuple(256, 97, 2, 0, 64), std::tuple(64, 40, 70, 0, 32)}) {
    Segment s(dim, before, queries, window, 512, {});
    const std::string where = "dim " + std::to_string(dim) + " before " + std::to_string(before);
    s.ask(7);
    s.host.begin();
    s.host.choose(s.context, s.hostArgs(0), budget);
    const cuda::CriticalList list = s.choose(0, budget, false);
    s.expectChosen(list, where);
    const Segment::Attended bare = s.attend(list, false), tapped = s.attend(list, true);
    EXPECT(bare.out == tapped.out, where);
    s.expectAttention(tapped, where);
    // Columns are sums over the queries of a group's heads, and a follower that is handed the probabilities computes the same.
    const auto room = tapped.sums.size() / kHeads;
    for (size_t slot = 0; slot < room; ++slot)
      for (size_t head = 0; head < kHeads; ++head) {
        double sum = 0;
        for (size_t row = head * kGroup * static_cast<size_t>(queries); row < (head + 1) * kGroup * static_cast<size_t>(queries); ++row) sum += tapped.probabilities[row * room + slot];
        EXPECT_NEAR(tapped.sums[head * room + slot], sum, 1e-5 * (sum + 0.01));
      }
    const Segment::Attended follower = s.attend(list, false, &tapped.probabilities);
    for (size_t i = 0; i < follower.out.size(); ++i) EXPECT_NEAR(follower.out[i], bare.out[i], 2e-5 * (std::fabs(bare.out[i]) + 1));
    for (const uint32_t seed : kSeeds) {
      emulator::setSeed(seed);
      EXPECT(s.attend(list, true).out == bare.out, where, seed);
    }
    emulator::setSeed(0);
  }
}

// A list of all blocks is attention over everything.
TEST(a_list_of_everything_is_attention) {
  Segment s(64, 256, 32, 0, 512, {});
  s.ask(3);
  const cuda::CriticalList list = s.choose(0, 10000, false);
  const auto all = s.attend({}, true), listed = s.attend(list, true);
  EXPECT(all.out == listed.out && all.probabilities == listed.probabilities && all.sums == listed.sums);
}
