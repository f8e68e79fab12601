// SPDX-License-Identifier: GPL-3.0-or-later
// A stream without end in a cache of a fixed budget: nothing grows but the list of its tokens.
#include "engine/cache/registry.h"
#include "tests/support/engine.h"
#include "tests/support/resident.h"
#include "tests/support/shapes.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::shared_ptr<Engine> smallEngine() {
  const std::string path = (scratch() / "streaming.gguf").string();
  NamedShape shape = tinyShape("0.1b");
  if (!std::filesystem::exists(path)) ok(synthesize(shape, "f32", 1, path, {}));
  return value(Engine::create(value(Model::open(path)), {.device = "cpu", .threads = 1}));
}

// Everything a session holds, at the same place between two evictions and two pages.
struct Held {
  CacheStats cache;
  MemoryByTag memory{};
  size_t positions = 0;
};

Held heldBy(const Session& session) {
  Held held{session.cache(), session.memory(), 0};
  for (const HeadPositions& head : session.occupancy()) held.positions += head.positions.size();
  return held;
}

void sameAs(const Held& first, const Held& now, const std::string& where) {
  EXPECT_EQ(now.cache.allocatedBytes, first.cache.allocatedBytes);
  EXPECT_EQ(now.cache.liveBytes, first.cache.liveBytes);
  EXPECT_EQ(now.cache.liveTokens, first.cache.liveTokens);
  EXPECT_EQ(now.positions, first.positions);
  for (size_t tag = 0; tag < now.memory.size(); ++tag)
    EXPECT(now.memory[tag] == first.memory[tag], where, memoryTagName(static_cast<MemoryTag>(tag)), now.memory[tag], first.memory[tag]);
}

}  // namespace

TEST(a_stream_of_100000_tokens_runs_in_flat_memory) {
  constexpr int kPrompt = 4000, kEvery = 9600, kTokens = kPrompt + (kOwnMemory ? 10 : 3) * kEvery;  // a sanitizer takes its time
  const auto engine = smallEngine();
  SessionOptions options;
  options.context = kTokens;
  const auto session = makeSession(engine, configure({{"kv.budget", "1024"}}), options);
  ok(session->prefill(someTokens(kPrompt, 512), {}));
  const auto stream = [&] {
    for (int i = 0; i < kEvery; ++i) ok(session->step(best(session->logits())));
  };
  stream();
  const Held first = heldBy(*session);
  const int64_t before = residentBytes();
  EXPECT_EQ(first.cache.liveTokens, int64_t{1024});
  while (session->position() < kTokens) {
    stream();
    sameAs(first, heldBy(*session), std::to_string(session->position()));
  }
  // The text itself is kept, to recompute the cache from: 4 bytes a token, of a list that doubles. Nobody reads the events.
  const int64_t grown = residentBytes() - before;
  std::printf("  %d tokens: %lld bytes of cache, the process grew by %lld\n", kTokens, static_cast<long long>(first.cache.allocatedBytes), static_cast<long long>(grown));
  if (kOwnMemory && before > 0) EXPECT(grown < 3 * int64_t{kTokens} * 4 + (1 << 18), grown);
  EXPECT(session->takeEvents().size() < 8);
}

TEST(every_policy_streams_in_flat_memory) {
  const auto engine = smallEngine();
  for (const KvPolicyInfo& info : kvPolicies()) {
    if (info.name == "full" || info.selects || info.once) continue;
    for (const char* bits : {"16", "4"}) {
      if (bits[0] == '4' && info.reads.rows()) continue;  // sealed pages are the cache's affair, once is enough
      SessionOptions options;
      options.context = 4096;
      const auto session = makeSession(engine, configure({{"kv.policy", info.name.c_str()}, {"kv.budget", "128"}, {"kv.k_bits", bits}, {"kv.v_bits", bits}}), options);
      ok(session->prefill(someTokens(513, 512), {}));
      const auto until = [&](int64_t position) {
        while (session->position() < position) ok(session->step(best(session->logits())));
      };
      until(1024);
      const Held first = heldBy(*session);
      // Taps: the queries it declares, and a sum and a position for each slot that was ever held at once, a batch of the prompt included.
      const ModelConfig& model = engine->model().config();
      const int64_t slots = (128 + options.maxBatch + 16 + 255) / 256 * 256, sums = info.observes.any() ? slots : 0;
      const int64_t bound = model.layers * 4 * (int64_t{info.observes.newest} * model.qRows() + model.kvHeads * (sums + slots));
      EXPECT(bytes(first.memory, MemoryTag::metadata) <= bound, info.name, bytes(first.memory, MemoryTag::metadata), bound);
      for (const int64_t position : {1536, 2048}) {
        until(position);
        // Heads that share a budget trade slots: as many in all, in a page more or less of each.
        const Held now = heldBy(*session);
        EXPECT_EQ(now.cache.liveTokens, first.cache.liveTokens);
        EXPECT_EQ(now.positions, first.positions);
        if (info.allocation == KvAllocation::adaptive) {
          EXPECT_NEAR(static_cast<double>(now.cache.allocatedBytes), static_cast<double>(first.cache.allocatedBytes), 0.3 * static_cast<double>(first.cache.allocatedBytes));
        } else {
          sameAs(first, now, info.name + " " + bits + " bits, token " + std::to_string(position));
        }
      }
    }
  }
}
