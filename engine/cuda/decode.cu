// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/decode.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "engine/core/check.h"
#include "engine/cuda/checked.h"

namespace winnow::cuda {
namespace {

constexpr int kLeastBound = kAttendChunk;
size_t floats(int64_t n) { return static_cast<size_t>(n) * sizeof(float); }

}  // namespace

struct Decoder::Graph {
  cudaGraphExec_t exec = nullptr;
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() {
    if (exec) cudaGraphExecDestroy(exec);
  }
};

Decoder::Decoder(Ledger& ledger, const ModelConfig& model, int context, Stream stream)
    : ledger_(ledger), model_(model), context_(context), stream_(stream),
      products_(ledger, 1, std::max({model.hidden, model.qRows(), model.ffn}), stream) {
  const auto row = [&](int64_t n) { return DeviceBuffer(ledger, MemoryTag::activations, floats(n)); };
  residual_ = row(model.hidden);
  q_ = row(model.qRows());
  k_ = row(model.kvRows());
  v_ = row(model.kvRows());
  attended_ = row(model.qRows());
  if (model.gatedFfn) gate_ = row(model.ffn);
  up_ = row(model.ffn);
  logits_ = row(model.vocab);
  token_ = DeviceBuffer(ledger, MemoryTag::metadata, sizeof(int32_t));
  position_ = DeviceBuffer(ledger, MemoryTag::metadata, sizeof(int32_t));
  if (model.position != PositionKind::rope) return;
  const std::vector<float> frequencies = ropeFrequencies(model.rope);
  frequencies_ = DeviceBuffer(ledger, MemoryTag::metadata, floats(static_cast<int64_t>(frequencies.size())));
  cosines_ = DeviceBuffer(ledger, MemoryTag::metadata, frequencies_.bytes());
  sines_ = DeviceBuffer(ledger, MemoryTag::metadata, frequencies_.bytes());
  if (!ledger.planning()) frequencies_.copyFrom(stream, frequencies.data(), frequencies_.bytes());
}

Decoder::~Decoder() = default;

int Decoder::boundOf(int tokens) const {
  return std::max(kLeastBound, static_cast<int>(std::bit_ceil(static_cast<unsigned>(tokens))));
}

// What depends on the bound on the lengths.
void Decoder::makeRoom(int bound) {
  if (bound <= bound_) return;
  graph_.reset();  // it names the buffers that go
  partial_ = DeviceBuffer();
  partial_ =
      DeviceBuffer(ledger_, MemoryTag::activations, floats(static_cast<int64_t>(decodeScratchFloats(model_.heads, model_.headDim, bound))));
  for (DeviceBuffer* p : {&probabilities_, &tapped_}) *p = DeviceBuffer();
  bound_ = bound;
}

void Decoder::step(const DecodeInput& input) {
  DeviceKvCache& cache = input.cache;
  cache.reserve(1, stream_);
  makeRoom(boundOf(cache.longest() + 1));
  const auto need = [&](DeviceBuffer& buffer) {
    if (buffer.bytes() > 0) return;
    graph_.reset();
    buffer = DeviceBuffer(ledger_, MemoryTag::probabilities, floats(int64_t{model_.heads} * bound_));
  };
  const float* sums = cache.columnSums(0);
  if (std::any_of(input.plan.ops.begin(), input.plan.ops.end(), [](const Op& op) { return op.keepProbabilities; })) need(probabilities_);
  if (sums) need(tapped_);
  token_.copyFrom(stream_, &input.token, sizeof input.token);
  position_.copyFrom(stream_, &input.position, sizeof input.position);
  const Key key{input.epoch, bound_, sums};
  if (!graph_ || !(key == key_)) {
    graph_.reset();
    graph_ = capture(input);
    key_ = key;
  }
  throwIfFailed(cudaGraphLaunch(graph_->exec, stream_), "launch");
  cache.advanced(1);
}

std::unique_ptr<Decoder::Graph> Decoder::capture(const DecodeInput& input) {
  cudaGraph_t captured = nullptr;
  throwIfFailed(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
  try {
    run(input);
  } catch (...) {  // the stream must not stay in capture
    if (cudaStreamEndCapture(stream_, &captured) == cudaSuccess) cudaGraphDestroy(captured);
    throw;
  }
  throwIfFailed(cudaStreamEndCapture(stream_, &captured), "capture");
  auto graph = std::make_unique<Graph>();
  const cudaError_t made = cudaGraphInstantiate(&graph->exec, captured, 0);
  cudaGraphDestroy(captured);
  throwIfFailed(made, "graph");
  ++captures_;
  return graph;
}

std::vector<float> Decoder::logits() const {
  std::vector<float> out(static_cast<size_t>(model_.vocab));
  logits_.copyTo(stream_, out.data(), floats(model_.vocab));
  return out;
}

void Decoder::run(const DecodeInput& input) {
  const WeightSet& weights = input.weights.host();
  if (model_.position == PositionKind::rope)
    prepareRotations(stream_, frequencies_.as<float>(), model_.rope.dims, position_.as<int32_t>(), 1, cosines_.as<float>(),
                     sines_.as<float>());
  for (const Op& op : input.plan.ops) {
    switch (op.kind) {
      case OpKind::embed: {
        const MatrixArgs table = input.weights.matrix(weights.embedding);
        const MatrixArgs positions = weights.positions ? input.weights.matrix(weights.positions) : MatrixArgs();
        embed(stream_, table, weights.positions ? &positions : nullptr, token_.as<int32_t>(), position_.as<int32_t>(), 1,
              residual_.as<float>());
        break;
      }
      case OpKind::qkv:
      case OpKind::vOnly: project(input, op); break;
      case OpKind::attend:
      case OpKind::attendReuse: attend(input, op); break;
      case OpKind::linear: output(input, op); break;
      case OpKind::gateUp: gateUp(input, op); break;
      case OpKind::logits: head(input); break;
    }
  }
  advance(stream_, input.cache.lengths(), input.cache.heads(), 1);
}

Source Decoder::normed(const DecodeInput& input, const float* weight, const float* bias) const {
  Source source{residual_.as<float>(), model_.hidden, model_.norm == NormKind::rms ? Source::Kind::rms : Source::Kind::layer};
  source.weight = input.weights.vector(weight);
  source.bias = input.weights.vector(bias);
  source.eps = model_.normEps;
  return source;
}

void Decoder::project(const DecodeInput& input, const Op& op) {
  const LayerWeights& w = input.weights.host().layers[static_cast<size_t>(op.layer)];
  const bool follower = op.kind == OpKind::vOnly;
  const auto target = [&](const Matrix* m, const float* bias, const DeviceBuffer& y) {
    return Target{input.weights.matrix(m), y.as<float>(), m->rows, input.weights.vector(bias), false};
  };
  std::vector<Target> targets;
  if (!follower) targets = {target(w.q, w.qBias, q_), target(w.k, w.kBias, k_)};
  targets.push_back(target(w.v, w.vBias, v_));
  products_.multiply(targets, normed(input, w.attnNorm, w.attnNormBias), 1, model_.hidden, input.activations);
  StoreArgs args;
  if (!follower) args.q = q_.as<float>(), args.k = k_.as<float>();
  args.v = v_.as<float>();
  args.tokens = 1;
  args.heads = model_.heads;
  args.kvHeads = model_.kvHeads;
  args.headDim = model_.headDim;
  if (model_.qkNorm && !follower) args.qNorm = input.weights.vector(w.qNorm), args.kNorm = input.weights.vector(w.kNorm);
  args.eps = model_.normEps;
  if (model_.position == PositionKind::rope) {
    args.cosines = cosines_.as<float>();
    args.sines = sines_.as<float>();
    args.ropeDims = model_.rope.dims;
  }
  args.positionIds = position_.as<int32_t>();
  args.kv = input.cache.tables(op.layer, follower ? -1 : op.layer);
  rotateAndStore(stream_, args);
}

void Decoder::attend(const DecodeInput& input, const Op& op) {
  const bool reuse = op.kind == OpKind::attendReuse;
  AttendArgs args;
  args.heads = model_.heads;
  args.kvHeads = model_.kvHeads;
  args.headDim = model_.headDim;
  args.kv = input.cache.tables(op.layer, reuse ? -1 : op.layer);
  args.added = 1;
  args.mostTokens = bound_;
  args.scale = 1.0f / std::sqrt(static_cast<float>(model_.headDim));
  args.slidingWindow = model_.slidingWindow;
  args.out = attended_.as<float>();
  args.partial = partial_.as<float>();
  args.probabilityStride = bound_;
  if (reuse) {
    args.reuse = probabilities_.as<float>();
  } else {
    args.q = q_.as<float>();
    args.columnSums = input.cache.columnSums(op.layer);
    args.columnStride = input.cache.columnStride();
    if (op.keepProbabilities)
      args.probabilities = probabilities_.as<float>();
    else if (args.columnSums)
      args.probabilities = tapped_.as<float>();
  }
  attendDecode(stream_, args);
}

void Decoder::output(const DecodeInput& input, const Op& op) {
  const LayerWeights& w = input.weights.host().layers[static_cast<size_t>(op.layer)];
  const Target target{input.weights.matrix(op.down ? w.down : w.o), residual_.as<float>(), model_.hidden,
                      input.weights.vector(op.down ? w.downBias : w.oBias), true};
  Source source{attended_.as<float>(), model_.qRows()};
  if (op.down) {
    source = {(model_.gatedFfn ? gate_ : up_).as<float>(), model_.ffn, Source::Kind::activated};
    source.activation = model_.activation;
    if (model_.gatedFfn) source.up = up_.as<float>();
  }
  products_.multiply({&target, 1}, source, 1, op.down ? model_.ffn : model_.qRows(), input.activations);
}

// The activation is made on the way into the second matrix.
void Decoder::gateUp(const DecodeInput& input, const Op& op) {
  const LayerWeights& w = input.weights.host().layers[static_cast<size_t>(op.layer)];
  std::vector<Target> targets = {{input.weights.matrix(w.up), up_.as<float>(), model_.ffn, input.weights.vector(w.upBias), false}};
  if (model_.gatedFfn)
    targets.push_back({input.weights.matrix(w.gate), gate_.as<float>(), model_.ffn, input.weights.vector(w.gateBias), false});
  products_.multiply(targets, normed(input, w.ffnNorm, w.ffnNormBias), 1, model_.hidden, input.activations);
}

void Decoder::head(const DecodeInput& input) {
  const WeightSet& weights = input.weights.host();
  const Target target{input.weights.matrix(weights.head), logits_.as<float>(), model_.vocab, nullptr, false};
  products_.multiply({&target, 1}, normed(input, weights.outputNorm, weights.outputNormBias), 1, model_.hidden, input.activations);
}

}  // namespace winnow::cuda
