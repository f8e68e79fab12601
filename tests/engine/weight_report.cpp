// SPDX-License-Identifier: GPL-3.0-or-later
// The comparison of a weight set with its master: against plain double sums, and against the SQNR that a normal distribution must have.
#include <cmath>
#include <numeric>

#include "engine/run/host_weights.h"
#include "engine/weights/report.h"
#include "tests/support/engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

struct Desk {
  std::shared_ptr<const Model> model;
  std::shared_ptr<Engine> engine;
  ThreadPool pool{2};
  explicit Desk(const std::string& file) : model(value(Model::open(file))) {
    EngineOptions options;
    options.device = "cpu";
    options.threads = 2;
    engine = value(Engine::create(model, options));
  }
  HostWeights weights(const Settings& settings) { return value(hostWeights(*engine, configure(settings), pool, {})); }
  WeightReport report(const Settings& settings) { return value(reportWeights(*weights(settings).set, nullptr, pool, {})); }
};

const TensorReport& rowOf(const WeightReport& report, TensorRole role, int layer) {
  for (const TensorReport& row : report.tensors)
    if (row.role == role && row.layer == layer) return row;
  throw std::runtime_error("no such row");
}

}  // namespace

TEST(figures_are_the_plain_double_sums) {
  Desk desk(sharedData(kStories));
  const HostWeights weights = desk.weights({{"weights.bits", "3"}, {"prune.ratio", "0.3"}});
  const WeightReport report = value(reportWeights(*weights.set, nullptr, desk.pool, {}));
  for (const auto& [role, layer] : {std::pair(TensorRole::q, 1), std::pair(TensorRole::down, 0)}) {
    const TensorReport& row = rowOf(report, role, layer);
    const MasterTensor& master = desk.model->tensors()[static_cast<size_t>(row.tensor)];
    const Matrix& matrix = weights.set->versions[static_cast<size_t>(row.tensor)]->matrix;
    std::vector<float> was(static_cast<size_t>(matrix.cols)), now(was);
    double signal = 0, noise = 0, most = 0;
    int64_t zeros = 0;
    for (int r = 0; r < matrix.rows; ++r) {
      Model::decodeRows(master, r, 1, was.data());
      dequantizeRow(matrix, r, now.data());
      for (size_t c = 0; c < was.size(); ++c) {
        const double error = static_cast<double>(was[c]) - static_cast<double>(now[c]);
        signal += static_cast<double>(was[c]) * static_cast<double>(was[c]);
        noise += error * error;
        most = std::max(most, std::fabs(error));
        zeros += now[c] == 0;
      }
    }
    EXPECT_NEAR(row.relativeError(), std::sqrt(noise / signal), 1e-9);
    EXPECT_NEAR(row.sqnr(), 10 * std::log10(signal / noise), 1e-6);
    EXPECT_NEAR(row.maxError, most, 1e-12);
    EXPECT_NEAR(row.sparsity, static_cast<double>(zeros) / (static_cast<double>(matrix.rows) * matrix.cols), 1e-12);
    EXPECT_EQ(row.bytes, static_cast<int64_t>(matrix.bytes()));
  }
}

TEST(what_is_not_touched_is_exact) {
  Desk desk(sharedData(kStories));
  for (const TensorReport& row : desk.report({}).tensors) {
    EXPECT(row.exact() && std::isinf(row.sqnr()) && row.relativeError() == 0 && row.maxError == 0, row.name);
    EXPECT(!row.outputError, row.name);
  }
  const WeightReport one = desk.report({{"weights.layers", "1:4"}});
  for (const TensorReport& row : one.tensors) EXPECT((row.layer == 1) != row.exact(), row.name);
  EXPECT(one.bytes < desk.report({}).bytes);
}

// The weights of this model follow Student's t with 5 degrees of freedom; quantization_and_kv.md 8.2, column t5.
TEST(random_weights_have_the_sqnr_of_the_table) {
  Desk desk(sharedData(kRandom));
  const std::tuple<const char*, const char*, const char*, double> table[] = {
      {"8", "32", "true", 43.40}, {"5", "32", "true", 24.86}, {"4", "64", "true", 16.72}, {"4", "128", "false", 17.57}, {"3", "32", "false", 14.30}, {"2", "32", "false", 6.90}};
  for (const auto& [bits, group, symmetric, expected] : table) {
    const WeightReport report = desk.report({{"weights.bits", bits}, {"weights.group", group}, {"weights.symmetric", symmetric}});
    double signal = 0, noise = 0;
    for (const TensorReport& row : report.tensors)
      if (row.layer >= 0) {
        signal += row.signal;
        noise += row.noise;
      }
    EXPECT_NEAR(10 * std::log10(signal / noise), expected, 0.15);
  }
}

// The same column, and what a weight costs: codes and what a group adds. The table's 8-bit floats have rows of 4096; in these of 256 and 512 the
// largest weight, which is exact, carries some twentieth of the sum of squares, so that the ratio is a little higher.
TEST(formats_have_the_sqnr_of_the_table_and_their_size) {
  Desk desk(sharedData(kRandom));
  const std::tuple<const char*, double, double, double> table[] = {{"nf4", 19.61, 4.25, 4.25}, {"mxfp4", 17.97, 4.25, 4.25}, {"fp8-e4m3", 31.61, 8.02, 8.07}, {"fp8-e5m2", 25.63, 8.02, 8.07}};
  for (const auto& [format, expected, least, most] : table) {
    const WeightReport report = desk.report({{"weights.format", format}});
    double signal = 0, noise = 0;
    for (const TensorReport& row : report.tensors) {
      EXPECT(row.bits >= least && row.bits <= most, row.name, row.format, row.bits);
      EXPECT(row.format.starts_with(format), row.format);
      if (row.layer < 0) continue;
      signal += row.signal;
      noise += row.noise;
    }
    const double db = 10 * std::log10(signal / noise);
    EXPECT(std::fabs(db - expected) < (format == std::string("nf4") || format == std::string("mxfp4") ? 0.15 : 0.5), format, db, expected);
  }
}

TEST(calibration_weighs_the_error_by_input_channel) {
  Desk desk(sharedData(kStories));
  Config config = configure({{"prune.ratio", "0.5"}, {"prune.method", "wanda"}, {"calibration.tokens", "256"}});
  config = config.with("calibration.text", sharedData("corpora/tinystories_val.txt"));
  const auto weights = hostWeights(*desk.engine, config, desk.pool, {});
  EXPECT(weights.ok() && weights->calibration != nullptr, weights.ok() ? "" : weights.error().message);
  if (!weights) return;
  const WeightReport report = value(reportWeights(*weights->set, weights->calibration.get(), desk.pool, {}));
  for (const TensorReport& row : report.tensors) EXPECT_EQ(row.outputError.has_value(), row.layer >= 0);
  const TensorReport& row = rowOf(report, TensorRole::up, 1);
  const MasterTensor& master = desk.model->tensors()[static_cast<size_t>(row.tensor)];
  const std::vector<float> norms = weights->calibration->columnNorms(1, LinearInput::ffn);
  std::vector<float> was(norms.size()), now(norms.size());
  double signal = 0, noise = 0;
  for (int r = 0; r < row.rows; ++r) {
    Model::decodeRows(master, r, 1, was.data());
    dequantizeRow(weights->set->versions[static_cast<size_t>(row.tensor)]->matrix, r, now.data());
    for (size_t c = 0; c < norms.size(); ++c) {
      const double norm = static_cast<double>(norms[c]), value = static_cast<double>(was[c]);
      signal += value * value * norm * norm;
      noise += (value - static_cast<double>(now[c])) * (value - static_cast<double>(now[c])) * norm * norm;
    }
  }
  EXPECT_NEAR(*row.outputError, std::sqrt(noise / signal), 1e-9);
  EXPECT(*row.outputError < row.relativeError());  // Wanda takes from the channels that carry little
}

TEST(threads_do_not_change_a_figure) {
  Desk desk(sharedData(kStories));
  const HostWeights weights = desk.weights({{"weights.bits", "4"}});
  ThreadPool one(1), three(3);
  const WeightReport a = value(reportWeights(*weights.set, nullptr, one, {})), b = value(reportWeights(*weights.set, nullptr, three, {}));
  for (size_t i = 0; i < a.tensors.size(); ++i) EXPECT(a.tensors[i].noise == b.tensors[i].noise && a.tensors[i].signal == b.tensors[i].signal, i);
}

TEST(a_histogram_counts_every_value_and_every_code) {
  Desk desk(sharedData(kStories));
  const HostWeights weights = desk.weights({{"weights.bits", "4"}, {"weights.symmetric", "true"}});
  const WeightReport report = value(reportWeights(*weights.set, nullptr, desk.pool, {}));
  const TensorReport& row = rowOf(report, TensorRole::up, 1);
  const WeightHistogram h = value(weightHistogram(*weights.set, row.tensor, 64, desk.pool, {}));
  const auto sum = [](const std::vector<int64_t>& counts) { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); };
  const int64_t values = static_cast<int64_t>(row.rows) * row.cols;
  EXPECT_EQ(sum(h.before), values);
  EXPECT_EQ(sum(h.after), values);
  EXPECT_EQ(sum(h.codes), values);
  EXPECT_EQ(h.codes.size(), size_t{16});
  EXPECT_EQ(h.codes[0], int64_t{0});  // symmetric codes are -7..7
  EXPECT_NEAR(static_cast<double>(h.codes[8]) / static_cast<double>(values), row.sparsity, 1e-12);
  EXPECT(h.before != h.after);
}

TEST(a_stopped_comparison_says_so) {
  Desk desk(sharedData(kStories));
  const HostWeights weights = desk.weights({{"weights.bits", "4"}});
  std::stop_source stop;
  const Progress progress{[&](double, std::string_view) { stop.request_stop(); }, stop.get_token()};
  const auto report = reportWeights(*weights.set, nullptr, desk.pool, progress);
  EXPECT(!report.ok() && report.error().code == ErrorCode::cancelled);
  const auto histogram = weightHistogram(*weights.set, 0, 16, desk.pool, progress);
  EXPECT(!histogram.ok() && histogram.error().code == ErrorCode::cancelled);
}
