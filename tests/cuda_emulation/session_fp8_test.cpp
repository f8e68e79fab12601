// SPDX-License-Identifier: GPL-3.0-or-later
// compute.activations=fp8 in whole sessions: how far long prompts come from 16 bits, what stays as it was, memory as planned, who refuses it and why.
#include "engine/cuda/memory.h"
#include "tests/cuda_emulation/sessions.h"
#include "tests/support/random_model.h"
#include "tests/support/shapes.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr int kPrompt = 512;  // from here on

struct Library {
  Library() { emulator::haveLibrary(true); }
  ~Library() { emulator::haveLibrary(false); }
};

ModelConfig shapeOf(int hidden = 64) {  // small: every query of a long prompt attends, one emulated thread after the other
  ModelConfig config = familyConfig("llama-linear");
  config.layers = config.heads = config.kvHeads = 1;
  config.hidden = hidden;
  config.headDim = config.rope.dims = 16;
  config.ffn = 80;
  config.vocab = 96;
  return config;
}

struct Long {
  std::shared_ptr<Engine> engine;
  SessionOptions options;
  std::unique_ptr<Session> session;

  explicit Long(const Settings& settings, DType type = DType::f32, const char* device = "cuda", int hidden = 64) : engine(engineOn(device, randomModel(shapeOf(hidden), type))) {
    options.context = kPrompt + 8;
    options.maxBatch = kPrompt;
    session = value(engine->createSession(configure(settings), options, {}));
  }
  int64_t kept() const { return bytes(session->memory(), MemoryTag::prefillTwin); }
  std::vector<float> logits(int count) { return logitsAfter(*session, someTokens(count, engine->model().config().vocab)); }
  std::string reason() const {
    for (const Adjustment& a : session->effective()->adjustments)
      if (a.knob == "compute.activations") return toText(a.effective) + ": " + a.reason;
    return {};
  }
  void needFp8() const {
#ifdef WINNOW_ON_DEVICE
    if (!reason().empty()) SKIP("this device: " + reason());
#else
    EXPECT(reason().empty(), reason());
#endif
  }
};

Settings with(Settings settings, const char* name, const char* text) {
  settings.emplace_back(name, text);
  return settings;
}
const Settings kFp8 = {{"compute.activations", "fp8"}};

int64_t twinBytes(const Model& model) {
  int64_t sum = 0;
  for (const MasterTensor& t : model.tensors())
    if (t.layer >= 0 && t.rows > 1) sum += t.rows * (t.cols + int64_t{sizeof(float)});
  return sum;
}

}  // namespace

// A fraction of three bits is off by 2^-3 / sqrt(12) of its power of two, and by 0.0265 of the value where fractions are spread evenly in the logarithm
// (the mean of 1 / m^2 for m from 1 to 2 is 3 / (8 ln 2)). Both factors of a product: 0.0375 of its norm, u for its square. What errors of one square
// add along the one layer: v is off by 1 u and the probabilities, with scores of about 1 off by as much as q and k, 2 u more; o 4 u, gate and up 5 u
// each, their product 10 u, down 11 u. If all that the head sees came from there its logits were off by sqrt(11) 0.0375 = 1/8 of their norm.
TEST(long_prompts_come_near_those_of_16_bits) {
  const Library here;
  for (const DType type : {DType::f32, DType::bf16})
    for (const char* bits : {"16", "4"}) {
      const Settings settings = {{"weights.bits", bits}};
      Long sixteen(settings, type), eight(with(settings, "compute.activations", "fp8"), type);
      eight.needFp8();
      const double apart = distance(sixteen.logits(kPrompt), eight.logits(kPrompt));
      EXPECT(apart > 0x1p-8 && apart < 1.0 / 8, bits, apart);
      // Steps behind the same tokens, and prompts that are not long, are those of auto.
      EXPECT(eight.logits(40) == sixteen.logits(40), bits);
      for (Session* session : {sixteen.session.get(), eight.session.get()}) ok(session->step(3));
      EXPECT(distance(sixteen.session->logits(), eight.session->logits()) == 0, bits);
    }
}

TEST(twins_in_fp8_are_kept_as_planned_and_change_no_bit) {
  const Library here;
  for (const char* bits : {"16", "4"}) {
    std::vector<std::vector<float>> found;
    for (const char* mode : {"off", "auto", "on"}) {
      const Settings settings = {{"compute.activations", "fp8"}, {"weights.bits", bits}, {"compute.prefill_twin", mode}};
      Long run(settings, DType::bf16);
      run.needFp8();
      const MemoryByTag planned = value(run.engine->plan(run.session->effective()->config, run.options, kPrompt));
      for (int prompt = 0; prompt < 2; ++prompt) found.push_back(run.logits(kPrompt));
      EXPECT_EQ(run.kept(), std::string(mode) == "off" ? 0 : twinBytes(run.engine->model()));
      EXPECT_EQ(bytes(planned, MemoryTag::prefillTwin), run.kept());
      for (const MemoryTag tag : {MemoryTag::activations, MemoryTag::weights, MemoryTag::kv}) {
        const auto used = static_cast<double>(bytes(run.session->memory(), tag));
        EXPECT(std::fabs(static_cast<double>(bytes(planned, tag)) - used) <= std::max(0.02 * used, 65536.0), memoryTagName(tag));
      }
      for (const Adjustment& a : run.session->effective()->adjustments) EXPECT(a.knob != "compute.prefill_twin", a.reason);
    }
    for (const auto& logits : found) EXPECT(logits == found.front(), bits);
  }
}

TEST(the_form_of_twins_follows_the_knob) {
  const Library here;
  const Settings four = {{"weights.bits", "4"}};
  Long run(four);
  const std::vector<float> before = run.logits(kPrompt);
  const int64_t sixteen = run.kept();
  run.session->request(configure(with(four, "compute.activations", "fp8")));
  ok(run.session->finishPending({}));
  run.needFp8();
  EXPECT(run.logits(kPrompt) != before);
  EXPECT(run.kept() == twinBytes(run.engine->model()) && run.kept() < sixteen);
  run.session->request(configure(four));
  ok(run.session->finishPending({}));
  EXPECT(run.logits(kPrompt) == before);
  EXPECT_EQ(run.kept(), sixteen);
}

TEST(who_has_no_fp8_says_why) {
  const auto reason = [](const char* device = "cuda", int hidden = 64) { return Long(kFp8, DType::f32, device, hidden).reason(); };
  EXPECT(reason("cpu").find("auto: the CPU") == 0, reason("cpu"));
#ifndef WINNOW_ON_DEVICE
  EXPECT(reason().find("auto: products of FP8 are cuBLASLt's") == 0, reason());
  const Library here;
  EXPECT(reason().empty(), reason());
  for (const int tenfold : {80, 86}) {
    emulator::haveCapability(tenfold);
    EXPECT(reason().find("8." + std::to_string(tenfold % 10)) != std::string::npos && reason().find("8.9 or newer") != std::string::npos, reason());
  }
  emulator::haveCapability(89);
  EXPECT(reason().empty(), reason());
  EXPECT(reason("cuda", 72).find("multiples of 16") != std::string::npos, reason("cuda", 72));
  emulator::haveCapability(90);
#endif
}
