// SPDX-License-Identifier: GPL-3.0-or-later
// Oracles of quantization_and_kv.md W6: no scaling is round to nearest, folded scales leave what is computed as it was, the search and the clipping
// never make worse what they measure.
#include <random>

#include "engine/core/dtype.h"
#include "engine/quantize/method.h"
#include "engine/weights/convert.h"
#include "engine/weights/store.h"
#include "tests/support/engine.h"
#include "tests/support/uneven_statistics.h"

using namespace winnow;
using namespace winnow::test;

namespace {

constexpr const char* kSmallLlama = "models/llama2xs-280k-f32.gguf";
constexpr WeightFormat kThreeBits{Storage::packed, 3, 32, false};

struct Layer {
  static constexpr int kRows = 40, kCols = 96;
  std::vector<float> w, magnitudes, squares;
  Layer() : w(kRows * kCols), magnitudes(kCols), squares(kCols) {
    std::mt19937 rng(4);
    std::normal_distribution<float> draw;
    for (float& x : w) x = draw(rng);
    for (size_t c = 0; c < kCols; ++c) {
      magnitudes[c] = c % 24 == 3 ? 30.0f : 0.5f + 0.01f * static_cast<float>(c);
      squares[c] = magnitudes[c] * magnitudes[c] * 1.5f;
    }
  }
  ScaleSearch search() const {
    ScaleSearch out{{}, magnitudes, squares, {}, kThreeBits};
    out.matrices.push_back({kRows, [this](int row, int count, float* to) { std::copy_n(w.data() + row * kCols, count * kCols, to); }});
    return out;
  }
  // Sum of (w - q)^2 mean(x^2) with columns scaled by s.
  double error(const std::vector<float>& s, const char* method = "rtn", bool clip = false) const {
    std::vector<float> scaled = w, scaledSquares = squares, row(kCols);
    for (size_t i = 0; i < w.size(); ++i) scaled[i] *= s[i % kCols];
    for (size_t c = 0; c < kCols; ++c) scaledSquares[c] /= s[c] * s[c];
    MethodInput input;
    input.meanSquares = scaledSquares;
    input.options.clip = clip;
    Ledger ledger;
    Matrix m = Matrix::allocate(ledger, kThreeBits, kRows, kCols);
    for (int r = 0; r < kRows; r += 16) findQuantizeMethod(method)->quantizeRows(scaled.data() + r * kCols, r, std::min(16, kRows - r), input, m);
    double sum = 0;
    for (int r = 0; r < kRows; ++r) {
      dequantizeRow(m, r, row.data());
      for (size_t c = 0; c < kCols; ++c) {
        const double off = double{row[c]} / double{s[c]} - double{w[static_cast<size_t>(r) * kCols + c]};
        sum += off * off * double{squares[c]};
      }
    }
    return sum;
  }
};

}  // namespace

TEST(the_search_finds_scales_that_help) {
  const Layer layer;
  ThreadPool one(1), three(3);
  const auto s = findQuantizeMethod("awq")->searchScales(layer.search(), one, {});
  EXPECT(s == findQuantizeMethod("awq")->searchScales(layer.search(), three, {}));
  const std::vector<float> none(Layer::kCols, 1.0f);
  EXPECT(layer.error(s) < 0.7 * layer.error(none), layer.error(s), layer.error(none));
  EXPECT(s[3] > s[4] && s[3] > 1 && s[4] < 1, s[3], s[4]);
  EXPECT(layer.error(s, "awq", true) <= layer.error(s) * 1.000001, layer.error(s, "awq", true), layer.error(s));
  EXPECT_EQ(layer.error(s, "awq", false), layer.error(s));
}

TEST(equal_inputs_are_not_scaled) {
  Layer layer;
  std::fill(layer.magnitudes.begin(), layer.magnitudes.end(), 2.5f);
  ThreadPool pool(2);
  for (const float s : findQuantizeMethod("awq")->searchScales(layer.search(), pool, {})) EXPECT_EQ(s, 1.0f);
}

// Inputs of norms always, of values and of the gated product where nothing nonlinear lies between and heads are not shared.
TEST(inputs_are_scaled_where_their_maker_can_be_divided) {
  for (const char* file : {kStories, kChat}) {
    const auto model = value(Model::open(sharedData(file)));
    const WeightTarget target = weightTarget(*model, resolve(configure({{"weights.bits", "3"}, {"weights.method", "awq"}}), model->config()).config, "a text");
    const bool gated = model->config().gatedFfn, grouped = model->config().heads != model->config().kvHeads;
    int scaled[4] = {}, divided[4] = {};
    for (size_t i = 0; i < target.recipes.size(); ++i) {
      const MasterTensor& tensor = model->tensors()[i];
      const Recipe& recipe = target.recipes[i];
      if (recipe.multiplied) {
        EXPECT(recipe.multiplied.input == linearInputOf(tensor.role));
        ++scaled[static_cast<size_t>(recipe.multiplied.input)];
      }
      if (recipe.divided) ++divided[static_cast<size_t>(recipe.divided.input)];
    }
    const int layers = model->config().layers;
    EXPECT_EQ(scaled[0], 3 * layers);
    EXPECT_EQ(scaled[1], grouped ? 0 : layers);
    EXPECT_EQ(scaled[2], (gated ? 2 : 1) * layers);
    EXPECT_EQ(scaled[3], gated ? layers : 0);
    for (size_t input = 0; input < 4; ++input) EXPECT_EQ(scaled[input] > 0, divided[input] > 0);
  }
}

// With more bits than the scales can matter for, what is left of scaling is nothing: perplexity stays, and so do logits within 8-bit rounding.
TEST(scaling_at_eight_bits_changes_little) {
  const std::string text = (scratch() / "calibration.txt").string();
  std::ofstream(text) << readFile(sharedData("corpora/tinystories_val.txt")).substr(400000, 6000);
  const std::vector<int32_t> ids = someTokens(60, 500);
  for (const char* file : {kStories, kRandom}) {
    const auto engine = openEngine(file);
    if (!engine->tokenizer()) continue;
    const auto logits = [&](const Settings& settings) { return logitsAfter(*makeSession(engine, configure(settings)), ids); };
    const auto dense = logits({});
    const auto rtn = logits({{"weights.bits", "8"}, {"compute.activations", "f32"}}),
               awq = logits({{"weights.bits", "8"}, {"weights.method", "awq"}, {"calibration.text", text.c_str()}, {"compute.activations", "f32"}});
    EXPECT(relativeError(dense, awq) < 3 * relativeError(dense, rtn) + 1e-3, file, relativeError(dense, awq), relativeError(dense, rtn));
    EXPECT(awq != rtn, file);
  }
}

// Unrounded, what a layer computes is what it computed before: gains times the columns that read them, values and gated products times theirs.
TEST(folded_scales_cancel) {
  const auto model = value(Model::open(sharedData(kSmallLlama)));
  const ModelConfig& c = model->config();
  WeightTarget target = weightTarget(*model, resolve(configure({{"weights.bits", "4"}, {"weights.method", "awq"}}), c).config, "a text");
  for (size_t i = 0; i < target.recipes.size(); ++i) {
    target.recipes[i].method.clear();
    target.recipes[i].methodNeeds = {};
    if (isMatrix(model->tensors()[i].role)) target.recipes[i].format = ownFormat(model->tensors()[i]);
  }
  Ledger ledger;
  ThreadPool pool(2);
  const auto measured = unevenStatistics(c, ledger);
  WeightStore store(model, ledger);
  const auto set = value(store.build(target, pool, {[&](const CalibrationChoice&, const Progress&) { return Result<std::shared_ptr<const Calibration>>(measured); }, {}}, {}));
  const auto plain = value(store.build(weightTarget(*model, Config(), ""), pool, {}, {}));
  const auto f32 = [](const Matrix& m, int r, int col) { return static_cast<const float*>(m.data)[int64_t{r} * m.cols + col]; };
  int changed = 0;
  for (int layer = 0; layer < c.layers; ++layer) {
    const LayerWeights &a = plain->layers[static_cast<size_t>(layer)], &b = set->layers[static_cast<size_t>(layer)];
    for (int j = 0; j < c.hidden; ++j) {
      changed += a.ffnNorm[j] != b.ffnNorm[j];
      const float before = a.ffnNorm[j] * f32(*a.gate, 3, j);
      EXPECT_NEAR(b.ffnNorm[j] * f32(*b.gate, 3, j), before, 1e-6 * std::fabs(before));
      const float query = a.attnNorm[j] * f32(*a.q, 5, j);
      EXPECT_NEAR(b.attnNorm[j] * f32(*b.q, 5, j), query, 1e-6 * std::fabs(query));
    }
    for (int j = 0; j < c.ffn; ++j) {
      const float before = a.ffnNorm[1] * f32(*a.up, j, 1) * f32(*a.down, 2, j);
      EXPECT_NEAR(b.ffnNorm[1] * f32(*b.up, j, 1) * f32(*b.down, 2, j), before, 2e-6 * std::fabs(before));
    }
  }
  EXPECT(changed > c.layers * c.hidden / 2, changed);
}

TEST(matrices_that_are_left_alone_are_not_scaled) {
  const auto model = value(Model::open(sharedData(kStories)));
  const auto target = weightTarget(*model, resolve(configure({{"weights.bits", "3"}, {"weights.method", "awq"}, {"weights.tensors", "q,k,up,down"}}), model->config()).config, "a text");
  for (size_t i = 0; i < target.recipes.size(); ++i) {
    const LinearInput scaled = target.recipes[i].multiplied.input;
    EXPECT(scaled == LinearInput::count || scaled == LinearInput::down, i);  // v and gate would have to be scaled as well
  }
}
