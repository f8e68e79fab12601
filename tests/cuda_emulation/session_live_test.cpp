// SPDX-License-Identifier: GPL-3.0-or-later
// Every knob that acts in mid-generation, on the device as on the CPU: the same slots stay, the logits stay within the bound.
#include "engine/cache/registry.h"
#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

TEST(weights_change_between_tokens_and_come_back_bit_for_bit) {
  Both both("llama3");
  EXPECT(both.prompt(7) <= kBound);
  const auto tokens = both.gpu->tokens();
  const uint64_t before = (both.gpu->reset(), ok(both.gpu->prefill(tokens, {})), both.gpu->logitsHash());
  both.request({{"weights.bits", "4"}});
  EXPECT(both.steps(2) <= kBound);
  both.request({{"weights.bits", "3"}, {"prune.ratio", "0.5"}});
  EXPECT(both.steps(2) <= kBound);
  both.request({{"prune.ratio", "0.25"}});
  EXPECT(both.steps(2) <= kBound);
  both.request({});
  EXPECT(both.steps(2) <= kBound);
  both.gpu->reset();
  ok(both.gpu->prefill(tokens, {}));
  EXPECT_EQ(both.gpu->logitsHash(), before);
}

TEST(weights_made_in_the_background_are_published_between_tokens) {
  Both both("qwen3");
  both.prompt(4);
  both.gpu->request(configure({{"weights.bits", "4"}}));
  for (int i = 0; i < 200 && both.gpu->pending(); ++i) {
    if (i % 40 == 0) ok(both.gpu->step(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    both.gpu->adopt();
  }
  EXPECT(!both.gpu->pending());
  EXPECT_EQ(both.gpu->effective()->config.integer("weights.bits"), int64_t{4});
  both.cpu->request(configure({{"weights.bits", "4"}}));
  ok(both.cpu->finishPending({}));
  EXPECT_EQ(both.cpuEngine->ledger().bytes(MemoryTag::weights), both.gpuEngine->ledger().bytes(MemoryTag::weights) - both.cpuEngine->ledger().bytes(MemoryTag::weightsMapped));
}

TEST(every_policy_evicts_the_same_slots) {
  for (const KvPolicyInfo& info : kvPolicies()) {
    const char* policy = info.name.c_str();
    if (info.name == "full" || info.selects) continue;
    Both both("llama3", {{"kv.policy", policy}, {"kv.budget", "12"}, {"kv.interval", "4"}});
    const double prompt = both.prompt(20);
    both.expectSameCache();
    const double decode = both.steps(6);
    both.expectSameCache();
    EXPECT(both.gpu->cache().evictedTokens > 0, policy);
    EXPECT(prompt <= kBound && decode <= kBound, policy, prompt, decode);
  }
}

// They remember 1, 32, 64 and 128 queries, and a captured step is replayed in between.
TEST(policies_follow_one_another) {
  Both both("llama3", {{"kv.policy", "tova"}, {"kv.budget", "20"}, {"kv.interval", "2"}});
  EXPECT(both.prompt(22) <= kBound);
  for (const char* policy : {"snapkv", "expected", "scissorhands", "keyformer", "keydiff", "knorm", "tova"}) {
    both.request({{"kv.policy", policy}, {"kv.budget", "16"}, {"kv.interval", "2"}});
    const double worst = both.steps(4);
    EXPECT(worst <= kBound, policy, worst);
    both.expectSameCache();
  }
}

TEST(a_budget_narrows_and_widens_in_mid_generation) {
  Both both("qwen2");
  both.prompt(24);
  const int64_t wide = both.gpu->cache().allocatedBytes;
  both.request({{"kv.policy", "h2o"}, {"kv.budget", "8"}, {"kv.interval", "2"}});
  EXPECT(both.steps(4) <= kBound);
  both.expectSameCache();
  EXPECT(both.gpu->cache().allocatedBytes < wide);
  both.request({});
  EXPECT(both.steps(2) <= kBound);
  EXPECT(both.gpu->cacheMixed());
  for (Session* session : {both.cpu.get(), both.gpu.get()}) ok(session->rebuildCache({}));
  both.expectSameCache();
  EXPECT(!both.gpu->cacheMixed());
  EXPECT(distance(both.cpu->logits(), both.gpu->logits()) <= kBound);
  EXPECT(both.steps(2) <= kBound);
}

TEST(attention_is_shared_and_parted_in_mid_generation) {
  for (const char* family : {"llama3", "gpt2"})
    for (const int64_t probabilities : {int64_t{1} << 20, int64_t{0}}) {  // kept, and computed again
      SessionOptions options;
      options.probabilityBytes = probabilities;
      Both both(family, {}, options);
      both.prompt(9);
      both.request({{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}});
      EXPECT(both.gpu->plan().follower(1));
      EXPECT(both.steps(3) <= kBound, family, probabilities);
      both.expectSameCache();
      both.request({});
      for (Session* session : {both.cpu.get(), both.gpu.get()}) ok(session->rebuildCache({}));
      EXPECT(!both.gpu->plan().follower(1));
      both.expectSameCache();
      EXPECT(both.steps(2) <= kBound, family, probabilities);
    }
}

TEST(a_shared_prompt_computes_as_on_the_cpu) {
  for (const int64_t probabilities : {int64_t{1} << 20, int64_t{0}}) {
    SessionOptions options;
    options.probabilityBytes = probabilities;
    Both both("llama3", {{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}, options);
    EXPECT(both.prompt(15) <= kBound, probabilities);
    EXPECT(both.steps(2) <= kBound, probabilities);
  }
}

TEST(rewinding_forgets_and_feeds_again) {
  Both both("mistral");
  both.prompt(14);
  for (Session* session : {both.cpu.get(), both.gpu.get()}) EXPECT_EQ(session->rewind(9), int64_t{9});
  both.expectSameCache();
  EXPECT(both.steps(3) <= kBound);
  both.expectSameCache();
}

TEST(quantized_pages_hold_and_evict_the_same_slots) {
  for (const char* quantizer : {"per_token", "kivi"})
    for (const char* policy : {"full", "streaming", "h2o", "snapkv", "random", "keydiff", "keyformer", "expected"}) {
      Settings settings = {{"kv.k_bits", "8"}, {"kv.v_bits", "8"}, {"kv.quantizer", quantizer}, {"kv.policy", policy}};
      if (std::string(policy) != "full") settings.insert(settings.end(), {{"kv.budget", "24"}, {"kv.interval", "16"}});
      Both both("llama3", settings);
      const double prompt = both.prompt(40);
      both.expectSameCache();
      const double decode = both.steps(12);
      both.expectSameCache();
      EXPECT(both.gpu->cache().unsealedBytes < both.gpu->cache().allocatedBytes, policy);
      EXPECT(std::string(policy) == "full" || both.gpu->cache().evictedTokens > 0, policy);
      EXPECT(prompt <= codesBound(8) && decode <= codesBound(8), quantizer, policy, prompt, decode);
      EXPECT(both.firstRow <= kBound, quantizer, policy, both.firstRow);
    }
}

TEST(pages_are_quantized_again_in_mid_generation) {
  Both both("qwen3");
  EXPECT(both.prompt(36) <= kBound);
  const int64_t wide = both.gpu->cache().allocatedBytes;
  for (const Settings& settings : {Settings{{"kv.k_bits", "8"}, {"kv.v_bits", "8"}}, Settings{{"kv.k_bits", "8"}, {"kv.v_bits", "8"}, {"kv.quantizer", "kivi"}, {"kv.rotate", "true"}},
                                   Settings{{"kv.k_bits", "4"}, {"kv.v_bits", "8"}, {"kv.rotate", "true"}}, Settings{}}) {
    both.request(settings);
    EXPECT(both.steps(3) <= codesBound(4), both.fed);
    both.expectSameCache();
    EXPECT(both.gpu->cache().allocatedBytes < wide, both.fed);
    EXPECT_EQ(both.gpu->cacheMixed(), both.cpu->cacheMixed());
  }
  EXPECT(both.gpu->cacheMixed());
  for (Session* session : {both.cpu.get(), both.gpu.get()}) ok(session->rebuildCache({}));
  both.expectSameCache();
  EXPECT(!both.gpu->cacheMixed());
  EXPECT(distance(both.cpu->logits(), both.gpu->logits()) <= kBound);
}

TEST(quantized_pages_serve_followers_and_rewinding) {
  for (const int64_t probabilities : {int64_t{1} << 20, int64_t{0}}) {
    SessionOptions options;
    options.probabilityBytes = probabilities;
    Both both("llama3", {{"kv.k_bits", "8"}, {"kv.v_bits", "4"}, {"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}, options);
    EXPECT(both.prompt(35) <= codesBound(4), probabilities);
    EXPECT(both.steps(3) <= codesBound(4), probabilities);
    both.expectSameCache();
    for (Session* session : {both.cpu.get(), both.gpu.get()}) EXPECT_EQ(session->rewind(21), int64_t{21});
    both.expectSameCache();
    EXPECT(both.steps(3) <= codesBound(4), probabilities);
    both.expectSameCache();
  }
}

// Rotated or not, keys of 16 bits and values of 2: what is not sealed is as exact as ever.
TEST(a_cache_that_seals_nothing_yet_is_exact) {
  for (const char* rotate : {"false", "true"}) {
    Both both("llama3", {{"kv.k_bits", "2"}, {"kv.v_bits", "2"}, {"kv.rotate", rotate}});
    EXPECT(both.prompt(9) <= kBound, rotate);
    EXPECT(both.steps(7) <= kBound, rotate);
    both.expectSameCache();
  }
}

// The forms of pages lie elsewhere once they were let go and made again: what was captured before names the old place.
TEST(a_step_captured_on_other_forms_is_captured_anew) {
  const Settings sealed = {{"kv.k_bits", "8"}, {"kv.v_bits", "8"}};
  Both both("llama3", sealed);
  both.prompt(20);
  EXPECT(both.steps(2) <= codesBound(8));
  both.request({});
  for (Session* session : {both.cpu.get(), both.gpu.get()}) session->reset();
  both.request(sealed);
  both.prompt(20);
  EXPECT(both.steps(2) <= codesBound(8));
  both.expectSameCache();
}
