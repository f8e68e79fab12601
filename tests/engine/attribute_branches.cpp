// SPDX-License-Identifier: GPL-3.0-or-later
// Ablations through one forward: branches of a sequence get bit for bit what each gets alone, are cancelled within a micro-batch, and an
// attribution that was stopped goes on to the same scores.
#include <cstring>

#include "engine/attribute/model_scorer.h"
#include "engine/run/branches.h"
#include "tests/support/engine.h"
#include "tests/support/story.h"

using namespace winnow;
using namespace winnow::test;

namespace {

using Logits = std::vector<std::vector<float>>;  // [wanted tokens][vocab]

// What each branch gets alone.
Logits alone(Session& session, std::span<const int32_t> begin, const Branch& branch) {
  session.reset();
  ok(session.prefill(begin, {}));
  EXPECT_EQ(session.rewind(branch.from), branch.from);
  Logits out;
  ok(session.prefill(branch.tokens, {}, [&](int, int count, const float* logits) {
    for (int i = 0; i < count; ++i) out.emplace_back(logits + int64_t{i} * session.vocab(), logits + int64_t{i + 1} * session.vocab());
  }, branch.logitsFrom));
  return out;
}

void agrees(const char* file, const Config& config, int batch) {
  const auto engine = openEngine(file);
  const SessionOptions options{.context = 256, .maxBatch = batch};
  const auto session = makeSession(engine, config, options), other = makeSession(engine, config, options);
  const auto begin = someTokens(150, session->vocab(), 3);
  std::vector<std::vector<int32_t>> tails;
  std::vector<Branch> branches;
  for (const auto& [from, count, wanted] : {std::tuple{150, 9, 4}, {149, 30, 29}, {64, 70, 69}, {63, 1, 0}, {16, 100, 90}, {1, 5, 0}, {0, 40, 38}}) {
    tails.push_back(someTokens(count, session->vocab(), static_cast<uint32_t>(from + 11)));
    branches.push_back({from, {}, static_cast<size_t>(wanted)});
  }
  for (size_t i = 0; i < branches.size(); ++i) branches[i].tokens = tails[i];
  ok(session->prefill(begin, {}));
  const auto before = session->cache();
  std::vector<Logits> together(branches.size());
  ok(prefillBranches(*session, branches, {}, [&](size_t branch, int first, int count, const float* logits) -> Status {
    EXPECT_EQ(first, static_cast<int>(branches[branch].logitsFrom + together[branch].size()));
    for (int i = 0; i < count; ++i) together[branch].emplace_back(logits + int64_t{i} * session->vocab(), logits + int64_t{i + 1} * session->vocab());
    return Done{};
  }));
  EXPECT_EQ(session->position(), int64_t{150});
  EXPECT_EQ(session->cache().allocatedBytes, before.allocatedBytes);
  for (size_t b = 0; b < branches.size(); ++b) {
    const Logits expected = alone(*other, begin, branches[b]);
    EXPECT_EQ(together[b].size(), expected.size());
    for (size_t t = 0; t < std::min(together[b].size(), expected.size()); ++t)
      EXPECT(std::memcmp(together[b][t].data(), expected[t].data(), expected[t].size() * sizeof(float)) == 0, file, batch, "branch", b, "token", t,
             relativeError(expected[t], together[b][t]));
  }
  ok(session->step(begin[0]));  // the session itself goes on as if nothing had been
  other->reset();
  ok(other->prefill(begin, {}));
  ok(other->step(begin[0]));
  EXPECT(std::memcmp(session->logits().data(), other->logits().data(), session->logits().size_bytes()) == 0, file, batch);
}

std::vector<std::optional<double>> scores(const AttributeResult& result) {
  std::vector<std::optional<double>> out;
  for (const Source& source : result.sources) out.push_back(source.score);
  return out;
}

std::shared_ptr<const KnownOutcomes> left(const AttributeRequest& request, const AttributeResult& result) {
  auto known = std::make_shared<KnownOutcomes>();
  known->context = request.context;
  known->question = request.question;
  known->responseTokens = result.responseTokens;
  for (const Source& source : result.sources) known->sources.push_back({source.start, source.end});
  known->outcomes = result.outcomes;
  return known;
}

}  // namespace

TEST(branches_get_what_each_gets_alone) {
  for (const char* file : {kStories, kChat, "models/random-llama-256-Q4_0.gguf"})
    for (const int batch : {512, 50, 7}) agrees(file, Config(), batch);
  agrees(kRandom, configure({{"weights.bits", "4"}, {"compute.activations", "int8"}}), 64);
  agrees(kRandom, configure({{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}), 64);
}

TEST(what_can_not_branch_says_so) {
  const auto engine = openEngine(kStories);
  const auto evicts = makeSession(engine, configure({{"kv.policy", "streaming"}, {"kv.budget", "16"}})), plain = makeSession(engine);
  ok(plain->prefill(someTokens(20, plain->vocab()), {}));
  EXPECT(canBranch(*plain) && !canBranch(*evicts));
  const auto long_ = someTokens(250, plain->vocab());
  const Branch branch{20, long_, 249};
  const Status refused = prefillBranches(*plain, {&branch, 1}, {}, [](size_t, int, int, const float*) { return Status(Done{}); });
  EXPECT(!refused && refused.error().message.find("256") != std::string::npos);
}

TEST(branches_stop_within_a_micro_batch) {
  const auto engine = openEngine(kStories);
  const auto session = makeSession(engine, Config(), {.context = 512, .maxBatch = 16});
  ok(session->prefill(someTokens(20, session->vocab()), {}));
  const auto tail = someTokens(100, session->vocab());
  const std::vector<Branch> branches(5, Branch{10, tail, 0});
  std::stop_source stop;
  int rows = 0;
  const Status status = prefillBranches(*session, branches, {{}, stop.get_token()}, [&](size_t, int, int count, const float*) {
    rows += count;
    stop.request_stop();
    return Status(Done{});
  });
  EXPECT(!status && status.error().code == ErrorCode::cancelled);
  EXPECT_EQ(rows, 16);
  EXPECT_EQ(session->position(), int64_t{20});
}

TEST(together_or_one_by_one_the_scores_are_the_same) {
  for (const char* model : {kStories, kChat}) {
    const auto engine = openEngine(model);
    auto session = makeSession(engine);
    AttributeRequest request = storyRequest("attribot");
    const auto together = value(attribute(*session, *engine->tokenizer(), request, {}));
    request.together = false;
    const auto apart = value(attribute(*session, *engine->tokenizer(), request, {}));
    EXPECT(scores(together) == scores(apart), model);
    EXPECT_EQ(together.forwards, apart.forwards);
    EXPECT_EQ(together.forwardTokens, apart.forwardTokens);
    for (size_t i = 0; i < together.sources.size(); ++i) {
      EXPECT(together.sources[i].perToken == apart.sources[i].perToken);
      EXPECT_NEAR(*together.sources[i].ablatedLogProb, together.baseLogProb - *together.sources[i].score, 1e-9);
    }
  }
}

TEST(the_order_of_evaluation_changes_no_score) {
  const auto engine = openEngine(kChat);
  auto session = makeSession(engine);
  const AttributeRequest request = storyRequest("attribot");
  AttributeResult result;
  result.sources = splitSources(request.context, SourceUnit::sentence);
  const auto response = responseTokens(*engine->tokenizer(), attributionPrompt(request.context, request.question), *request.response);
  std::vector<double> expected;
  for (const bool together : {true, false})
    for (const bool reuse : {true, false})
      for (const std::vector<size_t>& order : {std::vector<size_t>{}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {7, 2, 9, 0, 5, 1, 8, 3, 6, 4}}) {
        ModelScorer scorer(*session, *engine->tokenizer(), request.question, response, {}, together);
        AttributionTask task{request, scorer, result};
        LeaveOut plan{scorer, task.everySource(), singles(task.everySource()), reuse};
        plan.order = order;
        std::vector<double> found(result.sources.size());
        ok(leaveOut(task, plan, [&](size_t group, LeftOut&& one) { found[group] = one.score; }));
        if (expected.empty()) expected = found;
        EXPECT(found == expected, together, reuse, order.size());
      }
}

TEST(an_empty_source_scores_zero_on_a_model) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine);
  for (const char* method : {"loo", "attribot"}) {
    AttributeRequest request = storyRequest(method);
    request.unit = SourceUnit::given;
    request.ranges = {{0, 20}, {21, 21}, {21, 41}};
    const auto result = value(attribute(*session, *engine->tokenizer(), request, {}));
    EXPECT_EQ(*result.sources[1].score, 0.0);
    EXPECT(*result.sources[0].score != 0.0);
    EXPECT_EQ(result.forwards, std::string(method) == "loo" ? 4 : 3);  // with reuse an equal text is not asked about again
  }
}

TEST(an_attribution_that_was_stopped_goes_on) {
  const auto engine = openEngine(kStories);
  auto session = makeSession(engine);
  for (const char* method : {"attribot", "loo", "shapley", "contextcite"}) {
    AttributeRequest request = storyRequest(method);
    request.samples = std::string(method) == "shapley" ? 2 : 0;
    const auto whole = value(attribute(*session, *engine->tokenizer(), request, {}));
    std::stop_source stop;
    AttributeResult halted;
    const Progress progress{[&](double fraction, std::string_view) {
      if (fraction > 0.4) stop.request_stop();
    }, stop.get_token()};
    halted = value(attribute(*session, *engine->tokenizer(), request, progress));
    EXPECT(!halted.complete && halted.forwards > 0 && halted.forwards < whole.forwards, method, halted.forwards, whole.forwards);
    AttributeRequest again = request;
    again.known = left(request, halted);
    const auto resumed = value(attribute(*session, *engine->tokenizer(), again, {}));
    EXPECT(resumed.complete, method);
    EXPECT_EQ(resumed.knownForwards, halted.forwards);
    EXPECT_EQ(resumed.forwards, whole.forwards - halted.forwards);
    EXPECT(scores(resumed) == scores(whole), method);
    again.context += " The end.";
    const auto other = attribute(*session, *engine->tokenizer(), again, {});
    EXPECT(!other && other.error().message.find("another text") != std::string::npos, method);
  }
}
