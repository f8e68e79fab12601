// SPDX-License-Identifier: GPL-3.0-or-later
// Several sequences decoded together get bit for bit what each gets alone.
#include <cstring>

#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

// Each sequence has a prompt of its own length and decodes greedily.
struct Sequence {
  std::unique_ptr<Session> session;
  std::vector<int32_t> prompt;
};

std::vector<Sequence> sequences(const std::shared_ptr<Engine>& engine, int count, const std::vector<Config>& configs) {
  std::vector<Sequence> all;
  for (int i = 0; i < count; ++i) {
    all.push_back({makeSession(engine, configs[static_cast<size_t>(i) % configs.size()]), someTokens(5 + 13 * i, engine->model().config().vocab, static_cast<uint32_t>(i + 1))});
    ok(all.back().session->prefill(all.back().prompt, {}));
  }
  return all;
}

void agrees(const char* file, const std::vector<Config>& configs, int count = 5, int steps = 20) {
  const auto engine = openEngine(file);
  const auto alone = sequences(engine, count, configs), together = sequences(engine, count, configs);
  std::vector<Session*> sessions;
  for (const Sequence& one : together) sessions.push_back(one.session.get());
  for (int step = 0; step < steps; ++step) {
    std::vector<int32_t> next;
    for (Session* session : sessions) next.push_back(best(session->logits()));
    ok(Session::stepTogether(sessions, next));
    for (size_t i = 0; i < alone.size(); ++i) {
      ok(alone[i].session->step(best(alone[i].session->logits())));
      const auto a = alone[i].session->logits(), b = sessions[i]->logits();
      EXPECT(std::memcmp(a.data(), b.data(), a.size_bytes()) == 0, file, "sequence", i, "step", step, relativeError(a, b));
    }
  }
  for (size_t i = 0; i < alone.size(); ++i) {
    EXPECT_EQ(alone[i].session->logitsHash(), sessions[i]->logitsHash());
    EXPECT(alone[i].session->tokens() == sessions[i]->tokens());
    EXPECT_EQ(alone[i].session->cache().liveTokens, sessions[i]->cache().liveTokens);
  }
}

}  // namespace

TEST(sequences_together_equal_sequences_alone) {
  for (const char* file : {kStories, kChat, "models/random-llama-256-Q4_0.gguf", "models/random-llama-256-F16.gguf", "models/random-llama-256-Q8_0.gguf"}) agrees(file, {Config()});
}

TEST(so_do_quantized_and_shared_ones) {
  agrees(kRandom, {configure({{"weights.bits", "3"}, {"compute.activations", "int8"}})});
  agrees(kRandom, {configure({{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}})});
  agrees(kStories, {configure({{"weights.bits", "4"}, {"prune.ratio", "0.4"}})}, 9);
}

TEST(caches_may_be_kept_in_different_ways) {
  agrees(kStories, {Config(), configure({{"kv.policy", "h2o"}, {"kv.budget", "20"}, {"kv.interval", "1"}}), configure({{"kv.policy", "streaming"}, {"kv.budget", "16"}})});
}

TEST(what_can_not_be_decoded_together_is_refused) {
  const auto engine = openEngine(kStories), other = openEngine(kStories);
  const auto plain = makeSession(engine), bits = makeSession(engine, configure({{"weights.bits", "4"}})), stranger = makeSession(other),
             small = makeSession(engine, Config(), {.context = 4});
  const auto refused = [&](Session* second) {
    Session* const both[] = {plain.get(), second};
    const int32_t ids[] = {1, 2};
    const Status status = Session::stepTogether(both, ids);
    EXPECT_EQ(plain->position(), int64_t{0});
    return !status.ok() && !status.error().message.empty();
  };
  EXPECT(refused(bits.get()));
  EXPECT(refused(stranger.get()));
  ok(small->prefill(someTokens(4, 512), {}));
  EXPECT(refused(small.get()));
}
