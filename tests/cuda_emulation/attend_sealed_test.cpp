// SPDX-License-Identifier: GPL-3.0-or-later
// One query over sealed pages as they lie gives the bits that it gives over the same pages unpacked.
#include "engine/core/dtype.h"
#include "tests/cuda_emulation/caches.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr int kQueryHeads = 4;

enum class Asks { out, probabilities, sums, reuse };

struct Attended {
  std::vector<float> out, probabilities, sums;
  bool operator==(const Attended&) const = default;
};

struct Query {
  const Caches& c;
  int layer, keyLayer, window;
  std::vector<float> q;

  Query(const Caches& caches, int of, int keysOf, int slidingWindow = 0)
      : c(caches), layer(of), keyLayer(keysOf), window(slidingWindow), q(static_cast<size_t>(kQueryHeads * c.dim)) {
    fillNormal(q.data(), q.size(), 3);
  }
  // Sealed pages as they lie, or the f16 rows of them.
  Attended attend(Asks asks, bool unpack) const {
    const int most = c.gpu.mostSlots(), stride = most + 3;
    cuda::UnpackArgs unpackArgs;
    unpackArgs.kv = c.gpu.tables(layer, asks == Asks::reuse ? -1 : keyLayer);
    unpackArgs.kvHeads = kHeads;
    unpackArgs.headDim = c.dim;
    unpackArgs.mostTokens = most;
    const size_t pages = cuda::unpackedPages(kHeads, c.gpu.pageTokens(), most);
    DeviceArray<uint16_t> rows(pages * static_cast<size_t>(c.gpu.pageTokens() * c.dim));
    DeviceArray<uint64_t> tables(pages);
    unpackArgs.rows = rows.data();
    unpackArgs.tables = tables.data();
    std::vector<float> weights(static_cast<size_t>(kQueryHeads * stride));
    fillNormal(weights.data(), weights.size(), 4);
    const DeviceArray<float> dq(q), given(weights);
    DeviceArray<float> out(q.size()), probabilities(weights.size()), sums(std::vector<float>(static_cast<size_t>(kHeads * stride))),
        partial(cuda::decodeScratchFloats(kQueryHeads, c.dim, most));
    const DeviceArray<uint32_t> tickets(std::vector<uint32_t>(static_cast<size_t>(kQueryHeads)));
    cuda::AttendArgs args;
    args.heads = kQueryHeads;
    args.kvHeads = kHeads;
    args.headDim = c.dim;
    args.kv = unpack ? cuda::unpackPages(nullptr, unpackArgs) : unpackArgs.kv;
    args.mostTokens = most;
    args.scale = static_cast<float>(1 / std::sqrt(c.dim));
    args.slidingWindow = window;
    if (c.gpu.format().aligned > 0) args.aligned = 1 << 16;
    args.out = out.data();
    args.partial = partial.data();
    args.tickets = tickets.data();
    args.probabilityStride = args.columnStride = stride;
    if (asks == Asks::reuse)
      args.reuse = given.data();
    else
      args.q = dq.data();
    if (asks == Asks::probabilities || asks == Asks::sums) args.probabilities = probabilities.data();
    if (asks == Asks::sums) args.columnSums = sums.data();
    cuda::attendDecode(nullptr, args);
    return {out.host(), args.probabilities ? probabilities.host() : std::vector<float>(), sums.host()};
  }
};

void expectSameBits(const Query& query, const std::string& where) {
  EXPECT(query.c.gpu.mayBeSealed() && query.c.gpu.unsealedBytes() < query.c.gpu.allocatedBytes(), where);
  for (const Asks asks : {Asks::out, Asks::probabilities, Asks::sums, Asks::reuse}) {
    const Attended expected = query.attend(asks, true);
    float largest = 0;
    for (const float x : expected.out) largest = std::max(largest, std::fabs(x));
    EXPECT(largest > 0.01f, where);
    EXPECT(query.attend(asks, false) == expected, where, static_cast<int>(asks));
  }
}

struct Shape {
  int context, headDim, tokens;
};

}  // namespace

TEST(eight_values_of_a_sealed_row_are_the_page_formats) {
  for (const Shape& shape : {Shape{256, 8, 35}, Shape{256, 24, 35}, Shape{2048, 64, 131}, Shape{256, 128, 150}})
    for (const int bits : {8, 4, 3, 2})
      for (const bool perChannel : {false, true}) {
        Caches c(shape.context, shape.headDim, formatOf(bits, bits, perChannel, false, bits < 4 ? 0.04 : 0));
        c.feed(shape.tokens);
        c.gpu.prepare();
        expectSameBits(Query(c, 1, 1), std::to_string(bits) + " bits, dim " + std::to_string(shape.headDim) + (perChannel ? ", per channel" : ", per token"));
      }
}

// Keys and values of different bits, one side 16, rotated, pages of another format beside those of the present one, several sets.
TEST(pages_of_every_form_lie_side_by_side) {
  Caches c(256, 32, formatOf(8, 16));
  c.feed(40);
  for (const KvFormat& format : {formatOf(8, 4, true), formatOf(3, 16, false), formatOf(3, 2, true, true), formatOf(16, 2), formatOf({{2, 4}, {8, 8}}, true, 0.1)}) {
    c.setFormat(format);
    c.feed(33);
    c.gpu.prepare();
    const std::string where = std::to_string(format.keyBits) + "/" + std::to_string(format.valueBits);
    expectSameBits(Query(c, 0, 0), where);
    expectSameBits(Query(c, 0, 0, 20), where + ", a window");
  }
}

TEST(planes_are_read_whole_where_nothing_says_otherwise) {
  for (const Shape& shape : {Shape{256, 8, 35}, Shape{256, 24, 35}, Shape{2048, 64, 131}, Shape{256, 128, 150}}) {
    KvFormat format = formatOf({{16, 16}, {8, 16}}, true, 0);
    format.aligned = 4;
    Caches c(shape.context, shape.headDim, format);
    c.feed(shape.tokens);
    c.gpu.prepare();
    for (const int layer : {0, 1}) expectSameBits(Query(c, layer, layer), "layer " + std::to_string(layer) + ", dim " + std::to_string(shape.headDim));
  }
}

TEST(pages_left_by_an_eviction_and_keys_of_a_leader) {
  underEverySchedule([&] {
    Caches c(256, 32, formatOf(4, 2, true, false, 0.05));
    std::mt19937 random(3);
    c.feed(150);
    for (int layer = 0; layer < 2; ++layer) {  // a follower holds the slots of its leader
      random.seed(3);
      for (int head = 0; head < kHeads; ++head) {
        std::vector<int32_t> kept;
        for (int slot = 0; slot < 150; ++slot)
          if (random() % 8 || slot == 149) kept.push_back(slot);
        c.keep(layer, head, kept);
      }
    }
    c.settle();
    c.gpu.prepare();
    expectSameBits(Query(c, 0, 0), "evicted");
    expectSameBits(Query(c, 1, 0), "keys of layer 0");
  });
}
