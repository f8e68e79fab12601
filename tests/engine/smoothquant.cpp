// SPDX-License-Identifier: GPL-3.0-or-later
// Oracles of quantization_and_kv.md W7 and W8: the scales are the paper's, unrounded they leave logits as they were, and where activations have
// outliers 8-bit activations lose less with them than without.
#include <random>

#include "engine/cpu/backend.h"
#include "engine/quantize/method.h"
#include "engine/weights/store.h"
#include "tests/support/compression_meter.h"
#include "tests/support/planted.h"
#include "tests/support/uneven_statistics.h"

using namespace winnow;
using namespace winnow::test;

namespace {

// Two matrices that read one input; its largest magnitudes differ by channel, the last channel was never active.
struct Layer {
  static constexpr int kCols = 40;
  std::vector<float> first = std::vector<float>(24 * kCols), second = std::vector<float>(9 * kCols), largest = std::vector<float>(kCols);
  Layer() {
    std::mt19937 rng(6);
    std::normal_distribution<float> draw;
    for (auto* w : {&first, &second})
      for (float& x : *w) x = draw(rng);
    for (size_t c = 0; c + 1 < kCols; ++c) largest[c] = c % 11 == 2 ? 90.0f : 0.3f + 0.1f * static_cast<float>(c);
  }
  ScaleSearch search(double strength) const {
    ScaleSearch out{{}, largest, largest, largest, {Storage::packed, 8, 32, true}, strength};
    for (const auto* w : {&first, &second})
      out.matrices.push_back({static_cast<int>(w->size() / kCols), [w](int row, int count, float* to) { std::copy_n(w->data() + row * kCols, count * kCols, to); }});
    return out;
  }
  float largestWeight(size_t c) const {
    float most = 0;
    for (const auto* w : {&first, &second})
      for (size_t i = c; i < w->size(); i += kCols) most = std::max(most, std::fabs((*w)[i]));
    return most;
  }
};

std::vector<float> scales(const Layer& layer, double strength, int threads = 2) {
  ThreadPool pool(threads);
  return findQuantizeMethod("smoothquant")->searchScales(layer.search(strength), pool, {});
}

// Logits of the last token, in f32.
std::vector<float> computed(const WeightSet& set, std::span<const int32_t> ids) {
  const ModelConfig& config = set.model->config();
  Ledger ledger;
  ThreadPool pool(2);
  cpu::CpuBackend backend(ledger, config, pool, cpu::bestIsa(), {static_cast<int>(ids.size()), static_cast<int>(ids.size()), 0});
  const auto cache = backend.makeCache(static_cast<int>(ids.size()));
  cache->reserve(static_cast<int>(ids.size()));
  const SequenceRows rows{cache.get(), 0, static_cast<int>(ids.size())};
  const Plan plan = buildPlan(config, noSharing(config.layers));
  backend.run({.plan = plan, .weights = set, .sequences = {&rows, 1}, .tokens = ids, .activations = Activations::f32, .wantLogits = true});
  return {backend.logits().begin(), backend.logits().end()};
}

WeightTarget targetOf(const Model& model, const Settings& settings) {
  return weightTarget(model, resolve(configure(settings), model.config()).config, "a text");
}

}  // namespace

TEST(scales_are_those_of_the_paper) {
  const Layer layer;
  for (const double alpha : {0.0, 0.3, 0.5, 0.85, 1.0}) {
    const auto s = scales(layer, alpha);
    for (size_t c = 0; c + 1 < Layer::kCols; ++c) {
      const double expected = std::pow(double{layer.largest[c]}, alpha) / std::pow(double{layer.largestWeight(c)}, 1 - alpha);
      EXPECT_NEAR(double{s[c]}, expected, 1e-5 * expected);
    }
    EXPECT_EQ(s.back(), 1.0f);  // never active
    EXPECT(s == scales(layer, alpha, 1) && s == scales(layer, alpha, 3), alpha);
  }
}

// At 0.5 what is left of inputs and weights is equal, at 0 weights are even, at 1 inputs are.
TEST(strength_moves_outliers_from_inputs_to_weights) {
  const Layer layer;
  const auto none = scales(layer, 0), half = scales(layer, 0.5), all = scales(layer, 1);
  for (size_t c = 0; c + 1 < Layer::kCols; ++c) {
    const float x = layer.largest[c], w = layer.largestWeight(c);
    EXPECT_NEAR(w * none[c], 1.0f, 1e-5f);
    EXPECT_NEAR(x / all[c], 1.0f, 1e-5f);
    EXPECT_NEAR(x / half[c], std::sqrt(x * w), 1e-5f * std::sqrt(x * w));
    EXPECT_NEAR(w * half[c], std::sqrt(x * w), 1e-5f * std::sqrt(x * w));
  }
}

TEST(only_what_norms_make_is_scaled) {
  for (const char* file : {kStories, kSmallLlama}) {
    const auto model = value(Model::open(sharedData(file)));
    const WeightTarget target = targetOf(*model, {{"weights.method", "smoothquant"}});
    int scaled[4] = {};
    for (size_t i = 0; i < target.recipes.size(); ++i) {
      const Recipe& recipe = target.recipes[i];
      if (recipe.multiplied) ++scaled[static_cast<size_t>(recipe.multiplied.input)];
      if (recipe.divided) EXPECT(!isMatrix(model->tensors()[i].role), model->tensors()[i].fileName);
      EXPECT(!recipe.options.clip, i);
    }
    const int layers = model->config().layers;
    EXPECT(scaled[0] == 3 * layers && scaled[1] == 0 && scaled[2] == 2 * layers && scaled[3] == 0, scaled[0], scaled[1], scaled[2], scaled[3]);
    EXPECT(target.key != targetOf(*model, {{"weights.method", "smoothquant"}, {"weights.smoothing", "0.8"}}).key);
  }
}

TEST(the_method_alone_means_8_bits_of_both) {
  const auto model = value(Model::open(sharedData(kStories)));
  const Effective plain = resolve(configure({{"weights.method", "smoothquant"}}), model->config());
  EXPECT(plain.asRequested());
  EXPECT_EQ(plain.config.integer("weights.bits"), 8);
  EXPECT_EQ(plain.config.text("compute.activations"), std::string("int8"));
  const Effective chosen = resolve(configure({{"weights.method", "smoothquant"}, {"weights.bits", "4"}, {"compute.activations", "16bit"}}), model->config());
  EXPECT(chosen.asRequested());
  EXPECT_EQ(chosen.config.integer("weights.bits"), 4);
  EXPECT_EQ(chosen.config.text("compute.activations"), std::string("16bit"));
}

// Weights and gains are rounded anew, each to 2^-24, and what comes of that grows through the layers as any change of the last bit does: the bound
// is that of prompts against single steps, which round in another order (combinations.cpp).
TEST(scales_alone_leave_logits_as_they_were) {
  std::vector<std::string> files = {sharedData(kStories), sharedData(kSmallLlama)};
#ifdef WINNOW_HAS_HUGGINGFACE
  for (const char* family : {"gpt2", "qwen2"}) files.push_back(std::string(WINNOW_TESTS_DIR) + "/golden/hf/" + family);  // norms and products with biases
#endif
  for (const std::string& file : files)
    for (const char* strength : {"0", "0.5", "1"}) {
      const auto model = value(Model::open(file));
      WeightTarget target = targetOf(*model, {{"weights.method", "smoothquant"}, {"weights.smoothing", strength}});
      for (size_t i = 0; i < target.recipes.size(); ++i) {
        target.recipes[i].method.clear();
        target.recipes[i].methodNeeds = {};
        if (isMatrix(model->tensors()[i].role)) target.recipes[i].format = {Storage::f32, 32, 0, true};
      }
      Ledger ledger;
      ThreadPool pool(2);
      const auto measured = unevenStatistics(model->config(), ledger);
      WeightStore store(model, ledger);
      const auto set = value(store.build(target, pool, {[&](const CalibrationChoice&, const Progress&) { return Result<std::shared_ptr<const Calibration>>(measured); }, {}}, {}));
      const auto plain = value(store.build(weightTarget(*model, Config(), ""), pool, {}, {}));
      int changed = 0;
      for (int j = 0; j < model->config().hidden; ++j) changed += set->layers[0].ffnNorm[j] != plain->layers[0].ffnNorm[j];
      EXPECT(changed > model->config().hidden / 2, file, changed);
      const auto ids = someTokens(24, model->config().vocab);
      const double error = relativeError(computed(*plain, ids), computed(*set, ids));
      EXPECT(error < 4.9e-4, file, strength, error);
    }
}

// The planted model computes what the one it was made of does; in 8 bits the channels that share a scale with an outlier drown in it.
TEST(outliers_cost_less_when_they_are_smoothed) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 1;
  const CompressionMeter divergence(value(Engine::create(value(Model::open(withOutliers(kStories, 60))), options)), 8);
  const double plain = divergence({{"weights.bits", "8"}, {"compute.activations", "int8"}});
  for (const char* strength : {"0", "0.5", "1"}) {
    const double smooth = divergence({{"weights.method", "smoothquant"}, {"weights.smoothing", strength}});
    EXPECT(smooth < 0.5 * plain, strength, smooth, plain);
  }
  // Where activations keep 16 bits there is nothing to gain: weights have their own scales for groups of columns.
  const double weightsAlone = divergence({{"weights.bits", "8"}});
  EXPECT(weightsAlone < 0.5 * plain, weightsAlone, plain);
}

TEST(a_session_runs_what_it_says) {
  const CompressionMeter meter(kStories, 1);
  const auto session = makeSession(meter.engine(), meter.with({{"weights.method", "smoothquant"}}));
  EXPECT(session->effective()->asRequested());
  EXPECT_EQ(session->effective()->config.text("compute.activations"), std::string("int8"));
  const auto ids = someTokens(30, 500);
  EXPECT(logitsAfter(*session, ids) != logitsAfter(*makeSession(meter.engine(), meter.with({{"weights.bits", "8"}, {"compute.activations", "int8"}})), ids));
}
