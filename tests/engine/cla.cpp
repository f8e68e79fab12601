// SPDX-License-Identifier: GPL-3.0-or-later
// Layers that read the keys and values of another (CLA), and windows in most of them (MixAttention): who reads whom, what it costs in memory,
// where nothing may change, and that switching it on and off goes as for other sharing.
#include <fstream>
#include <map>

#include "engine/cache/allocation.h"
#include "engine/cache/policies.h"
#include "engine/run/cache_map.h"
#include "engine/share/methods.h"
#include "engine/share/registry.h"
#include "engine/share/similarity.h"
#include "tests/support/engine.h"
#include "tests/support/planned.h"
#include "tests/support/planted.h"

using namespace winnow;
using namespace winnow::test;

namespace {

Settings cla(const char* block, const Settings& beside = {}) {
  Settings out = {{"share.method", "cla"}, {"share.block", block}, {"share.first", "0"}, {"share.last", "0"}};
  out.insert(out.end(), beside.begin(), beside.end());
  return out;
}
Settings mix(const char* block, const Settings& beside = {}) {
  Settings out = cla(block, beside);
  out.front().second = "mix";
  return out;
}

int count(const Plan& plan, OpKind kind) {
  return static_cast<int>(std::ranges::count(plan.ops, kind, &Op::kind));
}

const Adjustment* adjustment(const Effective& effective, std::string_view knob) {
  for (const Adjustment& a : effective.adjustments)
    if (a.knob == knob) return &a;
  return nullptr;
}

// The attention of every layer, [layer][heads, queries, columns] of the last batch.
class Rows final : public AttentionTap {
 public:
  void take(int layer, const AttentionRows& rows) override {
    std::vector<float>& out = of[layer];
    out.clear();
    for (int64_t i = 0; i < int64_t{rows.heads} * rows.queries; ++i) out.insert(out.end(), rows.probabilities + i * rows.stride, rows.probabilities + i * rows.stride + rows.columns);
    heads = rows.heads;
    queries = rows.queries;
    columns = rows.columns;
  }
  std::map<int, std::vector<float>> of;
  int heads = 0, queries = 0, columns = 0;
};

uint64_t hashOf(const Settings& settings, int threads = 2) {
  const auto session = makeSession(openEngine(kRandom, threads), configure(settings), {.context = 256, .maxBatch = 32});
  ok(session->prefill(someTokens(90, session->vocab()), {}));
  generate(*session, 40);
  return session->logitsHash();
}

// Layer 1 has the projections of layer 0, and layer 0 adds nothing to the stream: both see the same.
std::string twins() {
  const std::string path = (scratch() / "twins.gguf").string();
  const auto model = value(Model::open(sharedData(kRandom)));
  std::string file = readFile(sharedData(kRandom));
  for (const TensorRole role : {TensorRole::attnNorm, TensorRole::k, TensorRole::v}) {
    const MasterTensor &from = *model->find(role, 0), &to = *model->find(role, 1);
    for (int64_t row = 0; row < from.rows; ++row) {
      std::vector<float> values(static_cast<size_t>(from.cols));
      std::memcpy(values.data(), from.directRow(row), values.size() * sizeof(float));  // as they are stored
      if (to.type != DType::f32) throw std::runtime_error("not f32");
      if (std::memcmp(values.data(), to.directRow(row), values.size() * sizeof(float)) != 0) overwrite(file, to, static_cast<int>(row), values);
    }
  }
  for (const TensorRole role : {TensorRole::o, TensorRole::down}) {
    const MasterTensor& tensor = *model->find(role, 0);
    for (int row = 0; row < tensor.rows; ++row) overwrite(file, tensor, row, std::vector<float>(static_cast<size_t>(tensor.cols)));
  }
  std::ofstream(path, std::ios::binary) << file;
  return path;
}

}  // namespace

TEST(readers_project_queries_alone) {
  ModelConfig model;
  model.layers = 8;
  const auto map = uniformBlocks(8, 1, 1, 3, &LayerSharing::source);  // 1-3, 4-6
  const Plan plan = buildPlan(model, map);
  EXPECT(!sharesAttention(map) && sharesCache(map));
  EXPECT_EQ(count(plan, OpKind::qkv), 4);
  EXPECT_EQ(count(plan, OpKind::qOnly), 4);
  EXPECT_EQ(count(plan, OpKind::attend), 8);
  constexpr int kOwners[] = {0, 1, 1, 1, 4, 4, 4, 7};
  for (const Op& op : plan.ops)
    if (op.kind == OpKind::attend) EXPECT_EQ(int{op.source}, kOwners[op.layer]);
  EXPECT(plan.print().find("layer 3  attend, keys and values of layer 1") != std::string::npos, plan.print());
  for (const auto& [role, of3, of4] : {std::tuple(TensorRole::q, false, false), std::tuple(TensorRole::k, true, false), std::tuple(TensorRole::kNorm, true, false),
                                       std::tuple(TensorRole::vBias, true, false), std::tuple(TensorRole::o, false, false)}) {
    EXPECT_EQ(plan.skips(role, 3), of3);
    EXPECT_EQ(plan.skips(role, 4), of4);
  }
  std::vector<LayerParts> parts = allParts(8);
  parts[1].attention = false;  // the owner goes: the first that read it owns
  const auto left = sharingWithout(map, parts);
  EXPECT_EQ(left[2].source, 2);
  EXPECT_EQ(left[3].source, 2);
  EXPECT_EQ(left[5].source, 4);
}

TEST(blocks_of_one_and_windows_that_hold_everything_change_no_bit) {
  const uint64_t plain = hashOf({});
  EXPECT_EQ(hashOf(cla("1")), plain);
  EXPECT_EQ(hashOf(mix("1", {{"kv.budget", "256"}})), plain);
  EXPECT_EQ(hashOf(mix("1")), plain);  // 1024 tokens
  EXPECT(hashOf(cla("2")) != plain);
  EXPECT_EQ(hashOf(mix("2")), hashOf(cla("2")));
  EXPECT(hashOf(mix("1", {{"kv.budget", "48"}})) != plain);
  EXPECT_EQ(hashOf(mix("1", {{"kv.budget", "48"}, {"share.full", "4"}})), plain);  // all layers keep all
}

TEST(equal_projections_of_equal_inputs_make_it_exact) {
  const auto engine = value(Engine::create(value(Model::open(twins())), {.device = "cpu", .threads = 2}));
  const auto ids = someTokens(40, engine->model().config().vocab);
  const auto plain = makeSession(engine), shared = makeSession(engine, configure({{"share.method", "cla"}, {"share.spans", "0-1"}}));
  EXPECT_EQ(shared->plan().sourceOf(1), 0);
  EXPECT(logitsAfter(*plain, ids) == logitsAfter(*shared, ids));
  EXPECT(generate(*plain, 8) == generate(*shared, 8) && plain->logitsHash() == shared->logitsHash());
}

TEST(what_comes_before_the_first_reader_is_untouched) {
  const auto engine = openEngine(kRandom);
  const auto plain = makeSession(engine), shared = makeSession(engine, configure({{"share.method", "cla"}, {"share.spans", "1-3"}}));
  const auto ids = someTokens(50, plain->vocab());
  Rows before, after;
  plain->observeAttention(&before);
  shared->observeAttention(&after);
  ok(plain->prefill(ids, {}));
  ok(shared->prefill(ids, {}));
  for (const int layer : {0, 1}) EXPECT(before.of[layer] == after.of[layer], layer);
  for (const int layer : {2, 3}) {
    EXPECT(before.of[layer] != after.of[layer], layer);
    for (int64_t row = 0; row < int64_t{after.heads} * after.queries; ++row) {
      double sum = 0;
      for (int c = 0; c < after.columns; ++c) sum += static_cast<double>(after.of[layer][static_cast<size_t>(row * after.columns + c)]);
      EXPECT_NEAR(sum, 1.0, 1e-5);
    }
  }
}

TEST(a_group_takes_the_cache_of_one_layer) {
  const auto engine = openEngine(kRandom);  // 4 layers
  const auto plain = makeSession(engine);
  const auto ids = someTokens(64, plain->vocab());
  ok(plain->prefill(ids, {}));
  for (const auto& [block, share] : {std::pair{"2", 2}, std::pair{"4", 4}}) {
    const auto session = makeSession(engine, configure(cla(block)));
    ok(session->prefill(ids, {}));
    EXPECT_EQ(session->cache().allocatedBytes * share, plain->cache().allocatedBytes);
    EXPECT_EQ(bytes(session->memory(), MemoryTag::kv), session->cache().allocatedBytes);
    EXPECT_EQ(session->cache().liveTokens, int64_t{64});
    EXPECT_EQ(session->kvBytesPerToken(), plain->kvBytesPerToken());  // each layer reads
    EXPECT(session->weightBytesPerToken() < plain->weightBytesPerToken());
    for (const HeadPositions& head : session->occupancy()) EXPECT_EQ(head.layer % share, 0);
    const CacheMap map = cacheMapOf(*session, 1000);
    EXPECT_EQ(static_cast<int>(map.rows.size()), 4 * engine->model().config().kvHeads);
    for (const CacheMapRow& row : map.rows) {
      EXPECT_EQ(row.keysOf, row.layer / share * share);
      EXPECT_EQ(row.borrowed, row.layer % share != 0);
      EXPECT_EQ(row.kept, int64_t{64});
    }
  }
}

TEST(steps_agree_with_prompts_and_no_thread_changes_a_bit) {
  const auto engine = openEngine(kRandom);
  const auto ids = someTokens(80, engine->model().config().vocab);
  for (const Settings& settings : {cla("2"), cla("4", {{"kv.rotate", "true"}, {"kv.k_bits", "16"}}), cla("3")}) {
    const auto whole = makeSession(engine, configure(settings)), steps = makeSession(engine, configure(settings));
    const auto expected = logitsAfter(*whole, ids);
    for (const int32_t id : ids) ok(steps->step(id));
    EXPECT(relativeError(expected, steps->logits()) < 1e-4, relativeError(expected, steps->logits()));
  }
  for (const Settings& settings : {cla("2", {{"kv.policy", "h2o"}, {"kv.budget", "0.4"}}), cla("2", {{"kv.k_bits", "4"}, {"kv.v_bits", "2"}, {"kv.rotate", "true"}}),
                                   cla("2", {{"kv.policy", "snapkv"}, {"kv.budget", "24"}}), cla("2", {{"kv.policy", "quest"}, {"kv.budget", "48"}}),
                                   mix("2", {{"kv.budget", "40"}, {"kv.positions", "cache"}}), cla("2", {{"kv.policy", "expected"}, {"kv.budget", "0.5"}})})
    EXPECT_EQ(hashOf(settings, 1), hashOf(settings, 3));
}

// H2O counts what all layers of a group pay, kv head by kv head.
TEST(attention_of_all_readers_is_added_up_at_the_owner) {
  constexpr int kKept = 16;
  const auto engine = openEngine(kRandom);
  const ModelConfig& model = engine->model().config();
  const auto ids = someTokens(60, model.vocab);
  const auto seen = makeSession(engine, configure(cla("2")));
  Rows rows;
  seen->observeAttention(&rows);
  ok(seen->prefill(ids, {}));
  const auto evicting = makeSession(engine, configure(cla("2", {{"kv.policy", "h2o"}, {"kv.budget", "16"}})));
  ok(evicting->prefill(ids, {}));
  int compared = 0, alone = 0;
  for (const HeadPositions& head : evicting->occupancy()) {
    std::vector<float> sums(ids.size()), own(ids.size()), scores(ids.size());
    for (const int layer : {head.layer, head.layer + 1})
      for (int h = head.kvHead * model.groupSize(); h < (head.kvHead + 1) * model.groupSize(); ++h)
        for (int query = 0; query < rows.queries; ++query)
          for (int c = 0; c < rows.columns; ++c) {
            const float p = rows.of[layer][static_cast<size_t>((int64_t{h} * rows.queries + query) * rows.columns + c)];
            sums[static_cast<size_t>(c)] += p;
            if (layer == head.layer) own[static_cast<size_t>(c)] += p;
          }
    const auto chosen = [&](const std::vector<float>& of) {
      KvSlots slots;
      std::vector<int32_t> kept;
      slots.columnSums = of;
      makeH2o()->score(slots, {.keep = kKept}, scores);
      keepBest(scores, kKept, kept);
      return kept;
    };
    EXPECT(chosen(sums) == head.positions, head.layer, head.kvHead);
    alone += chosen(own) != head.positions;
    ++compared;
  }
  EXPECT_EQ(compared, 2 * model.kvHeads);
  EXPECT(alone > 0);  // the owner's queries alone would choose otherwise somewhere
}

TEST(it_comes_at_the_next_token_and_goes_when_the_cache_is_recomputed) {
  const auto engine = openEngine(kRandom);
  const auto session = makeSession(engine);
  const auto tokens = someTokens(64, engine->model().config().vocab);
  ok(session->prefill(tokens, {}));
  const int64_t before = session->cache().allocatedBytes;
  session->request(configure(cla("2")));
  session->adopt();
  EXPECT_EQ(session->cache().allocatedBytes * 2, before);
  EXPECT(session->plan().borrows(1) && !session->plan().borrows(2));
  ok(session->step(1));
  session->request(configure({{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}));  // EchoAtt: values that were never kept
  ok(session->step(2));
  EXPECT_EQ(session->effective()->config.text("share.method"), std::string("cla"));
  const Adjustment* reason = adjustment(*session->effective(), "share.method");
  EXPECT(reason && reason->reason.find("layers 1, 3 kept") != std::string::npos && reason->reason.find("recompute the cache") != std::string::npos);
  session->request(Config());
  ok(session->step(3));
  EXPECT(session->plan().borrows(1));
  ok(session->rebuildCache({}));
  EXPECT(!session->plan().borrows(1) && session->effective()->asRequested());
  const auto fresh = makeSession(engine);
  EXPECT(relativeError(logitsAfter(*fresh, session->tokens()), session->logits()) < 1e-4);
  session->request(configure({{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}));
  ok(session->step(4));
  session->request(configure(cla("2")));  // of EchoAtt's layers the leaders own all that is read
  ok(session->step(5));
  EXPECT(session->plan().borrows(1) && session->effective()->asRequested());
  session->reset();
  session->request(Config());
  ok(session->step(6));
  EXPECT(!session->plan().borrows(1));
}

TEST(the_plan_is_what_a_run_uses) {
  const auto engine = openEngine(kRandom);
  for (const Settings& settings : {cla("2"), cla("4", {{"kv.k_bits", "4"}, {"kv.v_bits", "2"}}), cla("2", {{"kv.policy", "h2o"}, {"kv.budget", "300"}}),
                                   mix("2", {{"kv.budget", "256"}}), mix("1", {{"kv.budget", "200"}, {"share.full", "2"}, {"kv.k_bits", "8"}})}) {
    const SessionOptions options{.context = 2048};
    const MemoryByTag planned = value(engine->plan(configure(settings), options, 1000));
    const auto session = makeSession(engine, configure(settings), options);
    ok(session->prefill(someTokens(996, session->vocab()), {}));
    generate(*session, 4);
    expectAsPlanned(planned, session->memory(), settings[1].second);
  }
}

// Owners of windows hold the sinks and the newest, the others all of it: Hkv d 2 (keys, values) 2 bytes min(S, W) each, in whole pages.
TEST(mix_keeps_a_window_in_most_layers) {
  const auto engine = openEngine(kRandom);
  const ModelConfig& model = engine->model().config();
  const auto session = makeSession(engine, configure(mix("1", {{"kv.budget", "32"}, {"kv.interval", "1"}, {"share.full", "1"}})), {.context = 256, .maxBatch = 32});
  EXPECT_EQ(session->effective()->config.text("kv.policy"), std::string("streaming"));
  for (int fed = 0; fed < 96; ++fed) {
    ok(session->step(fed % session->vocab()));
    int64_t slots = 0;
    for (const HeadPositions& head : session->occupancy()) {
      const bool full = head.layer == 3;
      const auto held = static_cast<int>(head.positions.size());
      EXPECT_EQ(held, full ? fed + 1 : std::min(fed + 1, 32));
      EXPECT_EQ(head.positions.front(), 0);
      if (!full && fed >= 32) EXPECT(head.positions[3] == 3 && head.positions[4] == fed + 1 - 28, fed);
      slots += held;
    }
    EXPECT_EQ(session->cache().liveBytes, slots * model.headDim * 2 * 2);
    EXPECT(session->cache().allocatedBytes <= (slots + 4 * model.kvHeads * 16) * model.headDim * 2 * 2, fed);
  }
  EXPECT_EQ(bytes(session->memory(), MemoryTag::kv), session->cache().allocatedBytes);
}

TEST(full_layers_lie_deep_and_even) {
  ModelConfig model;
  model.layers = 32;
  const auto whole = [&](const Settings& settings) {
    std::vector<int> out;
    const auto map = sharingOf(model, resolve(configure(settings), model).config);
    for (int layer = 0; layer < 32; ++layer)
      if (map[static_cast<size_t>(layer)].keepsAll) out.push_back(layer);
    return out;
  };
  EXPECT(whole(mix("1")) == std::vector<int>({4, 10, 17, 23, 30}));
  EXPECT(whole(mix("1", {{"share.full", "2"}})) == std::vector<int>({12, 28}));
  EXPECT(whole(mix("2", {{"share.full", "1"}})) == std::vector<int>({24}));
  EXPECT(whole(mix("1", {{"share.full", "0"}})).empty());
  EXPECT_EQ(whole(mix("1", {{"share.full", "40"}})).size(), size_t{32});
  const Effective clamped = resolve(configure(mix("2", {{"share.full", "40"}})), model);
  EXPECT(clamped.config.integer("share.full") == 16 && clamped.adjustments.size() == 1 && clamped.adjustments[0].knob == "share.full");
  const Effective spelled = resolve(configure(mix("1")), model);
  EXPECT(spelled.asRequested() && spelled.config.integer("share.full") == 5 && spelled.config.real("kv.budget") == 1024);
}

// The whole text stays where it was kept, or as near to it as there is a layer.
TEST(a_layer_of_full_attention_that_goes_is_replaced) {
  const auto whole = [](std::vector<LayerSharing> map, const std::vector<int>& gone) {
    std::vector<LayerParts> parts = allParts(static_cast<int>(map.size()));
    for (const int layer : gone) parts[static_cast<size_t>(layer)].attention = false;
    std::vector<int> out;
    map = sharingWithout(map, parts);
    for (int layer = 0; layer < static_cast<int>(map.size()); ++layer)
      if (map[static_cast<size_t>(layer)].keepsAll) {
        EXPECT(parts[static_cast<size_t>(layer)].attention && map[static_cast<size_t>(layer)].source == layer, layer);
        out.push_back(layer);
      }
    return out;
  };
  using Layers = std::vector<int>;
  auto alone = noSharing(6);
  alone[3].keepsAll = true;
  EXPECT(whole(alone, {2}) == Layers{3});
  EXPECT(whole(alone, {3}) == Layers{4});  // of two as near the deeper one
  EXPECT(whole(alone, {3, 4}) == Layers{2});
  EXPECT(whole(alone, {3, 4, 5}) == Layers{2});
  EXPECT(whole(alone, {0, 1, 2, 3, 4, 5}).empty());
  alone[4].keepsAll = true;
  EXPECT(whole(alone, {3}) == (Layers{2, 4}));
  EXPECT(whole(alone, {3, 4}) == (Layers{2, 5}));
  EXPECT(whole(alone, {0, 1, 2, 3}) == (Layers{4, 5}));
  EXPECT(whole(alone, {0, 1, 2, 3, 5}) == Layers{4});  // no more are left
  auto groups = uniformBlocks(8, 0, 0, 2, &LayerSharing::source);
  groups[4].keepsAll = true;
  EXPECT(whole(groups, {4}) == Layers{5});  // its heir
  EXPECT(whole(groups, {4, 5}) == Layers{6});
  EXPECT(whole(groups, {4, 5, 6}) == Layers{2});
  EXPECT(whole(groups, {4, 5, 6, 7}) == Layers{2});
}

TEST(dropped_layers_leave_mix_its_layers_of_full_attention) {
  const auto engine = openEngine(kStories);
  const std::string text = sharedData("corpora/tinystories_60k.txt");
  for (const auto& [block, dropped] : {std::pair("1", "1"), std::pair("1", "4"), std::pair("2", "1"), std::pair("2", "2")}) {
    const Config config = configure(mix(block, {{"kv.budget", "24"}, {"kv.interval", "1"}, {"share.full", "1"}, {"prune.layers", dropped}, {"prune.layers_method", "contiguous"},
                                                {"prune.layers_protect", "0"}, {"calibration.text", text.c_str()}, {"calibration.tokens", "256"}}));
    const auto session = makeSession(engine, config, {.context = 128, .maxBatch = 32});
    EXPECT_EQ(std::to_string(std::ranges::count(session->plan().parts, LayerParts{false, false})), std::string(dropped));
    ok(session->prefill(someTokens(60, session->vocab()), {}));
    int full = 0, window = 0;
    for (const HeadPositions& head : session->occupancy()) ++(head.positions.size() == 60 ? full : window);
    EXPECT_EQ(full, engine->model().config().kvHeads);
    EXPECT_EQ(window > 0, dropped != std::string_view("4"));
    const MemoryByTag planned = value(engine->plan(config, {.context = 128, .maxBatch = 32}, 60));
    EXPECT(std::fabs(static_cast<double>(bytes(planned, MemoryTag::kv) - bytes(session->memory(), MemoryTag::kv))) <= 65536, block, dropped);
  }
}

TEST(what_is_fitted_to_an_equal_owner_changes_nothing) {
  const auto engine = value(Engine::create(value(Model::open(twins())), {.device = "cpu", .threads = 2}));
  const std::string text = sharedData("corpora/tinystories_60k.txt");
  const auto ids = someTokens(40, engine->model().config().vocab);
  const auto plain = makeSession(engine), fitted = makeSession(engine, configure({{"share.method", "cla"}, {"share.spans", "0-1"}, {"share.refit", "true"}, {"calibration.text", text.c_str()}, {"calibration.tokens", "512"}}));
  EXPECT(fitted->plan().borrows(1));
  EXPECT(logitsAfter(*plain, ids) == logitsAfter(*fitted, ids));
  const Adjustment* why = adjustment(*fitted->effective(), "share.refit");
  EXPECT(why && why->reason.find("came closer") != std::string::npos);
}

TEST(what_does_not_go_together_is_refused_with_the_reason) {
  ModelConfig model;
  model.layers = 8;
  model.heads = model.kvHeads = 2;
  model.headDim = 32;
  const Effective aligned = resolve(configure(cla("2", {{"share.align", "true"}, {"share.refit", "true"}})), model);
  const Adjustment* why = adjustment(aligned, "share.align");
  EXPECT(!aligned.config.boolean("share.align") && why && why->reason.find("its own attention") != std::string::npos);
  EXPECT(aligned.config.boolean("share.refit") && !adjustment(aligned, "share.refit"));
  EXPECT(adjustment(resolve(configure({{"share.refit", "true"}}), model), "share.refit") != nullptr);
  const Effective quest = resolve(configure(mix("2", {{"kv.policy", "quest"}, {"kv.budget", "256"}})), model);
  EXPECT(quest.config.text("kv.policy") == "streaming" && adjustment(quest, "kv.policy"));
  const Effective both = resolve(configure(cla("2", {{"share.spans", "2-3"}})), model);
  EXPECT(both.config.integer("share.block") == 1 && adjustment(both, "share.block") && both.config.text("share.spans") == "2-3");
  EXPECT_EQ(sharingOf(model, both.config)[3].source, 2);
}

// Attention is each layer's own, so it can be compared; what evicts can't.
TEST(likeness_of_layers_can_be_measured) {
  const auto engine = openEngine(kRandom);
  const auto ids = someTokens(40, engine->model().config().vocab);
  const auto session = makeSession(engine, configure(cla("2")));
  const SimilarityMap map = value(measureSimilarity(*session, ids, 40, {}));
  EXPECT(map.at(SimilarityOf::rows, 0, 1) < 1 && map.at(SimilarityOf::rows, 0, 1) > 0);
}
