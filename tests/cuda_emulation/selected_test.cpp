// SPDX-License-Identifier: GPL-3.0-or-later
// Quest on the (emulated) device: bounds to the bit, the choice against the CPU's bounds, attention over what was chosen against double.
#include <cmath>

#include "engine/core/dtype.h"
#include "engine/cpu/context.h"
#include "engine/cuda/selected.h"
#include "tests/cuda_emulation/caches.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr int kQueryHeads = 4, kGroup = kQueryHeads / kHeads, kLayer = KvCache::kDenseLayers, kBlock = KvCache::kBlock;

ModelConfig modelWith(int headDim, int window = 0) {
  ModelConfig model = modelOf(headDim);
  model.layers = kLayer + 1;
  model.slidingWindow = window;
  return model;
}

std::vector<float> rows(Caches& c, int head, bool keys) {
  std::vector<float> out(static_cast<size_t>(c.cpu.slots(kLayer, head) * c.dim));
  c.cpu.readRows(kLayer, head, keys, out.data());
  return out;
}

void prepare(Caches& c) {
  c.gpu.prepare();
  c.gpu.takeBounds();
}

// Those of every full block, from the rows as they are read. Of a zero the sign does not matter.
void expectBounds(Caches& c, const std::string& where) {
  prepare(c);
  for (int head = 0; head < kHeads; ++head) {
    const std::vector<float> keys = rows(c, head, true);
    for (int block = 0; (block + 1) * kBlock <= c.gpu.slots(kLayer, head); ++block) {
      const std::vector<uint16_t> found = fromDevice(c.gpu.bounds(kLayer) + (head * c.gpu.blockStride() + block) * 2 * c.dim, static_cast<size_t>(2 * c.dim));
      for (int i = 0; i < c.dim; ++i) {
        float largest = -INFINITY, smallest = INFINITY;
        for (int s = block * kBlock; s < (block + 1) * kBlock; ++s) {
          largest = std::max(largest, keys[static_cast<size_t>(s * c.dim + i)]);
          smallest = std::min(smallest, keys[static_cast<size_t>(s * c.dim + i)]);
        }
        EXPECT(f16ToFloat(found[static_cast<size_t>(i)]) == largest && f16ToFloat(found[static_cast<size_t>(c.dim + i)]) == smallest, where, head, block, i);
      }
    }
  }
}

struct Chosen {
  std::vector<std::vector<int32_t>> blocks;  // [kvHeads]
  std::vector<float> out, probabilities;     // [heads, headDim], [heads, slots]
};

struct Query {
  Caches& c;
  double budget;
  int window;
  std::vector<float> q;
  Query(Caches& caches, double tokens, int slidingWindow = 0, float size = 1)
      : c(caches), budget(tokens), window(slidingWindow), q(static_cast<size_t>(kQueryHeads * c.dim)) {
    fillNormal(q.data(), q.size(), 3, size);
  }
  // The newest slot is taken as this step's: the device's lengths count it, so nothing is added. `spare` widens the bound on the lengths.
  Chosen run(int spare = 0, bool taps = false) const {
    const int most = c.gpu.mostSlots() + spare;
    const auto chosen = static_cast<size_t>(mostBlocksRead(budget, most)), rooms = kHeads * chosen;
    DeviceArray<int32_t> blocks(rooms), slots(kHeads), positions(rooms * kBlock);
    DeviceArray<uint64_t> tables(2 * rooms);
    DeviceArray<uint16_t> unpacked(2 * rooms * kBlock * static_cast<size_t>(c.dim));
    DeviceArray<float> scores(static_cast<size_t>(kHeads * blocksOf(most))), out(q.size());
    const std::vector<uint32_t> zeros(kQueryHeads);
    const DeviceArray<uint32_t> tickets(zeros);
    const DeviceArray<float> dq(q);
    cuda::SelectArgs select;
    select.q = dq.data();
    select.heads = kQueryHeads;
    select.kvHeads = kHeads;
    select.headDim = c.dim;
    select.kv = c.gpu.tables(kLayer, kLayer);
    select.mostTokens = most;
    select.slidingWindow = window;
    select.budget = budget;
    select.bounds = c.gpu.bounds(kLayer);
    select.blockStride = c.gpu.blockStride();
    select.scores = scores.data();
    select.tickets = tickets.data();
    select.chosen = {blocks.data(), slots.data(), static_cast<int>(chosen)};
    cuda::selectBlocks(nullptr, select);
    cuda::PlaceArgs place;
    place.kv = select.kv;
    place.kvHeads = kHeads;
    place.headDim = c.dim;
    place.chosen = select.chosen;
    place.rows = unpacked.data();
    place.tables = tables.data();
    if (window > 0) place.positions = positions.data();
    cuda::AttendArgs args;
    args.q = dq.data();
    args.heads = kQueryHeads;
    args.kvHeads = kHeads;
    args.headDim = c.dim;
    args.kv = cuda::placeBlocks(nullptr, place);
    args.mostTokens = static_cast<int>(chosen) * kBlock;
    args.scale = scale();
    args.slidingWindow = window;
    args.out = out.data();
    DeviceArray<float> partial(cuda::decodeScratchFloats(kQueryHeads, c.dim, args.mostTokens)), p(static_cast<size_t>(kQueryHeads * args.mostTokens));
    args.partial = partial.data();
    args.tickets = tickets.data();
    args.probabilityStride = args.mostTokens;
    if (taps) args.probabilities = p.data();
    cuda::attendDecode(nullptr, args);
    EXPECT(tickets.host() == zeros);
    Chosen result{{}, out.host(), taps ? p.host() : std::vector<float>()};
    const std::vector<int32_t> lengths = slots.host();
    for (int head = 0; head < kHeads; ++head) {
      const int held = c.gpu.slots(kLayer, head), count = lengths[static_cast<size_t>(head)];
      result.blocks.push_back(fromDevice(blocks.data() + head * static_cast<int>(chosen), static_cast<size_t>(blocksOf(count))));
      EXPECT_EQ(count, static_cast<int>(result.blocks.back().size() - 1) * kBlock + (held - 1) % kBlock + 1);
    }
    return result;
  }
  float scale() const { return static_cast<float>(1 / std::sqrt(c.dim)); }
  int firstSeen(int head) const {
    const auto at = c.cpu.positions(kLayer, head);
    return window > 0 ? static_cast<int>(std::upper_bound(at.begin(), at.end(), at.back() - window) - at.begin()) : 0;
  }
};

// The CPU's bounds of all blocks, and by how much two sums of 2 n products may differ: each by 2 n + 4 roundings of what is summed.
struct HostBounds {
  std::vector<float> bounds;
  double rounding = 0;
};
HostBounds hostBounds(const Query& query, cpu::Context& context, int head) {
  HostBounds host{query.c.cpu.blockBounds(context, kLayer, head, query.q.data()), 0};
  double size = 0, most = 0;
  for (const float k : rows(query.c, head, true)) size = std::max(size, std::fabs(double{k}));
  for (int h = head * kGroup; h < (head + 1) * kGroup; ++h) {
    double sum = 0;
    for (int i = 0; i < query.c.dim; ++i) sum += std::fabs(double{query.q[static_cast<size_t>(h * query.c.dim + i)]});
    most = std::max(most, sum);
  }
  host.rounding = 2 * (2 * query.c.dim + 4) * 0x1p-24 * size * most;
  return host;
}

// As many as the CPU takes, ascending, the newest among them, and none that is left is better than one that was taken.
void expectBest(const Query& query, cpu::Context& context, const Chosen& found, const std::string& where) {
  for (int head = 0; head < kHeads; ++head) {
    const HostBounds host = hostBounds(query, context, head);
    const std::vector<int32_t>& blocks = found.blocks[static_cast<size_t>(head)];
    const int held = query.c.gpu.slots(kLayer, head), first = query.firstSeen(head) / kBlock;
    const int expected = std::min(blocksOf(held) - first, blocksRead(query.budget, held));
    EXPECT_EQ(static_cast<int>(blocks.size()), expected);
    EXPECT(std::ranges::is_sorted(blocks) && std::ranges::adjacent_find(blocks) == blocks.end(), where);
    EXPECT(blocks.back() == blocksOf(held) - 1 && blocks.front() >= first, where);
    float worst = INFINITY;
    for (size_t i = 0; i + 1 < blocks.size(); ++i) worst = std::min(worst, host.bounds[static_cast<size_t>(blocks[i])]);
    for (int block = first; block + 1 < blocksOf(held); ++block)
      if (!std::ranges::binary_search(blocks, block)) EXPECT(host.bounds[static_cast<size_t>(block)] <= worst + host.rounding, where, head, block);
  }
}

// Attention with everything that was not chosen masked, in double; the bound is attend_oracle.h's.
void expectMasked(const Query& query, const Chosen& found, const std::string& where) {
  const int n = query.c.dim;
  for (int h = 0; h < kQueryHeads; ++h) {
    const int head = h / kGroup, held = query.c.gpu.slots(kLayer, head);
    const std::vector<float> keys = rows(query.c, head, true), values = rows(query.c, head, false);
    std::vector<double> expected(static_cast<size_t>(n)), bound(expected), scores;
    std::vector<int> slots;
    double largest = -INFINITY, sum = 0, worst = 0;
    for (const int32_t block : found.blocks[static_cast<size_t>(head)])
      for (int s = block * kBlock; s < std::min((block + 1) * kBlock, held); ++s) {
        if (s < query.firstSeen(head)) continue;
        double dot = 0, size = 0;
        for (int i = 0; i < n; ++i) {
          const double part = double{query.q[static_cast<size_t>(h * n + i)]} * keys[static_cast<size_t>(s * n + i)];
          dot += part;
          size += std::fabs(part) * query.scale();
        }
        worst = std::max(worst, size);
        slots.push_back(s);
        scores.push_back(dot * query.scale());
        largest = std::max(largest, scores.back());
      }
    for (double& score : scores) sum += score = std::exp(score - largest);
    constexpr double u = 0x1p-24;
    const auto length = static_cast<double>(slots.size());
    const double r = std::expm1(2 * (n + 12) * u * worst) + 0x1p-18 + (length / 4 + 40) * u + (length + 40) * u;
    for (size_t i = 0; i < slots.size(); ++i)
      for (int at = 0; at < n; ++at) {
        const double v = scores[i] / sum * values[static_cast<size_t>(slots[i] * n + at)];
        expected[static_cast<size_t>(at)] += v;
        bound[static_cast<size_t>(at)] += std::fabs(v) * r;
      }
    for (int at = 0; at < n; ++at) EXPECT_NEAR(found.out[static_cast<size_t>(h * n + at)], expected[static_cast<size_t>(at)], bound[static_cast<size_t>(at)]);
    if (found.probabilities.empty()) continue;
    double p = 0;
    const size_t stride = found.probabilities.size() / kQueryHeads;
    for (size_t i = 0; i < stride; ++i) p += found.probabilities[static_cast<size_t>(h) * stride + i];
    EXPECT(std::fabs(p - 1) < 1e-5, where, p);
  }
}

}  // namespace

TEST(what_is_read_never_exceeds_what_there_is_room_for) {
  for (const double budget : {0.01, 0.25, 0.99, 1.0, 2.0, 47.0, 48.0, 49.0, 100.0, 1000.0})
    for (int most = 1; most < 300; ++most)
      for (int slots = 1; slots <= most; ++slots)
        EXPECT(blocksRead(budget, slots) <= mostBlocksRead(budget, most) && mostBlocksRead(budget, most) <= blocksOf(most), budget, most, slots);
}

TEST(bounds_are_those_of_the_keys_as_they_are_read) {
  for (const int dim : {12, 64, 128})
    for (const int context : {512, 4096})  // pages of 16 and of 64
      for (const int bits : {16, 4, 8}) {
        if (bits < 16 && dim % 32 != 0) continue;
        Caches c(context, modelWith(dim), formatOf(bits, bits, bits == 8));
        const std::string where = "dim " + std::to_string(dim) + " bits " + std::to_string(bits) + " context " + std::to_string(context);
        c.select(64);
        c.feed(150, 50);
        expectBounds(c, where + " a prompt");
        for (int i = 0; i < 40; ++i) {  // through blocks that fill and pages that are sealed
          c.feed(1, 1);
          prepare(c);
        }
        expectBounds(c, where + " decoded");
        for (KvCache* cache : {static_cast<KvCache*>(&c.cpu), static_cast<KvCache*>(&c.gpu)}) cache->truncate(130);
        c.fed = 130;
        c.feed(40);
        expectBounds(c, where + " rewound");
        std::vector<int32_t> some;
        for (int slot = 0; slot < 170; ++slot)
          if (slot % 3 != 1 || slot == 169) some.push_back(slot);
        for (int layer = 0; layer < c.gpu.layers(); ++layer)
          for (int head = 0; head < kHeads; ++head) c.keep(layer, head, some);
        c.settle();
        expectBounds(c, where + " after an eviction");
        if (dim % 32 != 0) continue;
        c.setFormat(formatOf(3, 8, false, true));
        expectBounds(c, where + " of 3 bits, rotated");
        c.feed(30);
        expectBounds(c, where + " and on");
      }
}

TEST(a_query_reads_the_blocks_of_the_highest_bounds) {
  ThreadPool pool(1);
  cpu::Context context(pool, cpu::availableIsas().back());
  for (const int dim : {12, 64, 128})
    for (const int window : {0, 100})
      for (const int bits : {16, 8, 3}) {
        if (bits < 16 && dim % 32 != 0) continue;
        const std::string where = "dim " + std::to_string(dim) + " window " + std::to_string(window) + " bits " + std::to_string(bits);
        Caches c(dim == 128 ? 4096 : 512, modelWith(dim, window), formatOf(bits, bits, bits == 3));
        c.select(80);
        c.feed(297, 99);
        prepare(c);
        for (const double budget : {80.0, 2.0, 0.5}) {
          const Query query(c, budget, window);
          const Chosen first = query.run();
          expectBest(query, context, first, where);
          expectMasked(query, first, where);
          for (const uint32_t seed : kSeeds) {
            emulator::setSeed(seed);
            const Chosen again = query.run(static_cast<int>(seed) * 40, true);
            EXPECT(again.blocks == first.blocks && again.out == first.out, where, seed);
            expectMasked(query, again, where);
          }
          emulator::setSeed(0);
        }
      }
}

// More blocks than the threads of one thread block, heads of other lengths, and few bounds that differ.
TEST(equal_bounds_fall_to_the_earlier_block) {
  Caches c(8192, modelWith(8), {});
  c.select(1024);
  c.feed(4500, 900);
  for (int layer = 0; layer < c.gpu.layers(); ++layer) c.keep(layer, 1, range(0, 777));
  c.settle();
  prepare(c);
  ThreadPool pool(1);
  cpu::Context context(pool, cpu::availableIsas().back());
  const Query normal(c, 1024);
  expectBest(normal, context, normal.run(), "many blocks");
  const Query zero(c, 1024, 0, 0);
  const Chosen found = zero.run();
  std::vector<int32_t> expected = range(0, 1024 / kBlock - 1);
  expected.push_back(blocksOf(4500) - 1);
  EXPECT(found.blocks[0] == expected);
  EXPECT(found.blocks[1] == range(0, blocksOf(777)));  // all that it has
}

TEST(a_budget_of_everything_is_attention_to_the_bit) {
  for (const int bits : {16, 4}) {
    Caches c(512, modelWith(64), formatOf(bits, bits));
    c.select(400);
    c.feed(300, 60);
    prepare(c);
    const Query query(c, 400);
    const Chosen found = query.run();
    EXPECT(found.blocks[0] == range(0, blocksOf(300)));
    const DeviceArray<float> dq(query.q);
    DeviceArray<float> out(query.q.size()), partial(cuda::decodeScratchFloats(kQueryHeads, c.dim, 300));
    const std::vector<uint32_t> zeros(kQueryHeads);
    const DeviceArray<uint32_t> tickets(zeros);
    cuda::AttendArgs args;
    args.q = dq.data();
    args.heads = kQueryHeads;
    args.kvHeads = kHeads;
    args.headDim = c.dim;
    args.kv = c.gpu.tables(kLayer, kLayer);
    args.mostTokens = 300;
    args.scale = query.scale();
    args.out = out.data();
    args.partial = partial.data();
    args.tickets = tickets.data();
    cuda::attendDecode(nullptr, args);
    EXPECT(out.host() == found.out, bits);
  }
}
