// SPDX-License-Identifier: GPL-3.0-or-later
// A second thread changes knobs as fast as it can while the first generates, and a third reads what a window would show. Run under
// ThreadSanitizer too. `test_engine_swap_stress [substring]`; short by default.
#include <atomic>
#include <chrono>
#include <thread>

#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

const std::vector<Settings>& cycle() {
  static const std::vector<Settings> settings = {
      {{"weights.bits", "4"}},
      {{"weights.bits", "4"}, {"kv.policy", "h2o"}, {"kv.budget", "0.5"}, {"kv.interval", "2"}},
      {{"kv.policy", "window"}, {"kv.budget", "12"}, {"kv.sinks", "0"}, {"kv.interval", "1"}},
      {{"weights.bits", "2"}, {"share.block", "2"}, {"share.first", "1"}, {"share.last", "0"}},
      {{"prune.ratio", "0.4"}, {"kv.policy", "random"}, {"kv.budget", "0.3"}},
      {{"weights.bits", "8"}, {"compute.activations", "int8"}, {"compute.publish", "layers"}},
      {{"weights.bits", "3"}, {"compute.publish", "layers"}},
      {{"prune.ratio", "0.3"}, {"compute.publish", "layers"}},
      {{"prune.ratio", "0.5"}, {"compute.publish", "layers"}},
      {{"compute.publish", "layers"}},
      {}};
  return settings;
}

// Sessions end while requests are on their way, so jobs die at every stage.
void stress(const char* file, int sessions, int tokens) {
  const auto engine = openEngine(file);
  const int vocab = engine->model().config().vocab;
  for (int round = 0; round < sessions; ++round) {
    const auto session = makeSession(engine);
    std::atomic<bool> done{false};
    std::atomic<int> requests{0};
    std::jthread changer([&] {
      for (size_t i = static_cast<size_t>(round); !done.load(); ++i) {
        session->request(configure(cycle()[i % cycle().size()]), "sweep");
        ++requests;
        std::this_thread::sleep_for(std::chrono::microseconds(300 * (i % 7)));
      }
    });
    std::jthread reader([&] {
      while (!done.load()) {
        const auto effective = session->effective();
        EXPECT(effective != nullptr);
        const MemoryByTag memory = session->memory();
        EXPECT(bytes(memory, MemoryTag::weights) + bytes(memory, MemoryTag::weightsMapped) > 0);
        (void)session->pending();
        EXPECT(session->pendingFraction() >= 0 && session->rebuildCostMs() >= 0);
        (void)session->cacheMixed();
        std::this_thread::yield();
      }
    });
    ok(session->prefill(someTokens(40, vocab, static_cast<uint32_t>(round)), {}));
    int64_t epochs = 0;
    // However fast the machine: on to where requests have become epochs.
    for (int i = 0; i < tokens || (epochs == 0 && i < 40 * tokens && session->position() < session->context()); ++i) {
      ok(session->step(best(session->logits())));
      for (const EngineEvent& event : session->takeEvents()) epochs += event.kind == EngineEvent::Kind::epoch;
      if (i == tokens / 2) ok(session->rebuildCache({}));
    }
    while (requests.load() < 8) std::this_thread::yield();
    done = true;
    changer.join();
    reader.join();
    session->request(Config());
    ok(session->finishPending({}));
    EXPECT(epochs > 0, round);
    EXPECT_EQ(session->effective()->config.integer("weights.bits"), int64_t{16});
    // After all of it a fresh run is the fresh run.
    const auto prompt = someTokens(30, vocab);
    EXPECT(relativeError(logitsAfter(*makeSession(engine), prompt), logitsAfter(*session, prompt)) == 0);
  }
  // The converter lets go of a superseded request in its own time.
  for (int i = 0; i < 1000 && engine->ledger().total() != 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(engine->ledger().total(), int64_t{0});
}

}  // namespace

TEST(knobs_change_while_decoding_f32) { stress(kStories, 4, 120); }
TEST(knobs_change_while_decoding_q4_0) { stress("models/random-llama-256-Q4_0.gguf", 2, 60); }
