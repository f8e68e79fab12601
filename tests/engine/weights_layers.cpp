// SPDX-License-Identifier: GPL-3.0-or-later
// Bit widths and pruning ratios per layer and per matrix: the grammar, who wins, and that the weights are what was asked for.
#include "engine/run/engine.h"
#include "engine/weights/layer_rules.h"
#include "engine/weights/store.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::string problem(const char* knob, const char* text) {
  const auto value = Schema::instance().parse(knob, text);
  EXPECT(!value.ok() && value.error().code == ErrorCode::usage, knob, text);
  return value.ok() ? "" : value.error().message;
}

// Bits of a matrix under settings; 0 = not quantized.
int bitsOf(const Model& model, const Settings& settings, TensorRole role, int layer) {
  const WeightTarget target = weightTarget(model, resolve(configure(settings), model.config()).config, "");
  for (size_t i = 0; i < target.recipes.size(); ++i)
    if (model.tensors()[i].role == role && model.tensors()[i].layer == layer)
      return target.recipes[i].method.empty() ? 0 : target.recipes[i].format.bits;
  return -1;
}

}  // namespace

TEST(a_malformed_entry_is_named_with_what_was_expected) {
  const std::pair<const char*, const char*> wrong[] = {
      {"0-3", "entry 1 \"0-3\": there is no colon"},         {"0-3:7", "7 is no bit width, expected 16, 8, 6, 5, 4, 3 or 2"},
      {"0:8, 3-1:4", "entry 2 \"3-1:4\": the range 3-1 runs backwards"}, {"0:", "an empty value is no bit width"},
      {"0.dwn:4", "dwn is no matrix, the nearest is down"},  {"*.head:4", "the head lies in no layer"},
      {"1-:4", "1- is no layer"},                            {":4", "an empty place is no layer"},
      {"99999999999:4", "99999999999 is no layer"},          {"0:4.5", "4.5 is no bit width"},
      {"-1:4", "is no matrix"},                              {"0:4x", "4x is no bit width"},
      {"0.:4", "an empty name is no matrix"},                {"*:nan", "nan is no bit width"}};
  for (const auto& [text, mentions] : wrong) EXPECT(problem("weights.layers", text).find(mentions) != std::string::npos, text, problem("weights.layers", text));
  EXPECT(problem("prune.ratios", "*:1").find("1 is no ratio, expected a number from 0 to 0.95") != std::string::npos);
  for (const char* fine : {"", "0-3:8, 4-31:4 *.down:6", "  head:16,embedding:8 ", "0.q:2", "*:4"})
    EXPECT(Schema::instance().parse("weights.layers", fine).ok(), fine);
}

TEST(the_last_entry_that_matches_wins) {
  const auto model = value(Model::open(sharedData(kStories)));
  const Settings mixed{{"weights.bits", "8"}, {"weights.layers", "1-2:4, *.down:6, 2.down:3 head:5"}};
  EXPECT_EQ(bitsOf(*model, mixed, TensorRole::q, 0), 8);
  EXPECT_EQ(bitsOf(*model, mixed, TensorRole::q, 1), 4);
  EXPECT_EQ(bitsOf(*model, mixed, TensorRole::down, 0), 6);
  EXPECT_EQ(bitsOf(*model, mixed, TensorRole::down, 1), 6);
  EXPECT_EQ(bitsOf(*model, mixed, TensorRole::down, 2), 3);
  if (model->config().tiedHead) EXPECT_EQ(bitsOf(*model, mixed, TensorRole::tokenEmbedding, -1), 5);
  // Alone it means round to nearest of those layers; what it leaves stays the file's own.
  const Settings alone{{"weights.layers", "1:2"}};
  EXPECT_EQ(bitsOf(*model, alone, TensorRole::up, 1), 2);
  EXPECT_EQ(bitsOf(*model, alone, TensorRole::up, 0), 0);
  EXPECT_EQ(bitsOf(*model, alone, TensorRole::tokenEmbedding, -1), 0);
  // 16 keeps; an entry without a matrix follows weights.tensors, one that names the matrix does not.
  const Settings kept{{"weights.bits", "4"}, {"weights.tensors", "q"}, {"weights.layers", "0:16 1:8 1.up:6"}};
  EXPECT_EQ(bitsOf(*model, kept, TensorRole::q, 0), 0);
  EXPECT_EQ(bitsOf(*model, kept, TensorRole::q, 1), 8);
  EXPECT_EQ(bitsOf(*model, kept, TensorRole::k, 1), 0);
  EXPECT_EQ(bitsOf(*model, kept, TensorRole::up, 1), 6);
  EXPECT_EQ(bitsOf(*model, kept, TensorRole::q, 2), 4);
}

TEST(symmetry_is_chosen_for_each_width) {
  const auto model = value(Model::open(sharedData(kStories)));
  const Effective effective = resolve(configure({{"weights.layers", "0:3 1:4"}}), model->config());
  EXPECT(effective.asRequested());
  EXPECT_EQ(effective.config.text("weights.method"), std::string("rtn"));
  const WeightTarget target = weightTarget(*model, effective.config, "");
  for (size_t i = 0; i < target.recipes.size(); ++i)
    if (!target.recipes[i].method.empty()) EXPECT_EQ(target.recipes[i].format.symmetric, target.recipes[i].format.bits == 4);
}

TEST(layers_the_model_has_not_are_refused) {
  const auto model = value(Model::open(sharedData(kStories)));
  const int layers = model->config().layers;
  const Effective effective = resolve(configure({{"weights.bits", "4"}, {"weights.layers", ("0-" + std::to_string(layers) + ":8").c_str()}}), model->config());
  EXPECT_EQ(effective.config.text("weights.layers"), std::string());
  EXPECT_EQ(effective.adjustments.size(), size_t{1});
  EXPECT(effective.adjustments[0].reason.find("layer " + std::to_string(layers)) != std::string::npos, effective.adjustments[0].reason);
}

TEST(equal_widths_are_the_same_weights_and_the_plan_counts_them) {
  const auto model = value(Model::open(sharedData(kRandom)));
  EngineOptions options;
  options.device = "cpu";
  options.threads = 2;
  const auto engine = value(Engine::create(model, options));
  const auto run = [&](const Settings& settings) {
    const Config config = configure(settings);
    const auto session = value(engine->createSession(config, {}, {}));
    for (const int token : {5, 9, 2, 14, 3}) EXPECT(session->step(token).ok());
    const MemoryByTag planned = value(engine->plan(config, {}, 5)), used = session->memory();
    EXPECT_EQ(planned[static_cast<size_t>(MemoryTag::weights)], used[static_cast<size_t>(MemoryTag::weights)]);
    return std::pair(session->logitsHash(), planned[static_cast<size_t>(MemoryTag::weights)]);
  };
  const auto all = run({{"weights.bits", "4"}}), rules = run({{"weights.bits", "8"}, {"weights.layers", "*:4 embedding:4 head:4"}});
  EXPECT_EQ(all.first, rules.first);
  EXPECT_EQ(all.second, rules.second);
  const auto plain = run({}), kept = run({{"weights.layers", "*:16"}}), mixed = run({{"weights.layers", "0:4"}});
  EXPECT_EQ(plain.first, kept.first);
  EXPECT(mixed.first != plain.first && mixed.first != all.first);
}

TEST(ratios_per_layer_zero_what_they_name) {
  const auto model = value(Model::open(sharedData(kRandom)));
  Ledger ledger;
  WeightStore store(model, ledger);
  ThreadPool pool(2);
  const Config config = configure({{"prune.ratio", "0.25"}, {"prune.ratios", "0:0, *.down:0.5"}});
  const auto set = value(store.build(weightTarget(*model, resolve(config, model->config()).config, ""), pool, {}, {}));
  for (size_t i = 0; i < set->versions.size(); ++i) {
    const MasterTensor& tensor = model->tensors()[i];
    if (tensor.role != TensorRole::q && tensor.role != TensorRole::down) continue;
    const Matrix& m = set->versions[i]->matrix;
    std::vector<float> row(static_cast<size_t>(m.cols));
    int64_t zero = 0;
    for (int r = 0; r < m.rows; ++r) {
      dequantizeRow(m, r, row.data());
      zero += std::count(row.begin(), row.end(), 0.0f);
    }
    const double wanted = tensor.role == TensorRole::down ? 0.5 : tensor.layer == 0 ? 0 : 0.25;
    EXPECT_NEAR(static_cast<double>(zero) / (static_cast<double>(m.rows) * m.cols), wanted, 0.001);
  }
}
