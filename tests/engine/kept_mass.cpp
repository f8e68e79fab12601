// SPDX-License-Identifier: GPL-3.0-or-later
// What a cache keeps of the whole cache's attention: all of it without a policy, sums over the maps of attention in double, and the share of
// positions where attention is even.
#include "engine/run/kept_mass.h"

#include "engine/run/attention_maps.h"
#include "tests/support/engine.h"
#include "tests/support/random_model.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr int kTokens = 70, kPrompt = 40;

std::shared_ptr<Engine> engineOf(const std::string& family, bool hollow = false) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 2;
  return value(Engine::create(randomModel(familyConfig(family), DType::f32, hollow), options));
}

struct Measured {
  std::vector<int32_t> ids;
  std::unique_ptr<Session> whole, kept;
  Measured(const std::shared_ptr<Engine>& engine, const Settings& settings)
      : ids(someTokens(kTokens, engine->model().config().vocab)), whole(makeSession(engine)), kept(makeSession(engine, configure(settings))) {}
  KeptMass mass(int prompt = kPrompt) { return value(measureKeptMass(*whole, *kept, ids, prompt, {})); }
};

}  // namespace

TEST(a_whole_cache_keeps_everything_exactly) {
  for (const Settings& settings : {Settings{}, Settings{{"kv.policy", "h2o"}, {"kv.budget", "100"}}, Settings{{"kv.k_bits", "4"}, {"kv.v_bits", "4"}}, Settings{{"kv.policy", "quest"}, {"kv.budget", "16"}}}) {
    Measured measured(engineOf("llama3"), settings);
    const KeptMass kept = measured.mass();
    EXPECT(kept.layers == 3 && kept.heads == 6 && kept.prompt == kPrompt && kept.queries == kTokens - kPrompt);
    for (const KeptMass::Head& head : kept.of) EXPECT(head.mass == 1 && head.held == 1, head.mass, head.held);
    EXPECT(kept.mean().mass == 1 && kept.mean().held == 1);
    EXPECT(measured.whole->position() == 0 && measured.kept->position() == 0);
  }
}

// The same sums from the attention of a whole prompt and from what another session holds before each token. Probabilities of both ways are f32
// and differ by the order of their sums.
TEST(kept_mass_is_the_sum_over_positions_held) {
  for (const char* family : {"llama3", "mistral", "gpt2"})
    for (const char* policy : {"h2o", "streaming", "keydiff"}) {
      const auto engine = engineOf(family);
      const Settings settings = {{"kv.policy", policy}, {"kv.budget", "0.4"}, {"kv.interval", "3"}, {"kv.allocation", "adaptive"}};
      Measured measured(engine, settings);
      const KeptMass kept = measured.mass();
      const AttentionMaps maps = value(measureAttentionMaps(*measured.whole, measured.ids, kTokens, {}));
      Session& session = *measured.kept;
      ok(session.prefill(std::span(measured.ids).first(kPrompt), {}));
      session.applyPolicyNow();
      std::vector<double> mass(kept.of.size()), held(kept.of.size());
      for (int query = kPrompt; query < kTokens; ++query) {
        for (const HeadPositions& row : session.occupancy())
          for (int head = 0; head < kept.heads; ++head) {
            if (head * engine->model().config().kvHeads / kept.heads != row.kvHead) continue;
            const auto at = static_cast<size_t>(row.layer * kept.heads + head);
            double sum = maps.share(row.layer, head, query, query);
            for (const int32_t position : row.positions) sum += maps.share(row.layer, head, query, position);
            mass[at] += sum / (kTokens - kPrompt);
            held[at] += static_cast<double>(row.positions.size() + 1) / (query + 1) / (kTokens - kPrompt);
          }
        ok(session.step(measured.ids[static_cast<size_t>(query)]));
      }
      double least = 1;
      for (size_t i = 0; i < mass.size(); ++i) {
        EXPECT_NEAR(kept.of[i].mass, mass[i], 2e-5);
        EXPECT_NEAR(kept.of[i].held, held[i], 1e-12);
        least = std::min(least, kept.of[i].mass);
      }
      EXPECT(least < 0.99 && least > 0, family, policy, least);
    }
}

// All weights zero: every query attends evenly, so the newest 16 and its own are 17 of position + 1.
TEST(even_attention_keeps_the_share_of_a_window) {
  Measured measured(engineOf("llama3", true), {{"kv.policy", "window"}, {"kv.budget", "16"}, {"kv.sinks", "0"}, {"kv.interval", "1"}});
  const KeptMass kept = measured.mass();
  double share = 0;
  for (int query = kPrompt; query < kTokens; ++query) share += 17.0 / (query + 1) / (kTokens - kPrompt);
  for (const KeptMass::Head& head : kept.of) {
    EXPECT_NEAR(head.mass, share, 1e-6);
    EXPECT_NEAR(head.held, share, 1e-12);
  }
  EXPECT_NEAR(kept.mean(1).mass, share, 1e-6);
}

TEST(figures_of_layers_are_those_of_heads) {
  KeptMass kept;
  kept.layers = 3;
  kept.heads = 2;
  kept.of = {{0.5, 0.25}, {1, 0.75}, {0, 0}, {0, 0}, {0.9, 0.5}, {0.7, 0.5}};
  kept.attends = {true, false, true};
  EXPECT_NEAR(kept.mean(0).mass, 0.75, 1e-15);
  EXPECT_NEAR(kept.mean(0).held, 0.5, 1e-15);
  EXPECT_NEAR(kept.mean().mass, 0.775, 1e-15);  // of the layers that attend
  EXPECT_EQ(kept.least(0), 0);
  EXPECT_EQ(kept.least(2), 1);
}

TEST(what_has_no_kept_mass_is_refused) {
  const auto engine = engineOf("llama3");
  Measured measured(engine, {{"kv.policy", "h2o"}, {"kv.budget", "16"}});
  for (const int prompt : {0, kTokens}) EXPECT(!measureKeptMass(*measured.whole, *measured.kept, measured.ids, prompt, {}));
  const auto swapped = measureKeptMass(*measured.kept, *measured.whole, measured.ids, kPrompt, {});
  EXPECT(!swapped && swapped.error().message.find("evicts") != std::string::npos);
  std::stop_source stop;
  stop.request_stop();
  EXPECT(!measureKeptMass(*measured.whole, *measured.kept, measured.ids, kPrompt, {{}, stop.get_token()}));
  EXPECT(measured.whole->position() == 0 && measured.kept->position() == 0);
}
