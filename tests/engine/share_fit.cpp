// SPDX-License-Identifier: GPL-3.0-or-later
// Layers that share attention, fitted: which heads are alike, and output projections by least squares (pruning_sharing_attribution.md, L1 and J5).
#include <array>
#include <cmath>

#include "engine/run/core.h"
#include "engine/share/align.h"
#include "engine/share/refit.h"
#include "tests/support/compression_meter.h"

using namespace winnow;
using namespace winnow::test;

namespace {

// Attention of layers 1 and 2 of the worked example, [heads][queries, columns].
constexpr float kRows[2][2][9] = {{{1, 0, 0, .5567498080f, .4432501920f, 0, .2903475331f, .2839549660f, .4256975008f},
                                   {1, 0, 0, .4443681709f, .5556318291f, 0, .2217071290f, .1446250521f, .6336678189f}},
                                  {{1, 0, 0, .5578383367f, .4421616633f, 0, .2392357145f, .2200577500f, .5407065354f},
                                   {1, 0, 0, .4593554214f, .5406445786f, 0, .1761827140f, .1151532862f, .7086639998f}}};
constexpr int kTokens = 3, kDim = 4;
using Rows = std::array<double, kTokens * kDim>;
using Square = std::array<double, kDim * kDim>;
constexpr Square kValue2 = {0, 1, 0, .5, 1, 0, .5, 0, 0, .5, 0, 1, .5, 0, 1, 0};
constexpr std::array<float, kDim * kDim> kOutput2 = {.3f, 0, .1f, 0, 0, .3f, 0, .1f, .1f, 0, .3f, 0, 0, .1f, 0, .3f};

HeadLikeness likenessOf(const float (&leader)[2][9], const float (&follower)[2][9], ThreadPool& pool) {
  HeadLikeness likeness({{0, 0, {}}, {1, 0, {}}}, 2, pool);
  likeness.take(0, {&leader[0][0], 3, 2, 3, 3, 0});
  likeness.take(1, {&follower[0][0], 3, 2, 3, 3, 0});
  return likeness;
}

// What layer 2 of the example computes from its own attention, or from that of layer 1, before its projection.
Rows headsOf(const float (&attention)[2][9], const Rows& x) {
  Rows v{}, out{};
  for (int t = 0; t < kTokens; ++t)
    for (int r = 0; r < kDim; ++r)
      for (int c = 0; c < kDim; ++c) v[static_cast<size_t>(t * kDim + r)] += kValue2[static_cast<size_t>(r * kDim + c)] * x[static_cast<size_t>(t * kDim + c)];
  for (int t = 0; t < kTokens; ++t)
    for (int r = 0; r < kDim; ++r)
      for (int s = 0; s <= t; ++s) out[static_cast<size_t>(t * kDim + r)] += static_cast<double>(attention[r / 2][t * 3 + s]) * v[static_cast<size_t>(s * kDim + r)];
  return out;
}

// States that enter layer 2: what the baseline's last states (L1) have less of it. x3 = x2 + heads(x2) WO^T, so x2 is found by iterating.
Rows enteringLayer2() {
  const Rows last = {1.5637500000, .8625000000, .5962500000,  .0975000000,  .6971224405, 1.7225725668,
                     -.3205293718, 1.0231118383, 1.2756843168, 1.4704927199, 1.5357700411, .7260308521};
  Rows x = last;
  for (int step = 0; step < 400; ++step) {  // the layer adds less than it is given: the distance shrinks
    const Rows z = headsOf(kRows[1], x);
    for (int t = 0; t < kTokens; ++t)
      for (int r = 0; r < kDim; ++r) {
        double added = 0;
        for (int c = 0; c < kDim; ++c) added += static_cast<double>(kOutput2[static_cast<size_t>(r * kDim + c)]) * z[static_cast<size_t>(t * kDim + c)];
        const auto i = static_cast<size_t>(t * kDim + r);
        x[i] = 0.5 * x[i] + 0.5 * (last[i] - added);
      }
  }
  return x;
}

SecondMoments momentsOf(const std::vector<float>& z, const std::vector<float>& s, int tokens, int cols, ThreadPool& pool) {
  static Ledger ledger;
  SecondMoments joint(ledger, 2 * cols);
  std::vector<float> rows;
  for (int t = 0; t < tokens; ++t) {
    rows.insert(rows.end(), z.begin() + t * cols, z.begin() + (t + 1) * cols);
    rows.insert(rows.end(), s.begin() + t * cols, s.begin() + (t + 1) * cols);
  }
  joint.add(rows.data(), 2 * cols, tokens, pool);
  return joint;
}

std::vector<float> randomRows(size_t count, uint32_t seed) {
  std::vector<float> out(count);
  for (float& v : out) {
    seed = seed * 1664525u + 1013904223u;
    v = static_cast<float>(static_cast<int32_t>(seed) / 2147483648.0);
  }
  return out;
}

double largestDifference(std::span<const float> a, std::span<const float> b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(double{a[i]} - double{b[i]}));
  return largest;
}

const Settings kBlocks = {{"share.block", "2"}, {"share.first", "1"}, {"share.last", "0"}};
Settings with(Settings settings, std::initializer_list<std::pair<const char*, const char*>> more) {
  settings.insert(settings.end(), more);
  return settings;
}

}  // namespace

TEST(heads_of_the_worked_example_are_most_like_their_own_number) {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    const HeadLikeness likeness = likenessOf(kRows[0], kRows[1], pool);
    const double expected[2][2] = {{0.9877997715, 0.9806406691}, {0.9338059178, 0.9969201125}};
    for (int head = 0; head < 2; ++head)
      for (int from = 0; from < 2; ++from) EXPECT_NEAR(likeness.at(1, head, from), expected[head][from], 1e-6);
    EXPECT(likeness.heads(1) == (std::vector<int>{0, 1}));
  }
}

TEST(heads_in_another_order_are_found) {
  ThreadPool pool(1);
  float swapped[2][9];
  for (int head = 0; head < 2; ++head) std::copy_n(kRows[0][1 - head], 9, swapped[head]);
  EXPECT(likenessOf(swapped, kRows[1], pool).heads(1) == (std::vector<int>{1, 0}));
  float same[2][9];
  for (auto& head : same) std::copy_n(kRows[0][1], 9, head);
  EXPECT(likenessOf(same, kRows[1], pool).heads(1) == (std::vector<int>{0, 1}));  // of equals its own number
}

// f32 rows and moments: 2^-24 of sums of size 1, times the condition of the damped moments, below 100.
TEST(the_worked_example_s_projection) {
  ThreadPool pool(2);
  const Rows x = enteringLayer2(), own = headsOf(kRows[1], x), shared = headsOf(kRows[0], x);
  const std::vector<float> z(own.begin(), own.end()), s(shared.begin(), shared.end());
  const SecondMoments joint = momentsOf(z, s, kTokens, kDim, pool);
  std::array<float, kDim * kDim> fitted{};
  EXPECT(refitOutput(joint, kOutput2.data(), kDim, 0.01, pool, {}, fitted.data()) == Refit::done);
  const std::array<double, kDim * kDim> expected = {.3031943140, -.0081376090, .0991598753, .0106109326, .0135358588, .2852133408, .0048992947, .1226820588,
                                                    .1038827724, -.0148511676, .2968486865, .0185085489, .0140999779, .0901947529, .0075075961, .3172949654};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(fitted[i], expected[i], 2e-5);
  // Relative Frobenius errors of the last states, 0.01126 shared and 0.000925 fitted: their squares are to each other as these.
  const double before = outputDifference(z.data(), kOutput2.data(), s.data(), kOutput2.data(), kTokens, kDim, kDim, pool);
  const double after = outputDifference(z.data(), kOutput2.data(), s.data(), fitted.data(), kTokens, kDim, kDim, pool);
  EXPECT_NEAR(std::sqrt(after / before), 0.0009250743 / 0.0112598038, 1e-4);
  EXPECT_NEAR(outputDifference(joint, kOutput2.data(), kOutput2.data(), kDim, pool) / before, 1.0, 1e-3);
}

TEST(a_fit_never_raises_the_difference_it_lowers) {
  ThreadPool pool(2);
  constexpr int kRowsOut = 21;
  for (const int cols : {8, 70, 130})
    for (const int tokens : {3, 60, 400}) {  // fewer than there are columns, too
      const auto count = static_cast<size_t>(tokens * cols);
      const std::vector<float> z = randomRows(count, 1), w = randomRows(static_cast<size_t>(kRowsOut * cols), 3);
      std::vector<float> s = randomRows(count, 2);
      for (size_t i = 0; i < count; ++i) s[i] = 0.7f * z[i] + 0.4f * s[i];
      const SecondMoments joint = momentsOf(z, s, tokens, cols, pool);
      const double before = outputDifference(z.data(), w.data(), s.data(), w.data(), tokens, kRowsOut, cols, pool);
      double last = 0;
      for (const double damping : {1e-4, 0.01, 1.0}) {
        std::vector<float> fitted(w.size());
        EXPECT(refitOutput(joint, w.data(), kRowsOut, damping, pool, {}, fitted.data()) == Refit::done);
        const double after = outputDifference(z.data(), w.data(), s.data(), fitted.data(), tokens, kRowsOut, cols, pool);
        EXPECT(after < before && after >= last * 0.999, cols, tokens, damping, after, before);  // less damping, closer
        last = after;
        ThreadPool one(1);
        std::vector<float> again(w.size());
        EXPECT(refitOutput(joint, w.data(), kRowsOut, damping, one, {}, again.data()) == Refit::done && again == fitted);
      }
    }
}

TEST(attention_that_is_the_same_keeps_its_projection) {
  ThreadPool pool(1);
  const std::vector<float> z = randomRows(200 * 12, 5), w = randomRows(7 * 12, 6);
  std::vector<float> fitted(w.size());
  EXPECT(refitOutput(momentsOf(z, z, 200, 12, pool), w.data(), 7, 0.01, pool, {}, fitted.data()) == Refit::done);
  EXPECT(largestDifference(fitted, w) < 1e-6);
}

TEST(a_stopped_fit_says_so) {
  ThreadPool pool(1);
  std::stop_source source;
  source.request_stop();
  const std::vector<float> z = randomRows(50 * 64, 5), w = randomRows(8 * 64, 6);
  std::vector<float> fitted(w.size());
  EXPECT(refitOutput(momentsOf(z, z, 50, 64, pool), w.data(), 8, 0.01, pool, {{}, source.get_token()}, fitted.data()) == Refit::cancelled);
}

TEST(a_model_s_fit_lowers_the_difference_of_every_follower) {
  for (const char* file : {kSmallLlama, kStories}) {
    const CompressionMeter meter(file, 2);
    EngineCore& core = EngineCore::of(*meter.engine());
    const WeightTarget target = core.targetOf(resolve(meter.with(with(kBlocks, {{"share.align", "true"}, {"share.refit", "true"}})), core.model->config()).config);
    const LayersLeft all{allParts(core.model->config().layers), {}};
    const auto fit = value(core.fitSharing(*target.sharing, all, {}));
    EXPECT(!fit->followers.empty());
    for (const FollowerFit& follower : fit->followers) {
      EXPECT(follower.aligned >= follower.likeness && follower.likeness > 0 && follower.aligned <= 1 + 1e-6, file, follower.layer);
      EXPECT(follower.after < follower.before, file, follower.layer, follower.before, follower.after);
      EXPECT_EQ(follower.refitted, follower.unseenAfter < follower.unseenBefore);
      EXPECT_EQ(fit->replaces(TensorRole::o, follower.layer), follower.refitted);
      EXPECT(!follower.mapped && !fit->replaces(TensorRole::q, follower.layer));
    }
    EXPECT(value(core.fitSharing(*target.sharing, all, {})) == fit);  // measured once
  }
}

// Measured: see tests/bench/RESULTS.md.
TEST(fitted_sharing_diverges_less_on_text_it_was_not_fitted_to) {
  for (const char* file : {kSmallLlama, kStories}) {
    const CompressionMeter divergence(file, 6);
    const double alone = divergence(kBlocks), refit = divergence(with(kBlocks, {{"share.refit", "true"}})), both = divergence(with(kBlocks, {{"share.refit", "true"}, {"share.align", "true"}}));
    EXPECT(refit < 0.9 * alone, file, refit, alone);
    EXPECT(both < 0.9 * alone, file, both, alone);
  }
}

TEST(aligned_prompts_are_aligned_steps_and_fit_any_memory) {
  const CompressionMeter meter(kStories, 2);
  const Config config = meter.with(with(kBlocks, {{"share.align", "true"}}));
  const auto session = makeSession(meter.engine(), config, {.context = 128});
  bool moved = false;
  for (const LayerSharing& share : session->plan().sharing)
    for (size_t head = 0; head < share.heads.size(); ++head) moved |= share.heads[head] != static_cast<int>(head);
  EXPECT(moved);
  const auto tokens = someTokens(40, meter.engine()->model().config().vocab);
  const std::vector<float> whole = logitsAfter(*session, tokens);
  session->reset();
  for (const int32_t token : tokens) ok(session->step(token));
  EXPECT(relativeError(whole, session->logits()) < 1e-4);
  // Probabilities made anew: the same but for the order of sums.
  for (const int64_t bytes : {int64_t{0}, int64_t{100000}}) {
    const auto small = makeSession(meter.engine(), config, {.context = 128, .probabilityBytes = bytes});
    EXPECT(relativeError(whole, logitsAfter(*small, tokens)) < 1e-5);
  }
  EXPECT(logitsAfter(*makeSession(meter.engine(), meter.with(kBlocks), {.context = 128}), tokens) != whole);
}

TEST(fits_come_and_go_with_the_sharing_they_are_of) {
  const CompressionMeter meter(kStories, 2);
  const auto session = makeSession(meter.engine(), meter.with({}), {.context = 128});
  const auto tokens = someTokens(20, meter.engine()->model().config().vocab);
  const auto change = [&](const Settings& settings) {
    session->request(meter.with(settings));
    ok(session->finishPending({}));
  };
  const std::vector<float> dense = logitsAfter(*session, tokens);
  change(kBlocks);
  const std::vector<float> shared = logitsAfter(*session, tokens);
  const Settings fitted = with(kBlocks, {{"share.align", "true"}, {"share.refit", "true"}});
  change(fitted);
  const std::vector<float> fit = logitsAfter(*session, tokens);
  EXPECT(fit != shared && shared != dense);
  EXPECT(session->effective()->asRequested());
  // While a text is in the cache the followers have no keys: neither the sharing nor what was fitted to it can go.
  change({});
  EXPECT_EQ(session->effective()->config.text("share.method"), std::string("echoatt"));
  EXPECT(session->effective()->config.boolean("share.refit"));
  ok(session->step(tokens[0]));
  const auto reference = makeSession(meter.engine(), meter.with(fitted), {.context = 128});
  logitsAfter(*reference, tokens);
  ok(reference->step(tokens[0]));
  EXPECT_EQ(session->logitsHash(), reference->logitsHash());
  ok(session->rebuildCache({}));
  EXPECT_EQ(session->effective()->config.text("share.method"), std::string("none"));
  EXPECT(logitsAfter(*session, tokens) == dense);
  change(kBlocks);
  EXPECT(logitsAfter(*session, tokens) == shared);
}

TEST(what_cannot_be_aligned_or_fitted_says_so) {
  ModelConfig model;
  model.layers = 12;
  model.heads = model.kvHeads = 4;
  for (const char* knob : {"share.align", "share.refit"}) {
    const Effective nothing = resolve(configure({{knob, "true"}}), model);
    EXPECT(nothing.adjustments.size() == 1 && nothing.adjustments[0].knob == knob && !nothing.config.boolean(knob));
    EXPECT(resolve(configure({{knob, "true"}, {"share.block", "2"}}), model).asRequested());
  }
  const Effective evicted = resolve(configure({{"share.align", "true"}, {"share.block", "2"}, {"kv.policy", "h2o"}, {"kv.budget", "0.5"}}), model);
  EXPECT(!evicted.config.boolean("share.align") && evicted.config.text("kv.policy") == "h2o");
  EXPECT(resolve(configure({{"share.align", "true"}, {"share.block", "2"}, {"kv.policy", "streaming"}, {"kv.budget", "0.5"}}), model).config.boolean("share.align"));
}

TEST(fitted_projections_are_planned_quantized_and_dropped_with_their_layers) {
  const CompressionMeter meter(kStories, 2);
  const Settings fitted = with(kBlocks, {{"share.align", "true"}, {"share.refit", "true"}});
  for (const Settings& settings : {fitted, with(fitted, {{"weights.bits", "4"}}), with(fitted, {{"prune.layers", "1"}})}) {
    const SessionOptions options{.context = 128};
    const auto session = makeSession(meter.engine(), meter.with(settings), options);
    ok(session->prefill(someTokens(40, meter.engine()->model().config().vocab), {}));
    const int64_t planned = bytes(value(meter.engine()->plan(meter.with(settings), options, 40)), MemoryTag::weights), used = bytes(session->memory(), MemoryTag::weights);
    EXPECT(std::abs(planned - used) <= std::max<int64_t>(used / 50, 65536), planned, used);
  }
}
