// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/prefill.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "engine/core/check.h"
#include "engine/cuda/checked.h"

namespace winnow::cuda {
namespace {

size_t floats(int64_t a, int64_t b) { return static_cast<size_t>(a) * static_cast<size_t>(b) * sizeof(float); }
int64_t roundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

}  // namespace

struct Prefill::Step {
  const PrefillInput& in;
  int n;  // rows
  const LayerWeights& layer(const Op& op) const { return in.weights.host().layers[static_cast<size_t>(op.layer)]; }
};

Prefill::Prefill(Ledger& ledger, const ModelConfig& model, int batch, int64_t probabilityBytes, Stream stream)
    : ledger_(ledger), model_(model), batch_(batch), probabilityBytes_(probabilityBytes), stream_(stream),
      products_(ledger, batch, std::max({model.hidden, model.qRows(), model.ffn}), stream) {
  const auto rows = [&](int64_t columns) { return DeviceBuffer(ledger, MemoryTag::activations, floats(batch, columns)); };
  const auto ids = [&] { return DeviceBuffer(ledger, MemoryTag::metadata, static_cast<size_t>(batch) * sizeof(int32_t)); };
  residual_ = rows(model.hidden);
  q_ = rows(model.qRows());
  k_ = rows(model.kvRows());
  v_ = rows(model.kvRows());
  attended_ = rows(model.qRows());
  if (model.gatedFfn) gate_ = rows(model.ffn);
  up_ = rows(model.ffn);
  states_ = rows(2 * int64_t{model.heads});
  logits_ = DeviceBuffer(ledger, MemoryTag::activations, floats(1, model.vocab));
  tokens_ = ids();
  positions_ = ids();
  if (model.position != PositionKind::rope) return;
  const std::vector<float> frequencies = ropeFrequencies(model.rope);
  const auto half = static_cast<int64_t>(frequencies.size());
  frequencies_ = DeviceBuffer(ledger, MemoryTag::metadata, floats(1, half));
  cosines_ = DeviceBuffer(ledger, MemoryTag::metadata, floats(batch, half));
  sines_ = DeviceBuffer(ledger, MemoryTag::metadata, floats(batch, half));
  if (!ledger.planning()) frequencies_.copyFrom(stream, frequencies.data(), frequencies_.bytes());
}

void Prefill::run(const PrefillInput& input) {
  const Step step{input, static_cast<int>(input.tokens.size())};
  CHECK(step.n > 0 && step.n <= batch_, step.n, batch_);
  std::vector<int32_t> positions;
  for (const DeviceRows& sequence : input.sequences) {
    for (int i = 0; i < sequence.count; ++i) positions.push_back(static_cast<int32_t>(sequence.first + i));
    sequence.cache->reserve(sequence.count, stream_);
  }
  CHECK(static_cast<int>(positions.size()) == step.n, positions.size(), step.n);
  tokens_.copyFrom(stream_, input.tokens.data(), input.tokens.size_bytes());
  positions_.copyFrom(stream_, positions.data(), positions.size() * sizeof(int32_t));
  if (model_.position == PositionKind::rope)
    prepareRotations(stream_, frequencies_.as<float>(), model_.rope.dims, positions_.as<int32_t>(), step.n, cosines_.as<float>(),
                     sines_.as<float>());
  for (const Op& op : input.plan.ops) {
    switch (op.kind) {
      case OpKind::embed: embed(step); break;
      case OpKind::qkv:
      case OpKind::vOnly: project(step, op); break;
      case OpKind::attend:
      case OpKind::attendReuse: attend(step, op); break;
      case OpKind::linear: output(step, op); break;
      case OpKind::gateUp: gateUp(step, op); break;
      case OpKind::logits: head(step); break;
    }
  }
  for (const DeviceRows& sequence : input.sequences) {
    advance(stream_, sequence.cache->lengths(), sequence.cache->heads(), sequence.count);
    sequence.cache->advanced(sequence.count);
  }
}

std::vector<float> Prefill::logits() const {
  std::vector<float> out(static_cast<size_t>(model_.vocab));
  logits_.copyTo(stream_, out.data(), floats(1, model_.vocab));
  return out;
}

void Prefill::embed(const Step& step) {
  const WeightSet& weights = step.in.weights.host();
  const MatrixArgs table = step.in.weights.matrix(weights.embedding);
  const MatrixArgs positions = weights.positions ? step.in.weights.matrix(weights.positions) : MatrixArgs();
  cuda::embed(stream_, table, weights.positions ? &positions : nullptr, tokens_.as<int32_t>(), positions_.as<int32_t>(), step.n,
              residual_.as<float>());
}

Source Prefill::normed(const Step& step, int firstRow, const float* weight, const float* bias) const {
  Source source{residual_.as<float>() + int64_t{firstRow} * model_.hidden, model_.hidden,
                model_.norm == NormKind::rms ? Source::Kind::rms : Source::Kind::layer};
  source.weight = step.in.weights.vector(weight);
  source.bias = step.in.weights.vector(bias);
  source.eps = model_.normEps;
  return source;
}

// Norms and activations are made on the way into products: for a tap they are made once more, to be seen.
void Prefill::hand(const Step& step, const Op& op, LinearInput input, const Source& source, int cols) {
  if (!step.in.tap) return;
  const size_t bytes = floats(step.n, cols);
  DeviceBuffer seen(ledger_, MemoryTag::activations, bytes);
  const Input made = prepare(stream_, source, step.n, cols, ActivationMode::f32, {.plain = true}, seen.as<void>());
  std::vector<float> host(bytes / sizeof(float));
  throwIfFailed(cudaMemcpyAsync(host.data(), made.x, bytes, cudaMemcpyDeviceToHost, stream_), "copy from the device");
  throwIfFailed(cudaStreamSynchronize(stream_), "wait");
  step.in.tap->take(op.layer, input, host.data(), cols, step.n, cols);
}

void Prefill::project(const Step& step, const Op& op) {
  const LayerWeights& w = step.layer(op);
  const DeviceWeights& weights = step.in.weights;
  const Source x = normed(step, 0, w.attnNorm, w.attnNormBias);
  hand(step, op, LinearInput::attention, x, model_.hidden);
  const auto target = [&](const Matrix* m, const float* bias, const DeviceBuffer& y) {
    return Target{weights.matrix(m), y.as<float>(), m->rows, weights.vector(bias), false};
  };
  std::vector<Target> targets = {target(w.v, w.vBias, v_)};
  if (op.kind == OpKind::qkv) targets.insert(targets.end(), {target(w.q, w.qBias, q_), target(w.k, w.kBias, k_)});
  products_.multiply(targets, x, step.n, model_.hidden, step.in.activations);
  rotateAndStore(step, op);
}

void Prefill::rotateAndStore(const Step& step, const Op& op) {
  const LayerWeights& w = step.layer(op);
  const bool follower = op.kind == OpKind::vOnly;
  int64_t row = 0;
  for (const DeviceRows& sequence : step.in.sequences) {
    StoreArgs args;
    if (!follower) args.q = q_.as<float>() + row * model_.qRows(), args.k = k_.as<float>() + row * model_.kvRows();
    args.v = v_.as<float>() + row * model_.kvRows();
    args.tokens = sequence.count;
    args.heads = model_.heads;
    args.kvHeads = model_.kvHeads;
    args.headDim = model_.headDim;
    if (model_.qkNorm && !follower) args.qNorm = step.in.weights.vector(w.qNorm), args.kNorm = step.in.weights.vector(w.kNorm);
    args.eps = model_.normEps;
    if (model_.position == PositionKind::rope) {
      args.ropeDims = model_.rope.dims;
      args.cosines = cosines_.as<float>() + row * (args.ropeDims / 2);
      args.sines = sines_.as<float>() + row * (args.ropeDims / 2);
    }
    args.positionIds = positions_.as<int32_t>() + row;
    args.kv = sequence.cache->tables(op.layer, follower ? -1 : op.layer);
    cuda::rotateAndStore(stream_, args);
    row += sequence.count;
  }
}

// Followers use the leader's probabilities when they fit, else its queries (still in the q buffer) and keys again.
void Prefill::keepProbabilities(const Step& step, const Op& op) {
  int slots = 0;
  for (const DeviceRows& sequence : step.in.sequences) slots = std::max(slots, sequence.cache->longest(op.layer) + sequence.count);
  probabilityStride_ = roundUp(slots, 256);
  const size_t bytes = static_cast<size_t>(step.n) * floats(model_.heads, probabilityStride_);
  materialised_ = step.in.attention || static_cast<int64_t>(bytes) <= probabilityBytes_;
  if (!materialised_ || probabilities_.bytes() >= bytes) return;
  probabilities_ = DeviceBuffer();
  probabilities_ = DeviceBuffer(ledger_, MemoryTag::probabilities, bytes);
}

void Prefill::hand(const Step& step, const Op& op, const DeviceRows& sequence, int64_t row, int slots) {
  if (!step.in.attention) return;
  std::vector<float> host(static_cast<size_t>(model_.heads) * static_cast<size_t>(sequence.count) * static_cast<size_t>(probabilityStride_));
  probabilities_.copyTo(stream_, host.data(), host.size() * sizeof(float), floats(row * model_.heads, probabilityStride_));
  step.in.attention->take(op.layer, {host.data(), probabilityStride_, model_.heads, sequence.count, slots, sequence.first});
}

void Prefill::attend(const Step& step, const Op& op) {
  const bool reuse = op.kind == OpKind::attendReuse, kept = op.keepProbabilities || (step.in.attention && !reuse);
  if (kept) keepProbabilities(step, op);
  const bool given = reuse && materialised_, keeps = kept && materialised_;
  AttendArgs args;
  args.heads = model_.heads;
  args.kvHeads = model_.kvHeads;
  args.headDim = model_.headDim;
  args.scale = 1.0f / std::sqrt(static_cast<float>(model_.headDim));
  args.slidingWindow = model_.slidingWindow;
  // The products that follow round to 16 bits what attention gives them, or they do not.
  const ActivationMode mode = activationMode(step.in.activations, step.layer(op).v->format.storage);
  args.precise = mode == ActivationMode::f32 || mode == ActivationMode::int8;
  args.states = states_.as<float>();
  args.probabilityStride = probabilityStride_;
  int64_t row = 0;
  for (const DeviceRows& sequence : step.in.sequences) {
    DeviceKvCache& cache = *sequence.cache;
    float* probabilities = keeps || given ? probabilities_.as<float>() + row * model_.heads * probabilityStride_ : nullptr;
    args.queries = args.added = sequence.count;
    args.kv = cache.tables(op.layer, given ? -1 : reuse ? op.leader : op.layer);
    args.mostTokens = cache.longest(op.layer) + sequence.count;
    args.q = given ? nullptr : q_.as<float>() + row * model_.qRows();
    args.out = attended_.as<float>() + row * model_.qRows();
    args.reuse = given ? probabilities : nullptr;
    args.probabilities = keeps ? probabilities : nullptr;
    args.columnSums = reuse ? nullptr : cache.columnSums(op.layer);
    args.columnStride = cache.columnStride();
    if (sequence.count == 1 && (args.probabilities || !args.columnSums))
      attendOne(args);
    else
      attendPrefill(stream_, args);
    hand(step, op, sequence, row, args.mostTokens);
    row += sequence.count;
  }
}

// A sequence with one row has the decoder's attention, which spreads it over the device.
void Prefill::attendOne(AttendArgs args) {
  const size_t bytes = decodeScratchFloats(model_.heads, model_.headDim, args.mostTokens) * sizeof(float);
  if (partial_.bytes() < bytes) {
    partial_ = DeviceBuffer();
    partial_ = DeviceBuffer(ledger_, MemoryTag::activations, bytes);
  }
  args.partial = partial_.as<float>();
  attendDecode(stream_, args);
}

void Prefill::output(const Step& step, const Op& op) {
  const LayerWeights& w = step.layer(op);
  const int cols = op.down ? model_.ffn : model_.qRows();
  Source source{attended_.as<float>(), cols};
  if (op.down) {
    source = {(model_.gatedFfn ? gate_ : up_).as<float>(), cols, Source::Kind::activated};
    source.activation = model_.activation;
    if (model_.gatedFfn) source.up = up_.as<float>();
  }
  hand(step, op, op.down ? LinearInput::down : LinearInput::output, source, cols);
  const Target target{step.in.weights.matrix(op.down ? w.down : w.o), residual_.as<float>(), model_.hidden,
                      step.in.weights.vector(op.down ? w.downBias : w.oBias), true};
  products_.multiply({&target, 1}, source, step.n, cols, step.in.activations);
}

// The activation is made on the way into the second matrix.
void Prefill::gateUp(const Step& step, const Op& op) {
  const LayerWeights& w = step.layer(op);
  const DeviceWeights& weights = step.in.weights;
  const Source x = normed(step, 0, w.ffnNorm, w.ffnNormBias);
  hand(step, op, LinearInput::ffn, x, model_.hidden);
  std::vector<Target> targets = {{weights.matrix(w.up), up_.as<float>(), model_.ffn, weights.vector(w.upBias), false}};
  if (model_.gatedFfn) targets.push_back({weights.matrix(w.gate), gate_.as<float>(), model_.ffn, weights.vector(w.gateBias), false});
  products_.multiply(targets, x, step.n, model_.hidden, step.in.activations);
}

void Prefill::head(const Step& step) {
  const WeightSet& weights = step.in.weights.host();
  const int vocab = model_.vocab;
  const auto compute = [&](int first, int count, float* out) {
    const Target target{step.in.weights.matrix(weights.head), out, vocab, nullptr, false};
    products_.multiply({&target, 1}, normed(step, first, weights.outputNorm, weights.outputNormBias), count, model_.hidden, step.in.activations);
  };
  if (!step.in.sink) {
    if (step.in.wantLogits) compute(step.n - 1, 1, logits_.as<float>());
    return;
  }
  // Slices of about 64 MiB: enough rows to read the head once for many tokens.
  const int slice = static_cast<int>(std::min<int64_t>(std::max<int64_t>((int64_t{16} << 20) / vocab, 16), batch_));
  if (sinkLogits_.bytes() == 0) sinkLogits_ = DeviceBuffer(ledger_, MemoryTag::activations, floats(slice, vocab));
  float* out = sinkLogits_.as<float>();
  for (int first = step.in.sinkFrom; first < step.n; first += slice) {
    const int count = std::min(slice, step.n - first);
    compute(first, count, out);
    if (first + count == step.n)
      throwIfFailed(cudaMemcpyAsync(logits_.as<float>(), out + int64_t{count - 1} * vocab, floats(1, vocab), cudaMemcpyDeviceToDevice,
                                    stream_), "copy");
    (*step.in.sink)(step.in.sinkFirst + first, count, out);
  }
}

}  // namespace winnow::cuda
