// SPDX-License-Identifier: GPL-3.0-or-later
// Chooses a kernel per target by format, mode and instruction set (never by the number of tokens: one token and many give the
// same bits), puts x into the forms those kernels take, and splits the tiles of all targets over the threads.
#include <algorithm>
#include <array>

#include "engine/core/check.h"
#include "engine/cpu/context.h"

namespace winnow::cpu {
namespace {

enum class Form : uint8_t { rounded, bf16, pairs, int8 };

struct Route {
  MatmulKernel kernel;
  Form form;
};

Route routeOf(const KernelTable& k, const WeightFormat& format, ActivationMode mode) {
  if (format.storage != Storage::packed) {
    if (format.storage == Storage::bf16 && mode == ActivationMode::bf16 && k.plainBf16) return {k.plainBf16, Form::bf16};
    return {k.plain[static_cast<int>(format.storage)], Form::rounded};
  }
  if (mode == ActivationMode::int8) return {k.packedInt8[format.bits], Form::int8};
  // 8-bit codes take eight instructions to become bf16 pairs, so pairs only pay with one term of x.
  if (k.packedPairs[format.bits] && (format.bits < 8 || mode == ActivationMode::bf16)) return {k.packedPairs[format.bits], Form::pairs};
  return {k.packed[format.bits], Form::rounded};
}

int termsOf(ActivationMode mode) { return mode == ActivationMode::bf16 ? 1 : mode == ActivationMode::f16 ? 2 : 3; }

constexpr int kMaxTargets = 8;

// The forms of x of one call and the kernels that use them.
class Product {
 public:
  Product(Context::Impl& impl, std::span<const MatmulTarget> targets, const float* x, int64_t xStride, int tokens, ActivationMode mode)
      : impl_(impl), targets_(targets), x_(x), xStride_(xStride), tokens_(tokens), mode_(mode), cols_(targets[0].w->cols) {
    CHECK(targets.size() <= kMaxTargets, targets.size());
    for (size_t i = 0; i < targets.size(); ++i) {
      const Matrix& w = *targets[i].w;
      CHECK(w.cols == cols_, w.cols, cols_);
      CHECK(mode != ActivationMode::int8 || w.format.storage == Storage::packed);
      CHECK(w.data != nullptr);
      routes_[i] = routeOf(impl.kernels, w.format, mode);
      need_[static_cast<size_t>(routes_[i].form)] = true;
      needSums_ |= w.mins != nullptr;
      tiles_ += (w.rows + 15) / 16;
    }
    reserve();
  }

  int tiles() const { return tiles_; }
  bool prepares() const { return !direct_ || needSums_ || need_[1] || need_[2] || need_[3]; }

  void prepare(int t) {
    const KernelTable& k = impl_.kernels;
    const float* x = x_ + t * xStride_;
    const float* used = x;  // what the products see
    const size_t chunk = static_cast<size_t>(t) * static_cast<size_t>(chunks());
    if (!direct_) {
      k.roundRow(mode_ == ActivationMode::f16 ? 1 : mode_ == ActivationMode::bf16 ? 2 : 0, x, cols_, chunks() * 32, rounded_ + t * stride_);
      used = rounded_ + t * stride_;
    }
    if (need_[static_cast<size_t>(Form::bf16)]) k.bf16Row(x, cols_, chunks() * 32, bf16_ + t * stride_);
    if (need_[static_cast<size_t>(Form::pairs)]) k.pairsRow(used, cols_, termsOf(mode_), pairs_ + t * pairsStride_);
    if (need_[static_cast<size_t>(Form::int8)]) {
      k.quantizeRow(x, cols_, int8_ + t * stride_, scales_ + chunk, intSums_ + chunk);
      for (int c = 0; c < chunks(); ++c) {
        for (int o = 0; o < offsets_; ++o) corrections_[o][chunk + static_cast<size_t>(c)] = -offset_[o] * intSums_[chunk + static_cast<size_t>(c)];
        if (needSums_) sums_[chunk + static_cast<size_t>(c)] = scales_[chunk + static_cast<size_t>(c)] * static_cast<float>(intSums_[chunk + static_cast<size_t>(c)]);
      }
    } else if (needSums_) {
      k.chunkSums(used, cols_, sums_ + chunk);
    }
  }

  // Tiles [begin, end) of all targets laid end to end.
  void multiply(int64_t begin, int64_t end) const {
    int64_t first = 0;
    for (size_t i = 0; i < targets_.size(); ++i) {
      const int64_t tiles = (targets_[i].w->rows + 15) / 16;
      const int64_t a = std::max(begin - first, int64_t{0}), b = std::min(end - first, tiles);
      if (a < b) routes_[i].kernel(job(i), static_cast<int>(a) * 16, std::min(static_cast<int>(b) * 16, targets_[i].w->rows));
      first += tiles;
    }
  }

 private:
  int chunks() const { return WeightFormat::chunks(cols_); }

  void reserve() {
    const size_t n = static_cast<size_t>(tokens_), perToken = static_cast<size_t>(chunks());
    const bool alone = tokens_ == 1 && mode_ == ActivationMode::f32 && cols_ % 32 == 0;
    direct_ = mode_ == ActivationMode::int8 || (alone && !need_[2]) || (need_[1] && !need_[0] && !need_[2] && !needSums_);
    // Rows of a power of two bytes would all fall into the same sets of the L1 cache.
    stride_ = chunks() * 32 + 32;
    if (!direct_) rounded_ = impl_.rounded.need<float>(n * static_cast<size_t>(stride_));
    if (need_[static_cast<size_t>(Form::bf16)]) bf16_ = impl_.bf16.need<uint16_t>(n * static_cast<size_t>(stride_));
    pairsStride_ = chunks() * 16 * termsOf(mode_) + 16;
    if (need_[static_cast<size_t>(Form::pairs)]) pairs_ = impl_.pairs.need<uint32_t>(n * static_cast<size_t>(pairsStride_));
    if (needSums_) sums_ = impl_.sums.need<float>(n * perToken);
    if (!need_[static_cast<size_t>(Form::int8)]) return;
    stride_ += 32;  // 64 bytes of int8
    int8_ = impl_.int8.need<int8_t>(n * static_cast<size_t>(stride_));
    scales_ = impl_.scales.need<float>(n * perToken);
    intSums_ = impl_.intSums.need<int32_t>(n * perToken);
    for (const MatmulTarget& target : targets_) offsetIndex(offsetOf(target.w->format), true);
    int32_t* corrections = impl_.corrections.need<int32_t>(n * perToken * static_cast<size_t>(offsets_));
    for (int o = 0; o < offsets_; ++o) corrections_[o] = corrections + static_cast<size_t>(o) * n * perToken;
  }

  static int offsetOf(const WeightFormat& format) { return format.symmetric ? 1 << (format.bits - 1) : 0; }
  int offsetIndex(int offset, bool add = false) {
    for (int o = 0; o < offsets_; ++o)
      if (offset_[o] == offset) return o;
    CHECK(add);
    offset_[offsets_] = offset;
    return offsets_++;
  }

  MatmulJob job(size_t i) const {
    const MatmulTarget& target = targets_[i];
    const Matrix& w = *target.w;
    MatmulJob job;
    job.w = w.data;
    job.rows = w.rows;
    job.cols = w.cols;
    job.tokens = tokens_;
    job.y = target.y;
    job.yStride = target.yStride;
    job.bias = target.bias;
    job.accumulate = target.accumulate;
    if (w.format.storage == Storage::packed) {
      job.scales = w.scales;
      job.mins = w.mins;
      job.groups = w.format.groups(w.cols);
      job.groupChunks = w.format.group == 0 ? chunks() : w.format.group / 32;
      job.offset = offsetOf(w.format);
      job.xSums = sums_;
    }
    job.x = rounded_ ? rounded_ : x_;
    job.xStride = rounded_ ? stride_ : xStride_;
    switch (routes_[i].form) {
      case Form::rounded: break;
      case Form::bf16:
        job.x = bf16_;
        job.xStride = stride_;
        break;
      case Form::pairs:
        job.x = pairs_;
        job.xStride = pairsStride_;
        job.terms = termsOf(mode_);
        break;
      case Form::int8:
        job.x = int8_;
        job.xStride = stride_;
        job.xScales = scales_;
        job.xCorrections = corrections_[const_cast<Product*>(this)->offsetIndex(job.offset)];
        break;
    }
    return job;
  }

  Context::Impl& impl_;
  std::span<const MatmulTarget> targets_;
  const float* x_;
  int64_t xStride_;
  int tokens_;
  ActivationMode mode_;
  int cols_, tiles_ = 0;
  std::array<Route, kMaxTargets> routes_{};
  std::array<bool, 4> need_{};
  bool needSums_ = false, direct_ = false;  // direct: x is read where it is
  int64_t stride_ = 0, pairsStride_ = 0;
  float *rounded_ = nullptr, *sums_ = nullptr, *scales_ = nullptr;
  uint16_t* bf16_ = nullptr;
  uint32_t* pairs_ = nullptr;
  int8_t* int8_ = nullptr;
  int32_t* intSums_ = nullptr;
  std::array<int32_t*, kMaxTargets> corrections_{};
  std::array<int, kMaxTargets> offset_{};
  int offsets_ = 0;
};

}  // namespace

void matmul(Context& context, std::span<const MatmulTarget> targets, const float* x, int64_t xStride, int tokens, ActivationMode mode) {
  if (targets.empty() || tokens == 0) return;
  Product product(context.impl(), targets, x, xStride, tokens, mode);
  if (product.prepares()) {
    if (tokens < 8) {
      for (int t = 0; t < tokens; ++t) product.prepare(t);
    } else {
      context.pool().run([&](int thread, int threads) {
        const auto range = ThreadPool::split(tokens, 1, thread, threads);
        for (int64_t t = range.begin; t < range.end; ++t) product.prepare(static_cast<int>(t));
      });
    }
  }
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(product.tiles(), 1, thread, threads);
    product.multiply(range.begin, range.end);
  });
}

}  // namespace winnow::cpu
