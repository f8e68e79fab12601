// SPDX-License-Identifier: GPL-3.0-or-later
// The ledger against the operating system: what a session says it uses is what the process grew by, and what the plan said before.
#include "tests/support/engine.h"
#include "tests/support/planned.h"
#include "tests/support/resident.h"
#include "tests/support/shapes.h"

using namespace winnow;
using namespace winnow::test;

namespace {

int64_t anonymousBytes(const MemoryByTag& memory) {
  int64_t sum = 0;
  for (size_t tag = 0; tag < memory.size(); ++tag)
    if (static_cast<MemoryTag>(tag) != MemoryTag::weightsMapped) sum += memory[tag];
  return sum;
}

std::shared_ptr<const Model> random134M() {
  const std::string path = (scratch() / "0.1b-q8_0.gguf").string();
  if (!std::filesystem::exists(path)) ok(synthesize(named("0.1b"), "q8_0", 1, path, {}));
  return value(Model::open(path));
}

}  // namespace

TEST(the_process_grows_by_what_the_ledger_counts) {
  if (!kOwnMemory) SKIP("a sanitizer's allocator keeps memory of its own");
  if (residentBytes() < 0) SKIP("no RssAnon in /proc/self/status");
  const auto engine = value(Engine::create(random134M(), {.threads = 2}));
  const int vocab = engine->model().config().vocab;
  const int64_t before = residentBytes();
  const auto session = makeSession(engine, Config(), {.context = 1024});
  const auto agrees = [&](const char* when) {
    const int64_t grown = residentBytes() - before, counted = anonymousBytes(session->memory());
    std::printf("  %-22s counted %7.2f MiB, grown %7.2f MiB\n", when, static_cast<double>(counted) / 1048576, static_cast<double>(grown) / 1048576);
    EXPECT_NEAR(static_cast<double>(grown), static_cast<double>(counted), 0.05 * static_cast<double>(counted) + 8 * 1048576.0);
  };
  ok(session->prefill(someTokens(900, vocab), {}));
  generate(*session, 4);
  agrees("8 bits, 904 tokens");
  session->request(configure({{"weights.bits", "3"}}));
  ok(session->finishPending({}));
  agrees("3 bits");
  session->request(configure({{"weights.bits", "3"}, {"kv.policy", "window"}, {"kv.budget", "64"}, {"kv.interval", "1"}}));
  generate(*session, 2);
  agrees("a window of 64 tokens");
}

TEST(the_plan_is_what_a_run_uses) {
  const auto engine = value(Engine::create(random134M(), {.threads = 2}));
  const int vocab = engine->model().config().vocab;
  for (const Settings& settings : {Settings{}, Settings{{"weights.bits", "4"}, {"compute.activations", "int8"}},
                                   Settings{{"kv.policy", "h2o"}, {"kv.budget", "100"}}, Settings{{"share.block", "3"}}}) {
    SessionOptions options;
    options.context = 640;
    const Config config = configure(settings);
    const MemoryByTag planned = value(engine->plan(config, options, 600));
    const auto session = makeSession(engine, config, options);
    ok(session->prefill(someTokens(596, vocab), {}));
    generate(*session, 4);
    expectAsPlanned(planned, session->memory(), settings.empty() ? "plain" : settings.front().first);
  }
}
