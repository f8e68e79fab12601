// SPDX-License-Identifier: GPL-3.0-or-later
// LaCo (pruning_sharing_attribution.md, D1): which layers are merged, what they become, and that what goes costs nothing.
#include <algorithm>
#include <cmath>

#include "engine/prune/laco.h"
#include "engine/run/core.h"
#include "engine/weights/export.h"
#include "tests/support/compression_meter.h"
#include "tests/support/planned.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::string left(const LayersLeft& layers) {
  std::string out;
  for (const LayerParts& each : layers.parts) out += each.attention && each.ffn ? 'x' : '-';
  return out;
}

// What merging leaves of 8 layers, one of them protected at either end, when `accept` decides.
LayersLeft merged(const char* method, int count, int together, const std::function<bool(const LayersLeft&)>& accept) {
  return value(mergeLayers({method, count, 1, together, 0.5}, 8, [&](const LayersLeft& trial) { return Result<double>(accept(trial) ? 0.6 : 0.5); }));
}
bool always(const LayersLeft&) { return true; }

// The stream where the last layer ends.
class LastStream final : public LinearInputTap {
 public:
  explicit LastStream(int layers) : point_(2 * layers) {}
  void take(int, LinearInput, const float*, int64_t, int, int) override {}
  void takeStream(int point, const float* x, int cols, int tokens) override {
    if (point == point_) values.assign(x, x + int64_t{tokens} * cols);
  }
  std::vector<float> values;

 private:
  int point_;
};

std::vector<float> streamOf(Engine& engine, const LayersLeft& layers) {
  EngineCore& core = EngineCore::of(engine);
  WeightTarget target = weightTarget(*core.model, Config(), "");
  target.left = layers;
  ThreadPool pool(1);
  LastStream last(core.model->config().layers);
  ok(core.observe(target, {}, someTokens(50, core.model->config().vocab), 50, pool, last, {}));
  return last.values;
}

int64_t weightBytes(const Session& session) { return bytes(session.memory(), MemoryTag::weights) + bytes(session.memory(), MemoryTag::weightsMapped); }

}  // namespace

TEST(shares_of_a_merge) {
  EXPECT(lacoShares(3) == (std::vector<float>{-2, 1, 1, 1}));
  EXPECT(releasedLacoShares(3) == (std::vector<float>{0, 0, 0, 1}));
  for (const int merged : {1, 2, 7})
    for (const auto& shares : {lacoShares(merged), releasedLacoShares(merged)}) {  // layers that are alike become one that is like them
      float sum = 0;
      for (const float share : shares) sum += share;
      EXPECT_EQ(sum, 1.0f);
    }
}

TEST(layers_merge_from_the_top_down) {
  const LayersLeft two = merged("laco", 2, 2, always);
  EXPECT_EQ(left(two), std::string("xxxxx--x"));
  EXPECT(two.sums[4] == (std::vector<LayerShare>{{4, -1}, {5, 1}, {6, 1}}));
  EXPECT_EQ(std::count_if(two.sums.begin(), two.sums.end(), [](const auto& sum) { return !sum.empty(); }), 1);
  // A sum merges on, here with one more: 3 + (sum - 3).
  const LayersLeft four = merged("laco", 3, 2, always);
  EXPECT_EQ(left(four), std::string("xxxx---x"));
  EXPECT(four.sums[3] == (std::vector<LayerShare>{{4, -1}, {5, 1}, {6, 1}}));
  EXPECT_EQ(left(merged("laco", 5, 64, always)), std::string("xx-----x"));  // all but the one they merge into
  EXPECT(merged("laco", 5, 64, always).sums[1] == (std::vector<LayerShare>{{1, -4}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 1}}));
  EXPECT(merged("laco-released", 2, 2, always).sums[4] == (std::vector<LayerShare>{{6, 1}}));
}

TEST(a_merge_that_changes_too_much_is_taken_back) {
  const LayersLeft none = merged("laco", 2, 2, [](const LayersLeft&) { return false; });
  EXPECT_EQ(left(none), std::string("xxxxxxxx"));
  EXPECT(std::all_of(none.sums.begin(), none.sums.end(), [](const auto& sum) { return sum.empty(); }));
  const LayersLeft lower = merged("laco", 2, 2, [](const LayersLeft& trial) { return trial.parts[6].ffn; });  // layer 6 has to stay
  EXPECT_EQ(left(lower), std::string("xxxx--xx"));
  EXPECT(lower.sums[3] == (std::vector<LayerShare>{{3, -1}, {4, 1}, {5, 1}}));
  const auto failed = mergeLayers({"laco", 2, 1, 2, 0.5}, 8, [](const LayersLeft&) { return Result<double>(Error{ErrorCode::cancelled, "stopped", ""}); });
  EXPECT(!failed.ok() && failed.error().code == ErrorCode::cancelled);
}

TEST(a_merged_layer_has_the_sum_of_the_weights) {
  const auto engine = openEngine(kStories, 1);
  EngineCore& core = EngineCore::of(*engine);
  WeightTarget target = weightTarget(*core.model, Config(), "");
  target.left = value(mergeLayers({"laco", 2, 1, 2, 0.5}, 5, [](const LayersLeft&) { return Result<double>(1.0); }));
  EXPECT_EQ(left(*target.left), std::string("xx--x"));
  ThreadPool pool(3);
  const auto set = value(core.store.build(target, pool, {}, {}));
  for (const TensorRole role : {TensorRole::q, TensorRole::down, TensorRole::ffnNorm}) {
    std::vector<float> layers[4];
    for (int layer = 1; layer < 4; ++layer) {
      const MasterTensor& tensor = *core.model->find(role, layer);
      layers[layer].resize(static_cast<size_t>(tensor.rows * tensor.cols));
      Model::decodeRows(tensor, 0, tensor.rows, layers[layer].data());
    }
    const LayerWeights& made = set->layers[1];
    const float* values = role == TensorRole::q ? static_cast<const float*>(made.q->data) : role == TensorRole::down ? static_cast<const float*>(made.down->data) : made.ffnNorm;
    for (size_t i = 0; i < layers[1].size(); ++i)
      EXPECT_NEAR(values[i], double{layers[1][i]} + (double{layers[2][i]} - double{layers[1][i]}) + (double{layers[3][i]} - double{layers[1][i]}), 1e-6);
  }
  EXPECT(!set->layers[2].q && !set->layers[3].down);
  const auto exported = exportGguf(*set, target, "", (scratch() / "merged.gguf").string(), pool, {});
  EXPECT(!exported.ok() && exported.error().hint.find("prune.layers") != std::string::npos);
}

TEST(sums_of_packed_layers_are_kept_as_halves) {
  const auto model = value(Model::open(sharedData("models/random-llama-256-Q4_0.gguf")));
  const WeightTarget own = weightTarget(*model, Config(), ""), fewer = weightTarget(*model, resolve(configure({{"weights.bits", "4"}}), model->config()).config, "");
  for (size_t i = 0; i < own.recipes.size(); ++i) {
    if (model->tensors()[i].role != TensorRole::down) continue;
    EXPECT(own.recipes[i].format.storage == Storage::packed && summed(own.recipes[i], {{1, 2}, {2, -1}}).format.storage == Storage::f16);
    EXPECT(summed(fewer.recipes[i], {{1, 2}, {2, -1}}).format == fewer.recipes[i].format);
    EXPECT(summed(own.recipes[i], {{1, 2}, {2, -1}}).key() != summed(own.recipes[i], {{1, 1}}).key());
  }
}

TEST(the_released_program_leaves_the_last_layer_in_place_of_all) {
  const auto engine = openEngine(kStories, 1);
  LayersLeft replaced = value(mergeLayers({"laco-released", 2, 1, 2, 0.5}, 5, [](const LayersLeft&) { return Result<double>(1.0); })), deleted;
  deleted.parts = allParts(5);
  deleted.parts[1] = deleted.parts[2] = {false, false};
  EXPECT(replaced.sums[1] == (std::vector<LayerShare>{{3, 1}}));
  const auto stream = streamOf(*engine, replaced);
  EXPECT(!stream.empty() && stream == streamOf(*engine, deleted));
  EXPECT(stream != streamOf(*engine, {allParts(5), {}}));
}

TEST(merged_layers_cost_no_weights_no_cache_and_no_time) {
  const CompressionMeter meter(kStories, 1, "1024");
  const auto dense = makeSession(meter.engine(), meter.with({}));
  const auto tokens = someTokens(100, dense->vocab());
  const auto whole = logitsAfter(*dense, tokens);
  for (const char* bits : {"16", "4"}) {
    const Config config = meter.with({{"prune.layers", "2"}, {"prune.layers_method", "laco"}, {"prune.merge_similarity", "-1"}, {"weights.bits", bits}});
    const auto session = makeSession(meter.engine(), config);
    EXPECT(session->effective()->asRequested(), bits);
    const auto prefilled = logitsAfter(*session, tokens);
    EXPECT_EQ(5 * bytes(session->memory(), MemoryTag::kv), 3 * bytes(dense->memory(), MemoryTag::kv));
    EXPECT_EQ(session->plan().ops.size(), dense->plan().ops.size() - 10);
    EXPECT(relativeError(prefilled, whole) > 0.01 && std::isfinite(prefilled[0]), bits);
    if (std::string_view(bits) == "16") {
      const auto dropped = makeSession(meter.engine(), meter.with({{"prune.layers", "2"}, {"prune.layers_method", "contiguous"}}));
      EXPECT_EQ(weightBytes(*session), weightBytes(*dropped));
    }
    const MemoryByTag planned = value(meter.engine()->plan(config, {.context = 256}, 100)), used = session->memory();
    for (const MemoryTag tag : {MemoryTag::weights, MemoryTag::weightsMapped, MemoryTag::kv, MemoryTag::activations})
      expectAsPlanned(bytes(planned, tag), bytes(used, tag), bits, memoryTagName(tag));
    session->reset();
    for (const int32_t id : tokens) ok(session->step(id));
    EXPECT(relativeError(session->logits(), prefilled) < 4e-3, bits);
  }
}

TEST(what_could_not_be_merged_is_told) {
  const CompressionMeter meter(kStories, 1, "1024");
  const auto session = makeSession(meter.engine(), meter.with({{"prune.layers", "2"}, {"prune.layers_method", "laco"}, {"prune.merge_similarity", "1"}}));
  EXPECT_EQ(session->effective()->config.integer("prune.layers"), int64_t{0});
  EXPECT(session->effective()->adjustments.size() == 1 && session->effective()->adjustments.front().reason.find("prune.merge_similarity") != std::string::npos);
  const auto tokens = someTokens(40, session->vocab());
  EXPECT(logitsAfter(*session, tokens) == logitsAfter(*makeSession(meter.engine()), tokens));
  const ModelConfig& model = meter.engine()->model().config();
  const Effective clamped = resolve(configure({{"prune.layers", "3"}, {"prune.layers_method", "laco"}}), model);
  EXPECT_EQ(clamped.config.integer("prune.layers"), 2);  // of the three between the ends one stays
  const Effective judged = resolve(configure({{"prune.layers", "1"}, {"prune.layers_method", "laco"}, {"prune.method", "barber"}, {"prune.ratio", "0.5"}}), model);
  EXPECT(judged.config.text("prune.method") == "wanda" && !judged.asRequested());
}
