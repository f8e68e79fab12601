// SPDX-License-Identifier: GPL-3.0-or-later
// Constants that recovery adds to outputs (pruning_sharing_attribution.md, J1): the mean error of every output is zero whatever the weights went through,
// biases come and go, they cost what the plan says, and files hold them where they have a place.
#include <filesystem>
#include <fstream>

#include "engine/run/core.h"
#include "engine/run/host_weights.h"
#include "engine/weights/constants.h"
#include "engine/weights/export.h"
#include "engine/weights/narrowed_tensor.h"
#include "engine/weights/report.h"
#include "tests/support/compression_meter.h"
#include "tests/support/random_model.h"

using namespace winnow;
using namespace winnow::test;

namespace {

const float* biasIn(const LayerWeights& w, TensorRole linear) {
  switch (linear) {
    case TensorRole::q: return w.qBias;
    case TensorRole::k: return w.kBias;
    case TensorRole::v: return w.vBias;
    case TensorRole::o: return w.oBias;
    case TensorRole::gate: return w.gateBias;
    case TensorRole::up: return w.upBias;
    default: return w.downBias;
  }
}

bool linearOfBlock(const MasterTensor& t) { return t.layer >= 0 && isMatrix(t.role); }

double dot(const std::vector<float>& row, const std::vector<double>& means) {
  double sum = 0;
  for (size_t c = 0; c < row.size(); ++c) sum += double{row[c]} * means[c];
  return sum;
}

// Mean outputs of the file's matrices and of those of the set, with their biases, over the calibration text. Biases are f32: one is off by half a step
// where there was none, by a whole one where it was added to another.
void expectSameMeans(const HostWeights& made, const std::string& what) {
  const Model& model = *made.set->model;
  int compared = 0;
  double least = 0;
  for (size_t i = 0; i < model.tensors().size(); ++i) {
    const MasterTensor& tensor = model.tensors()[i];
    if (!linearOfBlock(tensor)) continue;
    const WeightVersion& version = *made.set->versions[i];
    const MasterTensor* own = model.find(biasOf(tensor.role), tensor.layer);
    std::vector<float> was(static_cast<size_t>(tensor.cols)), now(static_cast<size_t>(version.matrix.cols)), bias(static_cast<size_t>(own ? own->cols : 0));
    if (own) Model::decodeRows(*own, 0, 1, bias.data());
    const std::vector<double> whole = made.calibration->means(tensor.layer, linearInputOf(tensor.role));
    const bool narrowRows = version.kept && narrowsRows(tensor.role);
    std::vector<double> left = whole;
    if (version.kept && !narrowRows)
      for (size_t k = 0; k < now.size(); ++k) left[k] = whole[static_cast<size_t>(version.kept->list[k])];
    left.resize(now.size());
    for (size_t c = 0; c < version.columns.size(); ++c) left[c] /= double{version.columns[c]};
    const float* present = biasIn(made.set->layers[static_cast<size_t>(tensor.layer)], tensor.role);
    const float* constants = version.bias ? static_cast<const float*>(version.bias->matrix.data) : version.constants.empty() ? nullptr : version.constants.data();
    if (!constants) continue;
    EXPECT(present, what, tensor.fileName);
    if (!present) continue;
    for (int r = 0; r < version.matrix.rows; ++r) {
      const int row = narrowRows ? version.kept->list[static_cast<size_t>(r)] : r;
      Model::decodeRows(tensor, row, 1, was.data());
      dequantizeRow(version.matrix, r, now.data());
      const double before = own ? double{bias[static_cast<size_t>(row)]} : 0;
      double expected = dot(was, whole) + before, found = dot(now, left) + double{present[r]};
      for (int k = 0; version.error && k < version.error.rank(); ++k) {
        std::vector<float> thin(now.size()), weights(static_cast<size_t>(version.error.rank()));
        dequantizeRow(version.error.right, k, thin.data());
        dequantizeRow(version.error.left, r, weights.data());
        found += double{weights[static_cast<size_t>(k)]} * dot(thin, left);
      }
      if (!version.divisors.empty()) expected /= double{version.divisors[static_cast<size_t>(r)]};
      const double constant = std::fabs(double{constants[r]});
      // Where columns or rows are scaled, the f32 products that make the master are half a step off each.
      double products = 0;
      for (size_t c = 0; c < now.size() && !(version.columns.empty() && version.divisors.empty()); ++c) products += std::fabs(double{was[c]} * whole[c]);
      EXPECT(std::fabs(found - expected) <= 0x1p-23 * (std::fabs(before) + constant + 2 * products) + 1e-12, what, tensor.fileName, r, found, expected);
      least += constant;
      ++compared;
    }
  }
  EXPECT(compared > 100 && least > 0, what, compared);
}

}  // namespace

TEST(the_mean_error_of_every_output_is_zero) {
  const CompressionMeter meter(kSmallLlama, 1, "1024");
  const CompressionMeter chat(kChat, 1, "512");
  const Settings half = {{"prune.ratio", "0.5"}, {"prune.method", "wanda"}};
  const auto with = [&](Settings more) {
    more.insert(more.end(), half.begin(), half.end());
    return more;
  };
  ThreadPool pool(2);
  const auto holds = [&](const CompressionMeter& of, const Settings& settings) {
    const HostWeights made = value(hostWeights(*of.engine(), of.with(settings), pool, {}));
    std::string what;
    for (const auto& [name, text] : settings) what += std::string(name) + "=" + std::string(text) + " ";
    expectSameMeans(made, what);
  };
  for (const char* recovery : {"bias", "affine", "regression"}) {
    holds(meter, with({{"prune.recovery", recovery}}));
    holds(meter, with({{"prune.recovery", recovery}, {"weights.bits", "4"}, {"weights.method", "gptq"}}));
    holds(meter, {{"prune.recovery", recovery}, {"prune.width", "0.3"}, {"prune.width_method", "random"}});
    holds(meter, {{"prune.recovery", recovery}, {"prune.heads", "0.5"}});
  }
  holds(meter, with({{"prune.recovery", "bias"}, {"prune.storage", "sparse"}}));
  holds(meter, with({{"prune.recovery", "bias"}, {"weights.bits", "3"}, {"weights.method", "rtn"}, {"weights.error_rank", "4"}}));
  holds(meter, with({{"prune.recovery", "bias"}, {"weights.bits", "4"}, {"weights.method", "awq"}}));
  holds(meter, with({{"prune.recovery", "bias"}, {"prune.width", "0.3"}, {"prune.width_method", "modegpt"}, {"weights.bits", "4"}}));
  holds(chat, with({{"prune.recovery", "bias"}}));
  holds(chat, {{"prune.recovery", "affine"}, {"prune.width", "0.3"}, {"prune.width_method", "random"}});
}

// The same as the model runs: the mean of the residual stream behind the one matrix that was pruned, where all before it is as it was. What is left comes of
// the rounding of activations to 16 bits in some models.
TEST(the_stream_behind_a_pruned_matrix_has_the_mean_it_had) {
  class Means final : public LinearInputTap {
   public:
    void take(int, LinearInput, const float*, int64_t, int, int) override {}
    void takeStream(int point, const float* x, int cols, int tokens) override {
      if (sums.size() <= static_cast<size_t>(point)) sums.resize(static_cast<size_t>(point) + 1);
      auto& sum = sums[static_cast<size_t>(point)];
      sum.resize(static_cast<size_t>(cols));
      for (int64_t i = 0; i < int64_t{tokens} * cols; ++i) sum[static_cast<size_t>(i % cols)] += double{x[i]};
    }
    double distance(const Means& other, size_t point) const {
      double sum = 0;
      for (size_t c = 0; c < sums[point].size(); ++c) sum += (sums[point][c] - other.sums[point][c]) * (sums[point][c] - other.sums[point][c]);
      return std::sqrt(sum);
    }
    std::vector<std::vector<double>> sums;
  };
  for (const std::string& file : {std::string(WINNOW_SHARED_DATA) + "/" + kSmallLlama, std::string(WINNOW_SHARED_DATA) + "/" + kChat, std::string(WINNOW_TESTS_DIR) + "/../resources/starter/starter.gguf"}) {
    EngineOptions options;
    options.device = "cpu";
    options.threads = 2;
    const CompressionMeter meter(value(Engine::create(value(Model::open(file)), options)), 1, "1024");
    EngineCore& core = EngineCore::of(*meter.engine());
    ThreadPool pool(2);
    const auto means = [&](const Settings& settings) {
      const WeightTarget target = core.targetOf(meter.with(settings));
      const CalibrationTokens tokens = value(core.calibrationTokens({std::string(meter.with({}).text("calibration.text")), 1024}));
      Means out;
      ok(core.observe(target, core.measurements(), tokens.ids, tokens.window, pool, out, {}));
      return out;
    };
    const Means dense = means({});
    for (const auto& [matrix, point] : {std::pair("0.o:0.5", size_t{1}), std::pair("0.down:0.5", size_t{2})}) {
      const auto with = [&](const char* recovery) { return means({{"prune.ratios", matrix}, {"prune.method", "magnitude"}, {"prune.recovery", recovery}}); };
      const double lost = dense.distance(with("none"), point), left = dense.distance(with("bias"), point);
      EXPECT(left < 0.01 * lost, file, matrix, left, lost);
    }
  }
}

TEST(where_nothing_is_pruned_no_bias_is_made) {
  const CompressionMeter meter(kSmallLlama, 1);
  ThreadPool pool(2);
  const auto tokens = someTokens(20, meter.engine()->model().config().vocab);
  const auto plain = makeSession(meter.engine(), Config(), {.context = 64});
  const auto dense = logitsAfter(*plain, tokens);
  for (const Settings& settings : {Settings{{"prune.recovery", "bias"}, {"prune.method", "wanda"}}, Settings{{"prune.recovery", "affine"}, {"prune.method", "wanda"}, {"prune.ratio", "0.5"}, {"prune.ratios", "0-4:0"}}}) {
    const HostWeights made = value(hostWeights(*meter.engine(), meter.with(settings), pool, {}));
    for (const auto& version : made.set->versions) EXPECT(!version->bias && version->constants.empty());
    for (const LayerWeights& w : made.set->layers) EXPECT(!w.qBias && !w.oBias && !w.gateBias && !w.upBias && !w.downBias);
    const auto session = makeSession(meter.engine(), meter.with(settings), {.context = 64});
    EXPECT(logitsAfter(*session, tokens) == dense);
  }
}

// Four bytes an output, in the ledger, the plan and the report.
TEST(biases_cost_what_the_plan_says) {
  for (const char* file : {kSmallLlama, kChat}) {
    const CompressionMeter meter(file, 1, "512");
    ThreadPool pool(2);
    int64_t outputs = 0, own = 0;
    for (const MasterTensor& t : meter.engine()->model().tensors()) {
      if (linearOfBlock(t)) outputs += t.rows;
      if (linearOf(t.role) != TensorRole::count) own += t.cols;
    }
    SessionOptions options;
    options.context = 128;
    const auto weights = [&](const char* recovery, MemoryByTag* planned, int64_t* reported) {
      const Config config = meter.with({{"prune.ratio", "0.5"}, {"prune.method", "wanda"}, {"prune.recovery", recovery}});
      *planned = value(meter.engine()->plan(config, options, 64));
      const auto session = makeSession(meter.engine(), config, options);
      *reported = value(reportWeights(*value(hostWeights(*meter.engine(), config, pool, {})).set, nullptr, pool, {})).bytes;
      return session->memory();
    };
    MemoryByTag plannedWith, plannedWithout;
    int64_t with = 0, without = 0;
    const MemoryByTag usedWithout = weights("none", &plannedWithout, &without), usedWith = weights("bias", &plannedWith, &with);
    const int64_t mapped = bytes(usedWithout, MemoryTag::weightsMapped) - bytes(usedWith, MemoryTag::weightsMapped);
    EXPECT_EQ(bytes(usedWith, MemoryTag::weights) - bytes(usedWithout, MemoryTag::weights), 4 * outputs);
    EXPECT_EQ(mapped, 4 * own);  // those of the file are no longer read there
    for (const MemoryTag tag : {MemoryTag::weights, MemoryTag::weightsMapped}) EXPECT_EQ(bytes(plannedWith, tag), bytes(usedWith, tag));
    EXPECT_EQ(with - without, own > 0 ? 0 : 4 * outputs);
  }
}

TEST(layers_that_come_one_by_one_bring_their_biases) {
  const CompressionMeter meter(kSmallLlama, 1, "512");
  const auto tokens = someTokens(20, meter.engine()->model().config().vocab);
  const Settings pruned = {{"prune.ratio", "0.5"}, {"prune.method", "wanda"}, {"prune.recovery", "bias"}};
  const auto atOnce = makeSession(meter.engine(), meter.with(pruned), {.context = 64});
  const auto expected = logitsAfter(*atOnce, tokens);
  const auto session = makeSession(openEngine(kSmallLlama, 1), meter.with({{"compute.publish", "layers"}}), {.context = 64});
  const auto dense = logitsAfter(*session, tokens);
  Settings layers = pruned;
  layers.push_back({"compute.publish", "layers"});
  session->request(meter.with(layers));
  ok(session->finishPending({}));
  EXPECT(logitsAfter(*session, tokens) == expected);
  session->request(meter.with({{"compute.publish", "layers"}}));
  ok(session->finishPending({}));
  EXPECT(logitsAfter(*session, tokens) == dense);
}

// Refitted columns of another calibration text are other columns, also where the channels that stay are the same.
TEST(constants_follow_the_calibration_text) {
  const CompressionMeter meter(kSmallLlama, 1, "512"), other(kSmallLlama, 1, "1024");
  const auto tokens = someTokens(20, meter.engine()->model().config().vocab);
  for (const char* recovery : {"bias", "least-squares"}) {
    const Settings settings = {{"prune.width", "0.3"}, {"prune.width_method", "random"}, {"prune.recovery", recovery}};
    const auto session = makeSession(meter.engine(), meter.with(settings), {.context = 64});
    const auto first = logitsAfter(*session, tokens);
    session->request(other.with(settings));
    ok(session->finishPending({}));
    EXPECT(logitsAfter(*session, tokens) != first, recovery);
  }
}

TEST(files_hold_biases_where_they_have_a_place) {
  const auto folder = scratch();
  ThreadPool pool(2);
  const Settings pruned = {{"prune.ratio", "0.5"}, {"prune.method", "wanda"}, {"prune.recovery", "bias"}};
  const CompressionMeter llama(kSmallLlama, 1, "512");
  const HostWeights none = value(hostWeights(*llama.engine(), llama.with(pruned), pool, {}));
  for (const auto& refused : {exportGguf(*none.set, none.target, "", (folder / "out.gguf").string(), pool, {}), exportSafetensors(*none.set, none.target, "", (folder / "out").string(), pool, {})})
    EXPECT(!refused && refused.error().message.find("a bias") != std::string::npos && refused.error().hint.find("prune.recovery") != std::string::npos);

  const CompressionMeter chat(kChat, 1, "512");
  const HostWeights all = value(hostWeights(*chat.engine(), chat.with(pruned), pool, {}));
  const auto tokens = someTokens(20, chat.engine()->model().config().vocab);
  const auto expected = logitsAfter(*makeSession(chat.engine(), chat.with(pruned), {.context = 64}), tokens);
  const std::string gguf = (folder / "chat.gguf").string(), safetensors = (folder / "chat").string();
  EXPECT(exportGguf(*all.set, all.target, "", gguf, pool, {}).ok());
  EXPECT(exportSafetensors(*all.set, all.target, "", safetensors, pool, {}).ok());
  for (const std::string& path : {gguf, safetensors}) {
    EngineOptions options;
    options.device = "cpu";
    options.threads = 2;
    const auto engine = value(Engine::create(value(Model::open(path)), options));
    EXPECT(logitsAfter(*makeSession(engine, Config(), {.context = 64}), tokens) == expected, path);
  }
}
