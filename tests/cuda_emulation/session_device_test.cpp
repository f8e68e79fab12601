// SPDX-License-Identifier: GPL-3.0-or-later
// Memory, times, taps and failures of a device under a session.
#include <map>

#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

namespace {

class Probabilities final : public AttentionTap {
 public:
  void take(int layer, const AttentionRows& rows) override {
    for (int h = 0; h < rows.heads; ++h)
      for (int q = 0; q < rows.queries; ++q)
        for (int c = 0; c < rows.columns; ++c)
          seen[{layer, h, rows.first + q, c}] = rows.probabilities[(int64_t{h} * rows.queries + q) * rows.stride + c];
  }
  std::map<std::array<int64_t, 4>, float> seen;
};

}  // namespace

TEST(the_ledger_counts_what_the_device_holds) {
  const size_t before = emulator::allocatedBytes();
  {
    const auto engine = engineOn("cuda", openFamily("mistral"));
    SessionOptions options;
    options.context = 64;
    options.maxBatch = 8;
    const Config config = configure({{"weights.bits", "4"}, {"kv.policy", "h2o"}, {"kv.budget", "16"}});
    const auto session = value(engine->createSession(config, options, {}));
    ok(session->prefill(someTokens(40, 64), {}));
    ok(session->step(1));
    const MemoryByTag memory = session->memory();
    EXPECT_EQ(bytes(memory, MemoryTag::kv), session->cache().allocatedBytes);
    EXPECT_EQ(bytes(memory, MemoryTag::weightsMapped), int64_t{0});
    EXPECT_EQ(engine->ledger().bytes(MemoryTag::kv), bytes(memory, MemoryTag::kv));
    // What the engine counts beyond the device is what the host mirrors: positions, tables, sums, the logits.
    const auto device = static_cast<int64_t>(emulator::allocatedBytes() - before);
    EXPECT(device <= engine->ledger().total());
    const DeviceMemory counted = engine->deviceMemory().value();
    EXPECT_EQ(device, counted.countedBytes);
    // A second session shares the weights.
    const int64_t weights = engine->ledger().bytes(MemoryTag::weights);
    const auto second = value(engine->createSession(config, options, {}));
    EXPECT_EQ(engine->ledger().bytes(MemoryTag::weights), weights);
  }
  EXPECT_EQ(emulator::allocatedBytes(), before);
}

TEST(a_plan_is_what_a_run_uses) {
  const auto engine = engineOn("cuda", openFamily("llama3"));
  SessionOptions options;
  options.context = 96;
  options.maxBatch = 8;
  for (const Settings& settings : {Settings{}, Settings{{"weights.bits", "4"}, {"kv.policy", "h2o"}, {"kv.budget", "16"}},
                                   Settings{{"kv.policy", "snapkv"}, {"kv.budget", "16"}}, Settings{{"kv.policy", "tova"}, {"kv.budget", "16"}},
                                   Settings{{"kv.k_bits", "4"}, {"kv.v_bits", "2"}}, Settings{{"kv.k_bits", "2"}, {"kv.quantizer", "kivi"}, {"kv.rotate", "true"}},
                                   Settings{{"kv.k_bits", "8"}, {"kv.v_bits", "8"}, {"kv.policy", "snapkv"}, {"kv.budget", "24"}}, Settings{{"kv.policy", "quest"}, {"kv.budget", "20"}},
                                   Settings{{"kv.policy", "streaming"}, {"kv.budget", "24"}, {"kv.positions", "cache"}, {"kv.k_bits", "8"}},
                                   Settings{{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}}) {
    const MemoryByTag planned = value(engine->plan(configure(settings), options, 41));
    const auto session = value(engine->createSession(configure(settings), options, {}));
    ok(session->prefill(someTokens(40, 64), {}));
    ok(session->step(1));
    const MemoryByTag used = session->memory();
    // Lists of kept slots, which an eviction makes, are not planned.
    for (size_t tag = 0; tag < used.size(); ++tag) {
      const int64_t most = static_cast<MemoryTag>(tag) == MemoryTag::metadata ? 4096 : 0;
      EXPECT(used[tag] >= planned[tag] && used[tag] - planned[tag] <= most, memoryTagName(static_cast<MemoryTag>(tag)), planned[tag], used[tag]);
    }
  }
}

TEST(what_does_not_fit_is_refused_with_figures_before_anything_is_taken) {
  const auto engine = engineOn("cuda", openFamily("llama3"));
  SessionOptions options;
  options.context = 64;
  const size_t before = emulator::allocatedBytes(), limit = emulator::memoryLimit();
  emulator::limitMemory(before + (64 << 10));
  const auto refused = engine->createSession(Config(), options, {});
  EXPECT(!refused && refused.error().code == ErrorCode::resources);
  EXPECT(refused.error().message.find("a cache of 64 tokens") != std::string::npos, refused.error().message);
  EXPECT(refused.error().message.find("MiB are free") != std::string::npos || refused.error().message.find("are free") != std::string::npos);
  EXPECT_EQ(emulator::allocatedBytes(), before);
  emulator::limitMemory(limit);
}

TEST(a_full_device_ends_the_run_and_keeps_its_tokens) {
  Both both("llama3");
  both.prompt(14);
  both.steps(1);
  const size_t limit = emulator::memoryLimit();
  emulator::limitMemory(emulator::allocatedBytes());  // not one page more
  ok(both.gpu->step(1));
  const Status full = both.gpu->step(2);
  EXPECT(!full && full.error().code == ErrorCode::resources, both.gpu->position());
  EXPECT_EQ(both.gpu->position(), int64_t{16});
  emulator::limitMemory(limit);
  ok(both.gpu->step(2));
  for (const int32_t id : {1, 2}) ok(both.cpu->step(id));
  EXPECT(distance(both.cpu->logits(), both.gpu->logits()) <= kBound);
}

TEST(a_device_lost_in_mid_run_fails_the_run_with_its_sentence) {
  Both both("qwen2");
  both.prompt(9);
  emulator::failFromNow(true);
  const Status lost = both.gpu->step(1);
  EXPECT(!lost && lost.error().code == ErrorCode::failed);
  EXPECT(lost.error().message.find("The GPU failed") != std::string::npos && lost.error().message.find("token 9") != std::string::npos, lost.error().message);
  EXPECT_EQ(both.gpu->position(), int64_t{9});
  const Status prompt = both.gpu->prefill(std::vector<int32_t>{1, 2, 3}, {});
  EXPECT(!prompt && prompt.error().code == ErrorCode::failed);
  both.gpu->adopt();
  emulator::failFromNow(false);
  ok(both.gpu->step(1));
  ok(both.cpu->step(1));
  EXPECT(distance(both.cpu->logits(), both.gpu->logits()) <= kBound);
}

TEST(timed_ops_change_no_bit_and_cover_the_plan) {
  Both both("qwen3");
  both.prompt(6);
  const auto plain = engineOn("cuda", openFamily("qwen3"));
  SessionOptions options;
  options.context = 64;
  options.maxBatch = 12;
  const auto silent = value(plain->createSession(Config(), options, {}));
  ok(silent->prefill(both.gpu->tokens(), {}));
  both.gpu->observeOps(true);
  both.cpu->observeOps(true);
  for (const int32_t id : {3, 4}) {
    ok(both.gpu->step(id));
    ok(both.cpu->step(id));
    ok(silent->step(id));
    EXPECT(std::ranges::equal(both.gpu->logits(), silent->logits()));
    const auto times = both.gpu->opTimes(), host = both.cpu->opTimes();
    EXPECT_EQ(times.size(), both.gpu->plan().ops.size());
    int64_t total = 0;
    for (size_t i = 0; i < times.size(); ++i) {
      EXPECT(times[i].ns >= 0 && times[i].bytes == host[i].bytes && times[i].flops == host[i].flops, i);
      total += times[i].ns;
    }
    EXPECT(total > 0);
  }
  ok(both.gpu->prefill(both.next(5), {}));
  EXPECT_EQ(both.gpu->opTimes().size(), both.gpu->plan().ops.size());
}

TEST(a_tap_sees_the_probabilities_the_cpu_sees) {
  for (const Settings& settings : {Settings{}, Settings{{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}}) {
    Both both("llama3", settings);
    Probabilities host, device;
    both.cpu->observeAttention(&host);
    both.gpu->observeAttention(&device);
    both.prompt(14);
    both.steps(2);
    EXPECT_EQ(host.seen.size(), device.seen.size());
    for (const auto& [key, p] : host.seen) EXPECT_NEAR(device.seen[key], p, kBound);
  }
}
