// SPDX-License-Identifier: GPL-3.0-or-later
// compute.prefill_twin in whole sessions, with the library that long prompts of packed weights go to.
#include "engine/cuda/memory.h"
#include "tests/cuda_emulation/sessions.h"
#include "tests/support/planned.h"
#include "tests/support/random_model.h"
#include "tests/support/shapes.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr int kPrompt = 512;  // from here on weights are decoded

struct Library {
  Library() { emulator::haveLibrary(true); }
  ~Library() { emulator::haveLibrary(false); }
};

// Small: every query of a long prompt attends, one emulated thread after the other.
std::shared_ptr<const Model> oneLayer() {
  ModelConfig config = familyConfig("llama-linear");
  config.layers = config.heads = config.kvHeads = 1;
  config.hidden = 64;
  config.headDim = config.rope.dims = 16;
  config.ffn = 72;
  config.vocab = 96;
  return randomModel(config);
}

struct Long {
  std::shared_ptr<Engine> engine;
  SessionOptions options;
  std::unique_ptr<Session> session;
  std::vector<int32_t> prompt;

  explicit Long(const Settings& settings, const char* device = "cuda") : engine(engineOn(device, oneLayer())), prompt(someTokens(kPrompt, engine->model().config().vocab)) {
    options.context = kPrompt + 8;
    options.maxBatch = kPrompt;
    session = value(engine->createSession(configure(settings), options, {}));
  }
  int64_t kept() const { return bytes(session->memory(), MemoryTag::prefillTwin); }
  uint64_t feed() {
    session->reset();
    ok(session->prefill(prompt, {}));
    ok(session->step(1));
    return session->logitsHash();
  }
  void request(const Settings& settings) {
    session->request(configure(settings));
    ok(session->finishPending({}));
  }
  std::string reason() const {
    for (const Adjustment& a : session->effective()->adjustments)
      if (a.knob == "compute.prefill_twin") return toText(a.effective) + ": " + a.reason;
    return {};
  }
};

int64_t matrixValues(const Model& model) {
  int64_t sum = 0;
  for (const MasterTensor& t : model.tensors())
    if (t.layer >= 0 && t.rows > 1) sum += t.rows * t.cols;
  return sum;
}

void expectTwinsAsPlanned(const MemoryByTag& planned, const MemoryByTag& used) {
  expectAsPlanned(planned, used);
  EXPECT_EQ(bytes(planned, MemoryTag::prefillTwin), bytes(used, MemoryTag::prefillTwin));
}

}  // namespace

TEST(twins_are_kept_as_planned_and_change_no_bit) {
  const Library here;
  std::vector<uint64_t> hashes;
  for (const char* mode : {"off", "auto", "on"}) {
    Long run(Settings{{"weights.bits", "4"}, {"compute.prefill_twin", mode}});
    const MemoryByTag planned = value(run.engine->plan(run.session->effective()->config, run.options, kPrompt + 1));
    for (int prompt = 0; prompt < 2; ++prompt) hashes.push_back(run.feed());
    expectTwinsAsPlanned(planned, run.session->memory());
    EXPECT_EQ(run.kept(), std::string(mode) == "off" ? 0 : 2 * matrixValues(run.engine->model()));
    const DeviceMemory memory = run.engine->deviceMemory().value();
    EXPECT_EQ(memory.spareBytes, run.kept());
    EXPECT(run.reason().empty(), run.reason());
  }
  for (const uint64_t hash : hashes) EXPECT_EQ(hash, hashes.front());
}

TEST(twins_go_with_the_weights_and_with_the_knob) {
  const Library here;
  const Settings four = {{"weights.bits", "4"}};
  Long run(four);
  const uint64_t before = run.feed();
  const int64_t all = run.kept();
  EXPECT(all > 0);
  run.request({{"weights.bits", "8"}});
  EXPECT_EQ(run.kept(), int64_t{0});  // before any token
  EXPECT(run.feed() != before);
  EXPECT_EQ(run.kept(), all);
  run.request({});
  EXPECT_EQ(run.kept(), int64_t{0});
  run.request(four);
  EXPECT_EQ(run.feed(), before);
  EXPECT_EQ(run.kept(), all);
  run.request({{"weights.bits", "4"}, {"compute.prefill_twin", "off"}});
  EXPECT_EQ(run.kept(), int64_t{0});
  EXPECT_EQ(run.feed(), before);
  EXPECT_EQ(run.kept(), int64_t{0});
}

TEST(what_cannot_be_kept_is_said) {
  const auto reason = [](const Settings& settings, const char* device = "cuda") { return Long(settings, device).reason(); };
  const Settings on = {{"weights.bits", "4"}, {"compute.prefill_twin", "on"}};
#ifndef WINNOW_ON_DEVICE
  EXPECT(reason(on).find("off: twins are what cuBLASLt multiplies") == 0, reason(on));
#endif
  EXPECT(reason(on, "cpu").find("off: the CPU") == 0, reason(on, "cpu"));
  const Library here;
  EXPECT(reason(on).empty());
  EXPECT(reason({{"compute.prefill_twin", "on"}}).find("plain") != std::string::npos);
  for (const char* activations : {"f32", "int8"}) {
    Settings other = on;
    other.emplace_back("compute.activations", activations);
    EXPECT(reason(other).find("off: activations") == 0, reason(other));
  }
}

// A quarter of a GiB stays free even when twins are asked for; a session whose device has less keeps none, and nothing fails.
TEST(a_device_with_little_memory_keeps_none) {
  const Library here;
  const size_t limit = emulator::memoryLimit();
  uint64_t hash = 0;
  for (const char* mode : {"off", "auto", "on"}) {
    emulator::limitMemory(emulator::allocatedBytes() + (size_t{200} << 20));
    Long run(Settings{{"weights.bits", "4"}, {"compute.prefill_twin", mode}});
    EXPECT_EQ(bytes(value(run.engine->plan(run.session->effective()->config, run.options, kPrompt + 1)), MemoryTag::prefillTwin), int64_t{0});
    const uint64_t found = run.feed();
    if (hash == 0) hash = found;
    EXPECT_EQ(found, hash);
    EXPECT_EQ(run.kept(), int64_t{0});
    std::string told;
    for (const EngineEvent& event : run.session->takeEvents())
      if (event.code == "compute.prefill_twin" && event.kind == EngineEvent::Kind::fallback) told += event.text;
    EXPECT(told.empty() == (std::string(mode) != "on"), mode, told);
    emulator::limitMemory(limit);
  }
}

// Whoever needs memory gets what twins had; the session goes on, and says so with its next prompt.
TEST(twins_give_way_to_what_is_needed) {
  const Library here;
  Long first(Settings{{"weights.bits", "4"}, {"compute.prefill_twin", "on"}});
  const uint64_t before = first.feed();
  EXPECT(first.kept() > 0);
  const size_t limit = emulator::memoryLimit();
  emulator::limitMemory(emulator::allocatedBytes());
  Ledger ledger;
  {
    const cuda::DeviceBuffer needed(ledger, MemoryTag::kv, static_cast<size_t>(first.kept()));
    EXPECT_EQ(first.kept(), int64_t{0});
    EXPECT_EQ(first.feed(), before);
  }
  emulator::limitMemory(limit);
  bool told = false;
  for (const EngineEvent& event : first.session->takeEvents()) told |= event.code == "compute.prefill_twin" && event.text.find("given back") != std::string::npos;
  EXPECT(told);
  EXPECT_EQ(first.feed(), before);
}
