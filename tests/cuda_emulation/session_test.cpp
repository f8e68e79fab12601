// SPDX-License-Identifier: GPL-3.0-or-later
// Whole sessions of every family, weight format and rounding, prompt and decode, on the device against the CPU.
#include "engine/run/sampler.h"
#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

namespace {
const char* kFamilies[] = {"llama3", "llama-linear", "mistral", "qwen2", "qwen3", "gpt2"};
}

TEST(every_family_computes_as_on_the_cpu) {
  for (const char* family : kFamilies)
    for (uint32_t seed : {0u, 7u}) {
      emulator::setSeed(seed);
      Both both(family);
      const double prompt = both.prompt(seed ? 5 : 19), decode = both.steps(seed ? 2 : 6);
      EXPECT(prompt <= kBound && decode <= kBound, family, seed, prompt, decode);
    }
  emulator::setSeed(0);
}

TEST(every_weight_format_and_rounding_computes_as_on_the_cpu) {
  int exactRows = 0;  // first rows in int8 without a step apart
  for (const char* bits : {"2", "3", "4", "5", "6", "8"})
    for (const char* mode : {"auto", "f32", "int8"}) {
      const bool int8 = std::string(mode) == "int8";
      Both both("qwen3", {{"weights.bits", bits}, {"compute.activations", mode}});
      const double worst = both.promptThenSteps(9, 2);
      EXPECT(worst <= (int8 ? kInt8Bound : kBound), bits, mode, worst);
      exactRows += int8 && both.firstRow <= kBound;
    }
  EXPECT(exactRows >= 3, exactRows);  // of 6; fewer with a chance below 1 % (device_bounds.h)
  Both half("qwen2", {{"compute.activations", "16bit"}});
  const double worst = half.promptThenSteps(9, 2);
  EXPECT(worst <= kBound, worst);
}

TEST(several_sequences_in_one_step_get_the_logits_of_their_own_steps) {
  const auto engine = engineOn("cuda", openFamily("llama3"));
  SessionOptions options;
  options.context = 64;
  options.maxBatch = 8;
  std::vector<std::unique_ptr<Session>> together, alone;
  for (int i = 0; i < 3; ++i)
    for (auto* list : {&together, &alone}) {
      list->push_back(value(engine->createSession(Config(), options, {})));
      ok(list->back()->prefill(someTokens(3 + i, 64, static_cast<uint32_t>(i + 1)), {}));
    }
  const std::vector<Session*> sessions = {together[0].get(), together[1].get(), together[2].get()};
  for (int32_t step = 0; step < 3; ++step) {
    const std::vector<int32_t> tokens = {step + 1, step + 5, step + 9};
    ok(Session::stepTogether(sessions, tokens));
    for (size_t i = 0; i < 3; ++i) {
      ok(alone[i]->step(tokens[i]));
      EXPECT_EQ(together[i]->logitsHash(), alone[i]->logitsHash());
    }
  }
}

TEST(scores_and_samples_are_made_where_the_logits_are) {
  Both both("qwen2");
  both.prompt(5);
  std::vector<float> other(both.cpu->logits().begin(), both.cpu->logits().end());
  other[3] += 1;
  const int32_t target = 7;
  for (Session* session : {both.cpu.get(), both.gpu.get()}) {
    TokenScore own, copied;
    session->scoreLogits(session->logits().data(), {&target, 1}, &own);
    const std::vector<float> copy(session->logits().begin(), session->logits().end());
    session->scoreLogits(copy.data(), {&target, 1}, &copied);
    EXPECT(own.nll == copied.nll && own.best == copied.best && own.best == best(copy));
    Divergence self, changed;
    session->compareLogits(copy.data(), session->logits().data(), {&target, 1}, &self);
    session->compareLogits(other.data(), session->logits().data(), {&target, 1}, &changed);
    EXPECT_EQ(self.kld, 0.0);
    EXPECT(changed.kld > 0);
    EXPECT_EQ(session->sample({}, {}), best(copy));
    SamplerSettings warm;
    warm.temperature = 0.8f;
    warm.repetitionPenalty = 1.2f;
    EXPECT_EQ(session->sample(session->tokens(), warm), session->sample(session->tokens(), warm));
  }
  TokenScore a, b;
  both.cpu->scoreLogits(other.data(), {&target, 1}, &a);
  both.gpu->scoreLogits(other.data(), {&target, 1}, &b);
  EXPECT_NEAR(a.nll, b.nll, 1e-5);
  EXPECT_NEAR(a.entropy, b.entropy, 1e-5);
}

// Products make their own input, and the last block of a head's attention merges its chunks: q, k and v; store; attend; output; gate and
// up; down. Around the layers: rotations, embedding, the head, lengths.
TEST(a_layer_of_a_step_is_six_launches) {
  Both both("llama3", {{"weights.bits", "4"}});
  both.prompt(4);
  both.steps(2);
  const uint64_t before = emulator::launches();
  both.steps(1);
  EXPECT_EQ(emulator::launches() - before, static_cast<uint64_t>(6 * both.gpuEngine->model().config().layers + 4));
}

// Codes are read where they lie: nothing is unpacked, and no scratch waits for it.
TEST(a_step_on_sealed_pages_takes_no_launch_and_no_scratch_more) {
  uint64_t launches[2];
  int64_t scratch[2], pages[2];
  for (const bool sealed : {false, true}) {
    const auto engine = engineOn("cuda", openFamily("llama3"));
    SessionOptions options;
    options.context = 64;
    options.maxBatch = 8;
    const auto session = value(engine->createSession(configure(sealed ? Settings{{"kv.k_bits", "4"}, {"kv.v_bits", "2"}} : Settings{}), options, {}));
    for (const int32_t id : someTokens(34, 64)) ok(session->step(id));
    const uint64_t before = emulator::launches();
    ok(session->step(1));
    launches[sealed] = emulator::launches() - before;
    scratch[sealed] = bytes(session->memory(), MemoryTag::activations);
    pages[sealed] = session->cache().allocatedBytes;
  }
  EXPECT(pages[1] < pages[0], pages[0], pages[1]);
  EXPECT_EQ(launches[1], launches[0]);
  EXPECT_EQ(scratch[1], scratch[0]);
}
