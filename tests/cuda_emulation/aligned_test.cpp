// SPDX-License-Identifier: GPL-3.0-or-later
// Pages in bit planes on the (emulated) device: the CPU's bytes, and one query reads of them what the CPU reads.
#include "engine/core/dtype.h"
#include "engine/cpu/context.h"
#include "tests/cuda_emulation/caches.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr int kQueryHeads = 4;

KvFormat aligned(int step) {
  KvFormat format;
  format.aligned = step;
  return format;
}

struct Read {
  std::vector<float> out;
  int64_t unread = 0;
};

struct Asked {
  std::vector<float> q, weights;  // weights [kQueryHeads, slots]; empty: q asks
};

Read onCpu(Caches& c, const Asked& asked, int step) {
  cpu::Context context(c.pool, cpu::availableIsas().front());
  Read read{std::vector<float>(asked.q.size()), 0};
  cpu::AttendArgs args;
  args.heads = kQueryHeads;
  args.kvHeads = kHeads;
  args.headDim = c.dim;
  args.queries = 1;
  args.pageTokens = c.cpu.pageTokens();
  args.q = asked.q.data();
  args.qStride = args.outStride = kQueryHeads * c.dim;
  args.kv = c.cpu.view(0, 0).data();
  args.scale = 0.1f;
  args.out = read.out.data();
  args.reuse = asked.weights.empty() ? nullptr : asked.weights.data();
  args.probabilityStride = c.cpu.slots(0, 0);
  args.aligned = step;
  args.unread = &read.unread;
  cpu::attend(context, args);
  return read;
}

Read onDevice(Caches& c, const Asked& asked, int step) {
  c.gpu.prepare();
  const int held = c.gpu.mostSlots(), chunks = c.gpu.unreadStride();
  const DeviceArray<float> q(asked.q), weights(asked.weights.empty() ? std::vector<float>(1) : asked.weights);
  const DeviceArray<uint32_t> tickets(std::vector<uint32_t>(static_cast<size_t>(kQueryHeads)));
  DeviceArray<float> out(asked.q.size()), partial(cuda::decodeScratchFloats(kQueryHeads, c.dim, held));
  DeviceArray<int32_t> unread(std::vector<int32_t>(static_cast<size_t>(kHeads * chunks)));
  cuda::AttendArgs args;
  args.heads = kQueryHeads;
  args.kvHeads = kHeads;
  args.headDim = c.dim;
  args.kv = c.gpu.tables(0, asked.weights.empty() ? 0 : -1);
  args.mostTokens = held;
  args.scale = 0.1f;
  args.q = asked.weights.empty() ? q.data() : nullptr;
  args.reuse = asked.weights.empty() ? nullptr : weights.data();
  args.probabilityStride = held;
  args.out = out.data();
  args.partial = partial.data();
  args.tickets = tickets.data();
  args.aligned = step;
  args.unread = unread.data();
  args.unreadStride = chunks;
  cuda::attendDecode(nullptr, args);
  Read read{out.host(), 0};
  for (const int32_t bytes : unread.host()) read.unread += bytes;
  return read;
}

Asked ask(const Caches& c, bool weighs) {
  std::mt19937 random(6);
  std::normal_distribution<float> normal;
  Asked asked;
  for (int i = 0; i < kQueryHeads * c.dim; ++i) asked.q.push_back(std::ldexp(normal(random), -static_cast<int>(random() % 12)));
  for (int i = 0; weighs && i < kQueryHeads * c.gpu.mostSlots(); ++i) asked.weights.push_back(std::ldexp(1.25f, -static_cast<int>(random() % 24) - 3));
  return asked;
}

}  // namespace

// Chunks of the device are half as long as the CPU's: up to 128 slots both decide alike.
TEST(a_query_reads_the_bits_that_the_cpu_reads) {
  for (const auto& [context, dim, tokens] : {std::tuple{256, 8, 90}, std::tuple{256, 24, 70}, std::tuple{2048, 64, 128}, std::tuple{256, 128, 100}}) {
    Caches c(context, dim, aligned(4));
    c.feed(tokens);
    for (const bool weighs : {true, false}) {
      const Asked asked = ask(c, weighs);
      const Read host = onCpu(c, asked, 4), device = onDevice(c, asked, 4), whole = onDevice(c, asked, 64);
      float most = 0;
      for (const float x : host.out) most = std::max(most, std::fabs(x));
      for (size_t i = 0; i < host.out.size(); ++i) EXPECT_NEAR(device.out[i], host.out[i], 1e-3 * most);
      // Weights that are computed may lie on either side of a binade: a slot's values are then read otherwise, on one of the two.
      EXPECT(host.unread > 0 && std::abs(device.unread - host.unread) <= (weighs ? 0 : 2 * dim), dim, device.unread, host.unread);
      EXPECT(device.out != whole.out, dim);
      EXPECT_EQ(whole.unread, int64_t{0});
    }
  }
}

TEST(what_is_left_unread_does_not_depend_on_the_schedule) {
  Caches c(2048, 64, aligned(4));
  c.feed(300);
  const Asked asked = ask(c, false);
  const Read expected = onDevice(c, asked, 4);
  EXPECT(expected.unread > 0);
  underEverySchedule([&] {
    const Read again = onDevice(c, asked, 4);
    EXPECT(again.out == expected.out && again.unread == expected.unread);
  });
}
