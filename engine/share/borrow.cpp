// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/share/borrow.h"

#include <algorithm>
#include <numeric>

namespace winnow {
namespace {

HeadMaps identities(const ModelConfig& model) {
  const auto dim = static_cast<size_t>(model.headDim);
  HeadMaps maps(static_cast<size_t>(model.kvHeads) * dim * dim);
  for (size_t head = 0; head < static_cast<size_t>(model.kvHeads); ++head)
    for (size_t c = 0; c < dim; ++c) maps[(head * dim + c) * dim + c] = 1;
  return maps;
}

const float* mapOf(const ModelConfig& model, const HeadMaps& maps, int queryHead) {
  return maps.data() + int64_t{queryHead / model.groupSize()} * model.headDim * model.headDim;
}

// Some columns of one head, own and borrowed side by side.
class HeadMoments {
 public:
  HeadMoments(const ModelConfig& model, const BorrowedRows& rows, std::vector<int> columns, bool centred, Ledger& ledger)
      : rows_(rows), stride_(model.kvRows()), columns_(std::move(columns)), centred_(centred), joint_(ledger, 2 * static_cast<int>(columns_.size())) {}

  const SecondMoments& sum(ThreadPool& pool) {
    const size_t n = columns_.size();
    std::vector<double> means(2 * n);
    for (int64_t t = 0; centred_ && t < rows_.tokens; ++t)
      for (size_t c = 0; c < 2 * n; ++c) means[c] += static_cast<double>(at(t, c)) / static_cast<double>(rows_.tokens);
    constexpr int64_t kTogether = 512;
    std::vector<float> side(static_cast<size_t>(kTogether) * 2 * n);
    for (int64_t first = 0; first < rows_.tokens; first += kTogether) {
      const int64_t count = std::min(kTogether, rows_.tokens - first);
      float* out = side.data();
      for (int64_t t = first; t < first + count; ++t)
        for (size_t c = 0; c < 2 * n; ++c) *out++ = static_cast<float>(static_cast<double>(at(t, c)) - means[c]);
      joint_.add(side.data(), static_cast<int64_t>(2 * n), static_cast<int>(count), pool);
    }
    return joint_;
  }

 private:
  float at(int64_t token, size_t column) const {
    const size_t n = columns_.size();
    return column < n ? rows_.own[token * stride_ + columns_[column]] : rows_.borrowed[token * stride_ + columns_[column - n]];
  }
  const BorrowedRows& rows_;
  int64_t stride_;
  std::vector<int> columns_;
  bool centred_;
  SecondMoments joint_;
};

// Components [from, headDim) of a head, by any map.
Refit fitSquare(const ModelConfig& model, const BorrowedRows& rows, int head, int from, bool centred, double damping, Ledger& ledger, ThreadPool& pool, const Progress& progress, HeadMaps& maps) {
  const int dim = model.headDim, n = dim - from;
  if (n == 0) return Refit::done;
  std::vector<int> columns(static_cast<size_t>(n));
  std::iota(columns.begin(), columns.end(), head * dim + from);
  std::vector<float> identity(static_cast<size_t>(n * n)), map(identity.size());
  for (int c = 0; c < n; ++c) identity[static_cast<size_t>(c * n + c)] = 1;
  HeadMoments moments(model, rows, std::move(columns), centred, ledger);
  const Refit made = refitOutput(moments.sum(pool), identity.data(), n, damping, pool, progress, map.data());
  if (made != Refit::done) return made;
  float* out = maps.data() + int64_t{head} * dim * dim;
  for (int r = 0; r < n; ++r) std::copy_n(map.data() + r * n, n, out + (from + r) * dim + from);
  return made;
}

// Pairs (c, c + dims / 2), each by the complex number a that lowers sum |own - a borrowed|^2 + l |a - 1|^2.
void fitPairs(const ModelConfig& model, const BorrowedRows& rows, int head, double damping, Ledger& ledger, ThreadPool& pool, HeadMaps& maps) {
  const int dim = model.headDim, n = model.rope.dims, half = n / 2;
  std::vector<int> columns(static_cast<size_t>(n));
  std::iota(columns.begin(), columns.end(), head * dim);
  HeadMoments moments(model, rows, std::move(columns), false, ledger);
  const SecondMoments& joint = moments.sum(pool);
  const auto sum = [&](int i, int j) { return static_cast<double>(joint.at(i, j)); };
  double mean = 0;
  for (int c = 0; c < n; ++c) mean += sum(n + c, n + c) / n;
  const double prior = damping * (mean > 0 ? mean : 1);
  float* out = maps.data() + int64_t{head} * dim * dim;
  for (int c = 0; c < half; ++c) {
    const int d = c + half;
    const double square = sum(n + c, n + c) + sum(n + d, n + d) + prior;
    if (!(square > 0)) continue;
    const auto real = static_cast<float>((sum(c, n + c) + sum(d, n + d) + prior) / square);
    const auto imaginary = static_cast<float>((sum(d, n + c) - sum(c, n + d)) / square);
    out[c * dim + c] = out[d * dim + d] = real;
    out[d * dim + c] = imaginary;
    out[c * dim + d] = -imaginary;
  }
}

}  // namespace

bool mapsKeys(const ModelConfig& model) { return !model.qkNorm; }

Refit fitKeyMaps(const ModelConfig& model, const BorrowedRows& keys, double damping, Ledger& ledger, ThreadPool& pool, const Progress& progress, HeadMaps& maps) {
  maps = identities(model);
  const bool rotates = model.position == PositionKind::rope;
  for (int head = 0; head < model.kvHeads; ++head) {
    if (rotates) fitPairs(model, keys, head, damping, ledger, pool, maps);
    if (fitSquare(model, keys, head, rotates ? model.rope.dims : 0, true, damping, ledger, pool, progress, maps) == Refit::cancelled) return Refit::cancelled;
  }
  return Refit::done;
}

Refit fitValueMaps(const ModelConfig& model, const BorrowedRows& values, double damping, Ledger& ledger, ThreadPool& pool, const Progress& progress, HeadMaps& maps) {
  maps = identities(model);
  for (int head = 0; head < model.kvHeads; ++head)
    if (fitSquare(model, values, head, 0, false, damping, ledger, pool, progress, maps) == Refit::cancelled) return Refit::cancelled;
  return Refit::done;
}

void foldIntoQueries(const ModelConfig& model, const HeadMaps& maps, const float* queries, int64_t cols, float* out) {
  const int dim = model.headDim;
  std::fill_n(out, model.qRows() * cols, 0.0f);
  for (int head = 0; head < model.heads; ++head) {
    const float* map = mapOf(model, maps, head);
    for (int i = 0; i < dim; ++i)
      for (int j = 0; j < dim; ++j) {
        const float weight = map[j * dim + i];
        if (weight == 0) continue;
        const float* from = queries + (int64_t{head} * dim + j) * cols;
        float* to = out + (int64_t{head} * dim + i) * cols;
        for (int64_t c = 0; c < cols; ++c) to[c] += weight * from[c];
      }
  }
}

void foldIntoOutput(const ModelConfig& model, const HeadMaps& maps, const float* output, int64_t rows, float* out) {
  const int dim = model.headDim;
  std::fill_n(out, rows * model.qRows(), 0.0f);
  for (int64_t block = 0; block < rows * model.heads; ++block) {
    const float* map = mapOf(model, maps, static_cast<int>(block % model.heads));
    for (int j = 0; j < dim; ++j)
      for (int i = 0; i < dim; ++i) out[block * dim + i] += output[block * dim + j] * map[j * dim + i];
  }
}

void mapHeads(const ModelConfig& model, const HeadMaps& maps, float* heads, int64_t tokens) {
  const int dim = model.headDim;
  std::vector<float> mapped(static_cast<size_t>(dim));
  for (int64_t block = 0; block < tokens * model.heads; ++block) {
    const float* map = mapOf(model, maps, static_cast<int>(block % model.heads));
    float* values = heads + block * dim;
    for (int i = 0; i < dim; ++i) {
      mapped[static_cast<size_t>(i)] = 0;
      for (int j = 0; j < dim; ++j) mapped[static_cast<size_t>(i)] += map[i * dim + j] * values[j];
    }
    std::copy(mapped.begin(), mapped.end(), values);
  }
}

}  // namespace winnow
