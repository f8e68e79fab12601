// SPDX-License-Identifier: GPL-3.0-or-later
// Oracles of quantization_and_kv.md W10: what a rank leaves of the error is the sum of the discarded squared singular values of the whitened
// error, a full rank leaves nothing, and no rank is worse than less of it.
#include <numeric>
#include <random>

#include "engine/run/host_weights.h"
#include "engine/weights/error_factors.h"
#include "engine/weights/export.h"
#include "engine/weights/inverse_factor.h"
#include "engine/weights/leading_directions.h"
#include "engine/weights/report.h"
#include "tests/support/compression_meter.h"
#include "tests/support/planted.h"

using namespace winnow;
using namespace winnow::test;

namespace {

std::vector<float> draws(size_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> draw;
  std::vector<float> out(count);
  for (float& x : out) x = draw(rng);
  return out;
}

// An error and correlated inputs that it meets.
struct Problem {
  int rows, cols, tokens;
  std::vector<float> error, x;  // [rows, cols], [tokens, cols]
  Ledger ledger;
  ThreadPool pool{2};
  SecondMoments moments;
  Problem(int rowCount, int colCount, int tokenCount) : rows(rowCount), cols(colCount), tokens(tokenCount), moments(ledger, colCount) {
    error = draws(static_cast<size_t>(rows * cols), 3);
    const auto mix = draws(static_cast<size_t>(cols * cols), 4), base = draws(static_cast<size_t>(tokens * cols), 5);
    x.resize(base.size());
    for (int t = 0; t < tokens; ++t)
      for (int i = 0; i < cols; ++i)
        for (int j = 0; j < cols; ++j) x[static_cast<size_t>(t * cols + i)] += base[static_cast<size_t>(t * cols + j)] * mix[static_cast<size_t>(j * cols + i)] / static_cast<float>(1 + j);
    moments.add(x.data(), cols, tokens, pool);
  }
  Directions directions(int count, ThreadPool& threads) const {
    const DenseSquare square = DenseSquare::ofMoments(moments);
    std::vector<float> padded(static_cast<size_t>(rows * square.stride()));
    for (int r = 0; r < rows; ++r) std::copy_n(error.begin() + r * cols, cols, padded.begin() + r * square.stride());
    Directions out;
    EXPECT(leadingDirections(padded, rows, square, count, threads, {}, out));
    for (double& energy : out.energies) energy *= moments.meanDiagonal();
    return out;
  }
  // |(E - U^T U E) X^T|^2, token by token.
  double left(const Directions& d, int rank) const {
    double sum = 0;
    std::vector<double> y(static_cast<size_t>(rows)), rest;
    for (int t = 0; t < tokens; ++t) {
      for (int r = 0; r < rows; ++r) {
        y[static_cast<size_t>(r)] = 0;
        for (int c = 0; c < cols; ++c) y[static_cast<size_t>(r)] += double{error[static_cast<size_t>(r * cols + c)]} * double{x[static_cast<size_t>(t * cols + c)]};
      }
      rest = y;
      for (int i = 0; i < rank; ++i) {
        const float* u = d.vectors.data() + i * rows;
        const double along = std::inner_product(y.begin(), y.end(), u, 0.0);
        for (int r = 0; r < rows; ++r) rest[static_cast<size_t>(r)] -= along * double{u[r]};
      }
      sum += std::inner_product(rest.begin(), rest.end(), rest.begin(), 0.0);
    }
    return sum;
  }
};

// Squared singular values of a [rows, cols] by one-sided Jacobi rotations, falling: a second way, which makes no Gram matrix.
std::vector<double> squaredSingularValues(std::vector<double> a, int rows, int cols) {
  const auto at = [&](int r, int c) -> double& { return a[static_cast<size_t>(r * cols + c)]; };
  for (int sweep = 0; sweep < 30; ++sweep)
    for (int p = 0; p < rows; ++p)
      for (int q = p + 1; q < rows; ++q) {
        double pp = 0, qq = 0, pq = 0;
        for (int c = 0; c < cols; ++c) pp += at(p, c) * at(p, c), qq += at(q, c) * at(q, c), pq += at(p, c) * at(q, c);
        if (std::fabs(pq) <= 1e-15 * std::sqrt(pp * qq)) continue;
        const double zeta = (qq - pp) / (2 * pq), t = std::copysign(1.0, zeta) / (std::fabs(zeta) + std::sqrt(1 + zeta * zeta)), cosine = 1 / std::sqrt(1 + t * t);
        for (int c = 0; c < cols; ++c) {
          const double x = at(p, c), y = at(q, c);
          at(p, c) = cosine * (x - t * y);
          at(q, c) = cosine * (t * x + y);
        }
      }
  std::vector<double> out;
  for (int r = 0; r < rows; ++r) {
    out.push_back(0);
    for (int c = 0; c < cols; ++c) out.back() += at(r, c) * at(r, c);
  }
  std::sort(out.rbegin(), out.rend());
  return out;
}

// E S with S S^T = X^T X, S the transposed upper Cholesky factor: the whitened error of the paper.
std::vector<double> whitened(Problem& p) {
  const auto cols = static_cast<size_t>(p.cols);
  std::vector<double> gram(cols * cols);
  for (size_t i = 0; i < cols; ++i)
    for (size_t j = 0; j < cols; ++j) gram[i * cols + j] = p.moments.at(static_cast<int>(i), static_cast<int>(j));
  bool positive = false;
  EXPECT(choleskyUpper(gram.data(), p.cols, p.pool, {}, positive) && positive);
  std::vector<double> out(static_cast<size_t>(p.rows) * cols);
  for (size_t r = 0; r < static_cast<size_t>(p.rows); ++r)
    for (size_t k = 0; k < cols; ++k)  // S[c][k] = R[k][c], c >= k
      for (size_t c = k; c < cols; ++c) out[r * cols + k] += double{p.error[r * cols + c]} * gram[k * cols + c];
  return out;
}

struct Desk {
  CompressionMeter meter;
  ThreadPool pool{2};
  explicit Desk(const char* file) : meter(file, 8) {}
  HostWeights weights(const Settings& settings) { return value(hostWeights(*meter.engine(), meter.with(settings), pool, {})); }
};

// |(W - W') X^T|^2 of each matrix of the blocks over the calibration text, in the order of the model; outputs that a method divides count divided.
std::vector<double> errors(const HostWeights& w, const Calibration& measured) {
  std::vector<double> out;
  const auto& tensors = w.set->model->tensors();
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!isMatrix(tensors[i].role) || tensors[i].layer < 0) continue;
    const SecondMoments& moments = measured.moments(tensors[i].layer, linearInputOf(tensors[i].role));
    RowPair rows(tensors[i], *w.set->versions[i]);
    std::vector<double> e(static_cast<size_t>(moments.cols())), product(e.size());
    double sum = 0;
    for (int first = 0; first < tensors[i].rows; first += rows.rowsPerBand()) {
      const int count = std::min(rows.rowsPerBand(), static_cast<int>(tensors[i].rows) - first);
      rows.read(first, count);
      for (int r = first; r < first + count; ++r) {
        for (size_t c = 0; c < e.size(); ++c) e[c] = double{rows.master(r)[c]} - double{rows.now(r)[c]};
        moments.times(e.data(), product.data());
        const std::vector<float>& divisors = w.set->versions[i]->divisors;
        const double unit = divisors.empty() ? 1.0 : double{divisors[static_cast<size_t>(r)]};
        sum += std::inner_product(e.begin(), e.end(), product.begin(), 0.0) / (unit * unit);
      }
    }
    out.push_back(sum);
  }
  return out;
}

}  // namespace

TEST(eigenvectors_diagonalize) {
  constexpr int n = 37;
  const auto half = draws(n * n, 8);
  std::vector<double> a(n * n);
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) a[static_cast<size_t>(i * n + j)] = double{half[static_cast<size_t>(i * n + j)]} + double{half[static_cast<size_t>(j * n + i)]};
  const Eigen eigen = symmetricEigen(a, n);
  for (int i = 0; i < n; ++i) {
    const double* v = eigen.vectors.data() + i * n;
    EXPECT(i == 0 || eigen.values[static_cast<size_t>(i)] <= eigen.values[static_cast<size_t>(i - 1)], i);
    for (int r = 0; r < n; ++r) EXPECT_NEAR(std::inner_product(v, v + n, a.data() + r * n, 0.0), eigen.values[static_cast<size_t>(i)] * v[r], 1e-11);
    for (int j = 0; j < n; ++j) EXPECT_NEAR(std::inner_product(v, v + n, eigen.vectors.data() + j * n, 0.0), i == j ? 1.0 : 0.0, 1e-12);
  }
  EXPECT(symmetricEigen(std::vector<double>(9), 3).values == std::vector<double>(3));
}

TEST(what_is_left_is_the_tail_of_the_singular_values) {
  Problem p(40, 64, 300);
  const auto squares = squaredSingularValues(whitened(p), p.rows, p.cols);
  const Directions d = p.directions(p.rows, p.pool);
  const double all = std::accumulate(squares.begin(), squares.end(), 0.0);
  EXPECT_NEAR(p.left(d, 0), all, 1e-5 * all);
  for (int rank = 1; rank < p.rows; rank += 3) {
    const double tail = std::accumulate(squares.begin() + rank, squares.end(), 0.0);
    EXPECT_NEAR(p.left(d, rank), tail, 1e-5 * all);  // moments and directions are f32
    EXPECT_NEAR(d.energies[static_cast<size_t>(rank - 1)], squares[static_cast<size_t>(rank - 1)], 1e-5 * all);
  }
  EXPECT(p.left(d, 8) < 0.5 * all);  // or any directions would do
}

// Fewer tokens than inputs: the moments have no inverse, which nothing here asks for. E X^T has the singular values of E S.
TEST(few_tokens_are_no_obstacle) {
  const Problem p(30, 64, 12);
  std::vector<double> product(static_cast<size_t>(p.rows * p.tokens));
  for (int r = 0; r < p.rows; ++r)
    for (int t = 0; t < p.tokens; ++t)
      for (int c = 0; c < p.cols; ++c)
        product[static_cast<size_t>(r * p.tokens + t)] += double{p.error[static_cast<size_t>(r * p.cols + c)]} * double{p.x[static_cast<size_t>(t * p.cols + c)]};
  const auto squares = squaredSingularValues(product, p.rows, p.tokens);
  ThreadPool pool(1);
  const Directions d = p.directions(16, pool);
  const double all = std::accumulate(squares.begin(), squares.end(), 0.0);
  for (int rank = 0; rank <= 16; rank += 4) EXPECT_NEAR(p.left(d, rank), std::accumulate(squares.begin() + rank, squares.end(), 0.0), 1e-5 * all);
}

// Many rows: directions are iterated for. They hold nearly what the best ones do.
TEST(iteration_finds_what_the_singular_values_promise) {
  Problem p(320, 64, 400);
  const auto squares = squaredSingularValues([&] {
    const auto tall = whitened(p);  // transposed, so that rotations have 64 rows to turn
    std::vector<double> wide(tall.size());
    for (int r = 0; r < p.rows; ++r)
      for (int c = 0; c < p.cols; ++c) wide[static_cast<size_t>(c * p.rows + r)] = tall[static_cast<size_t>(r * p.cols + c)];
    return wide;
  }(), p.cols, p.rows);
  ThreadPool one(1), three(3);
  for (const int rank : {1, 8, 24}) {
    const Directions d = p.directions(rank, one);
    EXPECT(d.vectors == p.directions(rank, three).vectors, rank);
    const double best = std::accumulate(squares.begin(), squares.begin() + rank, 0.0), found = std::accumulate(d.energies.begin(), d.energies.end(), 0.0);
    EXPECT(found > 0.999 * best && found < best * (1 + 1e-4), rank, found, best);
    for (int i = 0; i < rank; ++i)
      for (int j = 0; j <= i; ++j)
        EXPECT_NEAR(std::inner_product(d.vectors.begin() + i * p.rows, d.vectors.begin() + (i + 1) * p.rows, d.vectors.begin() + j * p.rows, 0.0), i == j ? 1.0 : 0.0, 1e-5);
  }
}

// Within the rounding of factors to f16, which is a 2048th of what they hold.
TEST(more_rank_is_never_worse_whatever_rounds) {
  Desk desk(kSmallLlama);
  const HostWeights measured = desk.weights({{"weights.bits", "3"}, {"weights.method", "gptq"}});  // has the moments
  for (const char* method : {"rtn", "gptq", "awq", "smoothquant"}) {
    std::vector<double> last;
    for (const char* rank : {"0", "3", "16", "256"}) {
      const HostWeights w = desk.weights({{"weights.bits", "3"}, {"weights.method", method}, {"weights.error_rank", rank}});
      const auto now = errors(w, *measured.calibration);
      double before = 0, sum = 0;
      for (size_t i = 0; i < now.size() && !last.empty(); ++i) {
        EXPECT(now[i] <= last[i] * 1.001, method, rank, i, now[i], last[i]);
        before += last[i];
        sum += now[i];
      }
      if (!last.empty()) EXPECT(sum < 0.97 * before, method, rank, sum, before);
      last = now;
    }
  }
}

TEST(full_rank_is_the_unrounded_matrix) {
  Desk desk(kSmallLlama);
  for (const char* method : {"rtn", "awq"}) {
    const HostWeights w = desk.weights({{"weights.bits", "2"}, {"weights.method", method}, {"weights.error_rank", "256"}});
    const WeightReport report = value(reportWeights(*w.set, nullptr, desk.pool, {}));
    for (const TensorReport& row : report.tensors) {
      if (row.layer < 0) continue;
      EXPECT(row.relativeError() < 1.0 / 2048, row.name, row.relativeError());  // f16 of an error below the weights
      EXPECT(row.format.find("rank") != std::string::npos, row.format);
    }
  }
  // And so computes what the file does, but for embedding and head.
  const auto ids = someTokens(30, 500);
  const auto logits = [&](const char* rank) {
    return logitsAfter(*makeSession(desk.meter.engine(), desk.meter.with({{"weights.bits", "2"}, {"weights.method", "rtn"}, {"weights.tensors", "q,k,v,o,gate,up,down"},
                                                                          {"weights.error_rank", rank}, {"compute.activations", "f32"}})), ids);
  };
  const auto dense = logitsAfter(*makeSession(desk.meter.engine()), ids);
  EXPECT(relativeError(dense, logits("256")) < 5e-3 && relativeError(dense, logits("0")) > 0.1, relativeError(dense, logits("256")), relativeError(dense, logits("0")));
}

TEST(sessions_lose_less_with_it) {
  Desk desk(kSmallLlama);
  const auto divergence = [&](const char* method, const char* rank) { return desk.meter({{"weights.bits", "3"}, {"weights.method", method}, {"weights.error_rank", rank}}); };
  const double rtn = divergence("rtn", "0"), aser = divergence("aser", "16"), more = divergence("aser", "32");
  EXPECT(aser < 0.8 * rtn && more < 0.9 * aser, rtn, aser, more);
  for (const char* method : {"gptq", "awq"}) EXPECT(divergence(method, "16") < 0.9 * divergence(method, "0"), method);
  // In 8 bits the factors keep seeing 16.
  EXPECT(desk.meter({{"weights.bits", "3"}, {"weights.method", "aser"}, {"compute.activations", "int8"}}) < 0.8 * desk.meter({{"weights.bits", "3"}, {"compute.activations", "int8"}}));
}

TEST(factors_are_counted) {
  Desk desk(kStories);
  const Config config = desk.meter.with({{"weights.method", "aser"}, {"weights.error_rank", "8"}}), plain = desk.meter.with({{"weights.bits", "4"}});
  const auto session = makeSession(desk.meter.engine(), config), other = makeSession(desk.meter.engine(), plain);
  int64_t expected = 0;
  for (const MasterTensor& tensor : desk.meter.engine()->model().tensors())
    if (isMatrix(tensor.role) && tensor.layer >= 0) expected += 2 * 8 * (tensor.rows + tensor.cols);
  EXPECT_EQ(bytes(session->memory(), MemoryTag::weights) - bytes(other->memory(), MemoryTag::weights), expected);
  SessionOptions options;
  options.context = 256;
  const MemoryByTag planned = value(desk.meter.engine()->plan(config, options, 64));
  ok(session->prefill(someTokens(60, 500), {}));
  generate(*session, 4);
  EXPECT_EQ(bytes(planned, MemoryTag::weights), bytes(session->memory(), MemoryTag::weights));
  EXPECT_NEAR(static_cast<double>(bytes(planned, MemoryTag::activations)), static_cast<double>(bytes(session->memory(), MemoryTag::activations)), 65536.0);
  const HostWeights w = desk.weights({{"weights.method", "aser"}, {"weights.error_rank", "8"}});
  const HostWeights without = desk.weights({{"weights.bits", "4"}});
  EXPECT_EQ(value(reportWeights(*w.set, nullptr, desk.pool, {})).bytes - value(reportWeights(*without.set, nullptr, desk.pool, {})).bytes, expected);
}

TEST(what_can_not_have_factors_says_so) {
  const ModelConfig model = value(Model::open(sharedData(kStories)))->config();
  const Effective alone = resolve(configure({{"weights.method", "aser"}}), model);
  EXPECT(alone.asRequested() && alone.config.integer("weights.bits") == 4 && alone.config.integer("weights.error_rank") == 32);
  for (const Settings& settings : {Settings{{"weights.error_rank", "8"}}, Settings{{"weights.method", "ternary"}, {"weights.error_rank", "8"}}}) {
    const Effective effective = resolve(configure(settings), model);
    EXPECT(effective.config.integer("weights.error_rank") == 0 && effective.adjustments.size() == 1 && !effective.adjustments[0].reason.empty());
  }
  Desk desk(kStories);
  const HostWeights w = desk.weights({{"weights.method", "aser"}});
  const auto written = exportGguf(*w.set, w.target, "test", (scratch() / "aser.gguf").string(), desk.pool, {});
  EXPECT(!written.ok() && written.error().message.find("factors") != std::string::npos && written.error().hint.find("weights.error_rank=0") != std::string::npos);
}

// Super weights that are kept are exact beside the factors; those that are taken away stay away.
TEST(super_weights_are_not_reconstructed) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = 2;
  const auto engine = value(Engine::create(value(Model::open(planted())), options));
  const CompressionMeter meter(engine, 1);
  ThreadPool pool(2);
  for (const char* what : {"keep", "zero"}) {
    const HostWeights w = value(hostWeights(*engine, meter.with({{"weights.bits", "3"}, {"weights.super", what}, {"weights.error_rank", "16"}}), pool, {}));
    const auto& tensors = engine->model().tensors();
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (tensors[i].role != TensorRole::down || tensors[i].layer != kPlantedLayer) continue;
      const WeightVersion& version = *w.set->versions[i];
      std::vector<float> row(static_cast<size_t>(version.matrix.cols));
      version.error.addRow(kPlantedRow, row.data());
      EXPECT(std::fabs(row[kPlantedColumn]) < 0.2, what, row[kPlantedColumn]);  // of 6
    }
  }
}
