// SPDX-License-Identifier: GPL-3.0-or-later
// Super weights planted in a random model: found, kept exact at any width, taken away.
#include "engine/run/find_super_weights.h"
#include "engine/weights/store.h"
#include "tests/support/planted.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::shared_ptr<Engine> openPlanted(int threads = 2) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = threads;
  return value(Engine::create(value(Model::open(planted())), options));
}

}  // namespace

TEST(a_planted_super_weight_is_found) {
  const auto found = value(findSuperWeights(*openPlanted(), {}));
  EXPECT(!found.empty());
  if (found.empty()) return;
  EXPECT(found[0].layer == kPlantedLayer && found[0].row == kPlantedRow && found[0].column == kPlantedColumn, found[0].layer, found[0].row, found[0].column);
  EXPECT_EQ(found[0].value, kPlantedValue);
  EXPECT(std::fabs(found[0].output) > 0.5f * kPlantedValue * std::fabs(found[0].activation), found[0].output, found[0].activation);
  EXPECT(value(findSuperWeights(*openEngine(kRandom), {})).empty());  // nothing stands out in the model it was planted in
}

TEST(kept_weights_are_exact_at_any_width) {
  const auto engine = openPlanted();
  const auto found = value(findSuperWeights(*engine, {}));
  Ledger ledger;
  WeightStore store(value(Model::open(planted())), ledger);
  ThreadPool pool(2);
  const Measurements measured{{}, [&](const Progress&) -> Result<std::shared_ptr<const std::vector<SuperWeight>>> {
                                return std::make_shared<const std::vector<SuperWeight>>(found);
                              }};
  const auto model = value(Model::open(planted()));
  for (const char* bits : {"8", "4", "3", "2"}) {
    const Config config = resolve(configure({{"weights.bits", bits}, {"weights.super", "keep"}}), model->config()).config;
    const auto set = value(store.build(weightTarget(*model, config, ""), pool, measured, {}));
    const LayerWeights& layer = set->layers[kPlantedLayer];
    EXPECT(layer.downCorrections && !layer.downCorrections->empty());
    if (!layer.downCorrections) continue;
    std::vector<float> row(static_cast<size_t>(layer.down->cols));
    for (const WeightCorrection& weight : *layer.downCorrections) {
      if (weight.row != kPlantedRow || weight.column != kPlantedColumn) continue;
      dequantizeRow(*layer.down, kPlantedRow, row.data());
      EXPECT_NEAR(row[kPlantedColumn] + weight.delta, kPlantedValue, 1e-6);
      EXPECT(std::fabs(row[kPlantedColumn]) < 1, row[kPlantedColumn]);  // its group has a grid for the others
    }
    EXPECT(!set->layers[0].downCorrections);
  }
}

TEST(keeping_helps_and_zeroing_hurts) {
  const auto engine = openPlanted();
  const std::vector<int32_t> ids = someTokens(48, 400);
  const auto logits = [&](const Settings& settings) { return logitsAfter(*makeSession(engine, configure(settings)), ids); };
  const auto dense = logits({});
  const double gone = relativeError(dense, logits({{"weights.super", "zero"}})), zeroAtFour = relativeError(dense, logits({{"weights.super", "zero"}, {"weights.bits", "4"}}));
  EXPECT(gone > 0.05 && zeroAtFour > 0.05, gone, zeroAtFour);
  for (const char* bits : {"4", "3"}) {
    const double rounded = relativeError(dense, logits({{"weights.bits", bits}, {"weights.group", "row"}})),
                 kept = relativeError(dense, logits({{"weights.bits", bits}, {"weights.group", "row"}, {"weights.super", "keep"}}));
    EXPECT(kept < 1.05 * rounded, bits, kept, rounded);
  }
}

TEST(a_model_without_says_so) {
  const auto session = makeSession(openEngine(kRandom), configure({{"weights.bits", "4"}, {"weights.super", "keep"}}));
  const auto effective = session->effective();
  EXPECT(effective->config.text("weights.super") == "off" && !effective->adjustments.empty());
  EXPECT(effective->adjustments.back().reason.find("stands out") != std::string::npos);
}

TEST(results_do_not_depend_on_threads) {
  const std::vector<int32_t> ids = someTokens(20, 400);
  const Settings settings = {{"weights.bits", "3"}, {"weights.super", "keep"}};
  EXPECT(logitsAfter(*makeSession(openPlanted(1), configure(settings)), ids) == logitsAfter(*makeSession(openPlanted(3), configure(settings)), ids));
}
