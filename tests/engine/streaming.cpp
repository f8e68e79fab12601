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

// A quarter of the tokens, in three quarters fewer bytes from 4096 tokens on: pages of 64 slots, of which a head wastes less than one, and
// a share keeps growing with the text.
TEST(a_quarter_of_the_tokens_frees_three_quarters_of_the_cache) {
  const auto engine = smallEngine();
  SessionOptions options;
  options.context = 6208;
  const auto bytesAt = [&](Session& session, int64_t position) {
    while (session.position() < position) ok(session.step(static_cast<int32_t>(session.position() * 7 % 512)));
    session.applyPolicyNow();
    return static_cast<double>(session.cache().allocatedBytes);
  };
  const auto whole = makeSession(engine, Config(), options);
  ok(whole->prefill(someTokens(4096, 512), {}));
  const double all = bytesAt(*whole, 4096), later = bytesAt(*whole, 6144);
  for (const KvPolicyInfo& info : kvPolicies()) {
    if (info.name == "full" || info.selects) continue;
    for (const char* allocation : {"even", "pyramid", "adaptive"}) {
      const auto session = makeSession(engine, configure({{"kv.policy", info.name.c_str()}, {"kv.budget", "0.25"}, {"kv.allocation", allocation}}), options);
      ok(session->prefill(someTokens(4096, 512), {}));
      const double freed = 1 - bytesAt(*session, 4096) / all;
      int64_t kept = 0;
      const auto heads = session->occupancy();
      for (const HeadPositions& head : heads) {
        if (std::string_view(allocation) == "even") EXPECT(head.positions.size() == 1024, info.name, head.layer, head.kvHead, head.positions.size());
        kept += static_cast<int64_t>(head.positions.size());
      }
      const std::string what = info.name + " " + allocation;
      EXPECT_NEAR(static_cast<double>(kept), 1024.0 * static_cast<double>(heads.size()), static_cast<double>(heads.size()));  // rounded for each head
      // Heads of other lengths waste up to a page of 64 each, and the newest page is there before it is needed: 2 of 64 pages.
      EXPECT(freed > 0.75 - 2.0 / 64 && freed < 0.75 + 1e-9, what, freed);
      if (info.once) continue;  // what is generated stays
      const double then = 1 - bytesAt(*session, 6144) / later;
      EXPECT(then > 0.75 - 2.0 / 96 && then < 0.75 + 1e-9, what, then);
    }
  }
}
