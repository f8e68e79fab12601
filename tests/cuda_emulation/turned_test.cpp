// SPDX-License-Identifier: GPL-3.0-or-later
// Positions within the cache on the (emulated) device: turned keys against double, attention over them against the oracle of the CPU's.
#include <cmath>

#include "engine/core/dtype.h"
#include "engine/cuda/turned.h"
#include "tests/cuda_emulation/caches.h"
#include "tests/cuda_emulation/device_cache.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::vector<float> frequenciesFor(int dims) {
  RopeConfig rope;
  rope.dims = dims;
  return ropeFrequencies(rope);
}

// Room for turned keys.
struct Turned {
  DeviceArray<float> frequencies;
  DeviceArray<uint16_t> rows;
  DeviceArray<uint64_t> table;
  DeviceArray<PageForm> forms;
  DeviceArray<int32_t> within;
  cuda::TurnArgs args;
  Turned(const cuda::KvTables& kv, int kvHeads, int headDim, int most, const std::vector<float>& turns, bool hadamard, bool window = false)
      : frequencies(turns), rows(static_cast<size_t>(kvHeads * ((most + kv.pageTokens - 1) / kv.pageTokens) * kv.pageTokens * headDim)),
        table(static_cast<size_t>(kvHeads * kv.pageStride)), forms(table.size()), within(range(0, most)) {
    args.kv = kv;
    args.kvHeads = kvHeads;
    args.headDim = headDim;
    args.mostTokens = most;
    args.frequencies = frequencies.data();
    args.half = static_cast<int>(turns.size());
    args.hadamard = hadamard;
    args.rows = rows.data();
    args.table = table.data();
    args.forms = forms.data();
    if (window) args.within = within.data();
  }
};

struct Attended {
  std::vector<float> out, probabilities, sums;
  bool operator==(const Attended&) const = default;
};

Attended attend(const AttendSetup& setup, const DeviceCache& cache, bool precise, int spare) {
  const AttendShape& s = setup.shape;
  const int most = *std::max_element(s.tokens.begin(), s.tokens.end()) + (s.queries == 1 ? std::min(spare, 5) : 0);
  const Turned turned(cache.tables(), s.kvHeads, s.headDim, most, setup.frequencies, setup.hadamard, s.window > 0);
  const DeviceArray<float> q(setup.q);
  DeviceArray<float> out(setup.q.size()), p(static_cast<size_t>(s.heads * s.queries * setup.stride)),
      sums(std::vector<float>(static_cast<size_t>(s.kvHeads * setup.stride), 0.25f)),
      states(static_cast<size_t>(2 * s.heads * s.queries)), partial(cuda::decodeScratchFloats(s.heads, s.headDim, most));
  const DeviceArray<uint32_t> tickets(std::vector<uint32_t>(static_cast<size_t>(s.heads)));
  cuda::AttendArgs args;
  args.queries = s.queries;
  args.heads = s.heads;
  args.kvHeads = s.kvHeads;
  args.headDim = s.headDim;
  args.kv = cuda::turnPages(nullptr, turned.args);
  args.mostTokens = most;
  args.scale = static_cast<float>(1 / std::sqrt(s.headDim));
  args.slidingWindow = s.window;
  args.precise = precise;
  args.q = q.data();
  args.out = out.data();
  args.states = states.data();
  args.partial = partial.data();
  args.tickets = tickets.data();
  args.probabilities = p.data();
  args.probabilityStride = setup.stride;
  args.columnSums = sums.data();
  args.columnStride = setup.stride;
  s.queries == 1 ? cuda::attendDecode(nullptr, args) : cuda::attendPrefill(nullptr, args);
  return {out.host(), p.host(), sums.host()};
}

// A turned key is rounded to f16, by 2^-11 of each of its values: as if q were (attend_oracle.h), and besides what attention rounds.
void runShape(const AttendShape& shape, bool hadamard) {
  AttendSetup setup(shape);
  setup.frequencies = frequenciesFor(shape.headDim / 2 * 2);
  setup.hadamard = hadamard;
  const DeviceCache cache(setup);
  const auto where = "heads " + std::to_string(shape.heads) + "/" + std::to_string(shape.kvHeads) + " dim " + std::to_string(shape.headDim) + " queries " +
                     std::to_string(shape.queries) + " tokens " + std::to_string(shape.tokens[0]) + " page " + std::to_string(shape.pageTokens) + " window " +
                     std::to_string(shape.window) + (hadamard ? " rotated" : "");
  for (const bool precise : {true, false}) {
    if (shape.queries == 1 && !precise) continue;
    const AttendExpected e = expectAttend(setup, precise ? AttendRounding{0x1p-11, 0, 0x1p-40} : AttendRounding{0x1p-10, 0x1p-11, 0x1p-40});
    const Attended found = attend(setup, cache, precise, 0);
    const double out = worstRatio(found.out.data(), e.out, e.outBound, 0, e.out.size()),
                 p = worstRatio(found.probabilities.data(), e.p, e.pBound, 0, e.p.size()), sums = worstSumRatio(found.sums.data(), e);
    EXPECT(out <= 1 && p <= 1 && sums <= 1, where, precise, out, p, sums);
    for (const uint32_t seed : kSeeds) {
      emulator::setSeed(seed);
      EXPECT(attend(setup, cache, precise, static_cast<int>(seed)) == found, where, seed);
    }
    emulator::setSeed(0);
  }
}

}  // namespace

TEST(queries_attend_to_keys_that_lie_together) {
  for (const int window : {0, 20})
    for (const int queries : {1, 5})
      for (const bool hadamard : {false, true})
        for (const AttendShape& s : {AttendShape{4, 2, 64, queries, 16, window, {140, 70}}, AttendShape{2, 1, 128, queries, 64, window, {200}},
                                     AttendShape{3, 3, 8, queries, 16, window, {5, 64, 33}}, AttendShape{3, 1, 12, queries, 64, window, {65}}})
          if (!hadamard || s.headDim != 12) runShape(s, hadamard);
}

// Every kind of page; R(s) k in double of what the page held, rounded once: half a step of f16 beside what f32 leaves (attend_oracle.h), of the
// key's length. Behind the last gap pages are read where they lie.
TEST(turned_pages_hold_the_keys_at_their_places) {
  for (const int dim : {8, 64, 128})
    for (const KvFormat& format : {formatOf(16, 16), formatOf(8, 16, false, true), formatOf(4, 2, true), formatOf(2, 2, true, true)}) {
      Caches c(dim == 64 ? 4096 : 512, dim, format);
      c.feed(330, 110);
      std::vector<int32_t> kept = range(0, 4);
      for (const auto& [from, to] : {std::pair(31, 80), std::pair(90, 91), std::pair(130, 330)})
        for (const int32_t slot : range(from, to)) kept.push_back(slot);
      for (int layer = 0; layer < 2; ++layer)
        for (int head = 0; head < kHeads; ++head) c.keep(layer, head, kept);
      c.settle();
      c.gpu.prepare();
      const std::string where = "dim " + std::to_string(dim) + " keys of " + std::to_string(format.keyBits) + (format.rotateKeys ? " bits, rotated" : " bits");
      const std::vector<float> frequencies = frequenciesFor(dim == 8 ? 6 : dim);  // of some the last values stay
      const int held = static_cast<int>(kept.size()), tokens = c.gpu.pageTokens();
      underEverySchedule([&] {
        const Turned turned(c.gpu.tables(1, 1), kHeads, dim, held, frequencies, format.rotateKeys);
        const cuda::KvTables out = cuda::turnPages(nullptr, turned.args);
        for (int head = 0; head < kHeads; ++head) {
          std::vector<float> keys(kept.size() * static_cast<size_t>(dim));
          c.cpu.readRows(1, head, true, keys.data());
          for (int page = 0; page * tokens < held; ++page) {
            const size_t entry = static_cast<size_t>(head * out.pageStride + page);
            const bool gaps = kept[static_cast<size_t>(page * tokens)] != 329 - (held - 1 - page * tokens);
            const uint64_t from = fromDevice(turned.args.kv.keys + entry, 1)[0], to = fromDevice(out.keys + entry, 1)[0];
            EXPECT_EQ(from != to, gaps);
            if (c.gpu.mayBeSealed()) {
              const PageForm before = fromDevice(turned.args.kv.keyForms + entry, 1)[0], after = fromDevice(out.keyForms + entry, 1)[0];
              EXPECT(after.bits == (gaps ? 16 : before.bits) && (gaps || after.sets == before.sets), where, page);
            }
            if (!gaps) continue;
            for (int slot = page * tokens; slot < std::min(held, (page + 1) * tokens); ++slot) {
              const std::vector<uint16_t> row = fromDevice(reinterpret_cast<const uint16_t*>(to) + (slot - page * tokens) * dim, static_cast<size_t>(dim));
              std::vector<double> key(keys.begin() + slot * dim, keys.begin() + (slot + 1) * dim);
              double length = 0;
              for (const double x : key) length += x * x;
              const int missing = 329 - kept[static_cast<size_t>(slot)] - (held - 1 - slot);
              if (format.rotateKeys && missing > 0) AttendSetup::hadamardInDouble(key);
              for (size_t i = 0; i < frequencies.size(); ++i) {
                const double a = key[i], b = key[i + frequencies.size()], angle = missing * static_cast<double>(frequencies[i]);
                key[i] = a * std::cos(angle) - b * std::sin(angle);
                key[i + frequencies.size()] = a * std::sin(angle) + b * std::cos(angle);
              }
              if (format.rotateKeys && missing > 0) AttendSetup::hadamardInDouble(key);
              const double f32 = (3 * std::sqrt(2.0) + 2 * (std::log2(dim) + 1)) * 0x1p-24 * std::sqrt(length);
              for (int i = 0; i < dim; ++i) {
                const double found = f16ToFloat(row[static_cast<size_t>(i)]), x = key[static_cast<size_t>(i)];
                EXPECT(missing == 0 ? found == x : std::fabs(found - x) <= std::max(std::fabs(x) * 0x1p-11, 0x1p-25) + 2 * f32, where, page, slot, i, found, x);
              }
            }
          }
        }
      });
    }
}

TEST(far_positions_are_turned_by_their_distance) {  // in f32 the fastest pair would be off by 0.004 at 100 000
  AttendSetup setup({2, 1, 64, 1, 16, 0, {40}});
  for (size_t slot = 4; slot < 40; ++slot) setup.heads[0].positions[slot] += 100000;
  setup.frequencies = frequenciesFor(64);
  const DeviceCache cache(setup);
  const AttendExpected e = expectAttend(setup, {0x1p-11, 0, 0x1p-40});
  const Attended found = attend(setup, cache, true, 0);
  EXPECT(worstRatio(found.out.data(), e.out, e.outBound, 0, e.out.size()) <= 1);
}
