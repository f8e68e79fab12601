// SPDX-License-Identifier: GPL-3.0-or-later
// Prefix reuse: a session goes back in its text; leave-one-out with reuse equals plain leave-one-out and feeds what the formula says.
#include "tests/support/engine.h"
#include "tests/support/story.h"

using namespace winnow;
using namespace winnow::test;

TEST(a_session_goes_back) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine);
  const auto tokens = someTokens(100, session->vocab());
  const std::span<const int32_t> all(tokens);
  const auto expected = logitsAfter(*session, all);
  for (const int64_t back : {99, 64, 63, 17, 1}) {
    EXPECT_EQ(session->rewind(back), back);
    EXPECT_EQ(session->position(), back);
    EXPECT_EQ(session->tokens().size(), static_cast<size_t>(back));
    EXPECT_EQ(session->cache().liveTokens, back);
    ok(session->prefill(all.subspan(static_cast<size_t>(back)), {}));
    EXPECT(relativeError(expected, session->logits()) < 1e-4, relativeError(expected, session->logits()));
  }
  EXPECT_EQ(session->rewind(500), 100);
  EXPECT_EQ(session->rewind(0), 0);
  EXPECT_EQ(session->position(), 0);
}

TEST(a_cache_that_lost_slots_starts_anew) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine, configure({{"kv.policy", "streaming"}, {"kv.budget", "32"}}));
  ok(session->prefill(someTokens(100, session->vocab()), {}));
  EXPECT_EQ(session->rewind(50), 0);
  EXPECT_EQ(session->position(), 0);
  auto changed = makeSession(engine);
  ok(changed->prefill(someTokens(100, changed->vocab()), {}));
  changed->request(configure({{"weights.bits", "4"}}));
  ok(changed->finishPending({}));
  EXPECT_EQ(changed->rewind(50), 0);
}

TEST(reuse_scores_as_plain_leave_one_out) {
  for (const char* model : {kStories, kChat}) {
    const auto engine = openEngine(model);
    auto session = makeSession(engine, Config(), {.context = 256});
    const auto plain = value(attribute(*session, *engine->tokenizer(), storyRequest("loo"), {}));
    const auto reused = value(attribute(*session, *engine->tokenizer(), storyRequest("attribot"), {}));
    EXPECT_EQ(plain.sources.size(), 10u);
    EXPECT_EQ(reused.forwards, plain.forwards);
    EXPECT(reused.forwardTokens < 2 * plain.forwardTokens / 3, reused.forwardTokens, plain.forwardTokens);
    double largest = 0;
    for (size_t i = 0; i < plain.sources.size(); ++i) {
      const Source &a = plain.sources[i], &b = reused.sources[i];
      largest = std::max(largest, std::fabs(*a.score - *b.score));
      EXPECT_EQ(a.perToken.size(), b.perToken.size());
    }
    EXPECT(largest <= 1e-4, model, largest);
    std::printf("%s: largest difference %.3g nats, noise floor %.3g\n", model, largest, plain.noiseFloor);
  }
}

TEST(reuse_feeds_what_the_formula_says) {
  const auto engine = openEngine(kChat);
  auto session = makeSession(engine, Config(), {.context = 256});
  const Tokenizer& tokenizer = *engine->tokenizer();
  const AttributeRequest request = storyRequest("attribot");
  const auto result = value(attribute(*session, tokenizer, request, {}));
  const auto ids = [&](const std::string& context) { return tokenizer.encode(attributionPrompt(context, request.question), true); };
  const auto full = ids(request.context);
  const auto response = static_cast<int64_t>(result.responseTokens.size()) - 1;  // the last one is scored, not fed
  int64_t expected = static_cast<int64_t>(full.size()) + response;
  for (size_t i = 0; i < result.sources.size(); ++i) {
    const auto cut = ids(contextWithout(request.context, result.sources, i));
    size_t shared = 0;
    while (shared + 1 < cut.size() && full[shared] == cut[shared]) ++shared;
    expected += static_cast<int64_t>(cut.size() - shared) + response;
  }
  EXPECT_EQ(result.forwardTokens, expected);
  EXPECT_EQ(result.parameterTokens, static_cast<double>(expected) * static_cast<double>(session->parameters()));
}
