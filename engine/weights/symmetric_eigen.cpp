// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/weights/symmetric_eigen.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "engine/core/check.h"
#include "engine/cpu/isa.h"
#include "engine/weights/double_blocks.h"

namespace winnow {
namespace {

constexpr int64_t kBlock = kDoubleBlock;
using Block = DoubleBlock;

double dot(const double* a, const double* b, int64_t count) {
  std::array<double, 8> part{};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (size_t k = 0; k < 8; ++k) part[k] += a[i + static_cast<int64_t>(k)] * b[i + static_cast<int64_t>(k)];
  double sum = 0;
  for (const double each : part) sum += each;
  for (; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

void addScaled(double* y, const double* x, double factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] += factor * x[i];
}

// A = Q T Q^T with T tridiagonal; reflectors are kept by panels of kBlock, the rows of which are zero up to and with their own index.
class Tridiagonal {
 public:
  Tridiagonal(const std::vector<double>& matrix, int n, ThreadPool& pool)
      : diagonal(static_cast<size_t>(n)), beside(static_cast<size_t>(n)), n_(n), stride_((n + kBlock - 1) / kBlock * kBlock), pool_(pool),
        a_(static_cast<size_t>(stride_ * stride_)) {
    for (int64_t r = 0; r < n; ++r) std::copy_n(matrix.data() + r * n, n, a_.data() + r * stride_);
  }

  bool reduce(const Progress& progress) {
    for (int64_t first = 0; first < n_ - 2; first += kBlock) {
      if (progress.stopped()) return false;
      reducePanel(first, std::min(kBlock, n_ - 2 - first));
    }
    for (int64_t c = std::max<int64_t>(n_ - 2, 0); c < n_; ++c) {
      diagonal[static_cast<size_t>(c)] = row(c)[c];
      if (c + 1 < n_) beside[static_cast<size_t>(c)] = row(c)[c + 1];
    }
    return true;
  }

  // Q^T, which takes the place of A: [n, stride].
  std::vector<double> transform(const Progress& progress) {
    std::fill(a_.begin(), a_.end(), 0.0);
    for (int64_t i = 0; i < n_; ++i) row(i)[i] = 1;
    for (size_t p = panels_.size(); p-- > 0 && !progress.stopped();) applyPanel(static_cast<int64_t>(p));
    return std::move(a_);
  }

  int64_t stride() const { return stride_; }
  std::vector<double> diagonal, beside;  // of T, [n] each; the last of `beside` is 0

 private:
  struct Panel {
    std::vector<double> rows;  // [kBlock, stride], reflectors
    std::array<double, kBlock> tau{};
  };
  const int64_t n_, stride_;
  ThreadPool& pool_;
  std::vector<double> a_;
  std::vector<Panel> panels_;

  double* row(int64_t r) { return a_.data() + r * stride_; }

  void reducePanel(int64_t first, int64_t count) {
    Panel& panel = panels_.emplace_back();
    panel.rows.resize(static_cast<size_t>(kBlock * stride_));
    std::vector<double> updates(panel.rows.size());  // w of each reflector: A becomes A - v w^T - w v^T
    double *v = panel.rows.data(), *w = updates.data();
    for (int64_t j = 0; j < count; ++j) {
      const int64_t c = first + j;
      double* x = row(c);
      for (int64_t k = 0; k < j; ++k) {
        addScaled(x + c, w + k * stride_ + c, -v[k * stride_ + c], n_ - c);
        addScaled(x + c, v + k * stride_ + c, -w[k * stride_ + c], n_ - c);
      }
      diagonal[static_cast<size_t>(c)] = x[c];
      panel.tau[static_cast<size_t>(j)] = reflector(x, c + 1, v + j * stride_, beside[static_cast<size_t>(c)]);
      if (panel.tau[static_cast<size_t>(j)] != 0) updateOf(c, j, v, w, panel.tau[static_cast<size_t>(j)]);
    }
    const int64_t tile = (first + count) / kBlock, tiles = stride_ / kBlock - tile;
    const auto& kernels = cpu::bestKernels();
    eachItem(pool_, tiles * tiles, [&](int64_t item) {
      const int64_t r = (tile + item / tiles) * kBlock, c = (tile + item % tiles) * kBlock;
      kernels.subtractProduct(v + r, 1, stride_, w + c, stride_, static_cast<int>(count), row(r) + c, stride_);
      kernels.subtractProduct(w + r, 1, stride_, v + c, stride_, static_cast<int>(count), row(r) + c, stride_);
    });
  }

  // H = I - tau v v^T takes x[from..] to (beta, 0, ...); v[from] is 1.
  double reflector(const double* x, int64_t from, double* v, double& beta) const {
    double largest = 0;
    for (int64_t i = from + 1; i < n_; ++i) largest = std::max(largest, std::fabs(x[i]));
    beta = x[from];
    if (largest == 0) return 0;
    largest = std::max(largest, std::fabs(x[from]));
    double squares = 0;
    for (int64_t i = from; i < n_; ++i) squares += x[i] / largest * (x[i] / largest);
    beta = -std::copysign(largest * std::sqrt(squares), x[from]);
    const double head = x[from] - beta;
    v[from] = 1;
    for (int64_t i = from + 1; i < n_; ++i) v[i] = x[i] / head;
    return -head / beta;
  }

  // w of reflector j: p = tau (A - V W^T - W V^T) v, w = p - tau/2 (p^T v) v. Row c and those before are done.
  void updateOf(int64_t c, int64_t j, const double* v, double* w, double tau) {
    const double* mine = v + j * stride_;
    double* out = w + j * stride_;
    const int64_t from = c + 1, count = n_ - from;
    constexpr int64_t kRows = 32;
    eachItem(pool_, (count + kRows - 1) / kRows, [&](int64_t item) {
      for (int64_t r = from + item * kRows; r < std::min(n_, from + (item + 1) * kRows); ++r) out[r] = dot(row(r) + from, mine + from, count);
    });
    for (int64_t k = 0; k < j; ++k) {
      const double alongW = dot(w + k * stride_ + from, mine + from, count), alongV = dot(v + k * stride_ + from, mine + from, count);
      addScaled(out + from, v + k * stride_ + from, -alongW, count);
      addScaled(out + from, w + k * stride_ + from, -alongV, count);
    }
    for (int64_t i = from; i < n_; ++i) out[i] *= tau;
    addScaled(out + from, mine + from, -tau / 2 * dot(out + from, mine + from, count), count);
  }

  // R becomes R P^T, where P = I - V T V^T is the product of the panel's reflectors (compact WY form). R is the identity before the panel.
  void applyPanel(int64_t p) {
    const Panel& panel = panels_[static_cast<size_t>(p)];
    const double* v = panel.rows.data();
    Block t{};
    for (int64_t j = 0; j < kBlock; ++j) {
      const double tau = panel.tau[static_cast<size_t>(j)];
      t[static_cast<size_t>(j * kBlock + j)] = tau;
      if (tau == 0) continue;
      std::array<double, kBlock> along{};
      for (int64_t k = 0; k < j; ++k) along[static_cast<size_t>(k)] = dot(v + k * stride_, v + j * stride_, stride_);
      for (int64_t i = 0; i < j; ++i) {
        double sum = 0;
        for (int64_t k = i; k < j; ++k) sum += t[static_cast<size_t>(i * kBlock + k)] * along[static_cast<size_t>(k)];
        t[static_cast<size_t>(i * kBlock + j)] = -tau * sum;
      }
    }
    std::vector<double> columns(static_cast<size_t>(stride_ * kBlock));  // V [n, kBlock]
    for (int64_t j = 0; j < kBlock; ++j)
      for (int64_t i = 0; i < stride_; ++i) columns[static_cast<size_t>(i * kBlock + j)] = v[j * stride_ + i];
    Block across{};  // T^T
    for (size_t i = 0; i < kBlock; ++i)
      for (size_t j = 0; j < kBlock; ++j) across[j * kBlock + i] = t[i * kBlock + j];
    const auto& kernels = cpu::bestKernels();
    const int64_t begin = p * kBlock, tiles = (stride_ - begin) / kBlock;
    eachItem(pool_, tiles, [&](int64_t item) {
      double* rows = row(begin + item * kBlock);
      Block y{}, z{};
      kernels.subtractProduct(rows + begin, stride_, 1, columns.data() + begin * kBlock, kBlock, static_cast<int>(stride_ - begin), y.data(), kBlock);  // -R V
      kernels.subtractProduct(y.data(), kBlock, 1, across.data(), kBlock, kBlock, z.data(), kBlock);  // R V T^T
      for (int64_t c = begin; c < stride_; c += kBlock) kernels.subtractProduct(z.data(), kBlock, 1, v + c, stride_, kBlock, rows + c, stride_);
    });
  }
};

struct Rotation {
  int64_t row;  // and the one after it
  double c, s;
};

// Applies rotations to rows in their order, a band of columns on each thread.
void rotateRows(std::vector<double>& rows, int64_t stride, int n, std::vector<Rotation>& rotations, ThreadPool& pool) {
  constexpr int64_t kColumns = 64;
  eachItem(pool, (n + kColumns - 1) / kColumns, [&](int64_t band) {
    for (const Rotation& turn : rotations) {
      double *a = rows.data() + turn.row * stride + band * kColumns, *b = a + stride;
      for (int64_t k = 0; k < kColumns; ++k) {
        const double x = a[k], y = b[k];
        a[k] = turn.c * x - turn.s * y;
        b[k] = turn.s * x + turn.c * y;
      }
    }
  });
  rotations.clear();
}

// One step of implicit QL with Wilkinson's shift on rows first..last of T.
void step(std::vector<double>& d, std::vector<double>& e, int64_t first, int64_t last, std::vector<Rotation>& rotations) {
  const auto at = [](int64_t i) { return static_cast<size_t>(i); };
  double g = (d[at(first + 1)] - d[at(first)]) / (2 * e[at(first)]), r = std::hypot(g, 1.0);
  g = d[at(last)] - d[at(first)] + e[at(first)] / (g + std::copysign(r, g));
  double s = 1, c = 1, p = 0;
  for (int64_t i = last - 1; i >= first; --i) {
    double f = s * e[at(i)];
    const double b = c * e[at(i)];
    r = std::hypot(f, g);
    e[at(i + 1)] = r;
    if (r == 0) {  // the matrix falls apart here
      d[at(i + 1)] -= p;
      e[at(last)] = 0;
      return;
    }
    s = f / r;
    c = g / r;
    g = d[at(i + 1)] - p;
    r = (d[at(i)] - g) * s + 2 * c * b;
    p = s * r;
    d[at(i + 1)] = g + p;
    g = c * r - b;
    rotations.push_back({i, c, s});
  }
  d[at(first)] -= p;
  e[at(first)] = g;
  e[at(last)] = 0;
}

}  // namespace

Eigen largeSymmetricEigen(const std::vector<double>& matrix, int n, ThreadPool& pool, const Progress& progress) {
  CHECK(n > 0 && matrix.size() == static_cast<size_t>(n) * static_cast<size_t>(n), matrix.size(), n);
  Tridiagonal reduced(matrix, n, pool);
  if (!reduced.reduce(progress)) return {};
  std::vector<double> d = reduced.diagonal, e = reduced.beside;
  const int64_t stride = reduced.stride();
  std::vector<double> rows = reduced.transform(progress);
  double norm = 0;
  for (size_t i = 0; i < d.size(); ++i) norm = std::max(norm, std::fabs(d[i]) + std::fabs(e[i]));
  std::vector<Rotation> rotations;
  for (int64_t first = 0; first < n; ++first)
    for (int tries = 0;; ++tries) {
      if (progress.stopped()) return {};
      int64_t last = first;
      for (; last + 1 < n; ++last) {
        const double near = std::fabs(d[static_cast<size_t>(last)]) + std::fabs(d[static_cast<size_t>(last + 1)]);
        if (std::fabs(e[static_cast<size_t>(last)]) <= std::max(1.2e-16 * near, 1e-17 * norm)) break;
      }
      if (last == first) break;
      CHECK(tries < 200, "QL does not converge", first, n);
      step(d, e, first, last, rotations);
      if (rotations.size() > static_cast<size_t>(8 * n)) rotateRows(rows, stride, n, rotations, pool);
    }
  rotateRows(rows, stride, n, rotations, pool);
  std::vector<size_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return d[a] > d[b]; });
  Eigen out{std::vector<double>(order.size()), std::vector<double>(order.size() * order.size())};
  for (size_t i = 0; i < order.size(); ++i) {
    out.values[i] = d[order[i]];
    std::copy_n(rows.data() + static_cast<int64_t>(order[i]) * stride, n, out.vectors.data() + i * order.size());
  }
  return out;
}

}  // namespace winnow
