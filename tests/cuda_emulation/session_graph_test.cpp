// SPDX-License-Identifier: GPL-3.0-or-later
// A step is captured once and replayed: a change costs one capture at most, eviction and the text going on cost none.
#include "engine/cuda/backend.h"
#include "engine/run/session_impl.h"
#include "tests/cuda_emulation/sessions.h"

using namespace winnow;
using namespace winnow::test;

namespace {

struct Steps {
  std::shared_ptr<Engine> engine;
  std::unique_ptr<Session> session;

  explicit Steps(const Settings& settings, int prompt = 0) : engine(engineOn("cuda", openFamily("llama3"))) {
    SessionOptions options;
    options.context = prompt + 96;
    options.maxBatch = 128;
    session = value(engine->createSession(configure(settings), options, {}));
    ok(session->prefill(someTokens(prompt, 64), {}));
  }
  // Captures that so many steps took.
  int run(int count) {
    const auto captures = [&] { return static_cast<cuda::CudaBackend&>(*EngineCore::inside(*session).backend).captures(); };
    const int before = captures();
    for (int i = 0; i < count; ++i) ok(session->step(i));
    return captures() - before;
  }
  void request(const Settings& settings) {
    session->request(configure(settings));
    ok(session->finishPending({}));
  }
};

}  // namespace

TEST(a_change_costs_one_capture_at_most) {
  Steps steps({});
  EXPECT_EQ(steps.run(3), 1);
  EXPECT_EQ(steps.run(3), 0);
  const std::pair<Settings, int> changes[] = {{{{"weights.bits", "4"}}, 1},
                                              {{{"weights.bits", "4"}, {"compute.activations", "int8"}}, 1},
                                              {{{"weights.bits", "4"}, {"compute.prefill_twin", "off"}}, 1},  // activations again
                                              {{{"weights.bits", "4"}, {"kv.policy", "streaming"}, {"kv.budget", "8"}, {"kv.interval", "2"}}, 0},
                                              {{{"weights.bits", "4"}, {"kv.policy", "streaming"}, {"kv.budget", "6"}, {"kv.interval", "1"}}, 0},
                                              {{{"prune.ratio", "0.5"}}, 1},
                                              {{{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}, 1},
                                              {{}, 0}};
  for (const auto& [settings, most] : changes) {
    steps.request(settings);
    const int captured = steps.run(3);
    EXPECT(captured <= most, configure(settings).canonical(), captured);
    EXPECT_EQ(steps.run(2), 0);
  }
}

TEST(observing_ops_costs_one_capture) {
  Steps steps({});
  steps.run(2);
  for (const bool on : {true, false}) {
    steps.session->observeOps(on);
    EXPECT_EQ(steps.run(2), 1);
    EXPECT_EQ(steps.run(2), 0);
  }
}

// Lengths are bounded by powers of two from 128 on.
TEST(lengths_cost_a_capture_when_they_double) {
  Steps steps({}, 124);
  EXPECT_EQ(steps.run(4), 1);
  EXPECT_EQ(steps.run(1), 1);
  EXPECT_EQ(steps.run(3), 0);
}

// Pages fill, are quantized and let go: their tables are read where they lie.
TEST(pages_come_and_go_without_a_capture) {
  for (const Settings& settings : {Settings{{"kv.policy", "h2o"}, {"kv.budget", "20"}, {"kv.interval", "1"}}, Settings{{"kv.policy", "tova"}, {"kv.budget", "20"}, {"kv.interval", "4"}},
                                   Settings{{"kv.k_bits", "8"}, {"kv.v_bits", "4"}},
                                   Settings{{"kv.policy", "streaming"}, {"kv.budget", "20"}, {"kv.interval", "1"}, {"kv.positions", "cache"}, {"kv.k_bits", "8"}}}) {
    Steps steps(settings);
    const int first = steps.run(24);  // past the first eviction and the first sealed page
    EXPECT(first >= 1 && first <= 2, first);
    EXPECT_EQ(steps.run(20), 0);
  }
}

// What a query chooses and how much it reads are the device's to know: a capture serves until the lengths double.
TEST(a_query_chooses_without_a_capture) {
  for (const char* bits : {"16", "8"}) {
    Steps steps({{"kv.policy", "quest"}, {"kv.budget", "48"}, {"kv.k_bits", bits}}, 130);
    EXPECT_EQ(steps.run(2), 1);
    EXPECT_EQ(steps.run(60), 0);  // through blocks that fill and pages that are sealed
    steps.request({{"kv.policy", "quest"}, {"kv.budget", "64"}, {"kv.k_bits", bits}});
    EXPECT_EQ(steps.run(2), 1);
    steps.request({{"kv.k_bits", bits}});
    EXPECT_EQ(steps.run(2), 1);
  }
}
