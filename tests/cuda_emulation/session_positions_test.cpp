// SPDX-License-Identifier: GPL-3.0-or-later
// kv.positions=cache in whole sessions on the device, against the CPU.
#include "tests/cuda_emulation/long_text.h"
#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

namespace {

Settings streaming(Settings more = {}, const char* policy = "streaming") {
  Settings settings = {{"kv.policy", policy}, {"kv.budget", "24"}, {"kv.interval", "4"}, {"kv.positions", "cache"}};
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

std::shared_ptr<const Model> wideHeads(int headDim, int heads, int kvHeads, bool norms) { return modelOfHeads(norms ? "qwen3" : "llama3", headDim, heads, kvHeads, 2); }

}  // namespace

TEST(every_family_streams_within_the_cache) {
  for (const auto& [family, policy] : {std::pair("llama3", "streaming"), std::pair("llama-linear", "window"), std::pair("mistral", "streaming"),
                                       std::pair("mistral", "window"), std::pair("qwen2", "streaming"), std::pair("qwen3", "window")}) {
    Both both(family, streaming({}, policy), longText(512, 12));
    EXPECT(both.gpu->effective()->asRequested(), family);
    const double prompt = both.prompt(60), decode = both.steps(18);
    EXPECT(prompt <= kBound && decode <= kBound, family, policy, prompt, decode);
    both.expectSameCache();
    EXPECT(both.gpu->cache().evictedTokens > 0, family);
  }
}

TEST(heads_of_every_size_stream_within_the_cache) {
  for (const auto& [dim, heads, kvHeads, norms] :
       {std::tuple(64, 4, 2, false), std::tuple(64, 3, 1, true), std::tuple(128, 2, 2, false), std::tuple(128, 4, 1, true)}) {
    Both both(wideHeads(dim, heads, kvHeads, norms), streaming(), longText(2048, 12));  // pages of 64
    const double prompt = both.prompt(60), decode = both.steps(10);
    EXPECT(prompt <= kBound && decode <= kBound, dim, heads, kvHeads, prompt, decode);
    both.expectSameCache();
  }
}

TEST(quantized_and_rotated_keys_are_turned_too) {
  for (const Settings& more : {Settings{{"kv.k_bits", "8"}, {"kv.v_bits", "8"}}, Settings{{"kv.k_bits", "8"}, {"kv.v_bits", "4"}, {"kv.rotate", "true"}},
                               Settings{{"kv.k_bits", "8"}, {"kv.quantizer", "kivi"}, {"kv.interval", "16"}}, Settings{{"kv.rotate", "true"}}}) {
    Both both("llama3", streaming(more), longText(512, 12));
    EXPECT(both.gpu->effective()->config.text("kv.positions") == "cache");
    const double prompt = both.prompt(60), decode = both.steps(18);
    const bool sealed = more.size() > 1;  // codes go apart by a step (device_bounds.h)
    EXPECT(prompt <= (sealed ? codesBound(4) : kBound) && decode <= (sealed ? codesBound(4) : kBound), more.back().first, prompt, decode);
    EXPECT(both.firstRow <= kBound, both.firstRow);
    both.expectSameCache();
  }
}

TEST(followers_read_what_their_leader_turned) {
  for (const int64_t probabilities : {int64_t{1} << 20, int64_t{0}}) {
    SessionOptions options = longText(512, 12);
    options.probabilityBytes = probabilities;
    Both both("llama3", streaming({{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}), options);
    EXPECT(both.gpu->plan().follower(1));
    const double prompt = both.prompt(50), decode = both.steps(8);
    EXPECT(prompt <= kBound && decode <= kBound, probabilities, prompt, decode);
    both.expectSameCache();
  }
}

// The cache is as large after 600 tokens as after 60, and what is computed from it is what the CPU computes.
TEST(a_long_stream_stays_flat) {
  Both both("llama3", streaming(), longText(2048, 12));
  EXPECT(both.prompt(60) <= kBound);
  both.steps(4);
  const int64_t held = both.gpu->cache().allocatedBytes;
  const MemoryByTag before = both.gpu->memory();
  for (int i = 0; i < 5; ++i) {
    const double prompt = both.prompt(100), decode = both.steps(8);
    EXPECT(prompt <= kBound && decode <= kBound, i, prompt, decode);
    EXPECT(both.gpu->cache().allocatedBytes <= held, i);
  }
  both.expectSameCache();
  const MemoryByTag after = both.gpu->memory();
  for (const MemoryTag tag : {MemoryTag::kv, MemoryTag::activations}) EXPECT_EQ(bytes(after, tag), bytes(before, tag));
}

// Other policies leave gaps everywhere: all of a cache is turned, until what is new has taken its place.
TEST(positions_change_in_mid_generation) {
  Both both("qwen3", {{"kv.policy", "h2o"}, {"kv.budget", "40"}, {"kv.interval", "4"}}, longText(512, 12));
  EXPECT(both.prompt(60) <= kBound);
  for (const Settings& settings : {streaming({{"kv.budget", "36"}}, "window"), streaming({{"kv.positions", "original"}}), streaming(),
                                   Settings{{"kv.policy", "snapkv"}, {"kv.budget", "20"}}, streaming({{"kv.k_bits", "8"}, {"kv.v_bits", "8"}})}) {
    both.request(settings);
    const bool sealed = configure(settings).integer("kv.k_bits") < 16;
    const double bound = sealed ? codesBound(8) : kBound;
    EXPECT(both.steps(7) <= bound, configure(settings).canonical());
    EXPECT(both.prompt(14) <= bound, configure(settings).canonical());
    both.expectSameCache();
  }
  for (Session* session : {both.cpu.get(), both.gpu.get()}) ok(session->rebuildCache({}));
  both.expectSameCache();
}

TEST(sequences_of_one_step_are_turned_apart) {
  const auto engine = engineOn("cuda", openFamily("llama3"));
  std::vector<std::unique_ptr<Session>> together, alone;
  for (int i = 0; i < 3; ++i)
    for (auto* list : {&together, &alone}) {
      list->push_back(value(engine->createSession(configure(i == 1 ? Settings{} : streaming()), longText(512, 12), {})));
      ok(list->back()->prefill(someTokens(40 + 7 * i, 64, static_cast<uint32_t>(i + 1)), {}));
    }
  const std::vector<Session*> sessions = {together[0].get(), together[1].get(), together[2].get()};
  for (int32_t step = 0; step < 6; ++step) {
    const std::vector<int32_t> tokens = {step + 1, step + 5, step + 9};
    ok(Session::stepTogether(sessions, tokens));
    for (size_t i = 0; i < 3; ++i) {
      ok(alone[i]->step(tokens[i]));
      EXPECT_EQ(together[i]->logitsHash(), alone[i]->logitsHash());
    }
  }
}
