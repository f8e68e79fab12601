// SPDX-License-Identifier: GPL-3.0-or-later
// Attention. One query: work is cut into (kv head, chunk of kDecodeChunk slots), partial results are merged in slot order; the
// chunk is a constant, so the result depends on the length alone. Several queries: (kv head, block of queries), an online
// softmax over pages; taps are a second pass over (kv head, page) once the sums are known, so they leave `out` as it is, and each
// column is summed by one thread in query order.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "engine/core/check.h"
#include "engine/cpu/aligned.h"
#include "engine/cpu/context.h"
#include "engine/cpu/critical_blocks.h"
#include "engine/cpu/turns.h"

namespace winnow::cpu {
namespace {

constexpr int kDecodeChunk = 256;
constexpr int kRowsPerBlock = 96;  // queries times heads of a group in one block, about

// Slots [first, end) that query i of a head sees.
struct Visible {
  int first, end;
};
Visible visible(const AttendArgs& args, const KvHead& kv, int query) {
  const int end = kv.tokens - args.queries + query + 1;
  if (args.slidingWindow <= 0) return {0, end};
  if (args.turns.frequencies) return {std::max(0, end - args.slidingWindow), end};
  const int32_t oldest = kv.positions[end - 1] - args.slidingWindow;  // positions <= oldest are out of sight
  return {static_cast<int>(std::upper_bound(kv.positions, kv.positions + end, oldest) - kv.positions), end};
}

const float* reuseRow(const AttendArgs& args, int head, int query) {
  return args.reuse + (int64_t{args.reuseHeads ? args.reuseHeads[head] : head} * args.queries + query) * args.probabilityStride;
}
float* probabilityRow(const AttendArgs& args, int head, int query) {
  return args.probabilities + (int64_t{head} * args.queries + query) * args.probabilityStride;
}
bool sealed(const AttendArgs& args) {
  return std::any_of(args.kv, args.kv + args.kvHeads, [](const KvHead& head) { return head.keyForms || head.valueForms; });
}
int longestOf(const AttendArgs& args) {
  int longest = 0;
  for (int h = 0; h < args.kvHeads; ++h) longest = std::max(longest, args.kv[h].tokens);
  return longest;
}

// --- one query ---------------------------------------------------------------------------------------------------------

class Decode {
 public:
  Decode(Context::Impl& impl, int threads, const AttendArgs& args)
      : k_(impl.kernels), args_(args), group_(args.heads / args.kvHeads), longest_(longestOf(args)),
        chunks_((longest_ + kDecodeChunk - 1) / kDecodeChunk) {
    stride_ = chunks_ * kDecodeChunk;
    scores_ = impl.scores.need<float>(static_cast<size_t>(args.heads) * static_cast<size_t>(stride_));
    partial_ = impl.partial.need<float>(static_cast<size_t>(args.heads) * static_cast<size_t>(chunks_) * static_cast<size_t>(args.headDim));
    states_ = impl.states.need<float>(static_cast<size_t>(args.heads) * static_cast<size_t>(chunks_) * 2);
    if (sealed(args)) tiles_ = impl.tiles.need<uint16_t>(static_cast<size_t>(threads) * kDecodeChunk * static_cast<size_t>(args.headDim));
    if (args.turns.frequencies) turned_ = impl.turns.need<float>(static_cast<size_t>(threads) * turnFloats());
    if (args.aligned <= 0 || !sealed(args)) return;
    aligned_ = impl.aligned.need<std::byte>(static_cast<size_t>(threads) * alignedBytes());
    unread_ = impl.unread.need<int64_t>(static_cast<size_t>(items()));
    if (unread_) std::fill_n(unread_, items(), 0);
  }

  int64_t unread() const { return unread_ ? std::accumulate(unread_, unread_ + items(), int64_t{0}) : 0; }
  int items() const { return args_.kvHeads * chunks_; }
  int64_t work() const { return 2 * int64_t{args_.heads} * longest_ * args_.headDim; }
  int64_t mergeWork() const {
    const bool taps = args_.columnSums || args_.probabilities;
    return int64_t{args_.heads} * (int64_t{chunks_} * args_.headDim + (taps ? longest_ : 0));
  }

  void chunk(int item, int thread) const {
    const int kvHead = item / chunks_, c = item % chunks_, n = args_.headDim;
    const Visible seen = visible(args_, args_.kv[kvHead], 0);
    const int begin = std::max(c * kDecodeChunk, seen.first), end = std::min((c + 1) * kDecodeChunk, seen.end);
    if (begin >= end) return;
    const int firstHead = kvHead * group_, shift = begin / args_.pageTokens * args_.pageTokens;
    float* out = partialOf(firstHead, c);
    Table table;
    const auto weigh = [&](const float* p, int64_t stride) {
      k_.weighValues(f16Pages(item, false, begin, end, thread, p, stride, table), p, stride, group_, begin - shift, end - shift, out);
    };
    if (args_.reuse && !args_.reuseHeads) return weigh(reuseRow(args_, firstHead, 0) + begin, args_.probabilityStride);  // never without `out`
    float* s = scores_ + int64_t{firstHead} * stride_ + begin;
    if (args_.reuse) {
      for (int g = 0; g < group_; ++g) std::copy_n(reuseRow(args_, firstHead + g, 0) + begin, end - begin, s + g * stride_);
      return weigh(s, stride_);
    }
    const HeadPages pages = f16Pages(item, true, begin, end, thread, nullptr, 0, table);
    for (int from = begin, to = end; from < end; from = to) {
      const float* q = args_.q + int64_t{firstHead} * n;
      if (args_.turns.frequencies) {
        to = runEnd(args_.kv[kvHead], from, end);
        q = turnedBack(q, missingBehind(args_.kv[kvHead], from), thread);
      }
      k_.scores(pages, q, group_, args_.scale, from - shift, to - shift, s + from - begin, stride_);
    }
    for (int g = 0; g < group_; ++g) {
      float* state = stateOf(firstHead + g, c);
      k_.softmaxPart(s + g * stride_, end - begin, &state[0], &state[1]);
    }
    if (args_.out) weigh(s, stride_);
  }

  // Merges the chunks of a kv head's group in slot order and serves the taps.
  void merge(int kvHead) const {
    const Visible seen = visible(args_, args_.kv[kvHead], 0);
    const int first = seen.first / kDecodeChunk, last = (seen.end - 1) / kDecodeChunk;
    for (int head = kvHead * group_; head < (kvHead + 1) * group_; ++head) {
      float largest = -INFINITY, sum = 0;
      for (int c = first; c <= last && !args_.reuse; ++c) largest = std::max(largest, stateOf(head, c)[0]);
      for (int c = first; c <= last && !args_.reuse; ++c) sum += stateOf(head, c)[1] * std::exp(stateOf(head, c)[0] - largest);
      if (args_.out) {
        float* out = args_.out + int64_t{head} * args_.headDim;
        std::fill_n(out, args_.headDim, 0.0f);
        for (int c = first; c <= last; ++c) k_.addScaled(out, partialOf(head, c), args_.headDim, factor(head, c, largest, sum));
      }
      tap(kvHead, head, seen, largest, sum);
    }
  }

 private:
  // The pages of [begin, end), the first of them as page 0. Sealed ones are unpacked for this thread, until it asks again; values in planes
  // as far as these weights need them.
  using Table = std::array<const uint16_t*, kDecodeChunk>;
  HeadPages f16Pages(int item, bool keys, int begin, int end, int thread, const float* weights, int64_t stride, Table& table) const {
    const int kvHead = item / chunks_;
    const KvHead& kv = args_.kv[kvHead];
    const int tokens = args_.pageTokens, first = begin / tokens;
    const uint16_t* const* pages = (keys ? kv.keys : kv.values) + first;
    const PageForm* forms = keys ? kv.keyForms : kv.valueForms;
    if (forms) {
      const PageShape shape{tokens, args_.headDim};
      uint16_t* tile = tiles_ + int64_t{thread} * kDecodeChunk * args_.headDim;
      const Aligned aligned = alignedOf(thread);
      const bool inPlanes = aligned_ && std::any_of(forms + first, forms + (end + tokens - 1) / tokens, [](const PageForm& form) { return form.planes != Planes::none; });
      const int shift = first * tokens;
      if (inPlanes && keys) queryExponents(args_.q + int64_t{kvHead} * group_ * args_.headDim, group_, args_.headDim, args_.turns, aligned.exponents);
      if (inPlanes && !keys)
        valueBits(shape, {pages, forms + first, begin - shift, end - shift}, weights, stride, group_, args_.aligned, {aligned.output, aligned.largest}, aligned.bits);
      for (int page = first; page * tokens < end; ++page) {
        const auto at = static_cast<size_t>(page - first);
        table[at] = pages[at];
        if (!forms[page].sealed()) continue;
        const int from = std::max(begin - page * tokens, 0), to = std::min(end - page * tokens, tokens);
        uint16_t* rows = tile + (int64_t{page} * tokens + from - begin) * args_.headDim;
        if (inPlanes && forms[page].planes != Planes::none) {
          if (keys) keyBits(shape, pages[at], aligned.exponents, args_.aligned, aligned.bits);
          const uint8_t* bits = keys ? aligned.bits : aligned.bits + page * tokens + from - begin;
          k_.unpackPlanes(shape, forms[page], pages[at], from, to, bits, rows);
          const int runs = keys ? args_.headDim : to - from, along = keys ? to - from : args_.headDim;
          unread_[item] += (int64_t{16} * runs - std::accumulate(bits, bits + runs, int64_t{0})) * along / 8;
        } else {
          k_.unpackPage(shape, forms[page], pages[at], from, to, rows);
        }
        table[at] = rows - int64_t{from} * args_.headDim;
      }
      pages = table.data();
    }
    return {pages, pages, tokens, args_.headDim};
  }

  struct Aligned {
    int* exponents;     // [headDim]
    float* output;      // [headDim]
    uint8_t* largest;   // [headDim]
    uint8_t* bits;      // [headDim] or [kDecodeChunk]
  };
  size_t alignedBytes() const {
    const auto n = static_cast<size_t>(args_.headDim);
    return (n * (sizeof(int) + sizeof(float) + 1) + std::max(n, size_t{kDecodeChunk}) + 63) / 64 * 64;
  }
  Aligned alignedOf(int thread) const {
    if (!aligned_) return {};
    std::byte* at = aligned_ + static_cast<size_t>(thread) * alignedBytes();
    Aligned out;
    out.exponents = reinterpret_cast<int*>(at);
    out.output = reinterpret_cast<float*>(out.exponents + args_.headDim);
    out.largest = reinterpret_cast<uint8_t*>(out.output + args_.headDim);
    out.bits = out.largest + args_.headDim;
    return out;
  }

  size_t turnFloats() const { return static_cast<size_t>(group_ * args_.headDim + 2 * args_.turns.half); }  // a group's queries and a rotation
  const float* turnedBack(const float* q, int64_t positions, int thread) const {
    if (positions == 0) return q;
    float* out = turned_ + static_cast<size_t>(thread) * turnFloats();
    const Turn turn(k_, args_.turns, args_.headDim, -positions, out + group_ * args_.headDim);
    std::copy_n(q, group_ * args_.headDim, out);
    for (int g = 0; g < group_; ++g) turn(out + g * args_.headDim);
    return out;
  }

  float factor(int head, int c, float largest, float sum) const {
    return args_.reuse ? 1.0f : std::exp(stateOf(head, c)[0] - largest) / sum;
  }

  void tap(int kvHead, int head, Visible seen, float largest, float sum) const {
    if (!args_.columnSums && !args_.probabilities) return;
    float* row = args_.probabilities ? probabilityRow(args_, head, 0) : nullptr;
    if (row) std::fill_n(row, args_.probabilityStride, 0.0f);
    for (int c = seen.first / kDecodeChunk; c <= (seen.end - 1) / kDecodeChunk; ++c) {
      const int begin = std::max(c * kDecodeChunk, seen.first), end = std::min((c + 1) * kDecodeChunk, seen.end);
      const float* p = args_.reuse ? reuseRow(args_, head, 0) : scores_ + int64_t{head} * stride_;
      const float scale = factor(head, c, largest, sum);
      if (row)
        for (int s = begin; s < end; ++s) row[s] = p[s] * scale;
      if (args_.columnSums) k_.addScaled(args_.columnSums + kvHead * args_.columnStride + begin, p + begin, end - begin, scale);
    }
  }

  float* stateOf(int head, int c) const { return states_ + (int64_t{head} * chunks_ + c) * 2; }
  // [kvHead][chunk][group][headDim]
  float* partialOf(int head, int c) const {
    return partial_ + ((int64_t{head / group_} * chunks_ + c) * group_ + head % group_) * args_.headDim;
  }

  const KernelTable& k_;
  const AttendArgs& args_;
  int group_, longest_, chunks_;
  int64_t stride_;  // of scores
  float* scores_;   // [heads, stride]: exp(score - largest of the chunk)
  float* partial_;
  float* states_;   // [heads, chunks]: largest score, sum
  uint16_t* tiles_ = nullptr;  // f16 [threads, kDecodeChunk, headDim]: rows of sealed pages
  float* turned_ = nullptr;    // [threads, turnFloats()]
  std::byte* aligned_ = nullptr;  // [threads, alignedBytes()]
  int64_t* unread_ = nullptr;     // [items()] bytes
};

// --- several queries ---------------------------------------------------------------------------------------------------

class Prefill {
 public:
  Prefill(Context::Impl& impl, int threads, const AttendArgs& args)
      : k_(impl.kernels),
        args_(args),
        group_(args.heads / args.kvHeads),
        padded_((args.headDim + 15) / 16 * 16),
        width_((args.pageTokens + 15) / 16 * 16) {
    blockQueries_ = std::clamp(kRowsPerBlock / group_, 1, args.queries);
    blocks_ = (args.queries + blockQueries_ - 1) / blockQueries_;
    const size_t rows = static_cast<size_t>(blockQueries_ * group_), n = static_cast<size_t>(padded_), w = static_cast<size_t>(width_);
    perThread_ = 2 * rows * n + rows * w + 2 * n * w;
    work_ = impl.threads.need<float>(perThread_ * static_cast<size_t>(threads));
    states_ = impl.states.need<float>(static_cast<size_t>(args.heads) * static_cast<size_t>(args.queries) * 2);
    if (sealed(args)) tiles_ = impl.tiles.need<uint16_t>(static_cast<size_t>(threads) * static_cast<size_t>(args.pageTokens * args.headDim));
    if (args.turns.frequencies) turned_ = impl.turns.need<float>(static_cast<size_t>(threads) * turnFloats());
  }

  int items() const { return args_.kvHeads * blocks_; }
  int pages() const { return (longestOf(args_) + args_.pageTokens - 1) / args_.pageTokens; }
  bool taps() const { return args_.columnSums || args_.probabilities; }

  void block(int item, int thread) const {
    const Work w = work(thread);
    const Block b = blockOf(item / blocks_, item % blocks_);
    copyQueries(b, w.q);
    std::fill_n(w.out, b.rows * padded_, 0.0f);
    for (int r = 0; r < b.rows; ++r) {
      stateOf(b, r)[0] = -INFINITY;
      stateOf(b, r)[1] = 0;
    }
    eachTile(b, [&](int begin, int count) {
      if (args_.reuse) {
        copyReused(b, begin, count, w.p);
      } else {
        transposedKeys(*b.kv, begin, count, thread, w.keys);
        k_.smallProduct(w.q, padded_, w.keys, width_, b.rows, args_.headDim, (count + 15) / 16 * 16, w.p, width_, false);
        for (int r = 0; r < b.rows; ++r) softmaxRow(b, r, begin, count, w);
      }
      if (!args_.out) return;
      k_.widenValues(f16Rows(*b.kv, false, begin, count, thread), args_.headDim, count, padded_, w.values);
      k_.smallProduct(w.p, width_, w.values, padded_, b.rows, count, padded_, w.out, padded_, true);
    });
    for (int r = 0; r < b.rows && args_.out; ++r) {
      const float factor = args_.reuse ? 1.0f : 1.0f / stateOf(b, r)[1];
      float* out = args_.out + b.queryOf(r) * args_.outStride + int64_t{b.headOf(r)} * args_.headDim;
      for (int c = 0; c < args_.headDim; ++c) out[c] = w.out[r * padded_ + c] * factor;
    }
  }

  // Probabilities of one page for all queries, from the sums block() left.
  void tap(int kvHead, int page, int thread) const {
    const int begin = page * args_.pageTokens, count = std::min(args_.pageTokens, args_.kv[kvHead].tokens - begin);
    if (count <= 0) return;
    const Work w = work(thread);
    if (!args_.reuse) transposedKeys(args_.kv[kvHead], begin, count, thread, w.keys);
    for (int i = 0; i < blocks_; ++i) {
      const Block b = blockOf(kvHead, i);
      if (args_.reuse) {
        copyReused(b, begin, count, w.p);
      } else {
        copyQueries(b, w.q);
        k_.smallProduct(w.q, padded_, w.keys, width_, b.rows, args_.headDim, width_, w.p, width_, false);
      }
      for (int r = 0; r < b.rows; ++r) tapRow(b, r, begin, count, w.p + r * width_);
    }
  }

  void clearProbabilities(int head) const {  // what lies beyond the pages of a head
    const int tokens = args_.kv[head / group_].tokens;
    for (int i = 0; i < args_.queries; ++i)
      std::fill(probabilityRow(args_, head, i) + tokens, probabilityRow(args_, head, i) + args_.probabilityStride, 0.0f);
  }

 private:
  struct Block {
    const KvHead* kv;
    int firstHead, firstQuery, queries, rows;  // row r: query r % queries of head r / queries
    int headOf(int r) const { return firstHead + r / queries; }
    int queryOf(int r) const { return firstQuery + r % queries; }
  };
  struct Work {
    float *q, *out;         // [rows, padded]
    float* p;               // [rows, width]
    float *keys, *values;   // [headDim, width], [width, padded]
  };

  // The slots that some query of the block sees, by pieces of pages: a page that none does is not touched, nor are blocks that are left out.
  template <class Body>
  void eachTile(const Block& b, Body body) const {
    const int last = visible(args_, *b.kv, b.firstQuery + b.queries - 1).end, head = static_cast<int>(b.kv - args_.kv);
    for (int page = visible(args_, *b.kv, b.firstQuery).first / args_.pageTokens; page * args_.pageTokens < last; ++page) {
      const int begin = page * args_.pageTokens, end = begin + std::min(args_.pageTokens, b.kv->tokens - begin);
      if (!args_.critical) {
        body(begin, end - begin);
        continue;
      }
      for (int from = begin, to = 0; from < end; from = to) {
        to = args_.critical->runEnd(head, from, end);
        if (args_.critical->has(head, from)) body(from, to - from);
      }
    }
  }

  // Slots of one page as they are, or unpacked for this thread until it asks again.
  const uint16_t* f16Rows(const KvHead& kv, bool keys, int begin, int count, int thread) const {
    const int page = begin / args_.pageTokens, first = begin % args_.pageTokens;
    const uint16_t* rows = (keys ? kv.keys : kv.values)[page];
    const PageForm* forms = keys ? kv.keyForms : kv.valueForms;
    if (!forms || !forms[page].sealed()) return rows + first * args_.headDim;
    const PageShape shape{args_.pageTokens, args_.headDim};
    uint16_t* tile = tiles_ + int64_t{thread} * args_.pageTokens * args_.headDim;
    k_.unpackPage(shape, forms[page], rows, first, first + count, tile);
    return tile;
  }

  // Keys of slots of one page as columns, [headDim, width].
  void transposedKeys(const KvHead& kv, int begin, int count, int thread, float* out) const {
    k_.transposeKeys(f16Rows(kv, true, begin, count, thread), args_.headDim, count, width_, out);
    if (!args_.turns.frequencies) return;
    float* key = turned_ + static_cast<size_t>(thread) * turnFloats();
    const int end = begin + count;
    for (int from = begin, to = 0; from < end; from = to) {
      to = runEnd(kv, from, end);
      const int64_t missing = missingBehind(kv, from);
      if (missing == 0) continue;
      const Turn turn(k_, args_.turns, args_.headDim, missing, key + args_.headDim);
      for (int s = from - begin; s < to - begin; ++s) {
        for (int c = 0; c < args_.headDim; ++c) key[c] = out[c * width_ + s];
        turn(key);
        for (int c = 0; c < args_.headDim; ++c) out[c * width_ + s] = key[c];
      }
    }
  }
  size_t turnFloats() const { return static_cast<size_t>(args_.headDim + 2 * args_.turns.half); }  // a key and a rotation

  Block blockOf(int kvHead, int i) const {
    const int first = i * blockQueries_, queries = std::min(blockQueries_, args_.queries - first);
    return {&args_.kv[kvHead], kvHead * group_, first, queries, queries * group_};
  }
  Work work(int thread) const {
    const int64_t rows = int64_t{blockQueries_} * group_;
    float* base = work_ + perThread_ * static_cast<size_t>(thread);
    return {base, base + rows * padded_, base + 2 * rows * padded_, base + 2 * rows * padded_ + rows * width_,
            base + 2 * rows * padded_ + rows * width_ + int64_t{padded_} * width_};
  }
  float* stateOf(const Block& b, int r) const { return states_ + (int64_t{b.headOf(r)} * args_.queries + b.queryOf(r)) * 2; }

  void copyQueries(const Block& b, float* q) const {
    if (args_.reuse) return;
    for (int r = 0; r < b.rows; ++r) {
      const float* from = args_.q + b.queryOf(r) * args_.qStride + int64_t{b.headOf(r)} * args_.headDim;
      for (int c = 0; c < args_.headDim; ++c) q[r * padded_ + c] = from[c] * args_.scale;
    }
  }

  // Visible slots of a row inside the page at `begin`, relative to it.
  Visible inside(const Block& b, int r, int begin, int count) const {
    const int own = b.kv->tokens - args_.queries + b.queryOf(r);
    // Most tiles of a window are seen whole: a look at the first slot spares the search.
    if (args_.slidingWindow > 0 && !args_.turns.frequencies && b.kv->positions[begin] > b.kv->positions[own] - args_.slidingWindow)
      return {0, std::clamp(own + 1 - begin, 0, count)};
    const Visible seen = visible(args_, *b.kv, b.queryOf(r));
    return {std::clamp(seen.first - begin, 0, count), std::clamp(seen.end - begin, 0, count)};
  }

  void copyReused(const Block& b, int begin, int count, float* p) const {
    for (int r = 0; r < b.rows; ++r) {
      const Visible in = inside(b, r, begin, count);
      const float* from = reuseRow(args_, b.headOf(r), b.queryOf(r)) + begin;
      std::fill_n(p + r * width_, width_, 0.0f);
      for (int s = in.first; s < in.end; ++s) p[r * width_ + s] = from[s];
    }
  }

  // Scores of a row become weights relative to its largest score so far; what was summed before is scaled to match.
  void softmaxRow(const Block& b, int r, int begin, int count, const Work& w) const {
    const Visible in = inside(b, r, begin, count);
    float* p = w.p + r * width_;
    float* state = stateOf(b, r);
    std::fill_n(p, in.first, 0.0f);
    std::fill(p + std::max(in.first, in.end), p + width_, 0.0f);
    if (in.first >= in.end) return;
    float largest = state[0];
    for (int s = in.first; s < in.end; ++s) largest = std::max(largest, p[s]);
    if (largest > state[0]) {
      const float factor = std::exp(state[0] - largest);  // 0 at first
      k_.scaleRow(w.out + r * padded_, padded_, factor);
      state[1] *= factor;
      state[0] = largest;
    }
    k_.probabilities(p + in.first, in.end - in.first, largest, 1.0f, p + in.first);
    float sum = 0;
    for (int s = in.first; s < in.end; ++s) sum += p[s];
    state[1] += sum;
  }

  void tapRow(const Block& b, int r, int begin, int count, float* p) const {
    const Visible in = inside(b, r, begin, count);
    const int seen = std::max(in.end - in.first, 0);
    const float* state = stateOf(b, r);
    if (!args_.reuse && seen > 0) k_.probabilities(p + in.first, seen, state[0], 1.0f / state[1], p + in.first);
    const int head = static_cast<int>(b.kv - args_.kv);
    for (int from = begin, to = 0; args_.critical && from < begin + count; from = to) {
      to = args_.critical->runEnd(head, from, begin + count);
      if (!args_.critical->has(head, from)) std::fill(p + from - begin, p + to - begin, 0.0f);
    }
    if (args_.columnSums && seen > 0)
      k_.addScaled(args_.columnSums + (b.kv - args_.kv) * args_.columnStride + begin + in.first, p + in.first, seen, 1.0f);
    if (!args_.probabilities) return;
    float* row = probabilityRow(args_, b.headOf(r), b.queryOf(r)) + begin;
    std::fill_n(row, count, 0.0f);
    if (seen > 0) std::copy_n(p + in.first, seen, row + in.first);
  }

  const KernelTable& k_;
  const AttendArgs& args_;
  int group_, padded_, width_, blockQueries_, blocks_;
  size_t perThread_;
  float* work_;
  float* states_;  // [heads, queries]: largest score, sum
  uint16_t* tiles_ = nullptr;  // f16 [threads, pageTokens, headDim]
  float* turned_ = nullptr;    // [threads, turnFloats()]
};

void check(const AttendArgs& args) {
  CHECK(args.kvHeads > 0 && args.heads % args.kvHeads == 0, args.heads, args.kvHeads);
  CHECK(args.queries > 0 && args.pageTokens > 0 && args.headDim > 0, args.queries, args.pageTokens, args.headDim);
  CHECK(args.reuse ? args.out != nullptr : args.q != nullptr);
  CHECK(!(args.reuse || args.probabilities) || args.probabilityStride >= longestOf(args), args.probabilityStride);
  for (int h = 0; h < args.kvHeads; ++h) {
    CHECK(args.kv[h].tokens >= args.queries, h, args.kv[h].tokens, args.queries);
    CHECK((args.slidingWindow <= 0 && !args.turns.frequencies) || args.kv[h].positions, h);
  }
}

template <class Body>
void parallel(Context& context, int64_t items, int64_t work, Body body) {
  if (work <= kAloneWork) {
    for (int64_t i = 0; i < items; ++i) body(static_cast<int>(i), 0);
    return;
  }
  context.pool().run([&](int thread, int threads) {
    const auto range = ThreadPool::split(items, 1, thread, threads);
    for (int64_t i = range.begin; i < range.end; ++i) body(static_cast<int>(i), thread);
  });
}

}  // namespace

void attend(Context& context, const AttendArgs& args) {
  Context::Impl& impl = context.impl();
  if (!context.planning()) check(args);
  if (args.queries == 1 && !args.critical) {
    const Decode decode(impl, context.pool().threads(), args);
    if (context.planning()) return;
    parallel(context, decode.items(), decode.work(), [&](int item, int thread) { decode.chunk(item, thread); });
    parallel(context, args.kvHeads, decode.mergeWork(), [&](int kvHead, int) { decode.merge(kvHead); });
    if (args.unread) *args.unread += decode.unread();
    return;
  }
  const Prefill prefill(impl, context.pool().threads(), args);
  if (context.planning()) return;
  // Late blocks see more slots: dealing them out in turn keeps the threads level.
  context.pool().run([&](int thread, int threads) {
    for (int item = thread; item < prefill.items(); item += threads) prefill.block(item, thread);
  });
  if (!prefill.taps()) return;
  const int pages = prefill.pages();
  parallel(context, int64_t{args.kvHeads} * pages, INT64_MAX, [&](int item, int thread) { prefill.tap(item / pages, item % pages, thread); });
  if (args.probabilities) parallel(context, args.heads, INT64_MAX, [&](int head, int) { prefill.clearProbabilities(head); });
}

}  // namespace winnow::cpu
