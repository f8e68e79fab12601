// SPDX-License-Identifier: GPL-3.0-or-later
// Facts hidden in texts: where they stand, that the model with all of its cache finds them, and what evicting them does.
#include "engine/evaluate/retrieval.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/text/tokenizer.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

const std::string kHay =
    "The sun was warm and the wind was soft. A cat sat on the wall and looked at the birds. Two boys ran along the river with a dog. "
    "Their mother called them to dinner. It was soup with bread. After that they all went to bed, and the moon came up over the hill.";

std::shared_ptr<Engine> starter() {
  static const auto engine = value(Engine::create(value(Model::open(std::string(WINNOW_TESTS_DIR) + "/../resources/starter/starter.gguf")), EngineOptions{.threads = 2}));
  return engine;
}
int count(const std::string& text, bool special = true) { return static_cast<int>(starter()->tokenizer()->encode(text, special).size()); }

std::vector<RetrievalItem> items(RetrievalTask task, std::vector<int> lengths, std::vector<double> depths, int trials = 1) {
  return value(retrievalItems({task, std::move(lengths), std::move(depths), trials, 3, kHay}, *starter()->tokenizer()));
}

RetrievalResult measure(const std::vector<RetrievalItem>& asked, const Settings& settings, bool queryAware = false, bool against = true) {
  const SessionOptions options{.context = retrievalTokens(*starter()->tokenizer(), asked)};
  const auto session = value(starter()->createSession(configure(settings), options, {})), baseline = value(starter()->createSession(Config(), options, {}));
  return value(measureRetrieval(*session, against ? baseline.get() : nullptr, *starter()->tokenizer(), asked, queryAware, {}));
}

}  // namespace

TEST(contexts_are_as_long_as_asked_for_and_facts_as_deep) {
  for (const RetrievalTask task : {RetrievalTask::passkey, RetrievalTask::pairs, RetrievalTask::needle}) {
    double last = -1;
    for (const RetrievalItem& item : items(task, {300}, {0, 0.25, 0.5, 0.75, 1})) {
      const int tokens = count(item.context);
      EXPECT(tokens <= 300 && tokens > 300 - 32, retrievalTaskName(task), tokens);  // no sentence here has more than 32 tokens
      // The answer stands once as the question leads to it (a pass key is said twice in its sentence).
      const size_t at = item.context.find(item.answer.substr(0, item.answer.size() - 1));
      EXPECT(at != std::string::npos, item.context);
      const double depth = static_cast<double>(at) / static_cast<double>(item.context.size());
      EXPECT(std::fabs(depth - *item.depth) < 0.2, retrievalTaskName(task), *item.depth, depth);
      EXPECT(depth > last, "deeper than", last);
      last = depth;
    }
  }
}

TEST(facts_are_the_same_at_every_depth_and_differ_between_trials_and_seeds) {
  const auto asked = items(RetrievalTask::passkey, {100, 200}, {0, 1}, 4);
  EXPECT_EQ(asked.size(), 16u);
  std::set<std::string> answers;
  for (size_t i = 0; i < 4; ++i) answers.insert(asked[i].answer);
  EXPECT_EQ(answers.size(), 4u);
  for (size_t i = 4; i < asked.size(); ++i) EXPECT_EQ(asked[i].answer, asked[i % 4].answer);
  const auto other = value(retrievalItems({RetrievalTask::passkey, {100}, {0}, 1, 4, kHay}, *starter()->tokenizer()));
  EXPECT(other[0].answer != asked[0].answer);
}

TEST(boxes_of_pairs_are_all_different) {
  const RetrievalItem item = items(RetrievalTask::pairs, {400}, {0.5})[0];
  std::set<std::string> boxes;
  size_t lines = 0;
  for (size_t at = 0; at != std::string::npos; at = item.context.find("Box ", at + 1), ++lines) boxes.insert(item.context.substr(at, 7));
  EXPECT(lines > 20 && boxes.size() == lines, lines, boxes.size());
}

TEST(what_has_no_room_or_no_text_is_told) {
  const auto& tokenizer = *starter()->tokenizer();
  const auto small = retrievalItems({RetrievalTask::passkey, {12}, {0}, 1, 0, kHay}, tokenizer);
  EXPECT(!small && small.error().code == ErrorCode::usage && small.error().message.find("no room") != std::string::npos);
  const auto pairs = retrievalItems({RetrievalTask::pairs, {8}, {0}, 1, 0, ""}, tokenizer);
  EXPECT(!pairs && pairs.error().code == ErrorCode::usage);
  const auto empty = retrievalItems({RetrievalTask::needle, {100}, {0}, 1, 0, "  \n"}, tokenizer);
  EXPECT(!empty && empty.error().code == ErrorCode::badInput);
  const auto session = value(starter()->createSession(Config(), {.context = 32}, {}));
  const auto asked = items(RetrievalTask::needle, {100}, {0});
  const auto longer = measureRetrieval(*session, nullptr, tokenizer, asked, false, {});
  EXPECT(!longer && longer.error().message.find("context holds 32") != std::string::npos);
  const auto unanswered = measureRetrieval(*session, nullptr, tokenizer, {{"A cat.", "Who?", "", 0, std::nullopt}}, false, {});
  EXPECT(!unanswered && unanswered.error().message.find("question 1 has no answer") != std::string::npos);
}

// A cache that keeps everything answers as the baseline does, to the last bit, whenever it is compressed.
TEST(a_budget_that_holds_everything_changes_nothing) {
  const auto asked = items(RetrievalTask::needle, {120}, {0, 0.5, 1});
  for (const bool queryAware : {false, true}) {
    const RetrievalResult whole = measure(asked, {{"kv.policy", "streaming"}, {"kv.budget", "1024"}}, queryAware);
    EXPECT_EQ(whole.sums.kld, 0.0);
    for (const RetrievalScore& score : whole.items) {
      EXPECT_EQ(score.window.nllSum, score.baseNllSum);
      EXPECT_EQ(score.found, *score.baseFound);
      EXPECT_EQ(score.window.sameTop, score.window.count);
    }
  }
}

// The starter answers from the context; a window that has dropped the fact can't, and one that still holds it can.
TEST(a_window_finds_what_it_still_holds) {
  const auto asked = items(RetrievalTask::needle, {200}, {0, 1}, 6);
  const RetrievalResult r = measure(asked, {{"kv.policy", "streaming"}, {"kv.budget", "64"}, {"kv.interval", "1"}});
  double early = 0, late = 0, earlyBase = 0, lateBase = 0;
  for (const RetrievalScore& score : r.items) {
    (*score.depth == 0 ? early : late) += score.window.nllSum;
    (*score.depth == 0 ? earlyBase : lateBase) += score.baseNllSum;
  }
  EXPECT(early > earlyBase + 18, "dropped", early, "held", earlyBase);  // more than 3 nats an answer
  EXPECT(std::fabs(late - lateBase) < 6, "still there", late, "held", lateBase);
  EXPECT(early > lateBase + 18, "dropped", early, "held", lateBase);
  EXPECT(r.found <= r.baseFound, r.found, r.baseFound);
}

TEST(stops_within_a_question) {
  const auto asked = items(RetrievalTask::needle, {200}, {0, 1}, 6);
  const auto session = value(starter()->createSession(Config(), {.context = 256}, {}));
  std::stop_source stop;
  Progress progress;
  progress.stop = stop.get_token();
  int told = 0;
  const auto stopped = measureRetrieval(*session, nullptr, *starter()->tokenizer(), asked, false, progress, [&](const RetrievalScore&) {
    if (++told == 2) stop.request_stop();
  });
  EXPECT(!stopped && stopped.error().code == ErrorCode::cancelled);
  EXPECT_EQ(told, 2);
}
