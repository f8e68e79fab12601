// SPDX-License-Identifier: GPL-3.0-or-later
// Likeness of layers: the worked example (pruning_sharing_attribution.md, L1), what it does not depend on, and the spans made of it.
#include "engine/share/similarity.h"
#include "engine/share/methods.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

// [layers][heads][queries, columns], 3 by 3 by query.
constexpr float kRows[3][2][9] = {{{1, 0, 0, .5659055472f, .4340944528f, 0, .2939722435f, .2064239291f, .4996038273f},
                                   {1, 0, 0, .3704399040f, .6295600960f, 0, .3820302428f, .2682572436f, .3497125136f}},
                                  {{1, 0, 0, .5567498080f, .4432501920f, 0, .2903475331f, .2839549660f, .4256975008f},
                                   {1, 0, 0, .4443681709f, .5556318291f, 0, .2217071290f, .1446250521f, .6336678189f}},
                                  {{1, 0, 0, .5578383367f, .4421616633f, 0, .2392357145f, .2200577500f, .5407065354f},
                                   {1, 0, 0, .4593554214f, .5406445786f, 0, .1761827140f, .1151532862f, .7086639998f}}};

SimilarityMap worked() {
  AttentionSimilarity similarity(3);
  for (int layer = 0; layer < 3; ++layer) similarity.take(layer, {&kRows[layer][0][0], 3, 2, 3, 3, 0});
  similarity.endWindow();
  return similarity.map();
}

}  // namespace

TEST(the_worked_example) {
  const SimilarityMap map = worked();
  const double rows[] = {0.9590895939, 0.9453930330, 0.9923599420}, windows[] = {0.9814323647, 0.9730013209, 0.9963570443};
  const std::pair<int, int> pairs[] = {{0, 1}, {0, 2}, {1, 2}};
  for (size_t i = 0; i < 3; ++i) {
    const auto [a, b] = pairs[i];
    EXPECT_NEAR(map.at(SimilarityOf::rows, a, b), rows[i], 1e-6);
    EXPECT_NEAR(map.at(SimilarityOf::rows, b, a), rows[i], 1e-6);
    EXPECT_NEAR(map.at(SimilarityOf::windows, a, b), windows[i], 1e-6);
  }
  for (int layer = 0; layer < 3; ++layer) EXPECT_EQ(map.at(SimilarityOf::noSink, layer, layer), 1.0);
  // Two heads, one row of two entries behind the first token.
  double expected = 0;
  for (int head = 0; head < 2; ++head) {
    const float *a = kRows[1][head] + 7, *b = kRows[2][head] + 7;
    expected += (double{a[0]} * b[0] + double{a[1]} * b[1]) / std::sqrt((double{a[0]} * a[0] + double{a[1]} * a[1]) * (double{b[0]} * b[0] + double{b[1]} * b[1])) / 2;
  }
  EXPECT_NEAR(map.at(SimilarityOf::noSink, 1, 2), expected, 1e-9);
  EXPECT_EQ(map.tokens, int64_t{3});
}

TEST(spans_of_the_worked_example) {
  const SimilarityMap map = worked();
  using Spans = std::vector<LayerSpan>;
  EXPECT(similarSpans(map, SimilarityOf::rows, 1, 0, 0.98, 2) == (Spans{{1, 2}}));
  EXPECT(similarSpans(map, SimilarityOf::rows, 0, 0, 0.98, 3) == (Spans{{1, 2}}));
  EXPECT(similarSpans(map, SimilarityOf::rows, 0, 0, 0.94, 3) == (Spans{{0, 2}}));
  EXPECT(similarSpans(map, SimilarityOf::rows, 0, 1, 0.94, 2) == (Spans{{0, 1}}));
  EXPECT(similarSpans(map, SimilarityOf::rows, 0, 0, 0.999, 3).empty());
}

TEST(a_model_s_map_does_not_depend_on_batches) {
  const auto engine = openEngine(kRandom);
  const std::vector<int32_t> ids = someTokens(50, 400);
  std::vector<SimilarityMap> maps;
  for (const int batch : {5, 24}) {
    SessionOptions options;
    options.context = 24;
    options.maxBatch = batch;
    const auto session = value(engine->createSession(Config(), options, {}));
    maps.push_back(value(measureSimilarity(*session, ids, 24, {})));
    EXPECT_EQ(session->position(), int64_t{0});
  }
  EXPECT_EQ(maps[0].tokens, int64_t{50});
  for (int of = 0; of < static_cast<int>(SimilarityOf::count); ++of)
    for (int a = 0; a < maps[0].layers; ++a)
      for (int b = 0; b < maps[0].layers; ++b) {
        const auto which = static_cast<SimilarityOf>(of);
        EXPECT_NEAR(maps[0].at(which, a, b), maps[1].at(which, a, b), 1e-6);
        EXPECT(maps[0].at(which, a, b) > 0 && maps[0].at(which, a, b) < 1 + 1e-9, of, a, b);
      }
}

TEST(what_cannot_be_compared_is_refused) {
  const auto engine = openEngine(kRandom);
  const auto shared = makeSession(engine, configure({{"share.spans", "1-2"}}));
  const auto refused = measureSimilarity(*shared, someTokens(20, 400), 16, {});
  EXPECT(!refused && refused.error().message.find("Layer 2") != std::string::npos);
  const auto evicts = makeSession(engine, configure({{"kv.budget", "8"}}));
  EXPECT(!measureSimilarity(*evicts, someTokens(20, 400), 16, {}));
  EXPECT(!measureSimilarity(*makeSession(engine), someTokens(3, 400), 16, {}));
}

TEST(spans_are_read_and_refused_with_a_reason) {
  using Spans = std::vector<LayerSpan>;
  EXPECT(value(parseSpans("")).empty());
  EXPECT(value(parseSpans(" 4-6, 9-10 ")) == (Spans{{4, 6}, {9, 10}}));
  EXPECT_EQ(spansText(value(parseSpans("4-6,9-10"))), std::string("4-6, 9-10"));
  for (const char* wrong : {"4", "4-", "-4", "a-b", "6-4", "4-4", "4-6,6-8", "4-6,2-3", "1-99999999999999999999", "1-2-3"}) {
    const auto parsed = parseSpans(wrong);
    EXPECT(!parsed && parsed.error().code == ErrorCode::usage && parsed.error().message.find("share.spans") != std::string::npos, wrong);
  }
}

TEST(spans_share_as_blocks_do) {
  const auto engine = openEngine(kRandom);
  const int layers = engine->model().config().layers;
  std::vector<LayerSpan> pairs;
  for (int layer = 0; layer + 1 < layers; layer += 2) pairs.push_back({layer, layer + 1});
  const std::vector<int32_t> ids = someTokens(30, 400);
  const std::string spans = spansText(pairs);
  const auto logits = [&](const Settings& settings) { return logitsAfter(*makeSession(engine, configure(settings)), ids); };
  const auto shared = logits({{"share.spans", spans.c_str()}});
  EXPECT(shared == logits({{"share.block", "2"}, {"share.first", "0"}, {"share.last", "0"}}));
  EXPECT(shared != logits({}));
}

TEST(spans_and_blocks_do_not_mix) {
  ModelConfig model;
  model.layers = 12;
  const auto effective = [&](const Settings& settings) { return resolve(configure(settings), model); };
  EXPECT_EQ(effective({{"share.spans", "4-6"}}).config.text("share.method"), std::string("spans"));
  EXPECT(effective({{"share.spans", "4-6"}}).adjustments.empty());
  const Effective both = effective({{"share.spans", "4-6"}, {"share.method", "echoatt"}, {"share.block", "2"}});
  EXPECT(both.config.text("share.spans").empty() && both.adjustments.size() == 1);
  const Effective outside = effective({{"share.spans", "4-12"}});
  EXPECT(outside.config.text("share.spans").empty() && outside.adjustments.size() >= 1);
  EXPECT(outside.adjustments[0].reason.find("last layer") != std::string::npos);
  EXPECT_EQ(effective({{"share.method", "spans"}}).config.text("share.method"), std::string("none"));
}
