// SPDX-License-Identifier: GPL-3.0-or-later
// What the benchmark counts, not how fast the machine is.
#include "engine/evaluate/bench.h"

#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

TEST(tests_are_named_and_counted_as_llama_bench_does) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine);
  BenchRequest request;
  request.prompt = {32, 16};
  request.generate = {8};
  request.depth = {0, 24};
  request.repetitions = 3;
  int repetitions = 0;
  const auto result = value(runBench(*engine, *session, request, {}, [&](const BenchTest&, int) { ++repetitions; }));
  std::string names;
  for (const BenchTest& test : result.tests) {
    names += test.name + "|";
    EXPECT_EQ(test.repetitions.size(), 3u);
    double mean = 0;
    for (const BenchRepetition& repetition : test.repetitions) {
      EXPECT_NEAR(repetition.tokensPerSecond, test.tokens / repetition.seconds, 1e-6 * repetition.tokensPerSecond);
      mean += repetition.tokensPerSecond / 3;
    }
    EXPECT_NEAR(test.tokensPerSecond, mean, 1e-9 * mean);
    EXPECT(test.p5Ms <= test.medianMs && test.medianMs <= test.p95Ms && test.medianMs > 0);
    EXPECT(test.share > 0, test.name, test.share);
  }
  EXPECT_EQ(names, std::string("pp32|pp16|tg8|pp32 @ d24|pp16 @ d24|tg8 @ d24|"));
  EXPECT_EQ(repetitions, 18);
  EXPECT(result.readGbs > 0.1 && result.gemmGflops > 0.1, result.readGbs, result.gemmGflops);
  EXPECT_EQ(result.decodeShare, result.tests[2].share);
  EXPECT_EQ(result.prefillShare, result.tests[0].share);
  EXPECT_EQ(session->position(), int64_t{0});
}

TEST(a_batch_counts_the_tokens_of_all_its_sequences) {
  const auto engine = openEngine(kChat);
  auto session = makeSession(engine, configure({{"weights.bits", "8"}}));
  BenchRequest request;
  request.prompt = {16};
  request.generate = {8};
  request.depth = {0, 20};
  request.batch = {1, 3};
  request.repetitions = 2;
  const auto result = value(runBench(*engine, *session, request, {}));
  std::string names;
  for (const BenchTest& test : result.tests) {
    names += test.name + "|";
    for (const BenchRepetition& repetition : test.repetitions)
      EXPECT_NEAR(repetition.tokensPerSecond, test.batch * test.tokens / repetition.seconds, 1e-6 * repetition.tokensPerSecond);
    EXPECT(test.share > 0, test.name);
  }
  EXPECT_EQ(names, std::string("pp16|tg8|tg8@b3|pp16 @ d20|tg8 @ d20|tg8@b3 @ d20|"));
  request.batch = {0};
  const auto impossible = runBench(*engine, *session, request, {});
  EXPECT(!impossible && impossible.error().code == ErrorCode::usage);
}

TEST(impossible_benchmarks_say_why) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine, Config(), {.context = 64});
  BenchRequest request;
  request.roofline = false;
  auto large = runBench(*engine, *session, request, {});
  EXPECT(!large && large.error().code == ErrorCode::badInput);
  request.prompt = {0};
  request.generate = {0};
  auto nothing = runBench(*engine, *session, request, {});
  EXPECT(!nothing && nothing.error().code == ErrorCode::usage);
  request.generate = {4};
  request.realText = true;
  auto silent = runBench(*engine, *session, request, {});
  EXPECT(!silent && silent.error().code == ErrorCode::badInput);
  request.text = "Once upon a time there was a dog.";
  const auto real = value(runBench(*engine, *session, request, {}));
  EXPECT_EQ(real.protocol, std::string("llama-bench real text"));
  EXPECT_EQ(real.readGbs, 0.0);
}

TEST(cancel_stops_between_tokens) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine);
  std::stop_source stop;
  Progress progress;
  progress.stop = stop.get_token();
  BenchRequest request;
  request.prompt = {16};
  request.generate = {};
  request.roofline = false;
  auto result = runBench(*engine, *session, request, progress, [&](const BenchTest&, int repetition) {
    if (repetition == 1) stop.request_stop();
  });
  EXPECT(!result && result.error().code == ErrorCode::cancelled);
}
