// SPDX-License-Identifier: GPL-3.0-or-later
// A prompt attends to keys and values in 16 bits whatever the cache is quantized to, however long it is: they are rounded at its end. What
// waits is in the plan and in the ledger; where there is no room for it the prompt is quantized as it comes, with the reason.
#include "tests/support/engine.h"
#include "tests/support/planned.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr SessionOptions kBatches{.context = 2048, .maxBatch = 256};

Settings with(Settings settings, const Settings& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}
const Settings kTwo = {{"kv.k_bits", "2"}, {"kv.v_bits", "2"}};

bool told(Session& session, std::string_view code) {
  return std::ranges::any_of(session.takeEvents(), [&](const EngineEvent& event) { return event.code == code; });
}

}  // namespace

TEST(a_long_prompt_is_read_unquantized) {
  const auto engine = openEngine(kRandom);
  const auto ids = someTokens(1300, engine->model().config().vocab);
  for (const Settings& beside : {Settings{}, Settings{{"kv.quantizer", "kivi"}, {"kv.rotate", "false"}}, Settings{{"kv.layers", "1:8"}, {"kv.outliers", "0.02"}},
                                 Settings{{"share.method", "cla"}, {"share.block", "2"}}, Settings{{"kv.policy", "h2o"}, {"kv.budget", "600"}},
                                 Settings{{"kv.policy", "streaming"}, {"kv.budget", "300"}}, Settings{{"kv.policy", "snapkv"}, {"kv.budget", "0.5"}, {"kv.quantizer", "kivi"}}}) {
    const char* name = beside.empty() ? "plain" : beside.front().second;
    Settings wide = beside;
    std::erase_if(wide, [](const auto& setting) { return std::string_view(setting.first) == "kv.layers" || std::string_view(setting.first) == "kv.outliers"; });
    const auto plain = makeSession(engine, configure(wide), kBatches), narrow = makeSession(engine, configure(with(beside, kTwo)), kBatches);
    EXPECT(logitsAfter(*plain, ids) == logitsAfter(*narrow, ids), name);
    EXPECT(narrow->cache().allocatedBytes < plain->cache().allocatedBytes / 2, name);
    EXPECT_EQ(bytes(narrow->memory(), MemoryTag::kv), narrow->cache().allocatedBytes);
    EXPECT(!told(*narrow, "kv.regrouped"), name);  // each page is rounded once
    ok(plain->step(5));
    ok(narrow->step(5));
    EXPECT(relativeError(plain->logits(), narrow->logits()) > 1e-4, name);
  }
}

// A second prompt meets the first as it was quantized, and is itself read in 16 bits.
TEST(an_earlier_prompt_stays_as_it_is) {
  const auto engine = openEngine(kRandom);
  const auto ids = someTokens(700, engine->model().config().vocab);
  for (const Settings& beside : {Settings{}, Settings{{"kv.policy", "streaming"}, {"kv.budget", "400"}, {"kv.interval", "16"}}}) {
    const auto small = makeSession(engine, configure(with(kTwo, beside)), {.context = 2048, .maxBatch = 100}), large = makeSession(engine, configure(with(kTwo, beside)), {.context = 2048, .maxBatch = 600});
    for (Session* session : {small.get(), large.get()}) {
      ok(session->prefill(std::span(ids).first(100), {}));
      EXPECT(session->cache().unsealedBytes < session->cache().allocatedBytes);
      ok(session->prefill(std::span(ids).subspan(100, beside.empty() ? 600 : 60), {}));
    }
    EXPECT(relativeError(small->logits(), large->logits()) < 1e-4, relativeError(small->logits(), large->logits()));
    EXPECT_EQ(small->cache().unsealedBytes, large->cache().unsealedBytes);
  }
}

TEST(what_waits_is_planned_and_counted) {
  const auto engine = openEngine(kRandom);
  for (const Settings& settings : {kTwo, with(kTwo, {{"kv.policy", "h2o"}, {"kv.budget", "400"}}), Settings{}}) {
    int64_t planned = 0, most = 0;
    value(engine->plan(configure(settings), kBatches, 1301, &planned));
    const auto session = makeSession(engine, configure(settings), kBatches);
    ok(session->prefill(someTokens(1300, session->vocab()), {}, [&](int, int, const float*) { most = std::max(most, bytes(session->memory(), MemoryTag::kv)); }));
    expectAsPlanned(planned, most, settings.size());
  }
}

TEST(a_prompt_without_room_is_quantized_as_it_comes) {
  const auto engine = openEngine(kRandom);
  SessionOptions tight = kBatches;
  tight.promptCacheBytes = 100000;
  const auto ids = someTokens(1300, engine->model().config().vocab);
  const auto session = makeSession(engine, configure(kTwo), tight), wide = makeSession(engine, configure(kTwo), kBatches);
  int64_t planned = 0, most = 0;
  value(engine->plan(configure(kTwo), tight, 1301, &planned));
  ok(session->prefill(ids, {}, [&](int, int, const float*) { most = std::max(most, bytes(session->memory(), MemoryTag::kv)); }));
  expectAsPlanned(planned, most);
  EXPECT(told(*session, "kv.sealed_early"));
  ok(wide->prefill(ids, {}));
  EXPECT(!told(*wide, "kv.sealed_early"));
  EXPECT(relativeError(wide->logits(), session->logits()) > 1e-4);
  ok(session->prefill(std::span(ids).first(100), {}));  // one batch waits for nothing
  EXPECT(!told(*session, "kv.sealed_early"));
}

// Whatever is shared: what a prompt takes is foreseen, in the plan and where it is told for want of room, and it waits where that is exactly there.
TEST(what_waits_is_foreseen_for_every_way_of_sharing) {
  const auto engine = openEngine(kRandom);
  const auto ids = someTokens(1300, engine->model().config().vocab);
  const Settings window = {{"kv.policy", "streaming"}, {"kv.budget", "300"}};
  for (const Settings& sharing : {Settings{}, Settings{{"share.block", "2"}}, Settings{{"share.method", "cla"}, {"share.block", "2"}}, with({{"share.method", "mix"}, {"share.block", "1"}}, window),
                                  with({{"share.method", "mix"}, {"share.block", "2"}, {"share.full", "1"}}, window), with({{"share.method", "cla"}, {"share.block", "2"}}, window)}) {
    const Config config = configure(with(sharing, kTwo));
    const char* name = sharing.empty() ? "none" : sharing[0].second;
    SessionOptions tight = kBatches;
    int64_t most = 0, foreseen = 0;
    const auto check = [&](bool waits) {
      int64_t planned = 0;
      value(engine->plan(config, tight, 1301, &planned));
      const auto session = makeSession(engine, config, tight);
      most = 0;
      ok(session->prefill(ids, {}, [&](int, int, const float*) { most = std::max(most, bytes(session->memory(), MemoryTag::kv)); }));
      expectAsPlanned(planned, most, name, sharing.size(), waits);
      bool early = false;
      for (const EngineEvent& event : session->takeEvents()) {
        long long count = 0;
        if (event.code == "kv.sealed_early" && std::sscanf(event.text.c_str(), "The keys and values of a prompt of 1300 tokens take %lld", &count) == 1) early = true, foreseen = count;
      }
      EXPECT_EQ(early, !waits);
    };
    tight.promptCacheBytes = 1;
    check(false);
    tight.promptCacheBytes = foreseen - 1;
    check(false);
    tight.promptCacheBytes = foreseen;
    check(true);
    // Pages alone were foreseen; the most that was in use is counted with those.
    expectAsPlanned(foreseen, most, name, sharing.size());
  }
}

// What was read of a prompt that is given up is quantized like any text.
TEST(a_cancelled_prompt_leaves_no_page_waiting) {
  const auto engine = openEngine(kRandom);
  const auto session = makeSession(engine, configure(kTwo), kBatches);
  std::stop_source stop;
  Progress progress;
  progress.stop = stop.get_token();
  progress.report = [&](double fraction, std::string_view) {
    if (fraction > 0.5) stop.request_stop();
  };
  EXPECT(!session->prefill(someTokens(1300, session->vocab()), progress).ok());
  EXPECT_EQ(session->position(), int64_t{768});
  const auto whole = makeSession(engine, configure(kTwo), kBatches);
  ok(whole->prefill(someTokens(768, session->vocab()), {}));
  EXPECT_EQ(session->cache().unsealedBytes, whole->cache().unsealedBytes);
  EXPECT_EQ(session->cache().allocatedBytes, whole->cache().allocatedBytes);
}
