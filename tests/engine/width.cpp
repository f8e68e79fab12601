// SPDX-License-Identifier: GPL-3.0-or-later
// Channels that are left out of feed-forwards: which ones, how many of each layer, that the rest computes as if they were zero, and that what
// goes costs neither memory nor time (pruning_sharing_attribution.md, D2 to D4, J3).
#include "engine/prune/width.h"

#include <numeric>

#include "engine/evaluate/perplexity.h"
#include "engine/prune/width_methods.h"
#include "engine/recover/channel_refit.h"
#include "engine/run/core.h"
#include "engine/run/host_weights.h"
#include "engine/weights/export.h"
#include "engine/weights/report.h"
#include "tests/support/changed_weights.h"
#include "tests/support/compression_meter.h"

using namespace winnow;
using namespace winnow::test;

namespace {

WidthInput::Decode decoded(const std::vector<float>& values, int cols) {
  return [&values, cols](int row, int count, float* out) { std::copy_n(values.data() + int64_t{row} * cols, int64_t{count} * cols, out); };
}

std::vector<LayerInfluence> layersOf(const std::vector<double>& influences, const std::vector<double>& angles) {
  std::vector<LayerInfluence> out(influences.size());
  for (size_t l = 0; l < out.size(); ++l) out[l].layer = influences[l], out[l].meanAngle = angles[l];
  return out;
}

double mean(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size()); }
int64_t weightBytes(const Session& session) { return bytes(session.memory(), MemoryTag::weights) + bytes(session.memory(), MemoryTag::weightsMapped); }

// The moments of a few rows, and their damped factor.
struct Moments {
  Ledger ledger;
  ThreadPool pool{2};
  SecondMoments whole;
  Moments(const std::vector<float>& rows, int cols) : whole(ledger, cols) { whole.add(rows.data(), cols, static_cast<int>(rows.size()) / cols, pool); }
  InverseFactor factorOf(const SecondMoments& moments, double damping) {
    InverseFactor out;
    EXPECT(out.make(ledger, moments, {damping, false}, pool, {}) == InverseFactor::Outcome::done);
    return out;
  }
};

// pruning_sharing_attribution.md, L4.
const std::vector<float> kHidden = {.9f, .1f, 1.1f, 0, 0, .8f, .1f, .7f, 1.2f, 0, 1, .1f, .1f, .9f, .2f, 1, .5f, .5f, .4f, .6f, 0, .1f, .2f, .3f};
const std::vector<float> kDown = {1, .5f, -.3f, .2f, 0, -.4f, .8f, .6f};

// Sum of the squares of what rows lose on kHidden when they have `left` in the columns `kept`.
double lost(const std::vector<int>& kept, const std::vector<float>& left) {
  double sum = 0;
  for (size_t t = 0; t < 6; ++t)
    for (size_t r = 0; r < 2; ++r) {
      double error = 0;
      for (size_t c = 0; c < 4; ++c) error += double{kDown[r * 4 + c]} * double{kHidden[t * 4 + c]};
      for (size_t k = 0; k < kept.size(); ++k) error -= double{left[r * kept.size() + k]} * double{kHidden[t * 4 + static_cast<size_t>(kept[k])]};
      sum += error * error;
    }
  return sum;
}

std::vector<float> refitted(Moments& m, const std::vector<int>& kept, double damping) {
  const SecondMoments left = m.whole.of(m.ledger, kept);
  const InverseFactor factor = m.factorOf(left, damping);
  const ChannelRefit refit(m.whole, kept, left, factor, m.pool);
  std::vector<float> rows;
  for (size_t r = 0; r < 2; ++r)
    for (const int k : kept) rows.push_back(kDown[r * 4 + static_cast<size_t>(k)]);
  refit.apply(kDown.data(), rows.data(), 2);
  return rows;
}

}  // namespace

TEST(cfsp_scores_of_the_worked_example) {
  const std::vector<float> down = {1, .5f, -.3f, .2f, -.4f, .8f}, up = {.3f, 1, .7f, -.2f, .1f, .9f}, norms = {1, 2, .5f};
  WidthInput input;
  input.hidden = 2;
  input.ffn = 3;
  input.down = decoded(down, 3);
  input.up = decoded(up, 2);
  input.statistics.columnNorms = norms;
  const double expected[] = {.6784455854, 1.7681465821, .2187405618};
  const auto scores = cfspScores(input);
  for (size_t j = 0; j < 3; ++j) EXPECT_NEAR(scores[j], expected[j], 1e-7);
  EXPECT(releasedCfspScores(input) == (std::vector<double>{1, 2, .5}));
  ThreadPool pool(3);
  input.pool = &pool;
  EXPECT(cfspScores(input) == scores);
  input.pool = nullptr;
  const std::vector<float> none = {0, 2, .5f};  // a channel that is never active goes first
  input.statistics.columnNorms = none;
  const auto inactive = cfspScores(input);
  EXPECT(inactive[0] == 0 && inactive[2] > 0);
}

TEST(channels_of_a_permuted_feed_forward_are_permuted) {
  std::vector<float> gate(40 * 8), up(40 * 8), down(8 * 40), norms(40);
  uint32_t seed = 5;
  for (auto* values : {&gate, &up, &down, &norms})
    for (float& value : *values) value = static_cast<float>((seed = seed * 1664525u + 1013904223u) >> 8) / 1e7f - (values == &norms ? 0 : 0.8f);
  const auto scores = [&](const std::vector<int>& order) {
    std::vector<float> g, u, d(down.size()), n;
    for (const int j : order) {
      g.insert(g.end(), gate.begin() + j * 8, gate.begin() + j * 8 + 8);
      u.insert(u.end(), up.begin() + j * 8, up.begin() + j * 8 + 8);
      n.push_back(norms[static_cast<size_t>(j)]);
    }
    for (size_t i = 0; i < 8; ++i)
      for (size_t k = 0; k < 40; ++k) d[i * 40 + k] = down[i * 40 + static_cast<size_t>(order[k])];
    WidthInput input;
    input.hidden = 8;
    input.ffn = 40;
    input.gate = decoded(g, 8);
    input.up = decoded(u, 8);
    input.down = decoded(d, 40);
    input.statistics.columnNorms = n;
    return cfspScores(input);
  };
  std::vector<int> order(40);
  std::iota(order.begin(), order.end(), 0);
  const auto straight = scores(order);
  std::reverse(order.begin() + 3, order.end());
  const auto turned = scores(order);
  for (size_t k = 0; k < 40; ++k) EXPECT_NEAR(turned[k], straight[static_cast<size_t>(order[k])], 1e-9 * straight[static_cast<size_t>(order[k])]);
}

TEST(cfsp_gives_layers_that_turn_more_more) {
  const auto shares = cfspShares(layersOf({0, 0, 0, 0}, {.05, .08, .08, .2}), .8);
  EXPECT_NEAR(mean(shares), .8, 1e-12);
  EXPECT(shares[0] < shares[1] && shares[1] == shares[2] && shares[2] < shares[3]);
  EXPECT(*std::max_element(shares.begin(), shares.end()) < 1);
  // By hand: differences from the mean of .1025 times 13.1072, the logistic function, drawn together since .8 g / mean g reaches 1.16.
  double g[4], sum = 0;
  const double angles[] = {.05, .08, .08, .2};
  for (int l = 0; l < 4; ++l) sum += g[l] = 1 / (1 + std::exp(-13.1072 * (angles[l] - .1025)));
  EXPECT(.8 * g[3] / (sum / 4) > 1);
  EXPECT_NEAR(shares[3], .8 * (1 + .25 / 1.05), 1e-9);
  EXPECT_NEAR((shares[0] - .8) / (shares[3] - .8), (g[0] - sum / 4) / (g[3] - sum / 4), 1e-9);
}

TEST(modegpt_deals_its_budget_by_influence) {
  // The example of L4 has a temperature of .2; the same influences times .15 / .2 have the same softmax here.
  const auto shares = modegptShares(layersOf({.9 * .75, .3 * .75, .1 * .75, .2 * .75}, {0, 0, 0, 0}), .7);
  const double expected[] = {.0110294991, .2215334105, .6021902443, .3652468461};
  for (size_t l = 0; l < 4; ++l) EXPECT_NEAR(1 - shares[l], expected[l], 1e-9);
  const auto capped = modegptShares(layersOf({.9, .3, .01, .2}, {0, 0, 0, 0}), .5);
  EXPECT_NEAR(mean(capped), .5, 1e-12);
  for (const double share : capped) EXPECT(share > .2 - 1e-12, share);
  EXPECT_NEAR(capped[2], .2, 1e-12);
}

TEST(ridge_leverage_of_the_worked_example) {
  Moments m(kHidden, 4);
  // InverseFactor damps 2 C / tokens by a share of its mean diagonal; lambda = 0.01 in units of C.
  const double lambda = .01, damping = lambda / m.whole.meanDiagonal(), unit = 2.0 / 6;
  const InverseFactor factor = m.factorOf(m.whole, damping);
  WidthInput input;
  input.hidden = 2;
  input.ffn = 4;
  input.statistics.factor = &factor;
  const auto scores = modegptScores(input);
  const double expected[] = {.9345867235, .8909198945, .9309316029, .9045528706};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(1 + lambda * unit * scores[i], expected[i], 2e-5);  // the factor is kept in f32
  EXPECT(bestChannels(scores, 2)->list == (std::vector<int>{0, 2}));
}

TEST(refit_of_the_worked_example) {
  Moments m(kHidden, 4);
  EXPECT_NEAR(lost({0, 2}, refitted(m, {0, 2}, 1e-7)), .8256973806, 1e-4);
  EXPECT_NEAR(lost({0, 3}, refitted(m, {0, 3}, 1e-7)), .1078308428, 1e-4);
  const auto fitted = refitted(m, {0, 3}, 1e-7);
  const double expected[] = {.7077312342, .6338357734, .7607534439, .3048247226};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(fitted[i], expected[i], 2e-4);
  EXPECT_NEAR(lost({0, 3}, {1, .2f, 0, .6f}), 1.9464, 1e-5);
  // The prior is the weights as they were: whatever the damping, nothing is lost by it.
  double before = lost({0, 3}, {1, .2f, 0, .6f});
  for (const double damping : {10.0, 1.0, .1, .01, .001}) {
    const double now = lost({0, 3}, refitted(m, {0, 3}, damping));
    EXPECT(now < before, damping, now, before);
    before = now;
  }
  EXPECT(refitted(m, {0, 1, 2, 3}, .01) == kDown);
}

TEST(widths_add_up_and_no_layer_is_left_without) {
  EXPECT(widthStep(172) == 8 && widthStep(768) == 32 && widthStep(4864) == 128 && widthStep(14336) == 128 && widthStep(16) == 8);
  EXPECT(!narrows(8) && narrows(16));
  auto parts = allParts(6);
  const auto influences = layersOf({.5, .2, .1, .1, .2, .4}, {.2, .1, .05, .04, .1, .15});
  for (const WidthMethod& method : widthMethods())
    for (const double removed : {.01, .05, .2, .5, .9})
      for (const int ffn : {172, 768}) {
        const WidthChoice choice{method.name, removed, "", 0};
        const auto measured = widthsLeft(choice, ffn, parts, method.shares ? influences : std::vector<LayerInfluence>()), planned = widthsLeft(choice, ffn, parts, {});
        const int sum = std::accumulate(measured.begin(), measured.end(), 0);
        EXPECT_EQ(sum, std::accumulate(planned.begin(), planned.end(), 0));
        const int step = widthStep(ffn);
        EXPECT(std::abs(sum - (1 - removed) * 6 * ffn) <= (method.shares ? step : 6 * step) + 6 * (ffn % step), method.name, removed, ffn, sum);
        EXPECT(sum < 6 * ffn);
        for (const int width : measured) EXPECT((width % step == 0 && width > 0) || width == ffn, width);
        const auto whole = [&](const std::vector<int>& widths) { return std::count(widths.begin(), widths.end(), ffn); };
        EXPECT_EQ(whole(measured), whole(planned));
        if (!method.shares) EXPECT(std::count(measured.begin(), measured.end(), measured[0]) == 6);
      }
  parts[2].ffn = parts[5].ffn = false;  // what is left of the layers shares the budget
  const auto fewer = widthsLeft({"cfsp", .5, "", 0}, 768, parts, influences);
  EXPECT(fewer[2] == 0 && fewer[5] == 0 && std::accumulate(fewer.begin(), fewer.end(), 0) == 4 * 384);
  EXPECT(bestChannels(std::vector<double>{1, 3, 2, 3, 1}, 3)->list == (std::vector<int>{1, 2, 3}));
  EXPECT(bestChannels(std::vector<double>{1, 1, 1}, 2)->list == (std::vector<int>{0, 1}));
}

TEST(window_magnitudes_are_means_per_window) {
  ModelConfig model;
  model.layers = 1;
  model.hidden = model.ffn = 2;
  model.heads = model.kvHeads = 1;
  model.headDim = 2;
  Ledger ledger;
  Calibration statistics(model, ledger);
  const float first[] = {1, -2, 3, 0}, second[] = {-4, 1};
  statistics.take(0, LinearInput::down, first, 2, 2, 2);
  statistics.take(0, LinearInput::down, second, 2, 1, 2);
  const auto found = statistics.windowMagnitudes(0, LinearInput::down);
  EXPECT_NEAR(found[0], std::sqrt(2.0 * 2.0 + 4.0 * 4.0), 1e-6);
  EXPECT_NEAR(found[1], std::sqrt(2.0), 1e-6);
}

// The stream where the last layer ends, of a pass in which the columns of down that a narrowed set lacks are zero.
TEST(what_is_removed_computes_as_zero) {
  const CompressionMeter meter(kStories, 1, "1024");
  EngineCore& core = EngineCore::of(*meter.engine());
  for (const char* method : {"cfsp", "minitron"}) {
    const Config config = resolve(meter.with({{"prune.width", "0.4"}, {"prune.width_method", method}}), core.model->config()).config;
    ThreadPool pool(2);
    const auto narrow = value(core.store.build(core.targetOf(config), pool, core.measurements(), {}));
    ChangedWeights zeroed = denseWeights(core, pool);
    for (size_t layer = 0; layer < zeroed.set.layers.size(); ++layer) {
      const std::vector<int>& kept = narrow->channels[layer]->list;
      const LayerWeights& left = narrow->layers[layer];
      EXPECT(left.down->cols == static_cast<int>(kept.size()) && left.gate->rows == left.up->rows);
      zeroed.keepColumns(zeroed.set.layers[layer].down, kept);
    }
    const auto tokens = someTokens(40, core.model->config().vocab);
    EXPECT(relativeError(logitsOf(core, zeroed.set, tokens, pool), logitsOf(core, *narrow, tokens, pool)) < 1e-5, method);
  }
}

TEST(narrowed_feed_forwards_cost_less_memory) {
  const CompressionMeter meter(kStories, 1, "1024");
  const auto dense = makeSession(meter.engine(), meter.with({}));
  const auto tokens = someTokens(100, dense->vocab());
  const auto whole = logitsAfter(*dense, tokens);
  for (const char* method : {"cfsp", "minitron", "modegpt", "random"})
    for (const char* bits : {"16", "4"}) {
      const Config config = meter.with({{"prune.width", "0.5"}, {"prune.width_method", method}, {"weights.bits", bits}});
      const auto session = makeSession(meter.engine(), config), wide = makeSession(meter.engine(), meter.with({{"weights.bits", bits}}));
      EXPECT(session->effective()->asRequested(), method, bits);
      const auto prefilled = logitsAfter(*session, tokens);
      EXPECT(relativeError(prefilled, whole) > 0.01 && std::isfinite(prefilled[0]), method, bits);
      int channels = 0;
      for (int layer = 0; layer < 5; ++layer) channels += session->ffnWidth(layer);
      EXPECT(std::abs(channels - 5 * 86) <= 5 * 8 / 2, method, channels);
      if (std::string_view(bits) == "16") {
        EXPECT_EQ(weightBytes(*wide) - weightBytes(*session), (5 * 172 - channels) * int64_t{3 * 64 * 4});
        EXPECT_EQ(wide->weightBytesPerToken() - session->weightBytesPerToken(), (5 * 172 - channels) * int64_t{3 * 64 * 4});
      } else {
        EXPECT(weightBytes(*session) < weightBytes(*wide) && session->weightBytesPerToken() < wide->weightBytesPerToken(), method);
      }
      const MemoryByTag planned = value(meter.engine()->plan(config, {.context = 256}, 100)), used = session->memory();
      for (const MemoryTag tag : {MemoryTag::weights, MemoryTag::weightsMapped, MemoryTag::kv, MemoryTag::activations}) {
        // Columns are packed by 32: a row of 5 narrowed matrices may have a chunk more or less than a plan that knows no widths.
        // Scratch is that of the widest layer.
        double room = tag == MemoryTag::activations ? 65536 : 0;
        if (tag == MemoryTag::weights && std::string_view(bits) == "4") room = 5 * 64 * 18;
        EXPECT(std::fabs(static_cast<double>(bytes(planned, tag) - bytes(used, tag))) <= room, method, bits, memoryTagName(tag), bytes(planned, tag), bytes(used, tag));
      }
      session->reset();
      for (const int32_t id : tokens) ok(session->step(id));
      EXPECT(relativeError(session->logits(), prefilled) < 4e-3, method, bits);
    }
}

TEST(channels_leave_and_come_back_between_tokens) {
  const CompressionMeter meter(kStories, 1, "1024");
  const auto session = makeSession(meter.engine(), meter.with({}));
  const auto tokens = someTokens(40, session->vocab());
  const auto whole = logitsAfter(*session, tokens);
  const auto change = [&](const Settings& settings) {
    session->request(meter.with(settings));
    ok(session->finishPending({}));
    EXPECT(session->effective()->asRequested());
    ok(session->step(5));
  };
  change({{"prune.width", "0.3"}});
  EXPECT_EQ(session->effective()->config.text("prune.width_method"), std::string("cfsp"));
  EXPECT(session->cacheMixed() && session->ffnWidth(0) < 172);
  const ChannelScores& scores = EngineCore::of(*meter.engine()).store.channelScores();
  EXPECT_EQ(scores.measured(), 5);
  change({{"prune.width", "0.6"}});
  EXPECT_EQ(scores.measured(), 5);  // another share asks nothing again
  change({{"prune.width", "0.6"}, {"prune.recovery", "least-squares"}});
  EXPECT_EQ(scores.measured(), 5);
  change({{"prune.width", "0.6"}, {"prune.width_method", "minitron"}});
  EXPECT_EQ(scores.measured(), 10);
  change({});
  EXPECT_EQ(session->ffnWidth(0), 172);
  EXPECT(logitsAfter(*session, tokens) == whole);
}

TEST(narrowed_weights_do_not_depend_on_threads) {
  const CompressionMeter meter(kStories, 1, "1024");
  for (const Settings& settings : {Settings{{"prune.width", "0.3"}, {"prune.recovery", "scale"}}, Settings{{"prune.width", "0.3"}, {"prune.width_method", "modegpt"}}}) {
    std::vector<float> first;
    for (const int threads : {1, 3}) {
      const auto engine = openEngine(kStories, threads);
      const auto session = makeSession(engine, meter.with(settings), {.context = 128});
      const auto logits = logitsAfter(*session, someTokens(20, engine->model().config().vocab));
      if (first.empty()) first = logits;
      EXPECT(logits == first, threads);
    }
  }
}

// What the methods are for: less is lost than by chance, and fitting down anew gives some of it back, on text that neither saw.
TEST(methods_lose_less_than_chance) {
  for (const char* file : {kStories, kSmallLlama}) {
    const CompressionMeter divergence(file, 8);
    const auto with = [&](const char* method, const char* share, const char* recovery) {
      return divergence({{"prune.width", share}, {"prune.width_method", method}, {"prune.recovery", recovery}});
    };
    const double chance = with("random", "0.2", "none");
    for (const char* method : {"cfsp", "cfsp-released", "minitron", "modegpt"}) {
      const double lost = with(method, "0.2", "none");
      EXPECT(lost < 0.8 * chance, file, method, lost, chance);
      EXPECT(lost < with(method, "0.4", "none"), file, method);
    }
    for (const char* method : {"cfsp", "random"}) {
      const double alone = with(method, "0.3", "none"), fitted = with(method, "0.3", "least-squares");
      EXPECT(fitted < 0.9 * alone, file, method, fitted, alone);
      EXPECT_EQ(with(method, "0.3", "admm"), fitted);  // one fit for all rows
    }
    EXPECT(with("random", "0.2", "scale") < 0.95 * chance, file);
    EXPECT_EQ(with("modegpt", "0.2", "scale"), with("modegpt", "0.2", "none"));
  }
}

TEST(narrowing_goes_with_everything_else) {
  const CompressionMeter meter(kStories, 1, "1024");
  const auto tokens = someTokens(40, meter.engine()->model().config().vocab);
  const std::vector<Settings> others = {{{"prune.ratio", "0.5"}, {"prune.method", "wanda"}},
                                        {{"prune.ratio", "0.5"}, {"prune.method", "sparsegpt"}, {"prune.recovery", "admm"}},
                                        {{"prune.pattern", "2:4"}, {"prune.method", "sds"}},
                                        {{"weights.bits", "4"}, {"weights.method", "gptq"}},
                                        {{"weights.bits", "3"}, {"weights.method", "awq"}},
                                        {{"weights.method", "smoothquant"}},
                                        {{"weights.method", "aser"}},
                                        {{"weights.format", "nf4"}},
                                        {{"weights.bits", "4"}, {"weights.super", "keep"}},
                                        {{"weights.super", "zero"}},
                                        {{"prune.layers", "2"}},
                                        {{"prune.layers", "2"}, {"prune.layers_method", "ffn"}},
                                        {{"prune.layers", "1"}, {"prune.layers_method", "laco"}, {"prune.merge_similarity", "-1"}},
                                        {{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}};
  for (const char* method : {"cfsp", "minitron"})
    for (Settings settings : others) {
      settings.insert(settings.end(), {{"prune.width", "0.3"}, {"prune.width_method", method}});
      const auto session = makeSession(meter.engine(), meter.with(settings));
      const auto& effective = *session->effective();
      for (const Adjustment& each : effective.adjustments) EXPECT(each.knob == "weights.super" || each.knob == "calibration.damping", settings[0].first, each.knob, each.reason);
      const auto prefilled = logitsAfter(*session, tokens);
      EXPECT(std::isfinite(prefilled[0]));
      for (int layer = 0; layer < 5; ++layer) EXPECT(session->ffnWidth(layer) < 172, settings[0].first, layer);
      session->reset();
      for (const int32_t id : tokens) ok(session->step(id));
      EXPECT(relativeError(session->logits(), prefilled) < 3e-2, settings[0].first, settings[0].second);
      const auto report = value(reportWeights(*value(hostWeights(*meter.engine(), meter.with(settings), *std::make_unique<ThreadPool>(1), {})).set, nullptr, *std::make_unique<ThreadPool>(1), {}));
      EXPECT(report.values < report.masterBytes / 4, settings[0].first);
    }
}

TEST(only_what_is_left_is_compared_with_the_master) {
  const CompressionMeter meter(kStories, 1, "1024");
  ThreadPool pool(2);
  const HostWeights weights = value(hostWeights(*meter.engine(), meter.with({{"prune.width", "0.5"}, {"weights.bits", "8"}}), pool, {}));
  const auto report = value(reportWeights(*weights.set, weights.calibration.get(), pool, {}));
  for (const TensorReport& row : report.tensors) {
    EXPECT(row.sqnr() > 30, row.name, row.sqnr());  // 8 bits of the right rows and columns
    if (row.role == TensorRole::up) EXPECT(row.rows < 172 && row.cols == 64);
    if (row.role == TensorRole::down) EXPECT(row.cols < 172 && row.rows == 64 && row.outputError);
  }
  const auto histogram = value(weightHistogram(*weights.set, report.tensors[5].tensor, 10, pool, {}));
  EXPECT_EQ(std::accumulate(histogram.before.begin(), histogram.before.end(), int64_t{0}), int64_t{report.tensors[5].rows} * report.tensors[5].cols);
}

TEST(blocks_of_a_quantized_file_keep_their_rows) {
  for (const char* type : {"Q4_0", "Q8_0", "Q4_K", "Q6_K"}) {
    const auto engine = openEngine(std::string("models/random-llama-256-") + type + ".gguf");
    ThreadPool pool(2);
    EngineCore& core = EngineCore::of(*engine);
    const Config config = resolve(configure({{"prune.width", "0.5"}, {"prune.width_method", "random"}}), core.model->config()).config;
    const auto narrow = value(core.store.build(core.targetOf(config), pool, core.measurements(), {})), whole = value(core.store.build(core.targetOf(Config()), pool, {}, {}));
    const std::vector<int>& kept = narrow->channels[1]->list;
    const Matrix &up = *narrow->layers[1].up, &down = *narrow->layers[1].down;
    EXPECT(up.format == whole->layers[1].up->format, type);
    EXPECT(down.format == (WeightFormat{Storage::packed, 8, 32, true}), type);
    std::vector<float> a(768), b(768);
    for (size_t r = 0; r < kept.size(); ++r) {
      dequantizeRow(up, static_cast<int>(r), a.data());
      dequantizeRow(*whole->layers[1].up, kept[r], b.data());
      EXPECT(std::equal(a.begin(), a.begin() + 256, b.begin()), type, r);
    }
    for (int r = 0; r < 256; ++r) {
      dequantizeRow(down, r, a.data());
      dequantizeRow(*whole->layers[1].down, r, b.data());
      float most = 0;
      for (const float each : b) most = std::max(most, std::fabs(each));
      for (size_t c = 0; c < kept.size(); ++c) EXPECT(std::fabs(a[c] - b[static_cast<size_t>(kept[c])]) <= most / 200, type, r, c);  // half of a step of 1/127, and f16 scales
    }
    EXPECT(narrow->memory(buildPlan(core.model->config(), noSharing(4)))[0] < whole->memory(buildPlan(core.model->config(), noSharing(4)))[0], type);
  }
}

TEST(feed_forwards_without_gate_are_narrowed_too) {
  const auto engine = openEngine(kChat);
  const std::string text = sharedData("corpora/tinystories_60k.txt");
  const auto session = makeSession(engine, configure({{"prune.width", "0.25"}, {"calibration.text", text.c_str()}, {"calibration.tokens", "512"}}), {.context = 64});
  const auto tokens = someTokens(30, session->vocab());
  const auto prefilled = logitsAfter(*session, tokens);
  EXPECT(session->ffnWidth(0) < 512);
  session->reset();
  for (const int32_t id : tokens) ok(session->step(id));
  EXPECT(relativeError(session->logits(), prefilled) < 1e-3);
}

TEST(layers_of_one_width_are_exported) {
  const CompressionMeter meter(kStories, 1, "1024");
  ThreadPool pool(2);
  const auto exported = [&](const Settings& settings, const std::string& path) {
    const HostWeights weights = value(hostWeights(*meter.engine(), meter.with(settings), pool, {}));
    return exportGguf(*weights.set, weights.target, "test", path, pool, {});
  };
  const std::string path = (scratch() / "narrow.gguf").string();
  for (const char* bits : {"16", "8"}) {
    const Settings settings = {{"prune.width", "0.25"}, {"prune.width_method", "minitron"}, {"weights.bits", bits}, {"weights.tensors", "gate,up"}};
    value(exported(settings, path));
    const auto again = openModel(path);
    EXPECT_EQ(again->model().config().ffn, 128);
    const auto tokens = someTokens(40, again->model().config().vocab);
    EXPECT(logitsAfter(*makeSession(again), tokens) == logitsAfter(*makeSession(meter.engine(), meter.with(settings)), tokens), bits);
  }
  const auto refused = exported({{"prune.width", "0.25"}}, path);
  EXPECT(!refused.ok() && refused.error().hint.find("minitron") != std::string::npos);
}

TEST(what_cannot_be_narrowed_says_why) {
  ModelConfig model;
  model.layers = 4;
  model.ffn = 8;
  const Effective narrow = resolve(configure({{"prune.width", "0.5"}}), model);
  EXPECT(narrow.config.real("prune.width") == 0 && narrow.adjustments.size() == 1 && narrow.adjustments[0].reason.find("too narrow") != std::string::npos);
  model.ffn = 768;
  EXPECT(resolve(configure({{"prune.width", "0.5"}, {"prune.recovery", "scale"}}), model).asRequested());
  const Effective judged = resolve(configure({{"prune.width", "0.5"}, {"prune.method", "barber"}, {"prune.ratio", "0.5"}}), model);
  EXPECT(judged.config.text("prune.method") == "wanda" && judged.adjustments.size() == 1);
  for (const char* bad : {"0.95", "-0.1", "nan", "half"}) EXPECT(!Config().parsed("prune.width", bad).ok(), bad);
  EXPECT(!Config().parsed("prune.width_method", "cfps").ok());
  const auto engine = openEngine(kStories, 1);
  const auto missing = engine->createSession(configure({{"prune.width", "0.5"}, {"calibration.text", "no-such-file.txt"}}), {.context = 64}, {});
  EXPECT(!missing.ok() && missing.error().message.find("no-such-file.txt") != std::string::npos);
  EXPECT(engine->createSession(configure({{"prune.width", "0.5"}, {"prune.width_method", "random"}, {"calibration.text", "no-such-file.txt"}}), {.context = 64}, {}).ok());
}

TEST(a_text_that_chose_the_channels_is_no_evidence) {
  const auto engine = openEngine(kStories, 1);
  const std::string path = sharedData("corpora/tinystories_60k.txt"), text = readFile(path);
  for (const char* method : {"cfsp", "minitron", "random"})
    for (const char* recovery : {"none", "scale"}) {
      const auto session = makeSession(engine, configure({{"prune.width", "0.3"}, {"prune.width_method", method}, {"prune.recovery", recovery}, {"calibration.text", path.c_str()}}), {.context = 128});
      PerplexityRequest request;
      request.context = 128;
      request.chunks = 1;
      const bool chance = std::string_view(method) == "random" && std::string_view(recovery) == "none";
      EXPECT(measurePerplexity(*session, nullptr, *engine->tokenizer(), text, request, {}).ok() == chance, method, recovery);
    }
}

TEST(a_cancelled_change_leaves_the_channels) {
  const CompressionMeter meter(kStories, 1, "1024");
  EngineCore& core = EngineCore::of(*meter.engine());
  const Config config = resolve(meter.with({{"prune.width", "0.5"}, {"prune.width_method", "modegpt"}}), core.model->config()).config;
  ThreadPool pool(1);
  std::stop_source stop;
  stop.request_stop();
  const auto built = core.store.build(core.targetOf(config), pool, core.measurements(), Progress{{}, stop.get_token()});
  EXPECT(!built.ok() && built.error().code == ErrorCode::cancelled);
}
