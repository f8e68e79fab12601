// SPDX-License-Identifier: GPL-3.0-or-later
// Sealed pages on the (emulated) device beside those of the CPU: the same bytes, the same memory, whatever becomes of the cache.
#include "engine/core/dtype.h"
#include "tests/cuda_emulation/caches.h"

using namespace winnow;
using namespace winnow::test;

namespace {

void expectSamePage(const PageShape& shape, const PageForm& expected, const uint16_t* page, const PageForm& found, uint64_t address, int held, const std::string& where) {
  EXPECT_EQ(int{found.bits}, int{expected.bits});
  EXPECT(found.sets == expected.sets && std::equal(found.ends, found.ends + kMostSets, expected.ends) && found.outliers == expected.outliers, where);
  if (found.bits != expected.bits || found.sets != expected.sets) return;
  const size_t bytes = expected.sealed() ? shape.bytes(expected) : static_cast<size_t>(held * shape.headDim) * 2;
  const auto device = fromDevice(reinterpret_cast<const uint8_t*>(address), bytes);
  const auto* host = reinterpret_cast<const uint8_t*>(page);
  size_t differ = 0;
  while (differ < bytes && device[differ] == host[differ]) ++differ;
  EXPECT(differ == bytes, where, differ, bytes);
}

// Every page of both, byte for byte, and what they take.
void expectSame(cpu::HostKvCache& cpu, cuda::DeviceKvCache& gpu, int dim, const std::string& where) {
  const PageShape shape{gpu.pageTokens(), dim};
  gpu.prepare();
  for (int layer = 0; layer < 2; ++layer) {
    const int keyLayer = cpu.ownsKeys(layer) ? layer : -1;
    const auto view = cpu.view(layer, keyLayer);
    const cuda::KvTables tables = gpu.tables(layer, keyLayer);
    for (int h = 0; h < kHeads; ++h) {
      const int held = cpu.slots(layer, h), pages = (held + shape.tokens - 1) / shape.tokens, first = h * tables.pageStride;
      EXPECT_EQ(gpu.slots(layer, h), held);
      for (const bool keys : {true, false}) {
        if (keys && keyLayer < 0) continue;
        const cpu::KvHead& head = view[static_cast<size_t>(h)];
        const auto addresses = fromDevice((keys ? tables.keys : tables.values) + first, static_cast<size_t>(pages));
        const PageForm* forms = keys ? head.keyForms : head.valueForms;
        for (int p = 0; p < pages; ++p) {
          const PageForm found = gpu.mayBeSealed() ? fromDevice(gpu.forms(layer, keys) + first + p, 1).front() : PageForm();
          expectSamePage(shape, forms ? forms[p] : PageForm(), (keys ? head.keys : head.values)[p], found, addresses[static_cast<size_t>(p)],
                         std::min(shape.tokens, held - p * shape.tokens), where + (keys ? " keys " : " values ") + std::to_string(p));
        }
      }
    }
    EXPECT_EQ(gpu.readBytes(layer, true, 1), cpu.readBytes(layer, true, 1));
  }
  EXPECT_EQ(gpu.allocatedBytes(), cpu.allocatedBytes());
  EXPECT_EQ(gpu.liveBytes(), cpu.liveBytes());
  EXPECT_EQ(gpu.unsealedBytes(), cpu.unsealedBytes());
  EXPECT_EQ(gpu.asFormatted(), cpu.asFormatted());
}
void expectSame(Caches& c, const std::string& where) {
  expectSame(c.cpu, c.gpu, c.dim, where);
  EXPECT_EQ(c.gpu.takeRegrouped(), c.cpu.takeRegrouped());
  EXPECT_EQ(c.device.bytes(MemoryTag::kv), c.gpu.allocatedBytes());
}

struct Shape {
  int context, headDim;
};

}  // namespace

TEST(sealed_pages_are_the_cpus_byte_for_byte) {
  for (const Shape& shape : {Shape{256, 8}, Shape{256, 24}, Shape{2048, 64}, Shape{256, 128}})
    for (const int bits : {8, 4, 3, 2})
      for (const bool perChannel : {false, true}) {
        Caches c(shape.context, shape.headDim, formatOf(bits, bits == 3 ? 16 : bits, perChannel, false, bits < 4 ? 0.04 : 0));
        c.feed(c.shape().tokens * 2 + 3);
        expectSame(c, std::to_string(bits) + " bits, dim " + std::to_string(shape.headDim) + (perChannel ? ", per channel" : ", per token"));
      }
}

TEST(pages_in_planes_are_the_cpus_byte_for_byte) {
  KvFormat format;
  format.aligned = 4;
  for (const Shape& shape : {Shape{256, 8}, Shape{256, 24}, Shape{2048, 64}}) {
    const std::string where = "dim " + std::to_string(shape.headDim);
    Caches c(shape.context, shape.headDim, {});
    c.feed(c.shape().tokens * 3 + 3);
    c.setFormat(format);
    expectSame(c, where);
    std::vector<int32_t> kept = range(0, 4);
    for (const int32_t slot : range(9, c.shape().tokens * 3 + 3)) kept.push_back(slot);
    for (int layer = 0; layer < 2; ++layer)
      for (int head = 0; head < kHeads; ++head) c.keep(layer, head, kept);
    c.settle();
    expectSame(c, where + ", after an eviction");
    c.feed(c.shape().tokens);
    c.setFormat(formatOf(8, 16));
    expectSame(c, where + ", keys in 8 bits");
    c.setFormat(format);
    expectSame(c, where + ", and beside planes");
    c.setFormat({});
    expectSame(c, where + ", in rows again");
  }
}

TEST(evictions_keep_the_same_codes_under_every_schedule) {
  underEverySchedule([&] {
    for (const bool perChannel : {false, true}) {
      Caches c(256, 16, formatOf(2, 4, perChannel, false, perChannel ? 0.05 : 0));
      std::mt19937 random(9);
      c.feed(75);
      for (int round = 0; round < 4; ++round) {
        for (int head = 0; head < kHeads; ++head) {
          std::vector<int32_t> half;
          for (int slot = 0; slot < c.cpu.slots(0, head); ++slot)
            if (random() % 3) half.push_back(slot);
          c.keep(0, head, half);
        }
        std::vector<int32_t> sinks = range(0, 4);
        for (const int32_t slot : range(7, c.cpu.slots(1, 0))) sinks.push_back(slot);
        c.keep(1, 0, sinks);
        c.settle();
        expectSame(c, "round " + std::to_string(round));
        c.feed(20);
        expectSame(c, "fed after round " + std::to_string(round));
      }
    }
  });
}

// What a policy reads: rows of sealed and open pages, what it left with the slots that stay.
TEST(rows_are_read_as_on_the_cpu) {
  for (const KvFormat& format : {formatOf(16, 16), formatOf(8, 4), formatOf(2, 3, true), formatOf(4, 8, false, true), formatOf({{16, 2}, {3, 8}}, true, 0.05)}) {
    Caches c(128, 64, format);
    for (KvCache* cache : {static_cast<KvCache*>(&c.cpu), static_cast<KvCache*>(&c.gpu)}) cache->observe(newestQueries(4));
    c.feed(70);
    c.gpu.readSums();
    const std::vector<int32_t> kept = {0, 3, 4, 5, 9, 20, 21, 22, 23, 30, 31, 32, 33, 34, 35, 40, 41, 55, 69};
    for (KvCache* cache : {static_cast<KvCache*>(&c.cpu), static_cast<KvCache*>(&c.gpu)}) {
      for (int layer = 0; layer < 2; ++layer)
        for (int head = 0; head < kHeads; ++head)
          for (int slot = 0; slot < 70; ++slot) cache->carried(layer, head)[static_cast<size_t>(slot)] = static_cast<float>(100 * layer + 1000 * head + slot);
      cache->keep(1, 0, kept);
      cache->writeSums();
      cache->settle();
    }
    c.feed(9);
    c.gpu.readSums();
    for (int layer = 0; layer < 2; ++layer) {
      c.gpu.fetchRows(layer, true, true);
      for (int head = 0; head < kHeads; ++head) {
        const auto slots = static_cast<size_t>(c.cpu.slots(layer, head));
        for (const bool keys : {true, false}) {
          std::vector<float> a(slots * 64), b(a.size(), -1.0f);
          c.cpu.readRows(layer, head, keys, a.data());
          c.gpu.readRows(layer, head, keys, b.data());
          EXPECT(a == b, layer, head, keys);
        }
        EXPECT_EQ(c.gpu.columnSums(layer, head).size(), slots);
        EXPECT(std::ranges::equal(c.gpu.columnSums(layer, head), c.cpu.columnSums(layer, head)), layer, head);
      }
    }
    EXPECT_EQ(c.gpu.columnSums(1, 0)[18], 169.0f);
    EXPECT_EQ(c.gpu.columnSums(1, 0)[19], 0.0f);  // came since
    c.gpu.settle();
    EXPECT_EQ(c.host.bytes(MemoryTag::activations), int64_t{0});
  }
}

TEST(formats_change_as_on_the_cpu) {
  Caches c(256, 32, formatOf(16, 16));
  c.feed(100);
  expectSame(c, "16 bits");
  for (const KvFormat& format : {formatOf(8, 16), formatOf(8, 4, true), formatOf(4, 4, true), formatOf(4, 8, true, true), formatOf(2, 2, false, true), formatOf(3, 2, false),
                                 formatOf({{8, 16}, {2, 2}}, false, 0.05), formatOf({{2, 4}, {2, 2}}, true, 0.1), formatOf(2, 2, true), formatOf(16, 16)}) {
    c.setFormat(format);
    const std::string where = std::to_string(format.keyBits) + "/" + std::to_string(format.valueBits) + (format.rotateKeys ? " rotated" : "");
    expectSame(c, where);
    c.feed(13);
    expectSame(c, where + ", fed");
  }
  // Sealed pages of a 16-bit cache that evicts open where slots move.
  for (int head = 0; head < kHeads; ++head) {
    std::vector<int32_t> kept = range(0, 20);
    for (const int32_t slot : range(50, c.fed)) kept.push_back(slot);
    c.keep(0, head, kept);
  }
  c.settle();
  expectSame(c, "evicted at 16 bits");
  c.cpu.clear();
  c.gpu.clear();
  c.fed = 0;
  EXPECT(!c.gpu.mayBeSealed());
  EXPECT_EQ(c.device.bytes(MemoryTag::kv), int64_t{0});
  c.feed(20);
  expectSame(c, "cleared");
}

TEST(forgotten_slots_open_the_newest_page) {
  for (const bool perChannel : {false, true}) {
    Caches c(256, 32, formatOf(4, 3, perChannel, false, 0.05));
    c.feed(100);
    c.cpu.truncate(37);
    c.gpu.truncate(37);
    c.fed = 37;
    expectSame(c, "truncated");
    c.feed(40);
    expectSame(c, "fed again");
    c.cpu.truncate(48);
    c.gpu.truncate(48);
    c.fed = 48;
    c.feed(1);
    expectSame(c, "at the end of a page");
  }
}

TEST(branches_read_sealed_pages_in_place) {
  for (const int tokens : {75, 64, 100}) {
    Caches c(256, 32, formatOf(4, 4, true, false, tokens == 64 ? 0 : 0.05));
    c.feed(100);
    const int64_t before = c.gpu.allocatedBytes();
    Caches branch(256, 32, formatOf(16, 16));
    branch.cpu.beginAs(c.cpu, tokens);
    branch.gpu.beginAs(c.gpu, tokens);
    branch.fed = tokens;
    expectSame(branch, "begun at " + std::to_string(tokens));
    branch.feed(40);
    expectSame(branch, "fed from " + std::to_string(tokens));
    expectSame(c, "the source");
    EXPECT_EQ(c.gpu.allocatedBytes(), before);
  }
}

// Unpacked for attention: the rows the CPU reads.
TEST(unpacked_pages_are_the_rows_of_their_slots) {
  for (const bool perChannel : {false, true}) {
    Caches c(256, 24, formatOf(3, 8, perChannel, false, perChannel ? 0.1 : 0));
    c.feed(70);
    c.gpu.prepare();
    underEverySchedule([&] {
      const int most = 128;
      const size_t pages = cuda::unpackedPages(kHeads, 16, most);
      DeviceArray<uint16_t> rows(pages * 16 * 24);
      DeviceArray<uint64_t> tables(pages);
      cuda::UnpackArgs args;
      args.kv = c.gpu.tables(1, 1);
      args.kvHeads = kHeads;
      args.headDim = 24;
      args.mostTokens = most;
      args.rows = rows.data();
      args.tables = tables.data();
      const cuda::KvTables read = cuda::unpackPages(nullptr, args);
      const auto view = c.cpu.view(1, 1);
      for (int h = 0; h < kHeads; ++h)
        for (int slot = 0; slot < 70; ++slot)
          for (const bool keys : {true, false}) {
            const cpu::KvHead& head = view[static_cast<size_t>(h)];
            const auto page = static_cast<size_t>(slot / 16);
            std::vector<uint16_t> expected(24);
            readSlot(c.shape(), {(keys ? head.keys : head.values)[page], (keys ? head.keyForms : head.valueForms) + page, slot % 16}, expected.data());
            const auto address = fromDevice((keys ? read.keys : read.values) + h * read.pageStride + slot / 16, 1).front();
            EXPECT(fromDevice(reinterpret_cast<const uint16_t*>(address) + slot % 16 * 24, 24) == expected, h, slot, keys);
          }
    });
  }
}

TEST(heads_are_rotated_as_on_the_cpu) {
  for (const int n : {8, 64, 128}) {
    std::vector<float> q(static_cast<size_t>(4 * n)), k(static_cast<size_t>(kHeads * n));
    fillNormal(q.data(), q.size(), 1);
    fillNormal(k.data(), k.size(), 2);
    const DeviceArray<float> dk(k);
    const DeviceArray<int32_t> positions(std::vector<int32_t>{0});
    underEverySchedule([&] {
      DeviceArray<float> dq(q);
      Ledger host, device;
      cuda::DeviceKvCache cache(host, device, modelOf(n), 64, nullptr);
      cache.reserve(1);
      cache.prepare();
      cuda::StoreArgs args;
      args.q = dq.data();
      args.k = const_cast<float*>(dk.data());
      args.v = dk.data();
      args.tokens = 1;
      args.heads = 4;
      args.kvHeads = kHeads;
      args.headDim = n;
      args.positionIds = positions.data();
      args.kv = cache.tables(0, 0);
      cuda::rotateAndStoreHadamard(nullptr, args);
      std::vector<float> turned = q;
      for (int h = 0; h < 4; ++h) rotateHadamard(turned.data() + h * n, n);
      EXPECT(dq.host() == turned, n);
      for (int h = 0; h < kHeads; ++h) {
        std::vector<float> key(k.begin() + h * n, k.begin() + (h + 1) * n);
        rotateHadamard(key.data(), n);
        const auto address = fromDevice(args.kv.keys + h * args.kv.pageStride, 1).front();
        const auto stored = fromDevice(reinterpret_cast<const uint16_t*>(address), static_cast<size_t>(n));
        for (int c = 0; c < n; ++c) EXPECT_EQ(uint16_t{stored[static_cast<size_t>(c)]}, floatToF16(key[static_cast<size_t>(c)]));
      }
    });
  }
}
