// SPDX-License-Identifier: GPL-3.0-or-later
// Chooses a kernel per target by format, mode and instruction set (never by the number of tokens: one token and many give the
// same bits), puts x into the forms those kernels take, and splits the tiles of all targets over the threads.
#include <algorithm>
#include <array>

#include "engine/core/check.h"
#include "engine/cpu/code_kernels.h"
#include "engine/cpu/context.h"
#include "engine/quantize/code_format.h"
#include "engine/weights/sparse_rows.h"

namespace winnow::cpu {
namespace {

// rows: f32 for plain matrices; tiles: f32 for packed ones, in blocks of tokens like pairs and int8.
enum class Form : uint8_t { rows, tiles, bf16, pairs, int8 };

struct Route {
  MatmulKernel kernel;
  Form form;
};

// Which of the code kernels a format takes; kCodeKinds: those of integers.
CodeKind kindOf(const WeightFormat& format) {
  switch (format.code) {
    case Code::integer: break;
    case Code::nf4:
    case Code::e2m1: return kTable4;
    case Code::e4m3: return kE4M3;
    case Code::e5m2: return kE5M2;
  }
  if (format.group != WeightFormat::kChunk / 2) return kCodeKinds;
  CHECK(format.bits == 3 || format.bits == 6, format.describe());
  return format.bits == 3 ? kHalves3 : kHalves6;
}

Route routeOf(const Context::Impl& impl, const WeightFormat& format, ActivationMode mode) {
  const KernelTable& k = impl.kernels;
  if (format.storage != Storage::packed) {
    if (format.storage == Storage::bf16 && mode == ActivationMode::bf16 && k.plainBf16) return {k.plainBf16, Form::bf16};
    return {k.plain[static_cast<int>(format.storage)], Form::rows};
  }
  if (const CodeKind kind = kindOf(format); kind != kCodeKinds)
    return mode == ActivationMode::int8 ? Route{impl.codes.packedInt8[kind], Form::int8} : Route{impl.codes.packed[kind], Form::tiles};
  if (mode == ActivationMode::int8) return {k.packedInt8[format.bits], Form::int8};
  // As bf16 pairs: one term of x in mode bf16, two in f16. 8-bit codes take eight instructions to become pairs: worth it for one term.
  const bool pairs = mode == ActivationMode::bf16 || (mode == ActivationMode::f16 && format.bits < 8);
  if (pairs && k.packedPairs[format.bits]) return {k.packedPairs[format.bits], Form::pairs};
  return {k.packed[format.bits], Form::tiles};
}

int termsOf(ActivationMode mode) { return mode == ActivationMode::bf16 ? 1 : 2; }

constexpr int kMaxTargets = 8;

// The forms of x of one call and the kernels that use them.
class Product {
 public:
  Product(Context::Impl& impl, int threads, std::span<const MatmulTarget> targets, const float* x, int64_t xStride, int tokens, ActivationMode mode)
      : impl_(impl), threads_(threads), targets_(targets), x_(x), xStride_(xStride), tokens_(tokens), mode_(mode), cols_(targets[0].w->cols),
        chunks_(WeightFormat::chunks(cols_)) {
    CHECK(targets.size() <= kMaxTargets, targets.size());
    for (size_t i = 0; i < targets.size(); ++i) {
      const Matrix& w = *targets[i].w;
      CHECK(w.cols == cols_ && (w.data || w.format.sparse || impl.ledger.planning()), w.cols, cols_);
      CHECK(mode != ActivationMode::int8 || w.format.dotsInt8(), w.format.describe());
      routes_[i] = routeOf(impl, w.format, mode);
      need_[static_cast<size_t>(routes_[i].form)] = true;
      needSums_ |= w.format.storage == Storage::packed && !w.format.symmetric;  // a plan has no data to look at
      tiles_ += (w.rows + 15) / 16;
      if (w.format.sparse) expandedBytes_ = std::max(expandedBytes_, blockBytes(w));
    }
    reserve();
  }

  int tiles() const { return tiles_; }
  bool prepares() const { return rows_ || blocked_ || bf16_ || pairs_ || int8_ || needSums_; }

  // The forms of token t.
  void prepare(int t) {
    const KernelTable& k = impl_.kernels;
    const float* x = x_ + t * xStride_;
    const int round = mode_ == ActivationMode::f16 ? 1 : mode_ == ActivationMode::bf16 ? 2 : 0;
    const TokenBlock block = tokenBlockOf(t, tokens_, k.tokenBlock);
    const int64_t chunk = int64_t{block.first} * chunks_ + (t - block.first);  // of sums and scales; they lie block.size apart
    const auto place = [&](int64_t perChunk) { return chunk * perChunk; };
    if (rows_) k.roundRow(round, x, cols_, 32, rows_ + t * rowStride_);
    if (blocked_) k.roundRow(round, x, cols_, 32 * block.size, blocked_ + place(32));
    if (bf16_) k.bf16Row(x, cols_, bf16_ + t * rowStride_);
    if (pairs_) k.pairsRow(round, x, cols_, terms_, int64_t{16} * terms_ * block.size, pairs_ + place(16 * terms_));
    if (int8_) return quantize(t, block, chunk);
    if (needSums_) k.chunkSums(rows_ ? rows_ + t * rowStride_ : x, cols_, block.size, sums_ + chunk);
  }

  // Rows of plain targets, the same in all.
  void multiplyRows(std::span<const int32_t> rows) const {
    for (size_t i = 0; i < targets_.size(); ++i) {
      const MatmulJob all = job(i);
      for (const int32_t row : rows) routes_[i].kernel(all, row, row + 1);
    }
  }

  // Tiles [begin, end) of all targets laid end to end, by one of the threads.
  void multiply(int64_t begin, int64_t end, int thread) const {
    int64_t first = 0;
    for (size_t i = 0; i < targets_.size(); ++i) {
      const int64_t tiles = (targets_[i].w->rows + 15) / 16;
      const int64_t a = std::max(begin - first, int64_t{0}), b = std::min(end - first, tiles);
      const int firstRow = static_cast<int>(a) * 16, lastRow = std::min(static_cast<int>(b) * 16, targets_[i].w->rows);
      if (a < b && targets_[i].w->format.sparse) multiplyExpanded(i, firstRow, lastRow, thread);
      if (a < b && !targets_[i].w->format.sparse) routes_[i].kernel(job(i), firstRow, lastRow);
      first += tiles;
    }
  }

 private:
  bool needs(Form form) const { return need_[static_cast<size_t>(form)]; }

  // Rows without zeros are expanded so many at a time: one token's stay in the L1 cache, those that many tokens pass in the L2 cache.
  int blockRows(const Matrix& w) const {
    const int64_t rowBytes = int64_t{w.cols} * static_cast<int64_t>(w.format.elementBytes()), most = tokens_ == 1 ? 4 << 10 : 256 << 10;
    return static_cast<int>(std::clamp<int64_t>(most / rowBytes / 4 * 4, tokens_ == 1 ? 1 : 4, 256));
  }
  size_t blockBytes(const Matrix& w) const {
    const size_t values = static_cast<size_t>(blockRows(w)) * static_cast<size_t>(w.cols) + kExpandStep;
    return (values * w.format.elementBytes() + 63) / 64 * 64;
  }
  void multiplyExpanded(size_t i, int begin, int end, int thread) const {
    const Matrix& w = *targets_[i].w;
    const size_t element = w.format.elementBytes(), rowBytes = static_cast<size_t>(w.cols) * element;
    const auto expand = w.format.storage == Storage::f32 ? impl_.expand.floats : impl_.expand.halves;
    std::byte* const rows = expanded_ + static_cast<size_t>(thread) * expandedBytes_;
    MatmulJob part = job(i);
    for (int first = begin; first < end; first += blockRows(w)) {
      const int count = std::min(blockRows(w), end - first);
      for (int r = 0; r < count; ++r)
        expand(static_cast<const std::byte*>(w.sparse.values) + w.sparse.starts[first + r] * element,
               w.sparse.mask + static_cast<size_t>(first + r) * sparseMaskBytes(w.cols), w.cols, rows + static_cast<size_t>(r) * rowBytes);
      part.w = rows;
      part.rows = count;
      part.y = targets_[i].y + first;
      part.bias = targets_[i].bias ? targets_[i].bias + first : nullptr;
      routes_[i].kernel(part, 0, count);
    }
  }

  void reserve() {
    const size_t n = static_cast<size_t>(tokens_), perToken = n * static_cast<size_t>(chunks_);
    // Rows of a power of two bytes would all fall into the same sets of the L1 cache.
    rowStride_ = chunks_ * 32 + 32;
    terms_ = termsOf(mode_);
    const bool rounds = mode_ == ActivationMode::f16 || mode_ == ActivationMode::bf16, single = tokens_ == 1 && !rounds;
    if ((needs(Form::rows) && !single) || (needSums_ && rounds)) rows_ = impl_.rows.need<float>(n * static_cast<size_t>(rowStride_));
    if (needs(Form::tiles) && !(single && cols_ % 32 == 0)) blocked_ = impl_.blocked.need<float>(perToken * 32);
    if (needs(Form::bf16)) bf16_ = impl_.bf16.need<uint16_t>(n * static_cast<size_t>(rowStride_));
    if (needs(Form::pairs)) pairs_ = impl_.pairs.need<uint32_t>(perToken * 16 * static_cast<size_t>(terms_));
    if (needSums_) sums_ = impl_.sums.need<float>(perToken);
    if (expandedBytes_ > 0) expanded_ = impl_.expanded.need<std::byte>(expandedBytes_ * static_cast<size_t>(threads_));
    if (!needs(Form::int8)) return;
    int8_ = impl_.int8.need<int8_t>(perToken * 32);
    scales_ = impl_.scales.need<float>(perToken);
    for (const MatmulTarget& target : targets_) addOffset(target.w->format);
    size_t perChunk = 0;
    for (int o = 0; o < offsets_; ++o) perChunk += offset(o).halves ? 2 : 1;
    int32_t* corrections = impl_.corrections.need<int32_t>(perToken * perChunk);
    for (int o = 0; o < offsets_; ++o) {
      offset(o).corrections = corrections;
      if (corrections) corrections += perToken * (offset(o).halves ? 2 : 1);
    }
    rowScales_ = impl_.rowScales.need<float>(perToken);
    rowSums_ = impl_.rowSums.need<int32_t>(perToken);
  }

  void quantize(int t, TokenBlock block, int64_t chunk) {
    const int blockSize = block.size;
    float* scales = rowScales_ + int64_t{t} * chunks_;
    int32_t* sums = rowSums_ + int64_t{t} * chunks_;
    impl_.kernels.quantizeRow(x_ + t * xStride_, cols_, int64_t{32} * blockSize, int8_ + chunk * 32, scales, sums);
    for (int c = 0; c < chunks_; ++c, chunk += blockSize) {
      scales_[chunk] = scales[c];
      for (int o = 0; o < offsets_; ++o) {
        const Offset& each = offset(o);
        if (!each.halves) {
          each.corrections[chunk] = -each.value * sums[c];
          continue;
        }
        int first = 0;
        for (int k = 0; k < 16; ++k) first += int8_[chunk * 32 + k];
        int32_t* halves = each.corrections + 2 * (int64_t{block.first} * chunks_ + int64_t{c} * blockSize) + (t - block.first);
        halves[0] = -each.value * first;
        halves[blockSize] = -each.value * (sums[c] - first);
      }
      if (needSums_) sums_[chunk] = scales[c] * static_cast<float>(sums[c]);
    }
  }

  // What codes are above the integers they stand for; sums of x make up for it, of every chunk or of its halves.
  struct Offset {
    int value = 0;
    bool halves = false;
    int32_t* corrections = nullptr;
  };
  static int offsetOf(const WeightFormat& format) {
    if (const CodeFormat* codes = findCodeFormat(format.code)) return codes->offset8;
    return format.symmetric ? 1 << (format.bits - 1) : 0;
  }
  static bool halvesOf(const WeightFormat& format) { return hasHalves(kindOf(format)); }
  Offset& offset(int o) { return offset_[static_cast<size_t>(o)]; }
  int offsetIndex(const WeightFormat& format) const {
    int o = 0;
    while (o < offsets_ && (offset_[static_cast<size_t>(o)].value != offsetOf(format) || offset_[static_cast<size_t>(o)].halves != halvesOf(format))) ++o;
    return o;
  }
  void addOffset(const WeightFormat& format) {
    if (offsetIndex(format) == offsets_) offset_[static_cast<size_t>(offsets_++)] = {offsetOf(format), halvesOf(format)};
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
      job.steps = w.steps;
      job.superGroups = w.format.super == 0 ? 1 : w.format.super / w.format.group;
      job.groups = w.format.groups(w.cols);
      job.groupChunks = w.format.group == 0 ? chunks_ : w.format.group / 32;
      job.offset = offsetOf(w.format);
      job.xSums = sums_;
      if (const CodeFormat* codes = findCodeFormat(w.format.code)) {
        job.values = codes->values.data();
        job.levels8 = codes->levels8.data();
        job.unit8 = codes->unit8;
      }
    }
    const auto x = [&](const void* p, int64_t stride) {
      job.x = p;
      job.xStride = stride;
    };
    switch (routes_[i].form) {
      case Form::rows: rows_ ? x(rows_, rowStride_) : x(x_, xStride_); break;
      case Form::tiles: x(blocked_ ? blocked_ : x_, int64_t{chunks_} * 32); break;
      case Form::bf16: x(bf16_, rowStride_); break;
      case Form::pairs: x(pairs_, int64_t{chunks_} * 16 * terms_); break;
      case Form::int8: x(int8_, int64_t{chunks_} * 32); break;
    }
    job.terms = terms_;
    job.xScales = scales_;
    if (int8_) job.xCorrections = offset_[static_cast<size_t>(offsetIndex(w.format))].corrections;
    return job;
  }

  Context::Impl& impl_;
  int threads_;
  std::span<const MatmulTarget> targets_;
  const float* x_;
  int64_t xStride_;
  int tokens_;
  ActivationMode mode_;
  int cols_, chunks_, tiles_ = 0, terms_ = 0;
  std::array<Route, kMaxTargets> routes_{};
  std::array<bool, 5> need_{};
  bool needSums_ = false;
  int64_t rowStride_ = 0;
  size_t expandedBytes_ = 0;  // of a thread
  std::byte* expanded_ = nullptr;
  float *rows_ = nullptr, *blocked_ = nullptr, *sums_ = nullptr;  // null: not needed, or x serves as it is
  uint16_t* bf16_ = nullptr;
  uint32_t* pairs_ = nullptr;
  int8_t* int8_ = nullptr;
  float *scales_ = nullptr, *rowScales_ = nullptr;
  int32_t* rowSums_ = nullptr;
  std::array<Offset, kMaxTargets> offset_{};  // distinct ones
  int offsets_ = 0;
};

}  // namespace

void matmulRows(Context& context, std::span<const MatmulTarget> targets, std::span<const int32_t> rows, const float* x, ActivationMode mode) {
  if (targets.empty() || rows.empty()) return;
  for (const MatmulTarget& target : targets) CHECK(target.w->format.storage != Storage::packed && !target.w->format.sparse, target.w->format.describe());
  Product product(context.impl(), context.pool().threads(), targets, x, targets[0].w->cols, 1, mode);
  if (product.prepares()) product.prepare(0);
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(static_cast<int64_t>(rows.size()), 1, thread, threads);
    product.multiplyRows(rows.subspan(static_cast<size_t>(range.begin), static_cast<size_t>(range.end - range.begin)));
  });
}

void matmul(Context& context, std::span<const MatmulTarget> targets, const float* x, int64_t xStride, int tokens, ActivationMode mode) {
  if (targets.empty() || tokens == 0) return;
  Product product(context.impl(), context.pool().threads(), targets, x, xStride, tokens, mode);
  if (context.planning()) return;
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
  if (product.tiles() * int64_t{16} * targets[0].w->cols * tokens <= kAloneWork) return product.multiply(0, product.tiles(), 0);
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(product.tiles(), 1, thread, threads);
    product.multiply(range.begin, range.end, thread);
  });
}

}  // namespace winnow::cpu
