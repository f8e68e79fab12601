// SPDX-License-Identifier: GPL-3.0-or-later
// compute.publish=layers: new weights act layer by layer, the rest are the old ones until their turn, and memory is that of about one set.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <thread>

#include "engine/knobs/knobs.h"
#include "engine/weights/store.h"
#include "tests/support/engine.h"
#include "tests/support/random_model.h"

using namespace winnow;
using namespace winnow::test;

namespace {

ModelConfig sixLayersConfig() {
  ModelConfig config = familyConfig("llama3");
  config.layers = 6;
  config.hidden = 128;
  config.ffn = 256;
  config.vocab = 96;
  return config;
}
std::shared_ptr<const Model> sixLayers() { return randomModel(sixLayersConfig()); }

const Settings kFour = {{"weights.bits", "4"}};
Settings layers(Settings settings) {
  settings.push_back({"compute.publish", "layers"});
  return settings;
}

int64_t sumOf(const Ledger& ledger) { return ledger.bytes(MemoryTag::weights); }

}  // namespace

TEST(a_part_has_the_first_layers_of_one_set_and_the_rest_of_the_other) {
  const auto model = sixLayers();
  Ledger ledger;
  WeightStore store(model, ledger);
  ThreadPool pool(2);
  const auto target = [&](const Settings& settings) { return weightTarget(*model, resolve(configure(settings), model->config()).config, ""); };
  auto old = value(store.build(target({{"weights.bits", "8"}}), pool, {}, {}));
  const int64_t eight = sumOf(ledger);
  std::vector<std::shared_ptr<const WeightSet>> parts;
  const WeightTarget four = target(kFour);
  const auto made = value(store.build(four, pool, {}, {}, {old, [&](std::shared_ptr<const WeightSet> part) { parts.push_back(std::move(part)); }}));
  EXPECT_EQ(parts.size(), size_t{6});
  EXPECT(made->partOf.empty() && made->key == four.key);
  for (size_t k = 0; k < parts.size(); ++k) {
    EXPECT_EQ(parts[k]->newLayers, static_cast<int>(k) + 1);
    EXPECT(parts[k]->partOf == four.key && parts[k]->key != four.key && parts[k]->serial != made->serial);
    for (size_t i = 0; i < model->tensors().size(); ++i) {
      const int layer = model->tensors()[i].layer;
      const auto& expected = layer >= 0 && layer <= static_cast<int>(k) ? made->versions[i] : old->versions[i];
      EXPECT(parts[k]->versions[i] == expected, k, i, layer);
    }
    for (size_t l = 0; l < parts[k]->layers.size(); ++l) EXPECT(parts[k]->layers[l].down == (l <= k ? made : old)->layers[l].down, k, l);
    EXPECT(parts[k]->embedding == old->embedding && parts[k]->head == old->head);
    EXPECT(k == 0 || parts[k]->key != parts[k - 1]->key);
  }
  // What nobody holds is gone: the layers of the old set but those of the part at hand.
  parts.clear();
  old.reset();
  EXPECT(sumOf(ledger) < eight);
}

TEST(old_layers_go_as_new_ones_come) {
  const auto model = sixLayers();
  const auto most = [&](bool byLayer) {
    Ledger ledger;
    WeightStore store(model, ledger);
    ThreadPool pool(1);
    const auto target = [&](const char* bits) { return weightTarget(*model, resolve(configure({{"weights.bits", bits}}), model->config()).config, ""); };
    auto held = value(store.build(target("8"), pool, {}, {}));  // as a session holds it
    const WeightTarget next = target("6");
    LayerPublishing publishing;
    if (byLayer) publishing = {held, [&](std::shared_ptr<const WeightSet> part) { held = std::move(part); }};
    held = value(store.build(next, pool, {}, {}, std::move(publishing)));
    return static_cast<double>(ledger.peak()) / static_cast<double>(ledger.total());
  };
  const double whole = most(false), byLayer = most(true);
  // 8 and 6 bits, 8.5 and 6.5 with scales: 15 to 6.5 when both are there. By layer 8.5 to 6.5, and a layer and the embeddings of the other.
  EXPECT(whole > 2.2 && byLayer < 1.75, whole, byLayer);
}

// Of another ratio every matrix has the size of the one before: it gets the pages that a layer left, and none of its values. What waited for a
// layer to come is gone with the job, given up in its middle too.
TEST(new_layers_take_the_pages_of_old_ones) {
  const auto model = sixLayers();
  const auto target = [&](const char* ratio) {
    return weightTarget(*model, resolve(configure({{"prune.ratio", ratio}, {"prune.method", "magnitude"}}), model->config()).config, "");
  };
  const auto fresh = [&](Ledger& ledger, ThreadPool& pool, const char* ratio) { return value(WeightStore(model, ledger).build(target(ratio), pool, {}, {})); };
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    Ledger ledger, apart;
    WeightStore store(model, ledger);
    auto held = value(store.build(target("0.3"), pool, {}, {}));
    const int64_t one = ledger.total();
    int reused = 0;
    for (const char* ratio : {"0.5", "0.35", "0.6"}) {
      std::vector<const void*> old;
      for (const auto& version : held->versions) old.push_back(version->matrix.data);
      auto from = held;
      held = value(store.build(target(ratio), pool, {}, {}, {std::exchange(from, nullptr), [&](std::shared_ptr<const WeightSet> part) { held = std::move(part); }}));
      EXPECT_EQ(ledger.total(), one);
      const auto expected = fresh(apart, pool, ratio);
      for (size_t i = 0; i < held->versions.size(); ++i) {
        const Matrix &matrix = held->versions[i]->matrix, &other = expected->versions[i]->matrix;
        EXPECT(std::memcmp(matrix.data, other.data, matrix.bytes()) == 0, ratio, model->tensors()[i].fileName);
        reused += matrix.codes.bytes() >= 65536 && std::ranges::find(old, matrix.data) != old.end();
      }
    }
    EXPECT(reused > 0);
    EXPECT(static_cast<double>(ledger.peak()) < 1.7 * static_cast<double>(one), ledger.peak(), one);  // a layer or two of six beside the set

    std::stop_source stop;
    Progress progress;
    progress.stop = stop.get_token();
    int parts = 0;
    auto from = held;
    const auto stopped = store.build(target("0.45"), pool, {}, progress, {std::exchange(from, nullptr), [&](std::shared_ptr<const WeightSet> part) {
                                       held = std::move(part);
                                       if (++parts == 3) stop.request_stop();
                                     }});
    EXPECT(!stopped && stopped.error().code == ErrorCode::cancelled);
    EXPECT_EQ(held->newLayers, 3);
    EXPECT_EQ(ledger.total(), one);
    const auto before = fresh(apart, pool, "0.6"), after = fresh(apart, pool, "0.45");
    for (size_t i = 0; i < held->versions.size(); ++i) {
      const int layer = model->tensors()[i].layer;
      const Matrix& matrix = held->versions[i]->matrix;
      EXPECT(std::memcmp(matrix.data, (layer >= 0 && layer < 3 ? after : before)->versions[i]->matrix.data, matrix.bytes()) == 0, model->tensors()[i].fileName);
    }
  }
}

// However fast the machine: on until a part was seen.
TEST(a_session_takes_layers_as_they_are_done) {
  const auto engine = value(Engine::create(sixLayers(), {.device = "cpu", .threads = 1}));
  const auto tokens = someTokens(12, engine->model().config().vocab);
  const auto session = makeSession(engine);
  int changes = 0;
  for (int round = 0; round < 200 && changes == 0; ++round) {
    const char* bits = round % 2 == 0 ? "4" : "8";
    const int64_t before = session->effective()->config.integer("weights.bits");
    session->request(configure(layers({{"weights.bits", bits}})));
    int seen = 0;
    while (session->pending()) {
      session->adopt();
      for (const EngineEvent& event : session->takeEvents()) {
        if (event.code != "weights.part") continue;
        int done = 0;
        EXPECT_EQ(std::sscanf(event.text.c_str(), "New weights: the first %d of 6 layers.", &done), 1);
        EXPECT(done > seen, done, seen);
        seen = done;
        ++changes;
        const auto effective = session->effective();  // the whole of it is not there yet
        EXPECT(effective->config.integer("weights.bits") == before && !effective->adjustments.empty() && effective->adjustments[0].reason.ends_with("the others follow."));
      }
      std::this_thread::yield();
    }
    session->adopt();
    EXPECT_EQ(toText(session->effective()->config.get("weights.bits")), std::string(bits));
    EXPECT(logitsAfter(*session, tokens) == logitsAfter(*makeSession(engine, configure({{"weights.bits", bits}})), tokens), bits);
  }
  EXPECT(changes > 0);
}

// The last layer can't be rounded. Once a part was seen, all layers are what they were.
TEST(layers_go_back_when_one_of_them_fails) {
  const std::string path = (scratch() / "last_layer.gguf").string();
  writeRandomModel(sixLayersConfig(), DType::f32, path);
  std::string file = readFile(path);
  const size_t offset = file.find(std::string(reinterpret_cast<const char*>(sixLayers()->find(TensorRole::up, 5)->data), 64));
  if (offset == std::string::npos) throw std::runtime_error("the tensor is not in its file");
  std::memset(file.data() + offset, 0xff, sizeof(float));  // NaN
  std::ofstream(path, std::ios::binary) << file;
  const auto engine = value(Engine::create(value(Model::open(path)), {.device = "cpu", .threads = 1}));
  const auto session = makeSession(engine);
  const MemoryByTag before = session->memory();
  bool part = false;
  for (int round = 0; round < 200 && !part; ++round) {
    session->request(configure(layers({{"weights.bits", round % 2 == 0 ? "4" : "8"}})));
    int failed = 0;
    while (session->pending()) {
      session->adopt();
      for (const EngineEvent& event : session->takeEvents()) {
        part |= event.code == "weights.part";
        failed += event.code == "weights.failed";
      }
      std::this_thread::yield();
    }
    session->adopt();
    EXPECT_EQ(failed, 1);
    EXPECT_EQ(session->effective()->config.integer("weights.bits"), int64_t{16});
    EXPECT(session->memory() == before, part);
  }
  EXPECT(part);
}

TEST(sets_of_other_shapes_come_whole) {
  const auto model = sixLayers();
  Ledger ledger;
  WeightStore store(model, ledger);
  ThreadPool pool(1);
  const auto target = [&](const Settings& settings) { return weightTarget(*model, resolve(configure(settings), model->config()).config, ""); };
  int parts = 0;
  const auto publishing = [&](std::shared_ptr<const WeightSet> from) { return LayerPublishing{std::move(from), [&](std::shared_ptr<const WeightSet>) { ++parts; }}; };
  const auto whole = value(store.build(target({}), pool, {}, {}));
  const auto narrow = value(store.build(target({{"prune.width", "0.3"}, {"prune.width_method", "random"}}), pool, {}, {}, publishing(whole)));
  EXPECT_EQ(parts, 0);
  (void)value(store.build(target(kFour), pool, {}, {}, publishing(narrow)));
  EXPECT_EQ(parts, 0);
  (void)value(store.build(target(kFour), pool, {}, {}, publishing(whole)));
  EXPECT_EQ(parts, 6);
}
