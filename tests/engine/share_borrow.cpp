// SPDX-License-Identifier: GPL-3.0-or-later
// Layers that read the keys and values of another (CLA), fitted: maps of the heads, what they are folded into, and what it does for models
// (pruning_sharing_attribution.md, A2).
#include <cmath>
#include <complex>

#include "engine/run/core.h"
#include "engine/share/borrow.h"
#include "tests/support/compression_meter.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr int kTokens = 300;

// Two kv heads of eight components, `rotated` of which are turned, read by four heads.
ModelConfig shape(int rotated) {
  ModelConfig model;
  model.heads = 4;
  model.kvHeads = 2;
  model.headDim = 8;
  model.rope.dims = rotated;
  model.position = rotated > 0 ? PositionKind::rope : PositionKind::learned;
  return model;
}

std::vector<float> randomRows(size_t count, uint32_t seed) {
  std::vector<float> out(count);
  for (float& v : out) {
    seed = seed * 1664525u + 1013904223u;
    v = static_cast<float>(static_cast<int32_t>(seed) / 2147483648.0);
  }
  return out;
}

std::vector<float> mapped(const ModelConfig& model, const HeadMaps& maps, const std::vector<float>& rows) {
  std::vector<float> out(rows.size());
  const int dim = model.headDim;
  for (size_t block = 0; block * static_cast<size_t>(dim) < rows.size(); ++block)
    for (int r = 0; r < dim; ++r)
      for (int c = 0; c < dim; ++c)
        out[block * static_cast<size_t>(dim) + static_cast<size_t>(r)] +=
            maps[(block % static_cast<size_t>(model.kvHeads) * static_cast<size_t>(dim) + static_cast<size_t>(r)) * static_cast<size_t>(dim) + static_cast<size_t>(c)] *
            rows[block * static_cast<size_t>(dim) + static_cast<size_t>(c)];
  return out;
}

// Keys or values of random tokens, and what the map makes of them.
struct Planted {
  std::vector<float> own, borrowed;
  BorrowedRows rows() const { return {own.data(), borrowed.data(), kTokens}; }
};
Planted planted(const ModelConfig& model, const HeadMaps& maps) {
  Planted out;
  out.borrowed = randomRows(static_cast<size_t>(kTokens * model.kvRows()), 1);
  out.own = mapped(model, maps, out.borrowed);
  return out;
}

HeadMaps identity(const ModelConfig& model) {
  HeadMaps maps(static_cast<size_t>(model.kvHeads * model.headDim * model.headDim));
  for (int head = 0; head < model.kvHeads; ++head)
    for (int c = 0; c < model.headDim; ++c) maps[static_cast<size_t>((head * model.headDim + c) * model.headDim + c)] = 1;
  return maps;
}

// Any map of the components that stay, a turn and a scale of every pair that is turned.
HeadMaps commuting(const ModelConfig& model) {
  HeadMaps maps(static_cast<size_t>(model.kvHeads * model.headDim * model.headDim));
  const std::vector<float> values = randomRows(maps.size(), 9);
  const int dim = model.headDim, half = model.rope.dims / 2;
  for (int head = 0; head < model.kvHeads; ++head) {
    const auto at = [&](int r, int c) -> float& { return maps[static_cast<size_t>((head * dim + r) * dim + c)]; };
    const auto value = [&](int r, int c) { return values[static_cast<size_t>((head * dim + r) * dim + c)]; };
    for (int c = 0; c < half; ++c) {
      at(c, c) = at(c + half, c + half) = value(c, c);
      at(c, c + half) = -value(c, c + half);
      at(c + half, c) = value(c, c + half);
    }
    for (int r = 2 * half; r < dim; ++r)
      for (int c = 2 * half; c < dim; ++c) at(r, c) = value(r, c);
  }
  return maps;
}

// RoPE of one head, base 10.
std::vector<float> rotated(const ModelConfig& model, const float* head, int position) {
  std::vector<float> out(head, head + model.headDim);
  const int half = model.rope.dims / 2;
  for (int c = 0; c < half; ++c) {
    const double angle = position * std::pow(10.0, -static_cast<double>(c) / half);
    const std::complex<double> turned = std::complex<double>(head[c], head[c + half]) * std::polar(1.0, angle);
    out[static_cast<size_t>(c)] = static_cast<float>(turned.real());
    out[static_cast<size_t>(c + half)] = static_cast<float>(turned.imag());
  }
  return out;
}

double squares(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (static_cast<double>(a[i]) - static_cast<double>(b[i])) * (static_cast<double>(a[i]) - static_cast<double>(b[i]));
  return sum;
}
double largestDifference(std::span<const float> a, std::span<const float> b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(double{a[i]} - double{b[i]}));
  return largest;
}

using Fit = Refit (*)(const ModelConfig&, const BorrowedRows&, double, Ledger&, ThreadPool&, const Progress&, HeadMaps&);
HeadMaps fit(Fit method, const ModelConfig& model, const BorrowedRows& rows, double damping, int threads = 2) {
  Ledger ledger;
  ThreadPool pool(threads);
  HeadMaps maps;
  EXPECT(method(model, rows, damping, ledger, pool, {}, maps) == Refit::done);
  return maps;
}

Settings with(Settings settings, std::initializer_list<std::pair<const char*, const char*>> more) {
  settings.insert(settings.end(), more);
  return settings;
}
const Settings kCla = {{"share.method", "cla"}, {"share.block", "2"}, {"share.first", "1"}, {"share.last", "0"}};
const Settings kFitted = with(kCla, {{"share.refit", "true"}});

std::shared_ptr<const SharingFit> fitOf(const std::shared_ptr<Engine>& engine, const Config& config) {
  EngineCore& core = EngineCore::of(*engine);
  const WeightTarget target = core.targetOf(resolve(config, core.model->config()).config);
  return value(core.fitSharing(*target.sharing, {allParts(core.model->config().layers), {}}, {}));
}

}  // namespace

// f32 moments of 300 tokens: 2^-24 of sums of 100, times the condition of the moments, below 3.
TEST(a_map_that_was_planted_is_found) {
  for (const int turned : {8, 4, 0}) {
    const ModelConfig model = shape(turned);
    const HeadMaps keys = commuting(model), values = randomRows(keys.size(), 4);
    EXPECT(largestDifference(fit(&fitKeyMaps, model, planted(model, keys).rows(), 1e-9), keys) < 1e-5, turned);
    EXPECT(largestDifference(fit(&fitValueMaps, model, planted(model, values).rows(), 1e-9), values) < 1e-5, turned);
  }
}

TEST(what_is_borrowed_of_an_equal_needs_no_map) {
  for (const int turned : {8, 4, 0}) {
    const ModelConfig model = shape(turned);
    const Planted same = planted(model, identity(model));
    for (const double damping : {0.0, 0.01, 1.0}) {
      EXPECT(largestDifference(fit(&fitKeyMaps, model, same.rows(), damping), identity(model)) < 1e-6, turned, damping);
      EXPECT(largestDifference(fit(&fitValueMaps, model, same.rows(), damping), identity(model)) < 1e-6, turned, damping);
    }
  }
}

TEST(maps_never_raise_the_difference_and_no_thread_changes_a_bit) {
  for (const int turned : {8, 4})
    for (const int tokens : {2, 20, kTokens}) {
      const ModelConfig model = shape(turned);
      const size_t count = static_cast<size_t>(tokens * model.kvRows());
      const std::vector<float> own = randomRows(count, 2), borrowed = randomRows(count, 3);
      double last = 0;
      for (const double damping : {1e-4, 0.01, 1.0, 100.0}) {
        const HeadMaps values = fit(&fitValueMaps, model, {own.data(), borrowed.data(), tokens}, damping);
        const double after = squares(own, mapped(model, values, borrowed));
        EXPECT(after <= squares(own, borrowed) && after >= last * 0.999, turned, tokens, damping);  // less damping, closer
        last = after;
        EXPECT(fit(&fitValueMaps, model, {own.data(), borrowed.data(), tokens}, damping, 1) == values);
        const HeadMaps keys = fit(&fitKeyMaps, model, {own.data(), borrowed.data(), tokens}, damping);
        EXPECT(fit(&fitKeyMaps, model, {own.data(), borrowed.data(), tokens}, damping, 1) == keys);
        if (turned == 8) EXPECT(squares(own, mapped(model, keys, borrowed)) <= squares(own, borrowed), tokens, damping);  // the others are compared about their means
      }
    }
}

// Softmax does not see what is added to every score of a query.
TEST(constants_in_keys_that_are_not_rotated_do_not_count) {
  const ModelConfig model = shape(0);
  const HeadMaps truth = commuting(model);
  Planted keys = planted(model, truth);
  for (size_t i = 0; i < keys.own.size(); ++i) keys.own[i] += static_cast<float>(i % 16) * 0.3f - 2;
  EXPECT(largestDifference(fit(&fitKeyMaps, model, keys.rows(), 1e-9), truth) < 1e-4);
}

TEST(folded_queries_score_as_mapped_keys_do_wherever_they_stand) {
  for (const int turned : {8, 4, 0}) {
    const ModelConfig model = shape(turned);
    const HeadMaps maps = commuting(model);
    const std::vector<float> keys = randomRows(static_cast<size_t>(model.kvRows()), 7), mappedKeys = mapped(model, maps, keys), queries = randomRows(static_cast<size_t>(model.qRows()), 8);
    std::vector<float> folded(queries.size());
    foldIntoQueries(model, maps, queries.data(), 1, folded.data());
    for (int head = 0; head < model.heads; ++head)
      for (const auto& [here, there] : {std::pair(0, 0), std::pair(5, 2), std::pair(40, 17)}) {
        const auto score = [&](const std::vector<float>& q, const std::vector<float>& k) {
          const auto a = rotated(model, q.data() + head * model.headDim, here), b = rotated(model, k.data() + head / 2 * model.headDim, there);
          double sum = 0;
          for (size_t c = 0; c < a.size(); ++c) sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
          return sum;
        };
        EXPECT_NEAR(score(folded, keys), score(queries, mappedKeys), 1e-5);
      }
  }
}

TEST(a_folded_output_makes_of_heads_what_the_output_makes_of_mapped_ones) {
  const ModelConfig model = shape(8);
  const HeadMaps maps = randomRows(static_cast<size_t>(model.kvHeads * model.headDim * model.headDim), 5);
  const std::vector<float> output = randomRows(static_cast<size_t>(3 * model.qRows()), 6), heads = randomRows(static_cast<size_t>(model.qRows()), 7);
  std::vector<float> folded(output.size()), mappedHeads = heads;
  foldIntoOutput(model, maps, output.data(), 3, folded.data());
  mapHeads(model, maps, mappedHeads.data(), 1);
  for (int row = 0; row < 3; ++row) {
    double a = 0, b = 0;
    for (int c = 0; c < model.qRows(); ++c) {
      a += static_cast<double>(folded[static_cast<size_t>(row * model.qRows() + c)]) * static_cast<double>(heads[static_cast<size_t>(c)]);
      b += static_cast<double>(output[static_cast<size_t>(row * model.qRows() + c)]) * static_cast<double>(mappedHeads[static_cast<size_t>(c)]);
    }
    EXPECT_NEAR(a, b, 1e-5);
  }
}

TEST(a_model_s_fit_raises_no_difference) {
  int keysMapped = 0;
  for (const char* file : {kSmallLlama, kStories}) {
    const CompressionMeter meter(file, 2);
    const auto fit = fitOf(meter.engine(), meter.with(kFitted));
    EXPECT(!fit->followers.empty());
    for (const FollowerFit& follower : fit->followers) {
      EXPECT(follower.refitted && follower.after < follower.before && follower.unseenAfter < follower.unseenBefore, file, follower.layer);
      EXPECT(fit->replaces(TensorRole::o, follower.layer) && !fit->replaces(TensorRole::k, follower.layer));
      EXPECT_EQ(fit->replaces(TensorRole::q, follower.layer), follower.mapped);
      keysMapped += follower.mapped;
    }
    EXPECT(fitOf(meter.engine(), meter.with(kFitted)) == fit);  // measured once
    const MemoryByTag planned = value(meter.engine()->plan(meter.with(kFitted), {.context = 128}, 64));
    int64_t held = 0;
    for (const auto* matrices : {&fit->output, &fit->queries, &fit->queryBiases})
      for (const Buffer& matrix : *matrices) held += static_cast<int64_t>(matrix.bytes());
    const auto session = makeSession(meter.engine(), meter.with(kFitted), {.context = 128});
    EXPECT_EQ(bytes(session->memory(), MemoryTag::calibration), held);
    const ModelConfig& shape = meter.engine()->model().config();
    EXPECT_EQ(bytes(planned, MemoryTag::calibration), static_cast<int64_t>(2 * fit->followers.size() * sizeof(float)) * shape.hidden * shape.qRows());  // as if all keys were mapped
  }
  EXPECT(keysMapped > 0);
}

// Norms of queries lie between their projection and the product.
TEST(keys_stay_where_queries_are_normed) {
#ifdef WINNOW_HAS_HUGGINGFACE
  int mapped = 0;
  for (const char* family : {"qwen2", "qwen3", "gpt2"}) {
    const auto model = value(Model::open(std::string(WINNOW_TESTS_DIR) + "/golden/hf/" + family));
    const std::string text = sharedData("corpora/tinystories_60k.txt");
    const auto engine = value(Engine::create(model, {.device = "cpu", .threads = 2}));  // its ledger outlives the fit
    const auto fit = fitOf(engine, configure({{"share.method", "cla"}, {"share.spans", "0-2"}, {"share.refit", "true"}, {"calibration.text", text.c_str()}, {"calibration.tokens", "2000"}}));
    EXPECT_EQ(fit->followers.size(), size_t{2});
    for (const FollowerFit& follower : fit->followers) {
      EXPECT(follower.refitted && follower.after < follower.before, family, follower.layer);
      EXPECT(!follower.mapped || !model->config().qkNorm);
      EXPECT_EQ(fit->queryBiases[static_cast<size_t>(follower.layer)].bytes() > 0, follower.mapped);  // those that map have biases
      mapped += follower.mapped;
    }
  }
  EXPECT(mapped > 0);
#else
  SKIP("built without the Hugging Face reader");
#endif
}

// Measured: see tests/bench/RESULTS.md.
TEST(fitted_borrowing_diverges_less_on_text_it_was_not_fitted_to) {
  for (const char* file : {kSmallLlama, kStories})
    for (const char* method : {"cla", "mix"}) {
      const CompressionMeter divergence(file, 6);
      const Settings settings = {{"share.method", method}, {"share.block", "2"}, {"share.first", "1"}, {"share.last", "0"}, {"kv.budget", method == std::string_view("mix") ? "64" : "1"}};
      const double alone = divergence(settings), fitted = divergence(with(settings, {{"share.refit", "true"}}));
      EXPECT(fitted < 0.8 * alone, file, method, fitted, alone);
    }
}

TEST(fits_come_and_go_with_the_borrowing_they_are_of) {
  const CompressionMeter meter(kStories, 2);
  const auto session = makeSession(meter.engine(), meter.with({}), {.context = 128});
  const auto tokens = someTokens(20, meter.engine()->model().config().vocab);
  const auto change = [&](const Settings& settings) {
    session->request(meter.with(settings));
    ok(session->finishPending({}));
  };
  const std::vector<float> dense = logitsAfter(*session, tokens);
  change(kCla);
  const std::vector<float> borrowed = logitsAfter(*session, tokens);
  change(kFitted);
  EXPECT(session->effective()->asRequested());
  const std::vector<float> fit = logitsAfter(*session, tokens);
  EXPECT(fit != borrowed && borrowed != dense);
  const auto steps = makeSession(meter.engine(), meter.with(kFitted), {.context = 128});
  for (const int32_t token : tokens) ok(steps->step(token));
  EXPECT(relativeError(fit, steps->logits()) < 1e-4);
  // While a text is in the cache neither the borrowing nor what was fitted to it can go.
  change({});
  EXPECT(session->effective()->config.text("share.method") == "cla" && session->effective()->config.boolean("share.refit"));
  ok(session->rebuildCache({}));
  EXPECT(session->effective()->config.text("share.method") == "none" && logitsAfter(*session, tokens) == dense);
  change(kCla);
  EXPECT(logitsAfter(*session, tokens) == borrowed);
}

// Which layers keep the whole text is no matter of the fit.
TEST(layers_of_full_attention_change_beside_a_fit) {
  const CompressionMeter meter(kStories, 2);
  const Settings mix = {{"share.method", "mix"}, {"share.block", "2"}, {"share.first", "1"}, {"share.last", "0"}, {"kv.budget", "32"}, {"share.refit", "true"}};
  for (const char* full : {"1", "0", "2"}) {
    const auto session = makeSession(meter.engine(), meter.with(with(mix, {{"share.full", full}})), {.context = 128});
    EXPECT(session->effective()->asRequested());
    EXPECT_EQ(std::to_string(std::ranges::count(session->plan().sharing, true, &LayerSharing::keepsAll)), std::string(full));
  }
}

TEST(a_stopped_fit_says_so_and_leaves_nothing) {
  const CompressionMeter meter(kStories, 2);
  EngineCore& core = EngineCore::of(*meter.engine());
  const WeightTarget target = core.targetOf(resolve(meter.with(kFitted), core.model->config()).config);
  for (const double until : {0.0, 0.4, 0.6}) {
    std::stop_source source;
    double reached = 0;
    const auto fit = core.fitSharing(*target.sharing, {allParts(core.model->config().layers), {}},
                                     {[&](double fraction, std::string_view) {
                                        EXPECT(fraction >= reached - 1e-9, fraction, reached);
                                        reached = fraction;
                                        if (fraction >= until) source.request_stop();
                                      },
                                      source.get_token()});
    EXPECT(!fit && fit.error().code == ErrorCode::cancelled, until);
    EXPECT_EQ(core.ledger.bytes(MemoryTag::calibration), int64_t{0});
  }
}
