// SPDX-License-Identifier: GPL-3.0-or-later
// Live behaviour: what a change does, when, and what a session says about it.
#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>

#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

const Config kShared = configure({{"share.block", "2"}, {"share.first", "1"}, {"share.last", "1"}});

std::vector<EngineEvent> only(std::vector<EngineEvent> events, EngineEvent::Kind kind) {
  std::erase_if(events, [&](const EngineEvent& e) { return e.kind != kind; });
  return events;
}

const Adjustment* adjustment(const Effective& effective, std::string_view knob) {
  for (const Adjustment& a : effective.adjustments)
    if (a.knob == knob) return &a;
  return nullptr;
}

}  // namespace

TEST(a_cache_knob_acts_at_the_next_token_and_begins_an_epoch) {
  const auto engine = openEngine(kStories);
  const auto session = makeSession(engine);
  ok(session->prefill(someTokens(60, 512), {}));
  session->request(configure({{"kv.policy", "window"}, {"kv.budget", "20"}, {"kv.interval", "1"}}), "sweep");
  EXPECT_EQ(session->effective()->config.text("kv.policy"), std::string("full"));
  ok(session->step(5));
  EXPECT_EQ(session->effective()->config.text("kv.policy"), std::string("window"));
  EXPECT_EQ(session->cache().liveTokens, int64_t{20});
  EXPECT_EQ(session->cache().evictedTokens, int64_t{41});
  const auto events = session->takeEvents();
  const auto epochs = only(events, EngineEvent::Kind::epoch), evicted = only(events, EngineEvent::Kind::evicted);
  EXPECT_EQ(epochs.size(), size_t{1});
  EXPECT_EQ(epochs[0].token, int64_t{60});
  EXPECT_EQ(epochs[0].cause, std::string("sweep"));
  EXPECT_EQ(epochs[0].changes.size(), size_t{3});
  EXPECT_EQ(toText(epochs[0].changes[0].requested), std::string("1"));  // kv.budget, old
  EXPECT_EQ(toText(epochs[0].changes[0].effective), std::string("20"));
  EXPECT_EQ(evicted.size(), size_t{1});
  EXPECT(session->takeEvents().empty());
}

TEST(weights_act_when_they_are_ready) {
  const auto engine = openEngine(kRandom);
  const auto session = makeSession(engine);
  ok(session->prefill(someTokens(20, engine->model().config().vocab), {}));
  const MemoryByTag before = session->memory();
  session->request(configure({{"weights.bits", "4"}}));
  EXPECT(session->pending());
  int steps = 0;
  while (session->pending()) {
    EXPECT_EQ(session->effective()->config.integer("weights.bits"), int64_t{16});
    EXPECT_EQ(session->effective()->requested.integer("weights.bits"), steps > 0 ? int64_t{4} : int64_t{16});
    ok(session->step(3));
    std::this_thread::sleep_for(std::chrono::milliseconds(150));  // a loaded machine has to run the converter too
    if (++steps > 200) throw std::runtime_error("the weights never came");
  }
  EXPECT_EQ(session->effective()->config.integer("weights.bits"), int64_t{4});
  EXPECT(session->effective()->asRequested());
  EXPECT(session->cacheMixed(), "the cache was written under other weights");
  const auto events = session->takeEvents();
  EXPECT_EQ(only(events, EngineEvent::Kind::published).size(), size_t{1});
  EXPECT_EQ(only(events, EngineEvent::Kind::epoch).size(), size_t{1});
  const MemoryByTag after = session->memory();
  const int64_t all = bytes(before, MemoryTag::weights) + bytes(before, MemoryTag::weightsMapped);
  EXPECT(bytes(after, MemoryTag::weights) + bytes(after, MemoryTag::weightsMapped) < all / 6);
  session->reset();
  EXPECT(!session->cacheMixed());
}

TEST(the_latest_request_wins) {
  const auto engine = openEngine(kRandom);
  const auto session = makeSession(engine);
  for (const char* bits : {"8", "2", "6", "3"}) session->request(configure({{"weights.bits", bits}}));
  session->request(configure({{"weights.bits", "5"}}));
  ok(session->finishPending({}));
  EXPECT_EQ(session->effective()->config.integer("weights.bits"), int64_t{5});
  EXPECT(!session->pending());
  session->request(configure({{"weights.bits", "2"}}));
  session->request(configure({{"weights.bits", "5"}}));  // what runs already: nothing is left to wait for
  EXPECT(!session->pending());
}

TEST(new_weights_equal_those_of_a_fresh_session) {
  const auto engine = openEngine(kRandom);
  const auto tokens = someTokens(30, engine->model().config().vocab);
  const auto fresh = logitsAfter(*makeSession(engine, configure({{"weights.bits", "3"}})), tokens);
  const auto session = makeSession(engine);
  session->request(configure({{"weights.bits", "3"}}));
  ok(session->finishPending({}));
  const auto swapped = logitsAfter(*session, tokens);
  EXPECT(std::memcmp(fresh.data(), swapped.data(), fresh.size() * sizeof(float)) == 0);
}

TEST(sharing_frees_keys_at_the_next_token) {
  const auto engine = openEngine(kRandom);  // 4 layers: 1-2 share
  const auto session = makeSession(engine);
  ok(session->prefill(someTokens(64, engine->model().config().vocab), {}));
  const CacheStats before = session->cache();
  session->request(kShared);
  session->adopt();
  const CacheStats after = session->cache();
  EXPECT_EQ(after.allocatedBytes, before.allocatedBytes * 7 / 8);
  EXPECT_EQ(bytes(session->memory(), MemoryTag::kv), after.allocatedBytes);
  int followers = 0;
  for (const HeadPositions& head : session->occupancy()) followers += !head.ownsKeys;
  EXPECT_EQ(followers, engine->model().config().kvHeads);
  EXPECT(session->plan().follower(2));
  ok(session->step(1));
}

TEST(sharing_off_waits_for_the_cache_to_be_recomputed) {
  const auto engine = openEngine(kRandom);
  const auto session = makeSession(engine, kShared);
  const auto tokens = someTokens(50, engine->model().config().vocab);
  ok(session->prefill(tokens, {}));
  session->request(Config());
  ok(session->step(tokens[0]));
  const Effective held = *session->effective();
  EXPECT(session->plan().follower(2));
  EXPECT_EQ(held.config.integer("share.block"), int64_t{2});
  EXPECT_EQ(held.requested.integer("share.block"), int64_t{1});
  const Adjustment* reason = adjustment(held, "share.block");
  EXPECT(reason && reason->reason.find("recompute the cache") != std::string::npos);
  EXPECT(session->rebuildCostMs() > 0);

  const uint64_t hash = session->logitsHash();
  ok(session->rebuildCache({}));
  EXPECT(!session->plan().follower(2));
  EXPECT(session->effective()->asRequested());
  EXPECT_EQ(session->position(), int64_t{51});
  EXPECT_EQ(session->tokens().size(), size_t{51});
  EXPECT_EQ(session->logitsHash(), hash);  // no new token was seen
  const std::vector<float> rebuilt(session->logits().begin(), session->logits().end());
  auto all = tokens;
  all.push_back(tokens[0]);
  EXPECT(relativeError(rebuilt, logitsAfter(*makeSession(engine), all)) < 1e-4);
}

TEST(a_wider_budget_is_mixed_until_recomputed) {
  const auto engine = openEngine(kStories);
  const auto session = makeSession(engine, configure({{"kv.policy", "h2o"}, {"kv.budget", "0.25"}, {"kv.interval", "1"}}));
  const auto tokens = someTokens(80, 512);
  for (const int32_t token : tokens) ok(session->step(token));
  EXPECT_EQ(session->cache().liveTokens, int64_t{20});
  EXPECT(!session->cacheMixed());
  session->request(configure({{"kv.policy", "h2o"}, {"kv.budget", "0.1"}, {"kv.interval", "1"}}));
  session->adopt();
  EXPECT(!session->cacheMixed(), "narrower is not mixed");
  session->request(Config());
  session->adopt();
  EXPECT(session->cacheMixed());
  ok(session->rebuildCache({}));
  EXPECT(!session->cacheMixed());
  EXPECT_EQ(session->cache().liveTokens, int64_t{80});
  const std::vector<float> rebuilt(session->logits().begin(), session->logits().end());
  EXPECT(relativeError(rebuilt, logitsAfter(*makeSession(engine), tokens)) < 1e-5);
}

TEST(a_cancelled_recompute_leaves_the_cache_as_it_was) {
  const auto engine = openEngine(kRandom);
  SessionOptions options;
  options.maxBatch = 8;
  const auto session = makeSession(engine, kShared, options);
  ok(session->prefill(someTokens(50, engine->model().config().vocab), {}));
  const auto twin = makeSession(engine, kShared, options);
  ok(twin->prefill(someTokens(50, engine->model().config().vocab), {}));
  session->request(Config());
  session->adopt();
  std::stop_source stop;
  Progress progress;
  progress.stop = stop.get_token();
  progress.report = [&](double fraction, std::string_view) {
    if (fraction > 0.4) stop.request_stop();
  };
  const Status cancelled = session->rebuildCache(progress);
  EXPECT(!cancelled.ok() && cancelled.error().code == ErrorCode::cancelled);
  EXPECT_EQ(session->position(), int64_t{50});
  EXPECT(session->plan().follower(2));
  ok(session->step(9));
  ok(twin->step(9));
  EXPECT(relativeError(twin->logits(), session->logits()) == 0);
}

TEST(int8_on_plain_weights_is_answered) {
  const auto engine = openEngine(kStories);
  const auto session = makeSession(engine, configure({{"compute.activations", "int8"}}));
  EXPECT_EQ(session->effective()->config.text("compute.activations"), std::string("auto"));
  EXPECT(adjustment(*session->effective(), "compute.activations") != nullptr);
  session->request(configure({{"compute.activations", "int8"}, {"weights.bits", "8"}}));
  ok(session->finishPending({}));
  EXPECT_EQ(session->effective()->config.text("compute.activations"), std::string("int8"));
  EXPECT(session->effective()->asRequested());
  ok(session->prefill(someTokens(20, 512), {}));
}

TEST(memory_is_planned_by_the_code_that_allocates) {
  struct Case {
    const char* file;
    Settings settings;
  };
  const std::vector<Case> cases = {{kStories, {}}, {kChat, {}}, {kRandom, {{"weights.bits", "4"}}}, {kRandom, {{"kv.policy", "h2o"}, {"kv.budget", "0.3"}}},
                                   {kRandom, {{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}, {"weights.bits", "8"}}},
                                   {"models/random-llama-256-Q4_K.gguf", {}}, {"models/random-llama-256-Q6_K.gguf", {}}, {kRandom, {{"weights.format", "nf4"}}},
                                   {kStories, {{"weights.format", "mxfp4"}, {"compute.activations", "int8"}}}, {kRandom, {{"weights.format", "fp8-e5m2"}, {"weights.group", "64"}}},
                                   {"models/random-llama-256-Q5_1.gguf", {{"prune.ratio", "0.3"}}}};
  for (const Case& c : cases) {
    const auto engine = openEngine(c.file);
    const int vocab = engine->model().config().vocab;
    SessionOptions options;
    options.context = 256;
    options.maxBatch = 64;
    const Config config = configure(c.settings);
    const MemoryByTag planned = value(engine->plan(config, options, 200));
    const auto session = makeSession(engine, config, options);
    ok(session->prefill(someTokens(150, vocab), {}));
    generate(*session, 50);
    const MemoryByTag used = session->memory();
    int64_t plannedTotal = 0, usedTotal = 0;
    for (size_t tag = 0; tag < used.size(); ++tag) {
      plannedTotal += planned[tag];
      usedTotal += used[tag];
      const double allowed = std::max(0.02 * static_cast<double>(used[tag]), 65536.0);
      EXPECT(std::abs(static_cast<double>(planned[tag] - used[tag])) <= allowed, c.file, c.settings.size(), tag, planned[tag], used[tag]);
    }
    EXPECT_NEAR(static_cast<double>(plannedTotal), static_cast<double>(usedTotal), std::max(0.02 * static_cast<double>(usedTotal), 65536.0));
    EXPECT_EQ(engine->ledger().bytes(MemoryTag::kv), bytes(used, MemoryTag::kv));
  }
}

TEST(sessions_share_versions_and_return_their_memory) {
  const auto engine = openEngine(kRandom);
  {
    const auto a = makeSession(engine, configure({{"weights.bits", "4"}}));
    const int64_t one = engine->ledger().bytes(MemoryTag::weights);
    const auto b = makeSession(engine, configure({{"weights.bits", "4"}}));
    EXPECT_EQ(engine->ledger().bytes(MemoryTag::weights), one);
    EXPECT_EQ(bytes(b->memory(), MemoryTag::weights), one);
    ok(a->prefill(someTokens(10, 512), {}));
    ok(b->prefill(someTokens(10, 512), {}));
  }
  EXPECT_EQ(engine->ledger().total(), int64_t{0});
}

TEST(a_session_outlives_its_engine) {
  auto engine = openEngine(kStories);
  const auto session = makeSession(engine);
  engine.reset();
  session->request(configure({{"weights.bits", "4"}}));
  ok(session->prefill(someTokens(10, 512), {}));
  ok(session->finishPending({}));
  ok(session->step(1));
}

TEST(context_rules) {
  SessionOptions options;
  options.context = 200;  // the header says 128
  const auto stories = openEngine(kStories);
  const auto session = value(stories->createSession(Config(), options, {}));
  const auto warnings = only(session->takeEvents(), EngineEvent::Kind::warning);
  EXPECT_EQ(warnings.size(), size_t{1});
  EXPECT_EQ(warnings[0].code, std::string("context.beyond_trained"));
  const Status tooLong = session->prefill(someTokens(201, 512), {});
  EXPECT(!tooLong.ok() && tooLong.error().code == ErrorCode::badInput);
  EXPECT(tooLong.error().message.find("201") != std::string::npos && tooLong.error().message.find("200") != std::string::npos, tooLong.error().message);
  EXPECT_EQ(session->position(), int64_t{0});
  ok(session->prefill(someTokens(200, 512), {}));
  EXPECT(!session->step(1).ok());
  EXPECT(!session->prefill(std::vector<int32_t>{512}, {}).ok());
  EXPECT(!session->prefill(std::vector<int32_t>{-1}, {}).ok());

  const auto chat = openEngine(kChat);
  options.context = 257;
  const auto refused = chat->createSession(Config(), options, {});
  EXPECT(!refused.ok() && refused.error().code == ErrorCode::badInput);
  EXPECT(refused.error().message.find("257") != std::string::npos && refused.error().message.find("256") != std::string::npos, refused.error().message);
  options.context = 0;
  EXPECT_EQ(value(chat->createSession(Config(), options, {}))->context(), 256);
}

TEST(a_cancelled_prompt_keeps_what_was_fed) {
  const auto engine = openEngine(kStories);
  SessionOptions options;
  options.maxBatch = 10;
  const auto session = makeSession(engine, Config(), options);
  std::stop_source stop;
  Progress progress;
  progress.stop = stop.get_token();
  progress.report = [&](double fraction, std::string_view) {
    if (fraction > 0.45) stop.request_stop();
  };
  const Status status = session->prefill(someTokens(100, 512), progress);
  EXPECT(!status.ok() && status.error().code == ErrorCode::cancelled);
  EXPECT_EQ(session->position(), int64_t{50});
  ok(session->step(1));
}

TEST(op_times_declare_what_they_read) {
  const auto engine = openEngine(kRandom);
  const auto session = makeSession(engine);
  session->observeOps(true);
  ok(session->prefill(someTokens(40, engine->model().config().vocab), {}));
  ok(session->step(7));
  const auto times = session->opTimes();
  EXPECT_EQ(times.size(), session->plan().ops.size());
  int64_t matrices = 0, cache = 0, ns = 0;
  for (const OpTime& time : times) {
    const OpKind kind = session->plan().ops[static_cast<size_t>(time.op)].kind;
    (kind == OpKind::attend ? cache : matrices) += time.bytes;
    ns += time.ns;
    EXPECT(time.ns >= 0 && (kind == OpKind::embed || time.flops > 0));
  }
  EXPECT(ns > 0);
  EXPECT_EQ(cache, session->kvBytesPerToken());
  EXPECT_NEAR(static_cast<double>(matrices), static_cast<double>(session->weightBytesPerToken()), 0.01 * static_cast<double>(matrices));
  session->observeOps(false);
  ok(session->step(7));
  EXPECT(session->opTimes().empty());
}

TEST(values_that_are_no_numbers_are_an_error_not_a_text) {
  // The same model with a NaN in the first block's up projection.
  std::string file = readFile(sharedData(kStories));
  const auto model = value(Model::open(sharedData(kStories)));
  const MasterTensor* up = model->find(TensorRole::up, 0);
  std::string needle(reinterpret_cast<const char*>(up->data), 64);
  const size_t at = file.find(needle);
  EXPECT(at != std::string::npos);
  const float nan = NAN;
  std::memcpy(file.data() + at, &nan, sizeof nan);
  const std::string path = (scratch() / "nan.gguf").string();
  std::ofstream(path, std::ios::binary) << file;
  const auto engine = value(Engine::create(value(Model::open(path)), {}));
  const auto session = makeSession(engine);
  const Status status = session->prefill(someTokens(5, 512), {});
  EXPECT(!status.ok() && status.error().message.find("not finite") != std::string::npos);
}

TEST(devices_and_threads_are_checked) {
  const auto model = value(Model::open(sharedData(kStories)));
  EngineOptions options;
  options.device = "cuda";
  EXPECT(Engine::create(model, options).error().code == ErrorCode::resources);
  options.device = "gpu";
  EXPECT(Engine::create(model, options).error().code == ErrorCode::usage);
  options.device = "cpu";
  options.threads = -1;
  EXPECT(Engine::create(model, options).error().code == ErrorCode::usage);
}

TEST(a_background_session_computes_the_same) {
  const auto engine = openEngine(kStories);
  SessionOptions options;
  options.background = true;
  const auto tokens = someTokens(30, 512);
  const auto quiet = makeSession(engine, Config(), options);
  EXPECT(relativeError(logitsAfter(*makeSession(engine), tokens), logitsAfter(*quiet, tokens)) == 0);
  const Status refused = quiet->prefill(someTokens(1000, 512), {});
  EXPECT(!refused.ok());
}

#ifdef WINNOW_HAS_TEXT
TEST(wanda_measures_the_calibration_text_once) {
  const std::string text = (scratch() / "calibration.txt").string();
  {
    std::ofstream out(text);
    for (int i = 0; i < 60; ++i) out << "One day a little girl named Lily went to the park with her dog. They saw a big red ball.\n";
  }
  const auto engine = openEngine(kStories);
  const Settings wanda = {{"prune.method", "wanda"}, {"prune.ratio", "0.5"}, {"calibration.text", text.c_str()}, {"calibration.tokens", "512"}};
  const auto tokens = someTokens(40, 512);
  const auto dense = logitsAfter(*makeSession(engine), tokens), pruned = logitsAfter(*makeSession(engine, configure(wanda)), tokens);
  const auto magnitude = logitsAfter(*makeSession(engine, configure({{"prune.ratio", "0.5"}})), tokens);
  EXPECT(relativeError(dense, pruned) > 1e-3);
  EXPECT(relativeError(magnitude, pruned) > 1e-3);
  const auto again = logitsAfter(*makeSession(openEngine(kStories, 1), configure(wanda)), tokens);
  EXPECT(std::memcmp(pruned.data(), again.data(), pruned.size() * sizeof(float)) == 0, "the same statistics for any number of threads");
}

TEST(a_missing_calibration_text_is_a_fallback_with_its_reason) {
  const auto engine = openEngine(kStories);
  const Config config = configure({{"prune.method", "wanda"}, {"prune.ratio", "0.5"}, {"calibration.text", "/nonexistent/calibration.txt"}});
  const auto refused = engine->createSession(config, {}, {});
  EXPECT(!refused.ok() && refused.error().message.find("/nonexistent/calibration.txt") != std::string::npos);
  const auto session = makeSession(engine);
  session->request(config);
  EXPECT(!session->finishPending({}).ok());
  EXPECT(!session->pending());
  EXPECT_EQ(session->effective()->config.real("prune.ratio"), 0.0);
  EXPECT_EQ(session->effective()->requested.real("prune.ratio"), 0.5);
  const Adjustment* reason = adjustment(*session->effective(), "prune.ratio");
  EXPECT(reason && reason->reason.find("calibration text") != std::string::npos);
  EXPECT_EQ(only(session->takeEvents(), EngineEvent::Kind::fallback).size(), size_t{1});
}
#endif

TEST(types_computed_as_f16_are_named) {
  const auto engine = openEngine("models/random-llama-256-Q2_K.gguf");
  const auto warnings = only(makeSession(engine)->takeEvents(), EngineEvent::Kind::warning);
  EXPECT(std::any_of(warnings.begin(), warnings.end(), [](const EngineEvent& e) { return e.code == "weights.decoded" && e.text.find("q2_k") != std::string::npos; }));
  for (const char* exact : {"models/random-llama-256-Q4_0.gguf", "models/random-llama-256-Q4_K.gguf", "models/random-llama-256-Q6_K.gguf", "models/random-llama-256-Q3_K.gguf"})
    for (const EngineEvent& event : makeSession(openEngine(exact))->takeEvents()) EXPECT(event.code != "weights.decoded");
}
