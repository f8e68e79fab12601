// SPDX-License-Identifier: GPL-3.0-or-later
// Layers that read the cache of another, windows in most of them, and prompts that are quantized at their end, on the device against the CPU.
#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

namespace {

Settings shared(const char* method, const Settings& beside = {}) {
  Settings out = {{"share.method", method}, {"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}};
  out.insert(out.end(), beside.begin(), beside.end());
  return out;
}

struct Limited {
  const size_t before = emulator::memoryLimit();
  explicit Limited(size_t more) { emulator::limitMemory(emulator::allocatedBytes() + more); }
  ~Limited() { emulator::limitMemory(before); }
};

}  // namespace

TEST(readers_of_a_cache_compute_as_on_the_cpu) {
  for (const char* family : {"llama3", "gpt2", "qwen3", "mistral"})
    for (const Settings& settings : {shared("cla"), shared("mix", {{"kv.budget", "12"}, {"kv.interval", "1"}}), shared("cla", {{"kv.policy", "h2o"}, {"kv.budget", "14"}}),
                                     shared("cla", {{"kv.policy", "snapkv"}, {"kv.budget", "14"}})}) {
      Both both(family, settings);
      EXPECT(both.gpu->plan().borrows(1), family);
      const double worst = both.promptThenSteps(19, 5);
      EXPECT(worst <= kBound, family, settings[0].second, worst);
      both.expectSameCache();
    }
}

// A captured step names the pages it reads: another sharing is another step.
TEST(sharing_comes_and_goes_between_captured_steps) {
  Both both("llama3");
  EXPECT(both.promptThenSteps(9, 2) <= kBound);
  both.request(shared("cla"));
  EXPECT(both.steps(3) <= kBound);
  EXPECT(both.gpu->plan().borrows(1));
  both.expectSameCache();
  both.request({});
  ok(both.cpu->rebuildCache({}));
  ok(both.gpu->rebuildCache({}));
  EXPECT(!both.gpu->plan().borrows(1));
  EXPECT(both.steps(3) <= kBound);
  both.expectSameCache();
}

TEST(a_long_prompt_is_read_unquantized) {
  const auto engine = engineOn("cuda", openFamily("llama3"));
  const SessionOptions options{.context = 1400, .maxBatch = 512};
  std::vector<int32_t> ids;
  for (int i = 0; i < 1300; ++i) ids.push_back((i * 37 + 11) % engine->model().config().vocab);
  const auto plain = value(engine->createSession(Config(), options, {})), narrow = value(engine->createSession(configure({{"kv.k_bits", "2"}, {"kv.v_bits", "2"}}), options, {}));
  ok(plain->prefill(ids, {}));
  ok(narrow->prefill(ids, {}));
  EXPECT(std::ranges::equal(plain->logits(), narrow->logits()));
  EXPECT(narrow->cache().allocatedBytes < plain->cache().allocatedBytes / 2);
  ok(plain->step(5));
  ok(narrow->step(5));
  EXPECT(!std::ranges::equal(plain->logits(), narrow->logits()));
}

TEST(what_evicts_in_a_prompt_does_not_quantize_it) {
  for (const char* policy : {"h2o", "streaming"}) {
    const Settings evicting = {{"kv.policy", policy}, {"kv.budget", "20"}, {"kv.interval", "16"}, {"kv.k_bits", "2"}, {"kv.v_bits", "2"}};
    Both narrow("llama3", evicting), plain("llama3", {evicting.begin(), evicting.begin() + 3});
    narrow.prompt(60);
    plain.prompt(60);
    EXPECT(std::ranges::equal(plain.gpu->logits(), narrow.gpu->logits()), policy);
    EXPECT(std::ranges::equal(plain.cpu->logits(), narrow.cpu->logits()), policy);
    narrow.expectSameCache();
  }
}

TEST(a_device_without_room_quantizes_a_prompt_as_it_comes) {
  const auto engine = engineOn("cuda", openFamily("llama3"));
  const auto session = value(engine->createSession(configure({{"kv.k_bits", "2"}, {"kv.v_bits", "2"}}), {.context = 256, .maxBatch = 16}, {}));
  std::vector<int32_t> ids;
  for (int i = 0; i < 160; ++i) ids.push_back((i * 37 + 11) % session->vocab());
  const auto told = [&] {
    return std::ranges::any_of(session->takeEvents(), [](const EngineEvent& event) { return event.code == "kv.sealed_early"; });
  };
  ok(session->prefill(ids, {}));
  EXPECT(!told());
  const int64_t sealed = session->cache().allocatedBytes;
  session->reset();
  {
    const Limited tight(static_cast<size_t>(2 * sealed));
    ok(session->prefill(ids, {}));
  }
  EXPECT(told());
  EXPECT_EQ(session->cache().allocatedBytes, sealed);
}
