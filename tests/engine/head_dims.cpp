// SPDX-License-Identifier: GPL-3.0-or-later
// Heads of fewer components: folds against worked examples, queries and keys that keep their frequencies, and that what goes costs neither memory
// nor cache (pruning_sharing_attribution.md, D3 and L4).
#include "engine/prune/head_dims.h"

#include "engine/run/core.h"
#include "engine/run/host_weights.h"
#include "engine/weights/export.h"
#include "engine/weights/head_folds.h"
#include "engine/weights/report.h"
#include "tests/support/changed_weights.h"
#include "tests/support/compression_meter.h"

using namespace winnow;
using namespace winnow::test;

namespace {

using Rows = std::vector<std::vector<double>>;

Rows times(const Rows& a, const Rows& b) {
  Rows out(a.size(), std::vector<double>(b[0].size()));
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < b[0].size(); ++j)
      for (size_t k = 0; k < b.size(); ++k) out[i][j] += a[i][k] * b[k][j];
  return out;
}
Rows transposed(const Rows& a) {
  Rows out(a[0].size(), std::vector<double>(a.size()));
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < a[0].size(); ++j) out[j][i] = a[i][j];
  return out;
}
std::vector<double> flat(const Rows& a) {
  std::vector<double> out;
  for (const auto& row : a) out.insert(out.end(), row.begin(), row.end());
  return out;
}
Rows square(const std::vector<float>& values, int rows, int cols) {
  Rows out(static_cast<size_t>(rows), std::vector<double>(static_cast<size_t>(cols)));
  for (size_t i = 0; i < values.size(); ++i) out[i / static_cast<size_t>(cols)][i % static_cast<size_t>(cols)] = values[i];
  return out;
}

std::string starter() { return std::string(WINNOW_TESTS_DIR) + "/../resources/starter/starter.gguf"; }
std::shared_ptr<Engine> openStarter() {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 2;
  return value(Engine::create(value(Model::open(starter())), options));
}

}  // namespace

TEST(folds_of_the_worked_example) {
  const Rows x = {{.9, .1, 1.1, 0}, {0, .8, .1, .7}, {1.2, 0, 1, .1}, {.1, .9, .2, 1}, {.5, .5, .4, .6}, {0, .1, .2, .3}};
  const Rows v = {{1, .2, 0, -.5}, {.3, 1, .4, 0}}, o = {{.5, 1}, {1, -.2}, {0, .7}};
  const Rows spent = times(times(v, times(transposed(x), x)), transposed(v)), wanted = times(transposed(o), o);
  for (int k = 1; k <= 2; ++k) {
    std::vector<float> f, g;
    const std::vector<double> singular = foldHead(flat(spent), flat(wanted), 2, k, f, g);
    EXPECT_NEAR(singular[0], 2.8127266924, 1e-9);
    EXPECT_NEAR(singular[1], 1.2224690400, 1e-9);
    const Rows exact = times(times(x, transposed(v)), transposed(o)), left = times(times(times(times(x, transposed(v)), transposed(square(f, k, 2))), square(g, k, 2)), transposed(o));
    double lost = 0;
    for (size_t t = 0; t < x.size(); ++t)
      for (size_t i = 0; i < 3; ++i) lost += (exact[t][i] - left[t][i]) * (exact[t][i] - left[t][i]);
    EXPECT_NEAR(lost, k == 1 ? 1.4944305537 : 0.0, 1e-6);
  }
}

// Random values of 8 components of which 5 are other components' sums, so that the moments have no inverse.
TEST(what_is_lost_is_the_tail_of_the_singular_values) {
  Rows x(40, std::vector<double>(8)), o(11, std::vector<double>(8));
  uint32_t seed = 3;
  const auto next = [&] { return static_cast<double>((seed = seed * 1664525u + 1013904223u) >> 8) / 8e6 - 1; };
  for (auto& row : x) {
    for (double& each : row) each = next();
    for (size_t c = 5; c < 8; ++c) row[c] = row[c - 5] + row[c - 4];
  }
  for (auto& row : o)
    for (double& each : row) each = next();
  for (const int k : {2, 4, 5, 8}) {
    std::vector<float> f, g;
    const std::vector<double> singular = foldHead(flat(times(transposed(x), x)), flat(times(transposed(o), o)), 8, k, f, g);
    const Rows exact = times(x, transposed(o)), left = times(times(times(x, transposed(square(f, k, 8))), square(g, k, 8)), transposed(o));
    double lost = 0, tail = 0;
    for (size_t t = 0; t < x.size(); ++t)
      for (size_t i = 0; i < o.size(); ++i) lost += (exact[t][i] - left[t][i]) * (exact[t][i] - left[t][i]);
    for (size_t i = static_cast<size_t>(k); i < 8; ++i) tail += singular[i] * singular[i];
    EXPECT_NEAR(lost, tail, 1e-4 * singular[0] * singular[0]);
    EXPECT(k > 4 || tail > 1, k, tail);
  }
}

TEST(pairs_go_whole) {
  ModelConfig model;
  model.heads = 4;
  model.kvHeads = 2;
  model.headDim = model.rope.dims = 16;
  EXPECT(headDimLeft(.5, 64) == 32 && headDimLeft(.25, 64) == 48 && headDimLeft(.9, 64) == 8 && headDimLeft(.01, 64) == 56 && headDimLeft(.5, 20) == 12 && headDimLeft(.1, 20) == 16 && headDimLeft(.5, 8) == 4);
  std::vector<double> keys = {0, 9, 8, 0, 7, 0, 0, 6, 5, 5, 5, 5, 0, 0, 0, 0}, values(32);
  for (size_t i = 0; i < 32; ++i) values[i] = static_cast<double>(i % 16 >= 8);
  const KeptAttention left = keptHeadDims(model, 8, keys, values);
  EXPECT_NEAR(left.queryScale, std::sqrt(.5), 1e-7);
  EXPECT(left.pairs == (std::vector<int32_t>{1, 2, 4, 7, 0, 1, 2, 3}));
  EXPECT(left.keys->list == (std::vector<int>{1, 2, 4, 7, 9, 10, 12, 15, 16, 17, 18, 19, 24, 25, 26, 27}));
  EXPECT(left.queries->list.size() == 32 && left.queries->list[8] == 17 && left.queries->list[16] == 32);
  EXPECT(left.values->list.size() == 16 && left.values->list[0] == 8 && left.outputs->list.size() == 32);
}

// Logits of the dense model whose queries lack the same pairs and whose values are what the folds leave of them.
TEST(narrow_heads_compute_as_whole_ones_with_zeros) {
  const CompressionMeter meter(openStarter(), 1, "1024");
  EngineCore& core = EngineCore::of(*meter.engine());
  const ModelConfig& model = core.model->config();
  ThreadPool pool(2);
  const auto tokens = someTokens(40, model.vocab);
  const auto logits = [&](const WeightSet& set) { return logitsOf(core, set, tokens, pool, Activations::f32); };
  for (const HeadDimMethod& method : headDimMethods()) {
    const Config config = resolve(meter.with({{"prune.head_dim", "0.5"}, {"prune.head_dim_method", method.name.c_str()}}), model).config;
    const auto narrow = value(core.store.build(core.targetOf(config), pool, core.measurements(), {}));
    ChangedWeights dense = denseWeights(core, pool);
    const auto whole = logits(dense.set);
    for (size_t layer = 0; layer < dense.set.layers.size(); ++layer) {
      const KeptAttention& left = narrow->attention[layer];
      LayerWeights& w = dense.set.layers[layer];
      EXPECT(narrow->layers[layer].k->rows == 64 && narrow->layers[layer].v->rows == 64 && narrow->layers[layer].o->cols == 192);
      dense.keepRows(w.q, left.queries->list);
      EXPECT_NEAR(left.queryScale, std::sqrt(.5), 1e-7);
      if (!left.folds) {
        dense.keepRows(w.v, left.values->list);
        continue;
      }
      std::vector<float>& v = dense.change(w.v);
      const std::vector<float> before = v;
      const HeadFolds& folds = *left.folds;
      const int n = folds.whole, k = folds.kept, cols = model.hidden;
      for (int h = 0; h < folds.kvHeads; ++h)
        for (int a = 0; a < n; ++a)
          for (int c = 0; c < cols; ++c) v[static_cast<size_t>((h * n + a) * cols + c)] = 0;
      for (int h = 0; h < folds.kvHeads; ++h)
        for (int a = 0; a < n; ++a)
          for (int b = 0; b < n; ++b) {
            double both = 0;
            for (int i = 0; i < k; ++i) both += static_cast<double>(folds.outputs[static_cast<size_t>((h * k + i) * n + a)]) * folds.values[static_cast<size_t>((h * k + i) * n + b)];
            for (int c = 0; c < cols; ++c) v[static_cast<size_t>((h * n + a) * cols + c)] += static_cast<float>(both) * before[static_cast<size_t>((h * n + b) * cols + c)];
          }
    }
    const double error = relativeError(logits(dense.set), logits(*narrow));
    EXPECT(error < 3e-3, method.name, error);  // weights of f16, a cache of f16
    EXPECT(relativeError(whole, logits(*narrow)) > 10 * error, method.name);
  }
}

TEST(narrow_heads_cost_neither_weights_nor_cache) {
  const CompressionMeter meter(openStarter(), 1, "1024");
  const auto tokens = someTokens(60, meter.engine()->model().config().vocab);
  for (const HeadDimMethod& method : headDimMethods())
    for (const Settings& beside : {Settings{}, Settings{{"weights.bits", "4"}, {"kv.k_bits", "8"}, {"kv.v_bits", "4"}}, Settings{{"kv.policy", "snapkv"}, {"kv.budget", "32"}}}) {
      Settings settings = beside;
      settings.insert(settings.end(), {{"prune.head_dim", "0.5"}, {"prune.head_dim_method", method.name.c_str()}});
      const auto session = makeSession(meter.engine(), meter.with(settings)), wide = makeSession(meter.engine(), meter.with(beside));
      EXPECT(session->effective()->asRequested(), method.name, session->effective()->adjustments.empty() ? "" : session->effective()->adjustments[0].reason);
      const auto prefilled = logitsAfter(*session, tokens);
      logitsAfter(*wide, tokens);
      EXPECT(std::isfinite(prefilled[0]), method.name);
      const MemoryByTag planned = value(meter.engine()->plan(meter.with(settings), {.context = 256}, 60)), used = session->memory(), all = wide->memory();
      EXPECT(bytes(used, MemoryTag::kv) * 2 <= bytes(all, MemoryTag::kv) + 65536, method.name, bytes(used, MemoryTag::kv), bytes(all, MemoryTag::kv));
      EXPECT(session->weightBytesPerToken() < wide->weightBytesPerToken());
      for (const MemoryTag tag : {MemoryTag::weights, MemoryTag::weightsMapped, MemoryTag::kv, MemoryTag::activations}) {
        const double room = std::max(65536.0, 0.02 * static_cast<double>(bytes(used, tag)));
        EXPECT(std::fabs(static_cast<double>(bytes(planned, tag) - bytes(used, tag))) <= room, method.name, memoryTagName(tag), bytes(planned, tag), bytes(used, tag));
      }
      if (!beside.empty() && std::string_view(beside[0].first) == "kv.policy") continue;
      session->reset();
      for (const int32_t id : tokens) ok(session->step(id));
      EXPECT(relativeError(session->logits(), prefilled) < (beside.empty() ? 2e-2 : 0.3), method.name);
      ThreadPool pool(1);
      const HostWeights weights = value(hostWeights(*meter.engine(), meter.with(settings), pool, {}));
      for (const TensorReport& row : value(reportWeights(*weights.set, nullptr, pool, {})).tensors) EXPECT(row.sqnr() > (beside.empty() ? 54 : 15), row.name, row.sqnr());  // bf16, 4 bits
      EXPECT(!exportGguf(*weights.set, weights.target, "test", (scratch() / "narrow.gguf").string(), pool, {}).ok());
    }
}

TEST(components_go_and_come_back_when_the_cache_is_recomputed) {
  const CompressionMeter meter(openStarter(), 1, "1024");
  const auto session = makeSession(meter.engine(), meter.with({}));
  const auto tokens = someTokens(30, session->vocab());
  const auto whole = logitsAfter(*session, tokens);
  const Config fewer = meter.with({{"prune.head_dim", "0.5"}});
  const auto narrow = logitsAfter(*makeSession(meter.engine(), fewer), tokens);
  session->request(fewer);
  ok(session->finishPending({}));
  EXPECT(session->effective()->config.real("prune.head_dim") == 0);
  ok(session->rebuildCache({}));
  EXPECT(session->effective()->asRequested() && session->effective()->config.text("prune.head_dim_method") == "modegpt");
  EXPECT(logitsAfter(*session, tokens) == narrow);
  session->request(meter.with({}));
  ok(session->finishPending({}));
  EXPECT(logitsAfter(*session, tokens) == whole);
}

TEST(folding_loses_less_than_chance) {
  const CompressionMeter meter(openStarter(), 2, "2048");
  const double folded = meter({{"prune.head_dim", "0.5"}}), chance = meter({{"prune.head_dim", "0.5"}, {"prune.head_dim_method", "random"}}),
               fitted = meter({{"prune.head_dim", "0.5"}, {"prune.head_dim_method", "random"}, {"prune.recovery", "least-squares"}}), little = meter({{"prune.head_dim", "0.1"}});
  std::printf("divergence: modegpt %.4f (a tenth: %.4f), random %.4f, fitted anew %.4f\n", folded, little, chance, fitted);
  EXPECT(little < folded && folded < fitted && fitted < chance, little, folded, fitted, chance);
}

TEST(heads_that_cannot_be_narrowed_say_why) {
  ModelConfig model;
  model.layers = 8;
  model.heads = 4;
  model.kvHeads = 2;
  model.headDim = model.rope.dims = 64;
  model.ffn = 768;
  const auto reasonFor = [&](Settings settings, const char* knob = "prune.head_dim") {
    settings.push_back({"prune.head_dim", "0.5"});
    for (const Adjustment& each : resolve(configure(settings), model).adjustments)
      if (each.knob == knob) return each.reason;
    return std::string();
  };
  EXPECT_EQ(reasonFor({}), std::string());
  EXPECT_EQ(reasonFor({{"weights.bits", "4"}}), std::string());
  const Effective eighth = resolve(configure({{"prune.head_dim", "0.01"}}), model);
  EXPECT(eighth.config.real("prune.head_dim") == 0.125 && eighth.adjustments.size() == 1 && eighth.adjustments[0].reason.find("of 64 components of a head 8 can go") == 0);
  EXPECT(reasonFor({{"prune.heads", "0.5"}}).find("not both") != std::string::npos);
  EXPECT(reasonFor({{"share.block", "2"}}).find("share attention") != std::string::npos);
  EXPECT(reasonFor({{"prune.layers", "1"}, {"prune.layers_method", "laco"}}).find("laco") != std::string::npos);
  EXPECT(reasonFor({{"kv.policy", "window"}, {"kv.budget", "64"}, {"kv.positions", "cache"}}).find("frequencies") != std::string::npos);
  EXPECT(reasonFor({{"kv.policy", "expected"}, {"kv.budget", "64"}}).find("frequencies") != std::string::npos);
  EXPECT(reasonFor({{"weights.bits", "4"}, {"weights.method", "gptq"}}).find("other inputs") != std::string::npos);
  EXPECT_EQ(reasonFor({{"weights.bits", "4"}, {"weights.method", "gptq"}, {"prune.head_dim_method", "random"}}), std::string());
  EXPECT(reasonFor({{"prune.recovery", "least-squares"}}, "prune.recovery").find("in any case") != std::string::npos);
  model.qkNorm = true;
  EXPECT(reasonFor({}).find("norm of whole heads") != std::string::npos);
  model.qkNorm = false;
  model.rope.dims = 32;
  EXPECT(reasonFor({}).find("turned whole") != std::string::npos);
  model.headDim = model.rope.dims = 6;
  EXPECT(reasonFor({}).find("too narrow") != std::string::npos);
}
