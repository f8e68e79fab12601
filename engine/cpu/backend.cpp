// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cpu/backend.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <utility>

#include "engine/core/check.h"
#include "engine/cpu/backend_step.h"
#include "engine/cpu/rope_pairs.h"
#include "engine/run/op_cost.h"
#include "engine/run/sampler.h"
#include "engine/share/align.h"

namespace winnow::cpu {
namespace {

using Clock = std::chrono::steady_clock;
int64_t nsSince(Clock::time_point start) { return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count(); }
size_t floats(int64_t a, int64_t b) { return static_cast<size_t>(a) * static_cast<size_t>(b) * sizeof(float); }
HostKvCache& hostCache(const SequenceRows& sequence) { return static_cast<HostKvCache&>(*sequence.cache); }
int64_t roundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

}  // namespace

ActivationBuffers::ActivationBuffers(Ledger& ledger, const ModelConfig& model, int batch) {
  const auto make = [&](int64_t columns) { return Buffer(ledger, MemoryTag::activations, floats(batch, columns)); };
  residual = make(model.hidden);
  normed = make(model.hidden);
  q = make(model.qRows());
  attended = make(model.qRows());
  k = make(model.kvRows());
  v = make(model.kvRows());
  if (model.gatedFfn) gate = make(model.ffn);
  up = make(model.ffn);
  logits = Buffer(ledger, MemoryTag::activations, floats(1, model.vocab));
}

CpuBackend::CpuBackend(Ledger& ledger, const ModelConfig& model, ThreadPool& pool, Isa isa, const BackendOptions& options)
    : ledger_(ledger), options_(options), model_(options_.shape ? *options_.shape : model), context_(pool, isa, &ledger), buffers_(ledger, model_, options.batch) {
  if (model_.position == PositionKind::rope) frequencies_ = cpu::ropeFrequencies(model_.rope);
  positions_.resize(static_cast<size_t>(options.batch));
}

void CpuBackend::run(const ForwardInput& input) {
  const std::vector<const SparseStep*> sparse = std::exchange(sparse_, {});
  const Step step{input, static_cast<int>(input.tokens.size()), input.weights.streamWidth(model_), sparse};
  CHECK(input.plan.shortcuts == (input.weights.sliceWidth > 0), input.weights.sliceWidth);
  CHECK(sparse.empty() || static_cast<int>(sparse.size()) == step.n, sparse.size(), step.n);
  CHECK(step.n > 0 && step.n <= options_.batch, step.n, options_.batch);
  int row = 0;
  for (const SequenceRows& sequence : input.sequences)
    for (int i = 0; i < sequence.count; ++i) positions_[static_cast<size_t>(row++)] = static_cast<int32_t>(sequence.first + i);
  CHECK(row == step.n, row, step.n);
  if (input.times) input.times->clear();
  critical_ = nullptr;
  for (size_t i = 0; i < input.plan.ops.size(); ++i) {
    const Op& op = input.plan.ops[i];
    const auto start = input.times ? Clock::now() : Clock::time_point();
    int64_t ns = -1;
    skippedBytes_ = skippedFlops_ = 0;
    switch (op.kind) {
      case OpKind::embed: embed(step); break;
      case OpKind::qkv:
      case OpKind::qOnly:
      case OpKind::vOnly: project(step, op); break;
      case OpKind::attend:
      case OpKind::attendReuse: attend(step, op); break;
      case OpKind::linear: output(step, op); break;
      case OpKind::shortcut: shortcut(step, op); break;
      case OpKind::gateUp: gateUp(step, op); break;
      case OpKind::logits: ns = logitsOf(step); break;
    }
    if (!input.times) continue;
    const bool whole = op.kind == OpKind::attendReuse && !input.plan.headsOf(op).empty();  // other heads' rows: attendAligned() and attend() say why
    OpTime time = declaredCost(input, model_, static_cast<int>(i), materialised_, critical_ && !whole ? critical_->kept() : -1);
    time.ns = ns >= 0 ? ns : nsSince(start);
    time.bytes -= skippedBytes_;
    time.flops -= skippedFlops_;
    input.times->push_back(time);
  }
  step.tapStream(2 * model_.layers, buffers_.residual.as<float>(), step.width);
}

void CpuBackend::embed(const Step& step) {
  if (ledger_.planning()) return;
  const WeightSet& weights = step.in.weights;
  float* residual = buffers_.residual.as<float>();
  float* added = buffers_.normed.as<float>();  // free until the first norm
  const auto look = [&](int thread, int threads) {
    const auto range = ThreadPool::split(step.n, 1, thread, threads);
    for (int64_t t = range.begin; t < range.end; ++t) {
      float* row = residual + t * step.width;
      dequantizeRow(*weights.embedding, step.in.tokens[static_cast<size_t>(t)], row);
      if (!weights.positions) continue;
      float* position = added + t * step.width;
      dequantizeRow(*weights.positions, positions_[static_cast<size_t>(t)], position);
      for (int i = 0; i < step.width; ++i) row[i] += position[i];
    }
  };
  if (step.n == 1)
    look(0, 1);
  else
    context_.pool().run(look);
}

void CpuBackend::normalize(const Step& step, int firstRow, int rows, const float* weight, const float* bias) {
  if (ledger_.planning()) return;
  const float* x = buffers_.residual.as<float>() + int64_t{firstRow} * step.width;
  float* out = buffers_.normed.as<float>();
  if (model_.norm == NormKind::rms)
    cpu::rmsNorm(context_, x, weight, step.in.weights.normEps(model_), rows, step.width, out);
  else
    cpu::layerNorm(context_, x, weight, bias, model_.normEps, rows, step.width, out);
}

// Targets of one call share how the input is rounded; a file may mix types (Q, K in one, V in another).
void CpuBackend::matmul(std::span<const MatmulTarget> targets, const float* x, int64_t stride, int tokens, Activations activations) {
  std::array<MatmulTarget, 3> same;
  std::array<bool, 3> done{};
  CHECK(targets.size() <= same.size(), targets.size());
  for (size_t i = 0; i < targets.size(); ++i) {
    if (done[i]) continue;
    const ActivationMode mode = activationMode(activations, targets[i].w->format);
    size_t count = 0;
    for (size_t j = i; j < targets.size(); ++j) {
      if (done[j] || activationMode(activations, targets[j].w->format) != mode) continue;
      same[count++] = targets[j];
      done[j] = true;
    }
    cpu::matmul(context_, {same.data(), count}, x, stride, tokens, mode);
  }
}

void CpuBackend::addErrors(std::span<const ErrorTarget> targets, const float* x, int64_t stride, const Step& step) {
  cpu::addErrors(context_, targets, x, stride, step.n, activationMode(step.in.activations, kFactorFormat.storage) == ActivationMode::f32);
}

void CpuBackend::linear(const Step& step, const Op& op, LinearInput input, std::span<const Linear> linears, float* x, int64_t stride) {
  if (step.anySparse()) {
    for (int row = 0; row < step.n; ++row) linearRow(step, op, row, input, linears, x + row * stride);
    return;
  }
  std::array<MatmulTarget, 3> targets;
  std::array<ErrorTarget, 3> errors;
  CHECK(linears.size() <= targets.size(), linears.size());
  for (size_t i = 0; i < linears.size(); ++i) {
    const Linear& l = linears[i];
    targets[i] = {l.w, l.y, l.w->rows, l.bias, l.accumulate};
    errors[i] = {l.error, l.y, l.w->rows};
  }
  matmul({targets.data(), linears.size()}, x, stride, step.n, step.in.activations);
  addErrors({errors.data(), linears.size()}, x, stride, step);
}

void CpuBackend::project(const Step& step, const Op& op) {
  const LayerWeights& w = step.layer(op);
  const int hidden = step.width;
  float *q = buffers_.q.as<float>(), *k = buffers_.k.as<float>(), *v = buffers_.v.as<float>(), *x = buffers_.normed.as<float>();
  step.tapStream(2 * op.layer, buffers_.residual.as<float>(), hidden);
  normalize(step, 0, step.n, w.attnNorm, w.attnNormBias);
  step.tap(op, LinearInput::attention, x, hidden);
  const ChannelMajorLayer& channels = step.channels(op.layer);
  const Linear value{w.v, w.vError, channels.v.get(), v, w.vBias};
  if (op.kind == OpKind::vOnly) {
    linear(step, op, LinearInput::attention, {&value, 1}, x, hidden);
    return append(step, op, nullptr, v);
  }
  const Linear query{w.q, w.qError, channels.q.get(), q, w.qBias};
  if (op.kind == OpKind::qOnly) {
    linear(step, op, LinearInput::attention, {&query, 1}, x, hidden);
    return turn(step, op, q, nullptr);
  }
  const std::array<Linear, 3> linears = {{query, {w.k, w.kError, channels.k.get(), k, w.kBias}, value}};
  linear(step, op, LinearInput::attention, linears, x, hidden);
  turn(step, op, q, k);
  append(step, op, k, v);
}

void CpuBackend::turn(const Step& step, const Op& op, float* q, float* k) {
  const int32_t* pairs = step.in.weights.ropePairs(op.layer);
  const auto each = [&](float* x, int heads, int group, const float* norm) {
    const int64_t stride = int64_t{heads} * model_.headDim;
    if (model_.qkNorm && !ledger_.planning()) cpu::headNorm(context_, x, stride, norm, model_.normEps, step.n, heads, model_.headDim);
    if (model_.position != PositionKind::rope) return;
    if (pairs)
      ropePairs(context_, x, stride, {frequencies_.data(), model_.rope.dims, pairs, group}, positions_.data(), step.n, heads, model_.headDim);
    else
      cpu::rope(context_, x, stride, frequencies_.data(), model_.rope.dims, positions_.data(), step.n, heads, model_.headDim);
  };
  each(q, model_.heads, model_.groupSize(), step.layer(op).qNorm);
  if (k) each(k, model_.kvHeads, 1, step.layer(op).kNorm);
  rotate(step, q, k);
}

void CpuBackend::rotate(const Step& step, float* q, float* k) {
  if (ledger_.planning()) return;
  int64_t row = 0;
  for (const SequenceRows& sequence : step.in.sequences) {
    const int64_t first = row;
    row += sequence.count;
    if (!sequence.cache->format().rotateKeys) continue;
    context_.pool().run([&](int thread, int threads) {
      const auto range = ThreadPool::split(sequence.count, 1, thread, threads);
      for (int64_t t = first + range.begin; t < first + range.end; ++t) {
        for (int c = 0; c < model_.qRows(); c += model_.headDim) rotateHadamard(q + t * model_.qRows() + c, model_.headDim);
        for (int c = 0; k && c < model_.kvRows(); c += model_.headDim) rotateHadamard(k + t * model_.kvRows() + c, model_.headDim);
      }
    });
  }
}

void CpuBackend::append(const Step& step, const Op& op, const float* k, const float* v) {
  const int kvRows = model_.kvRows();
  int64_t row = 0;
  for (const SequenceRows& sequence : step.in.sequences) {
    hostCache(sequence).append(op.layer, k ? k + row * kvRows : nullptr, v + row * kvRows, kvRows, sequence.count, static_cast<int32_t>(sequence.first), context_.pool());
    row += sequence.count;
  }
}

// Followers use the leader's probabilities when they fit, else its queries (still in the q buffer) and keys again.
void CpuBackend::keepProbabilities(const Step& step, const Op& op) {
  int slots = 0;
  for (const SequenceRows& sequence : step.in.sequences) slots = std::max(slots, sequence.cache->longest(op.source));
  probabilityStride_ = roundUp(slots, 256);
  const size_t bytes = static_cast<size_t>(step.n) * floats(model_.heads, probabilityStride_);
  materialised_ = step.in.attention || static_cast<int64_t>(bytes) <= options_.probabilityBytes;
  if (!materialised_) return;
  if (probabilities_.bytes() < bytes) {
    probabilities_ = Buffer();
    probabilities_ = Buffer(ledger_, MemoryTag::probabilities, bytes);
  }
}

AttendArgs CpuBackend::attendArgs(const HostKvCache& cache) const {
  AttendArgs args;
  args.pageTokens = cache.pageTokens();
  if (cache.countsWithin() && !frequencies_.empty()) args.turns = {frequencies_.data(), static_cast<int>(frequencies_.size()), cache.format().rotateKeys};
  args.heads = model_.heads;
  args.kvHeads = model_.kvHeads;
  args.headDim = model_.headDim;
  args.scale = 1.0f / std::sqrt(static_cast<float>(model_.headDim));
  args.slidingWindow = model_.slidingWindow;
  args.qStride = args.outStride = model_.qRows();
  return args;
}

// The first layer attends to everything, as does a segment that begins within twice the budget; the paper's defaults are 2048 and 4096 tokens.
const CriticalBlocks* CpuBackend::chooseBlocks(const Step& step, const Op& op, const AttendArgs& args) {
  const SequenceRows& sequence = step.in.sequences.front();
  const auto first = std::ranges::find(step.in.plan.ops, OpKind::attend, &Op::kind);
  if (step.in.criticalBudget <= 0 || step.in.sequences.size() > 1 || sequence.count < 2 || op.layer == first->layer || args.turns.frequencies ||
      sequence.first < 2 * int64_t{step.in.criticalBudget})
    return nullptr;
  const auto whole = [&](const KvHead& head) { return head.tokens == sequence.first + sequence.count; };
  if (!ledger_.planning() && !std::all_of(args.kv, args.kv + args.kvHeads, whole)) return nullptr;  // some slots have left
  if (!blocks_) blocks_ = std::make_unique<CriticalBlocks>(ledger_, model_.kvHeads, options_.context);
  if (!critical_) blocks_->begin();
  if (!ledger_.planning()) blocks_->choose(context_, args, step.in.criticalBudget);
  return blocks_.get();
}

// A follower with heads of its own choice needs whole rows of its leader: those of a few queries at a time, where all don't fit.
void CpuBackend::attendAligned(const Step& step, const Op& op, const SequenceRows& sequence, int64_t row) {
  HostKvCache& cache = hostCache(sequence);
  const int64_t rowBytes = static_cast<int64_t>(floats(model_.heads, probabilityStride_));
  const int together = static_cast<int>(std::clamp<int64_t>(options_.probabilityBytes / rowBytes, 1, sequence.count));
  if (const auto bytes = static_cast<size_t>(together * rowBytes); probabilities_.bytes() < bytes) {
    probabilities_ = Buffer();
    probabilities_ = Buffer(ledger_, MemoryTag::probabilities, bytes);
  }
  std::vector<KvHead> seen(static_cast<size_t>(model_.kvHeads));
  int64_t unread = 0;
  for (int first = 0; first < sequence.count; first += together) {
    AttendArgs args = attendArgs(cache);
    args.queries = std::min(together, sequence.count - first);
    args.probabilityStride = probabilityStride_;
    args.kv = seen.data();
    const auto look = [&](int layer, int keyLayer) {  // the cache as the last of these queries sees it
      const auto view = cache.view(layer, keyLayer);
      std::copy(view.begin(), view.end(), seen.begin());
      for (KvHead& head : seen) head.tokens -= sequence.count - first - args.queries;
    };
    look(op.leader, op.leader);
    if (sequence.count == 1) args.aligned = cache.format().aligned;
    args.critical = critical_;
    args.q = buffers_.q.as<float>() + (row + first) * args.qStride;
    args.probabilities = probabilities_.as<float>();
    cpu::attend(context_, args);
    look(op.layer, -1);
    args.critical = nullptr;  // its heads want what heads of other groups chose: the rows are zero elsewhere
    args.q = nullptr;
    args.reuse = std::exchange(args.probabilities, nullptr);
    args.reuseHeads = step.in.plan.headsOf(op).data();
    args.out = buffers_.attended.as<float>() + (row + first) * args.outStride;
    args.unread = &unread;
    cpu::attend(context_, args);
  }
  cache.leftUnread(op.layer, unread);
}

void CpuBackend::attend(const Step& step, const Op& op) {
  const bool reuse = op.kind == OpKind::attendReuse, kept = op.keepProbabilities || (step.in.attention && !reuse);
  if (kept) keepProbabilities(step, op);
  const bool fromBuffer = reuse && materialised_;
  const std::vector<int>& heads = step.in.plan.headsOf(op);
  int64_t row = 0;
  for (const SequenceRows& sequence : step.in.sequences) {
    if (reuse && !fromBuffer && !heads.empty()) {
      attendAligned(step, op, sequence, row);
      row += sequence.count;
      continue;
    }
    HostKvCache& cache = hostCache(sequence);
    AttendArgs args = attendArgs(cache);
    const bool counted = !reuse && cache.observed().all;
    const bool keeps = kept && materialised_;
    float* probabilities = keeps || fromBuffer ? probabilities_.as<float>() + row * model_.heads * probabilityStride_ : nullptr;
    args.queries = sequence.count;
    args.probabilityStride = probabilityStride_;
    const int own = reuse ? op.layer : op.source, keyLayer = fromBuffer ? -1 : reuse ? op.leader : own;
    args.q = fromBuffer ? nullptr : buffers_.q.as<float>() + row * args.qStride;
    std::span<const KvHead> read;
    if (sequence.count == 1 && !step.in.attention)  // a tap is told of every slot
      read = reuse ? cache.selectedAlike(context_, own, keyLayer) : cache.selected(context_, own, args.q);
    if (!read.empty()) args.pageTokens = HostKvCache::kBlock;
    args.kv = read.empty() ? cache.view(own, keyLayer).data() : read.data();
    args.out = buffers_.attended.as<float>() + row * args.outStride;
    args.reuse = fromBuffer ? probabilities : nullptr;
    args.reuseHeads = fromBuffer && !heads.empty() ? heads.data() : nullptr;
    args.probabilities = keeps ? probabilities : nullptr;
    args.columnSums = counted ? cache.columnSums(own) : nullptr;
    args.columnStride = counted ? cache.columnStride() : 0;
    if (!reuse) critical_ = chooseBlocks(step, op, args);
    if (heads.empty()) args.critical = critical_;  // rows of other heads are zero where those chose otherwise
    int64_t unread = 0;
    if (sequence.count == 1) {
      args.aligned = cache.format().aligned;
      args.unread = &unread;
    }
    cpu::attend(context_, args);
    cache.leftUnread(op.layer, unread);
    if (own == op.layer && !reuse && cache.observed().newest > 0 && !ledger_.planning()) cache.keepQueries(op.layer, args.q, args.qStride, sequence.count, sequence.first);
    if (step.in.attention) {
      std::vector<float> chosen;
      if (reuse && !heads.empty()) chosen = rowsOfHeads(probabilities, probabilityStride_, sequence.count, heads);
      step.in.attention->take(op.layer, {chosen.empty() ? probabilities : chosen.data(), probabilityStride_, model_.heads, sequence.count, cache.longest(own), sequence.first});
    }
    row += sequence.count;
  }
}

void CpuBackend::observe(KvCache& kv, int window) {
  HostKvCache& cache = static_cast<HostKvCache&>(kv);
  AttendArgs args = attendArgs(cache);
  args.queries = std::min(window, cache.queriesKept());
  if (args.queries == 0) return;
  const Buffer q(ledger_, MemoryTag::activations, floats(args.queries, args.qStride));
  args.q = q.as<float>();
  args.columnStride = cache.columnStride();
  for (int layer = 0; layer < cache.layers(); ++layer) {
    if (!cache.ownsKeys(layer) || !cache.holds(layer)) continue;
    args.kv = cache.view(layer, layer).data();
    args.columnSums = cache.columnSums(layer);
    if (!ledger_.planning()) {
      cache.newestQueries(layer, args.queries, q.as<float>());
      std::fill_n(args.columnSums, model_.kvHeads * args.columnStride, 0.0f);
    }
    cpu::attend(context_, args);
  }
}

void CpuBackend::output(const Step& step, const Op& op) {
  const LayerWeights& w = step.layer(op);
  float* x = !op.down ? buffers_.attended.as<float>() : model_.gatedFfn ? buffers_.gate.as<float>() : buffers_.up.as<float>();
  const int cols = op.down ? w.down->cols : model_.qRows();
  const LinearInput input = op.down ? LinearInput::down : LinearInput::output;
  step.tap(op, input, x, cols);
  const ChannelMajorLayer& channels = step.channels(op.layer);
  const Linear target = op.down ? Linear{w.down, w.downError, channels.down.get(), buffers_.residual.as<float>(), w.downBias, true}
                                : Linear{w.o, w.oError, channels.o.get(), buffers_.residual.as<float>(), w.oBias, true};
  linear(step, op, input, {&target, 1}, x, cols);
  if (!op.down || !w.downCorrections || ledger_.planning()) return;
  for (const WeightCorrection& weight : *w.downCorrections)
    for (int t = 0; t < step.n; ++t) target.y[int64_t{t} * step.width + weight.row] += weight.delta * x[int64_t{t} * cols + weight.column];
}

// Norms have been read: their rows are free until the next one. The residual is not rounded, whatever activations are.
void CpuBackend::shortcut(const Step& step, const Op& op) {
  const Matrix* w = op.down ? step.layer(op).ffnShortcut : step.layer(op).attnShortcut;
  const MatmulTarget target{w, buffers_.normed.as<float>(), w->rows, nullptr, false};
  cpu::matmul(context_, {&target, 1}, buffers_.residual.as<float>(), step.width, step.n, ActivationMode::f32);
  std::swap(buffers_.residual, buffers_.normed);
}

void CpuBackend::gateUp(const Step& step, const Op& op) {
  const LayerWeights& w = step.layer(op);
  const int n = step.n, ffn = w.up->rows;
  float *gate = buffers_.gate.as<float>(), *up = buffers_.up.as<float>(), *x = buffers_.normed.as<float>();
  step.tapStream(2 * op.layer + 1, buffers_.residual.as<float>(), step.width);
  normalize(step, 0, n, w.ffnNorm, w.ffnNormBias);
  step.tap(op, LinearInput::ffn, x, step.width);
  if (step.anySparse()) {
    for (int row = 0; row < n; ++row) gateUpRow(step, op, row);
    return;
  }
  const ChannelMajorLayer& channels = step.channels(op.layer);
  const Linear upLinear{w.up, w.upError, channels.up.get(), up, w.upBias};
  if (!model_.gatedFfn) {
    linear(step, op, LinearInput::ffn, {&upLinear, 1}, x, step.width);
    if (!ledger_.planning()) cpu::activate(context_, model_.activation, up, nullptr, int64_t{n} * ffn);
    return;
  }
  const std::array<Linear, 2> linears = {{{w.gate, w.gateError, channels.gate.get(), gate, w.gateBias}, upLinear}};
  linear(step, op, LinearInput::ffn, linears, x, step.width);
  if (auto* tap = dynamic_cast<GateTap*>(step.in.tap)) tap->takeGate(op.layer, gate, ffn, n, ffn);
  if (!ledger_.planning()) cpu::activate(context_, model_.activation, gate, up, int64_t{n} * ffn);
}

int64_t CpuBackend::logitsOf(const Step& step) {
  const WeightSet& weights = step.in.weights;
  const int vocab = model_.vocab, hidden = step.width;
  const auto compute = [&](int first, int count, float* out) {
    const auto start = Clock::now();
    normalize(step, first, count, weights.outputNorm, weights.outputNormBias);
    const MatmulTarget target{weights.head, out, vocab, nullptr, false};
    matmul({&target, 1}, buffers_.normed.as<float>(), hidden, count, step.in.activations);
    return nsSince(start);
  };
  float* last = buffers_.logits.as<float>();
  if (!step.in.sink) return step.in.wantLogits ? compute(step.n - 1, 1, last) : 0;
  const std::span<const int> rows = step.in.sinkRows;
  float* residual = buffers_.residual.as<float>();
  for (size_t i = 0; i < rows.size() && residual; ++i)  // together at the front, where nothing else is needed any more
    if (static_cast<size_t>(rows[i]) != i) std::copy_n(residual + int64_t{rows[i]} * hidden, hidden, residual + static_cast<int64_t>(i) * hidden);
  const int end = rows.empty() ? step.n : static_cast<int>(rows.size());
  // Slices of about 16 MiB: enough rows to read the head once for many tokens.
  const int slice = static_cast<int>(std::min<int64_t>(std::max<int64_t>((int64_t{4} << 20) / vocab, 16), options_.batch));
  if (sinkLogits_.bytes() == 0) sinkLogits_ = Buffer(ledger_, MemoryTag::activations, floats(slice, vocab));
  int64_t ns = 0;
  for (int first = rows.empty() ? step.in.sinkFrom : 0; first < end; first += slice) {
    const int count = std::min(slice, end - first);
    float* out = sinkLogits_.as<float>();
    ns += compute(first, count, out);
    if (first + count == end) std::copy_n(out + int64_t{count - 1} * vocab, vocab, last);
    (*step.in.sink)(step.in.sinkFirst + first, count, out);
  }
  return ns;
}

std::unique_ptr<KvCache> CpuBackend::makeCache(int context) { return std::make_unique<HostKvCache>(ledger_, model_, context); }

void CpuBackend::reserveLike(const Backend& planned) { context_.reserveLike(dynamic_cast<const CpuBackend&>(planned).context_); }

void CpuBackend::setLogits(const float* row) { std::copy_n(row, model_.vocab, buffers_.logits.as<float>()); }

void CpuBackend::score(const float* logits, std::span<const int32_t> targets, TokenScore* out) {
  scoreLogits(context_, logits, model_.vocab, model_.vocab, targets.data(), static_cast<int>(targets.size()), out);
}

void CpuBackend::compare(const float* base, const float* other, std::span<const int32_t> targets, Divergence* out) {
  compareLogits(context_, base, other, model_.vocab, model_.vocab, targets.data(), static_cast<int>(targets.size()), out);
}

int32_t CpuBackend::sample(std::span<const int32_t> history, const SamplerSettings& settings, uint64_t position) {
  return winnow::sample(logits(), history, settings, position);
}

std::string CpuDevice::description() const {
  return "CPU: " + std::to_string(threads_) + (threads_ == 1 ? " thread, " : " threads, ") + isaName(isa_);
}

std::unique_ptr<Backend> CpuDevice::makeBackend(Ledger& ledger, ThreadPool& pool, const BackendOptions& options) {
  return std::make_unique<CpuBackend>(ledger, model_, pool, isa_, options);
}

}  // namespace winnow::cpu
