// SPDX-License-Identifier: GPL-3.0-or-later
// MoDeGPT (Lin et al., ICLR 2025; pruning_sharing_attribution.md, D3), its modules of the attention, with C the second moments of what it reads.
// Queries and keys (type II): a component i is worth sqrt(Q_ii K_ii), Q and K the moments W C W^T of queries and keys, a RoPE pair (i, i')
// (Q_ii + Q_i'i') (K_ii + K_i'i'), which its turning leaves as it is; query heads that read one head of keys are summed. Values and outputs (type III): the
// best approximation of the two matrices' product (head_folds.h), of all query heads that read a head of values together. A bias adds its
// square to the moments: the mean of what is read is not known.
#include <cmath>

#include "engine/core/check.h"
#include "engine/core/threads.h"
#include "engine/prune/head_dim_methods.h"

namespace winnow {
namespace {

std::vector<float> biasOf(const HeadDimInput& input, TensorRole role, int rows) {
  std::vector<float> out(static_cast<size_t>(rows));
  if (const MasterTensor* bias = input.model.find(role, input.layer)) Model::decodeRows(*bias, 0, 1, out.data());
  return out;
}

// Sum over the tokens of the square of each output of a matrix, [rows].
std::vector<double> energies(const HeadDimInput& input, TensorRole role, TensorRole bias) {
  const MasterTensor* matrix = input.model.find(role, input.layer);
  CHECK(matrix && input.moments, tensorRoleName(role), input.layer);
  const std::vector<float> shift = biasOf(input, bias, static_cast<int>(matrix->rows));
  std::vector<double> out(shift.size());
  input.pool.run([&](int thread, int threads) {
    const auto range = ThreadPool::split(matrix->rows, 16, thread, threads);
    const auto cols = static_cast<size_t>(matrix->cols);
    std::vector<float> row(cols);
    std::vector<double> x(cols), y(cols);
    for (int64_t r = range.begin; r < range.end; ++r) {
      Model::decodeRows(*matrix, r, 1, row.data());
      x.assign(row.begin(), row.end());
      input.moments->times(x.data(), y.data());
      const double b = shift[static_cast<size_t>(r)];
      double sum = static_cast<double>(input.moments->tokens()) * b * b;
      for (size_t c = 0; c < cols; ++c) sum += x[c] * y[c];
      out[static_cast<size_t>(r)] = sum;
    }
  });
  return out;
}

// Second moments of the values of a head, [n, n], per token.
std::vector<double> momentsOfValues(const HeadDimInput& input, int kvHead, const std::vector<float>& bias) {
  const MasterTensor* v = input.model.find(TensorRole::v, input.layer);
  const int n = input.model.config().headDim;
  const auto cols = static_cast<size_t>(v->cols);
  std::vector<float> rows(static_cast<size_t>(n) * cols);
  Model::decodeRows(*v, int64_t{kvHead} * n, n, rows.data());
  std::vector<double> x(cols), y(cols), out(static_cast<size_t>(n) * static_cast<size_t>(n));
  const auto tokens = static_cast<double>(input.moments->tokens());
  for (int i = 0; i < n; ++i) {
    for (size_t c = 0; c < cols; ++c) x[c] = rows[static_cast<size_t>(i) * cols + c];
    input.moments->times(x.data(), y.data());
    for (int j = 0; j <= i; ++j) {
      double sum = 0;
      for (size_t c = 0; c < cols; ++c) sum += y[c] * rows[static_cast<size_t>(j) * cols + c];
      sum = sum / tokens + static_cast<double>(bias[static_cast<size_t>(kvHead * n + i)]) * bias[static_cast<size_t>(kvHead * n + j)];
      out[static_cast<size_t>(i * n + j)] = out[static_cast<size_t>(j * n + i)] = sum;
    }
  }
  return out;
}

// Of each head of values the sum over its query heads of O^T O, [kvHeads][n, n].
std::vector<std::vector<double>> momentsOfOutputs(const HeadDimInput& input) {
  const ModelConfig& config = input.model.config();
  const MasterTensor* o = input.model.find(TensorRole::o, input.layer);
  const int n = config.headDim;
  constexpr int64_t kBand = 128;
  std::vector<std::vector<double>> out(static_cast<size_t>(config.kvHeads), std::vector<double>(static_cast<size_t>(n) * static_cast<size_t>(n)));
  std::vector<float> rows(static_cast<size_t>(kBand * o->cols));
  for (int64_t first = 0; first < o->rows; first += kBand) {
    const int64_t count = std::min(kBand, o->rows - first);
    Model::decodeRows(*o, first, count, rows.data());
    input.pool.run([&](int thread, int threads) {  // each head is one thread's
      const auto range = ThreadPool::split(config.kvHeads, 1, thread, threads);
      for (int64_t kvHead = range.begin; kvHead < range.end; ++kvHead)
        for (int64_t r = 0; r < count; ++r)
          for (int head = static_cast<int>(kvHead) * config.groupSize(), end = head + config.groupSize(); head < end; ++head) {
            const float* x = rows.data() + r * o->cols + int64_t{head} * n;
            for (int i = 0; i < n; ++i)
              for (int j = 0; j < n; ++j) out[static_cast<size_t>(kvHead)][static_cast<size_t>(i * n + j)] += static_cast<double>(x[i]) * x[j];
          }
    });
  }
  return out;
}

}  // namespace

std::vector<double> modegptKeyScores(const HeadDimInput& input) {
  const ModelConfig& config = input.model.config();
  const std::vector<double> q = energies(input, TensorRole::q, TensorRole::qBias), k = energies(input, TensorRole::k, TensorRole::kBias);
  const int n = config.headDim, units = input.units();
  const auto of = [&](const std::vector<double>& energy, int head, int unit) {
    const double one = energy[static_cast<size_t>(head * n + unit)];
    return units < n ? one + energy[static_cast<size_t>(head * n + units + unit)] : one;
  };
  std::vector<double> out;
  for (int kvHead = 0; kvHead < config.kvHeads; ++kvHead)
    for (int unit = 0; unit < units; ++unit) {
      double sum = 0;
      for (int head = kvHead * config.groupSize(), end = head + config.groupSize(); head < end; ++head)
        sum += units < n ? of(q, head, unit) * of(k, kvHead, unit) : std::sqrt(of(q, head, unit) * of(k, kvHead, unit));
      out.push_back(sum);
    }
  return out;
}

std::shared_ptr<const HeadFolds> modegptFolds(const HeadDimInput& input, int kept) {
  const ModelConfig& config = input.model.config();
  const int n = config.headDim;
  auto out = std::make_shared<HeadFolds>(HeadFolds{config.kvHeads, config.groupSize(), n, kept, {}, {}, {}});
  const std::vector<std::vector<double>> outputs = momentsOfOutputs(input);
  const std::vector<float> bias = biasOf(input, TensorRole::vBias, config.kvRows());
  std::vector<std::vector<float>> f(static_cast<size_t>(config.kvHeads)), g(f.size());
  input.pool.run([&](int thread, int threads) {
    const auto range = ThreadPool::split(config.kvHeads, 1, thread, threads);
    for (int64_t h = range.begin; h < range.end; ++h)
      foldHead(momentsOfValues(input, static_cast<int>(h), bias), outputs[static_cast<size_t>(h)], n, kept, f[static_cast<size_t>(h)], g[static_cast<size_t>(h)]);
  });
  for (size_t h = 0; h < f.size(); ++h) {
    out->values.insert(out->values.end(), f[h].begin(), f[h].end());
    out->outputs.insert(out->outputs.end(), g[h].begin(), g[h].end());
  }
  return out;
}

}  // namespace winnow
