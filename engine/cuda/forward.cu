// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/forward.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include "engine/core/check.h"
#include "engine/cuda/rope_pairs.h"
#include "engine/share/align.h"
#include "engine/sparsify/profile.h"
#include "engine/sparsify/prompt.h"

namespace winnow::cuda {
namespace {

static_assert(kMostSuperWeights <= kMostCorrections);

size_t floats(int64_t n) { return static_cast<size_t>(n) * sizeof(float); }
DeviceKvCache& cacheOf(const SequenceRows& sequence) { return static_cast<DeviceKvCache&>(*sequence.cache); }
const LayerWeights& layerOf(const ForwardInput& input, const Op& op) { return input.weights.layers[static_cast<size_t>(op.layer)]; }
MatrixArgs argsOf(const Matrix& m) { return {m.format, m.rows, m.cols, m.data, m.scales, m.mins, m.steps, m.sparse}; }
FactorArgs factorsOf(const ErrorFactors* error) { return error ? FactorArgs{argsOf(error->left), argsOf(error->right)} : FactorArgs(); }
// Of the right factors that see one input, the most in any layer.
int64_t mostRanks(const WeightSet& weights) {
  int64_t most = 0;
  const auto sum = [](std::initializer_list<const ErrorFactors*> errors) {
    int64_t ranks = 0;
    for (const ErrorFactors* error : errors) ranks += error ? Products::paddedRank(error->rank()) : 0;
    return ranks;
  };
  for (const LayerWeights& w : weights.layers)
    most = std::max({most, sum({w.qError, w.kError, w.vError}), sum({w.oError}), sum({w.gateError, w.upError}), sum({w.downError})});
  return most;
}

// Bytes of the largest matrix that leaves its zeros out, with them.
int64_t mostExpanded(const WeightSet& weights) {
  int64_t most = 0;
  for (const LayerWeights& w : weights.layers)
    for (const Matrix* m : {w.q, w.k, w.v, w.o, w.gate, w.up, w.down})
      if (m && m->format.sparse) most = std::max(most, int64_t{m->rows} * m->cols * static_cast<int64_t>(m->format.elementBytes()));
  return most;
}

}  // namespace

Forward::Forward(Ledger& host, Ledger& device, const ModelConfig& model, const BackendOptions& options, Stream stream)
    : host_(host), device_(device), model_(model), options_(options), stream_(stream),
      products_(device, options.batch, std::max({model.hidden, model.qRows(), model.ffn}), stream) {
  const auto rows = [&](int64_t columns) { return DeviceBuffer(device, MemoryTag::activations, floats(options.batch * columns)); };
  residual_ = rows(model.hidden);
  q_ = rows(model.qRows());
  k_ = rows(model.kvRows());
  v_ = rows(model.kvRows());
  attended_ = rows(model.qRows());
  if (model.gatedFfn) gate_ = rows(model.ffn);
  up_ = rows(model.ffn);
  states_ = rows(2 * int64_t{model.heads});
  tickets_ = DeviceBuffer(device, MemoryTag::metadata, static_cast<size_t>(model.heads) * sizeof(uint32_t));
  if (!device.planning()) tickets_.clear(stream);
  tokens_ = DeviceBuffer(device, MemoryTag::metadata, static_cast<size_t>(options.batch) * sizeof(int32_t));
  positions_ = DeviceBuffer(device, MemoryTag::metadata, tokens_.bytes());
  if (model.position != PositionKind::rope) return;
  const std::vector<float> frequencies = ropeFrequencies(model.rope);
  frequencies_ = DeviceBuffer(device, MemoryTag::metadata, floats(static_cast<int64_t>(frequencies.size())));
  cosines_ = rows(model.rope.dims / 2);
  sines_ = rows(model.rope.dims / 2);
  if (!device.planning()) frequencies_.copyFrom(stream, frequencies.data(), frequencies_.bytes());
}

// One row: a power of two, so that a captured pass serves many lengths.
void Forward::measure(const ForwardInput& input) {
  int slots = 0;
  for (const SequenceRows& sequence : input.sequences) slots = std::max(slots, cacheOf(sequence).mostSlots() + sequence.count);
  const bool one = input.tokens.size() == 1;
  slots_ = one ? static_cast<int>(std::bit_ceil(static_cast<unsigned>(std::max(slots, kAttendChunk)))) : slots;
  stride_ = one ? slots_ : (slots + 255) / 256 * 256;
}

void Forward::need(DeviceBuffer& buffer, MemoryTag tag, size_t bytes) {
  if (buffer.bytes() >= bytes) return;
  ++room_;
  buffer = DeviceBuffer();
  buffer = DeviceBuffer(device_, tag, bytes);
}

void Forward::needZeros(DeviceBuffer& buffer, MemoryTag tag, size_t bytes) {
  if (buffer.bytes() >= bytes) return;
  need(buffer, tag, bytes);
  if (!device_.planning()) buffer.clear(stream_);
}

void Forward::makeRoom(const ForwardInput& input) {
  measure(input);
  CHECK(input.plan.shortcuts == (input.weights.sliceWidth > 0), input.weights.sliceWidth);
  if (input.plan.shortcuts) need(aside_, MemoryTag::activations, residual_.bytes());
  const bool single = std::any_of(input.sequences.begin(), input.sequences.end(), [](const auto& s) { return s.count == 1; });
  if (single) need(partial_, MemoryTag::activations, floats(static_cast<int64_t>(decodeScratchFloats(model_.heads, model_.headDim, slots_))));
  for (const SequenceRows& sequence : input.sequences) makeReadable(cacheOf(sequence), sequence.count, slots_);
  const int64_t row = model_.heads * stride_, rows = static_cast<int64_t>(input.tokens.size()) * row;
  const bool followed = std::any_of(input.plan.ops.begin(), input.plan.ops.end(), [](const Op& op) { return op.keepProbabilities; });
  materialised_ = input.attention || (followed && static_cast<int64_t>(floats(rows)) <= options_.probabilityBytes);
  const bool aligned = std::any_of(input.plan.sharing.begin(), input.plan.sharing.end(), [](const LayerSharing& share) { return !share.heads.empty(); });
  if (materialised_) need(probabilities_, MemoryTag::probabilities, floats(rows));
  else if (aligned) need(probabilities_, MemoryTag::probabilities, floats(alignedQueries(input) * row));
  if (aligned) need(heads_, MemoryTag::metadata, input.plan.sharing.size() * static_cast<size_t>(model_.heads) * sizeof(int32_t));
  if (!input.weights.attention.empty() && !input.weights.attention.front().pairs.empty())
    need(pairs_, MemoryTag::metadata, input.weights.attention.size() * static_cast<size_t>(model_.kvRows() / 2) * sizeof(int32_t));
  const bool counted = std::any_of(input.sequences.begin(), input.sequences.end(), [](const auto& s) { return s.cache->observed().all; });
  if (counted && single) need(tapped_, MemoryTag::probabilities, floats(row));
  if (products_.reserveRanks(mostRanks(input.weights), options_.batch)) ++room_;
  if (products_.reserveExpanded(mostExpanded(input.weights))) ++room_;
  makeSparseRoom(input);
  makeCriticalRoom(input);
}

// The head multiplies too few rows at a time.
void Forward::makeTwins(const ForwardInput& input, const std::function<int64_t()>& room) {
  if (input.tokens.size() <= static_cast<size_t>(kMostTokens)) return;
  const auto matricesOf = [&](const Op& op) -> std::array<const Matrix*, 3> {
    const LayerWeights& w = layerOf(input, op);
    switch (op.kind) {
      case OpKind::qkv: return {w.q, w.k, w.v};
      case OpKind::qOnly: return {w.q};
      case OpKind::vOnly: return {w.v};
      case OpKind::linear: return {op.down ? w.down : w.o};
      default: return {w.up, w.gate};
    }
  };
  for (const Op& op : input.plan.ops) {
    if (op.kind != OpKind::qkv && op.kind != OpKind::qOnly && op.kind != OpKind::vOnly && op.kind != OpKind::linear && op.kind != OpKind::gateUp) continue;
    for (const Matrix* matrix : matricesOf(op))
      if (matrix) products_.makeTwin(*matrix, static_cast<int>(input.tokens.size()), input.activations, room);
  }
}

void Forward::releaseProbabilities() {
  if (probabilities_.bytes() > 0) ++room_;
  probabilities_ = DeviceBuffer();
  hostProbabilities_ = Buffer();
}

void Forward::upload(const ForwardInput& input) {
  tokens_.copyFrom(stream_, input.tokens.data(), input.tokens.size_bytes());
  std::vector<int32_t> positions;
  for (const SequenceRows& sequence : input.sequences)
    for (int i = 0; i < sequence.count; ++i) positions.push_back(static_cast<int32_t>(sequence.first + i));
  CHECK(positions.size() == input.tokens.size(), positions.size(), input.tokens.size());
  positions_.copyFrom(stream_, positions.data(), positions.size() * sizeof(int32_t));
  uploadHeads(input.plan);
  uploadNeurons();
  uploadPairs(input.weights);
}

void Forward::uploadPairs(const WeightSet& weights) {
  if (pairs_.bytes() == 0) return;
  std::vector<int32_t> wanted;
  for (const KeptAttention& each : weights.attention) {
    wanted.insert(wanted.end(), each.pairs.begin(), each.pairs.end());
    wanted.resize(wanted.size() + static_cast<size_t>(model_.kvRows() / 2) - each.pairs.size());
  }
  if (wanted == hostPairs_) return;
  pairs_.copyFrom(stream_, wanted.data(), wanted.size() * sizeof(int32_t));
  hostPairs_ = std::move(wanted);
}

void Forward::uploadHeads(const Plan& plan) {
  if (heads_.bytes() == 0) return;
  std::vector<int32_t> wanted;
  for (const LayerSharing& share : plan.sharing) {
    wanted.insert(wanted.end(), share.heads.begin(), share.heads.end());
    wanted.resize(wanted.size() + static_cast<size_t>(model_.heads) - share.heads.size());
  }
  if (wanted == hostHeads_) return;
  heads_.copyFrom(stream_, wanted.data(), wanted.size() * sizeof(int32_t));
  hostHeads_ = std::move(wanted);
}

const int32_t* Forward::headsOf(const Plan& plan, const Op& op) const {
  return plan.headsOf(op).empty() ? nullptr : heads_.as<int32_t>() + int64_t{op.layer} * model_.heads;
}

// A follower with heads of its own choice needs whole rows of its leader: those of so many queries at a time, where all don't fit.
int Forward::alignedQueries(const ForwardInput& input) const {
  const auto most = static_cast<int64_t>(input.tokens.size());
  return static_cast<int>(std::clamp<int64_t>(options_.probabilityBytes / static_cast<int64_t>(floats(model_.heads * stride_)), 1, most));
}

void Forward::enqueue(const ForwardInput& input, OpMarks* marks) {
  const int n = static_cast<int>(input.tokens.size());
  skips_.clear();
  if (model_.position == PositionKind::rope)
    prepareRotations(stream_, frequencies_.as<float>(), model_.rope.dims, positions_.as<int32_t>(), n, cosines_.as<float>(), sines_.as<float>());
  for (size_t i = 0; i < input.plan.ops.size(); ++i) {
    const Op& op = input.plan.ops[i];
    if (op.kind == OpKind::logits) continue;
    if (marks) marks->begin(i);
    switch (op.kind) {
      case OpKind::embed: {
        const MatrixArgs positions = input.weights.positions ? argsOf(*input.weights.positions) : MatrixArgs();
        embed(stream_, argsOf(*input.weights.embedding), input.weights.positions ? &positions : nullptr, tokens_.as<int32_t>(), positions_.as<int32_t>(), n,
              residual_.as<float>());
        break;
      }
      case OpKind::qkv:
      case OpKind::qOnly:
      case OpKind::vOnly: project(input, op); break;
      case OpKind::attend:
      case OpKind::attendReuse: attend(input, op); break;
      case OpKind::linear: output(input, op); break;
      case OpKind::shortcut: shortcut(input, op); break;
      default: gateUp(input, op);
    }
    if (marks) marks->end();
  }
  tapStream(input, 2 * model_.layers);
  for (const SequenceRows& sequence : input.sequences) advance(stream_, cacheOf(sequence).lengths(), cacheOf(sequence).heads(), sequence.count);
}

Source Forward::normed(const ForwardInput& input, int firstRow, const float* weight, const float* bias) const {
  Source source{residual_.as<float>() + int64_t{firstRow} * width(input), width(input),
                model_.norm == NormKind::rms ? Source::Kind::rms : Source::Kind::layer};
  source.weight = weight;
  source.bias = bias;
  source.eps = input.weights.normEps(model_);
  return source;
}

// In place: a row never moves behind one that is still to move.
void Forward::gatherRows(const ForwardInput& input) {
  const std::span<const int> rows = input.sinkRows;
  const size_t bytes = floats(width(input));
  for (size_t i = 0; i < rows.size(); ++i)
    if (static_cast<size_t>(rows[i]) != i) residual_.copyFromDevice(stream_, residual_.as<float>() + int64_t{rows[i]} * width(input), bytes, i * bytes);
}

void Forward::project(const ForwardInput& input, const Op& op) {
  const LayerWeights& w = layerOf(input, op);
  const Source x = normed(input, 0, w.attnNorm, w.attnNormBias);
  tapStream(input, 2 * op.layer);
  tapInput(input, op, LinearInput::attention, x, width(input));
  const ChannelMajorLayer& channels = channelsOf(input, op);
  const auto made = [](const Matrix* m, const float* bias, const ErrorFactors* error, const std::shared_ptr<const ChannelMajor>& of, const DeviceBuffer& y) {
    return SparseLinear{{argsOf(*m), y.as<float>(), m->rows, bias, false}, factorsOf(error), m, of.get()};
  };
  std::vector<SparseLinear> linears;
  if (op.kind != OpKind::vOnly) linears.push_back(made(w.q, w.qBias, w.qError, channels.q, q_));
  if (op.kind == OpKind::qkv) linears.push_back(made(w.k, w.kBias, w.kError, channels.k, k_));
  if (op.kind != OpKind::qOnly) linears.push_back(made(w.v, w.vBias, w.vError, channels.v, v_));
  linear(input, op, LinearInput::attention, linears, x, width(input));
  store(input, op);
}

void Forward::store(const ForwardInput& input, const Op& op) {
  const LayerWeights& w = layerOf(input, op);
  const bool queries = op.kind != OpKind::vOnly, keys = op.kind == OpKind::qkv;
  int64_t row = 0;
  for (const SequenceRows& sequence : input.sequences) {
    StoreArgs args;
    if (queries) args.q = q_.as<float>() + row * model_.qRows();
    if (keys) args.k = k_.as<float>() + row * model_.kvRows();
    if (op.kind != OpKind::qOnly) args.v = v_.as<float>() + row * model_.kvRows();
    args.tokens = sequence.count;
    args.heads = model_.heads;
    args.kvHeads = model_.kvHeads;
    args.headDim = model_.headDim;
    if (model_.qkNorm && queries) args.qNorm = w.qNorm, args.kNorm = w.kNorm;
    args.eps = model_.normEps;
    if (model_.position == PositionKind::rope) {
      args.cosines = cosines_.as<float>() + row * (model_.rope.dims / 2);
      args.sines = sines_.as<float>() + row * (model_.rope.dims / 2);
      args.ropeDims = model_.rope.dims;
    }
    args.positionIds = positions_.as<int32_t>() + row;
    args.kv = cacheOf(sequence).tables(op.layer, keys ? op.layer : -1);
    if (keys) args.recent = cacheOf(sequence).deviceQueries(op.layer), args.recentRows = sequence.cache->observed().newest;
    const bool hadamard = sequence.cache->format().rotateKeys;
    if (input.weights.ropePairs(op.layer))
      rotatePairsAndStore(stream_, args, pairs_.as<int32_t>() + int64_t{op.layer} * (model_.kvRows() / 2), hadamard);
    else
      (hadamard ? rotateAndStoreHadamard : rotateAndStore)(stream_, args);
    row += sequence.count;
  }
}

AttendArgs Forward::attendArgs() const {
  AttendArgs args;
  args.heads = model_.heads;
  args.kvHeads = model_.kvHeads;
  args.headDim = model_.headDim;
  args.scale = 1.0f / std::sqrt(static_cast<float>(model_.headDim));
  args.slidingWindow = model_.slidingWindow;
  args.tickets = tickets_.as<uint32_t>();
  return args;
}

// The lengths on the device count the queries' own slots already.
void Forward::observe(DeviceKvCache& cache, int queries) {
  const int64_t stride = std::bit_ceil(static_cast<unsigned>(std::max(cache.mostSlots(), kAttendChunk)));
  const auto scratch = [&](DeviceBuffer& buffer, int64_t count) { need(buffer, MemoryTag::activations, floats(count)); };
  makeReadable(cache, queries, cache.mostSlots());
  scratch(observed_.q, int64_t{queries} * model_.qRows());
  scratch(observed_.out, int64_t{queries} * model_.qRows());
  scratch(observed_.states, int64_t{queries} * model_.heads * 2);
  if (queries == 1) {
    scratch(observed_.partial, static_cast<int64_t>(decodeScratchFloats(model_.heads, model_.headDim, static_cast<int>(stride))));
    scratch(observed_.probabilities, model_.heads * stride);
  }
  if (device_.planning()) return;
  AttendArgs args = attendArgs();
  args.queries = queries;
  args.mostTokens = cache.mostSlots();
  if (cache.format().aligned > 0) args.aligned = 1 << 16;  // binades: planes are read whole
  args.q = observed_.q.as<float>();
  args.out = observed_.out.as<float>();
  args.states = observed_.states.as<float>();
  args.partial = observed_.partial.as<float>();
  args.probabilityStride = stride;
  args.columnStride = cache.columnStride();
  args.precise = true;
  for (int layer = 0; layer < cache.layers(); ++layer) {
    if (!cache.ownsKeys(layer) || !cache.holds(layer)) continue;
    cache.newestQueries(layer, queries, observed_.q);
    cache.clearSums(layer);
    args.kv = readable(cache, layer, layer, queries, 0, args.mostTokens);
    args.columnSums = cache.deviceSums(layer);
    if (queries > 1) {
      attendPrefill(stream_, args);
      continue;
    }
    args.probabilities = observed_.probabilities.as<float>();
    attendDecode(stream_, args);
  }
}

void Forward::attendAligned(const ForwardInput& input, const Op& op, const SequenceRows& sequence, int64_t row) {
  const DeviceKvCache& cache = cacheOf(sequence);
  const int together = alignedQueries(input);
  for (int first = 0; first < sequence.count; first += together) {
    AttendArgs args = attendArgs();
    args.queries = std::min(together, sequence.count - first);
    args.added = first + args.queries;  // the cache as the last of these queries sees it
    args.mostTokens = slots_;
    args.probabilityStride = stride_;
    args.precise = true;
    args.states = states_.as<float>();
    args.partial = partial_.as<float>();
    args.aligned = cache.format().aligned;  // of one query
    args.out = attended_.as<float>() + (row + first) * model_.qRows();
    const auto run = [&](const CriticalList& critical) { sequence.count > 1 ? attendPrefill(stream_, args, critical) : attendDecode(stream_, args); };
    args.kv = readable(cache, op.leader, op.leader, sequence.count, sequence.count, slots_);
    args.q = q_.as<float>() + (row + first) * model_.qRows();
    args.probabilities = probabilities_.as<float>();
    run(critical_.list);
    args.kv = readable(cache, op.layer, -1, sequence.count, sequence.count, slots_);
    args.q = nullptr;
    args.reuse = std::exchange(args.probabilities, nullptr);
    args.reuseHeads = headsOf(input.plan, op);
    args.unread = cache.unreadChunks(op.layer);
    args.unreadStride = cache.unreadStride();
    run({});  // its heads want what heads of other groups chose: the rows are zero elsewhere
  }
}

void Forward::attend(const ForwardInput& input, const Op& op) {
  const bool again = op.kind == OpKind::attendReuse && !materialised_ && !input.plan.headsOf(op).empty();
  int64_t row = 0;
  for (const SequenceRows& sequence : input.sequences) {
    again ? attendAligned(input, op, sequence, row) : attendSequence(input, op, sequence, row);
    if (input.attention) tapAttention(input, op, sequence, row);
    row += sequence.count;
  }
}

void Forward::attendSequence(const ForwardInput& input, const Op& op, const SequenceRows& sequence, int64_t row) {
  const bool reuse = op.kind == OpKind::attendReuse, given = reuse && materialised_;
  const bool kept = materialised_ && (op.keepProbabilities || input.attention) && !reuse;
  const DeviceKvCache& cache = cacheOf(sequence);
  // A tap is told of every slot. A follower reads what its leader chose.
  const int own = reuse ? op.layer : op.source;  // whose values
  const bool chosen = chooses(cache, sequence.count, slots_) && cache.selects(reuse ? op.leader : own) && !input.attention;
  float* probabilities = probabilities_.as<float>() + row * model_.heads * stride_;
  AttendArgs args = attendArgs();
  args.queries = args.added = sequence.count;
  args.mostTokens = slots_;
  args.q = given ? nullptr : q_.as<float>() + row * model_.qRows();
  const int keyLayer = given ? -1 : reuse ? op.leader : own;
  if (!reuse) critical_.list = chooseBlocks(input, op, args.q);
  if (chosen && !reuse) choose(cache, own, args.q);
  if (chosen)
    readChosen(cache, own, keyLayer, args);
  else
    args.kv = readable(cache, own, keyLayer, sequence.count, sequence.count, slots_);
  args.out = attended_.as<float>() + row * model_.qRows();
  args.reuse = given ? probabilities : nullptr;
  args.reuseHeads = given ? headsOf(input.plan, op) : nullptr;
  args.probabilities = kept ? probabilities : nullptr;
  args.probabilityStride = stride_;
  if (!chosen && sequence.count == 1) {
    args.aligned = cache.format().aligned;
    args.unread = cache.unreadChunks(op.layer);
    args.unreadStride = cache.unreadStride();
  }
  args.columnSums = reuse || !cache.observed().all ? nullptr : cache.deviceSums(own);
  args.columnStride = cache.columnStride();
  // The products that follow round to 16 bits what attention gives them, or they do not.
  const ActivationMode mode = activationMode(input.activations, layerOf(input, op).v->format);
  args.precise = mode == ActivationMode::f32 || mode == ActivationMode::int8;
  args.states = states_.as<float>();
  args.partial = partial_.as<float>();
  // Rows of other heads are zero where those chose otherwise.
  if (sequence.count > 1) return attendPrefill(stream_, args, input.plan.headsOf(op).empty() ? critical_.list : CriticalList());
  if (args.columnSums && !kept) args.probabilities = tapped_.as<float>();
  attendDecode(stream_, args);
}

// Norms and activations are made on the way into products: for a tap they are made once more, to be seen.
void Forward::tapInput(const ForwardInput& input, const Op& op, LinearInput which, const Source& source, int cols) {
  if (!input.tap) return;
  const int n = static_cast<int>(input.tokens.size());
  if (const auto* prompt = dynamic_cast<const PromptNeurons*>(input.tap)) {  // it wants sums, which are made here
    if (which == LinearInput::down) tapSquares(op, *prompt, source, n, cols);
    return;
  }
  const DeviceBuffer seen(device_, MemoryTag::activations, floats(int64_t{n} * cols));
  CHECK(source.kind != Source::Kind::rows || source.stride == cols, source.stride, cols);
  const bool asItLies = source.kind == Source::Kind::rows;
  if (!asItLies) prepare(stream_, source, n, cols, ActivationMode::f32, {.plain = true}, seen.as<void>());
  std::vector<float> host(input.tokens.size() * static_cast<size_t>(cols));
  (asItLies ? attended_ : seen).copyTo(stream_, host.data(), host.size() * sizeof(float));
  input.tap->take(op.layer, which, host.data(), cols, n, cols);
}

void Forward::tapStream(const ForwardInput& input, int point) {
  if (!input.tap || dynamic_cast<const PromptNeurons*>(input.tap)) return;
  std::vector<float> host(input.tokens.size() * static_cast<size_t>(width(input)));
  residual_.copyTo(stream_, host.data(), host.size() * sizeof(float));
  input.tap->takeStream(point, host.data(), width(input), static_cast<int>(input.tokens.size()));
}

void Forward::tapAttention(const ForwardInput& input, const Op& op, const SequenceRows& sequence, int64_t row) {
  const size_t bytes = floats(int64_t{model_.heads} * sequence.count * stride_);
  if (hostProbabilities_.bytes() < bytes) {
    hostProbabilities_ = Buffer();
    hostProbabilities_ = Buffer(host_, MemoryTag::probabilities, bytes);
  }
  probabilities_.copyTo(stream_, hostProbabilities_.data(), bytes, floats(row * model_.heads * stride_));
  const int columns = sequence.cache->longest(op.kind == OpKind::attend ? op.source : op.layer) + sequence.count;
  std::vector<float> own;
  if (!input.plan.headsOf(op).empty()) own = rowsOfHeads(hostProbabilities_.as<float>(), stride_, sequence.count, input.plan.headsOf(op));
  input.attention->take(op.layer, {own.empty() ? hostProbabilities_.as<float>() : own.data(), stride_, model_.heads, sequence.count, columns, sequence.first});
}

void Forward::output(const ForwardInput& input, const Op& op) {
  const LayerWeights& w = layerOf(input, op);
  const int cols = op.down ? w.down->cols : model_.qRows();
  Source x{attended_.as<float>(), cols};
  if (op.down) {
    x = {(model_.gatedFfn ? gate_ : up_).as<float>(), cols, Source::Kind::activated};
    x.activation = model_.activation;
    if (model_.gatedFfn) x.up = up_.as<float>();
  }
  tapInput(input, op, op.down ? LinearInput::down : LinearInput::output, x, cols);
  const Matrix* m = op.down ? w.down : w.o;
  const ChannelMajorLayer& channels = channelsOf(input, op);
  const Target target{argsOf(*m), residual_.as<float>(), width(input), op.down ? w.downBias : w.oBias, true};
  const SparseLinear one{target, factorsOf(op.down ? w.downError : w.oError), m, (op.down ? channels.down : channels.o).get()};
  linear(input, op, op.down ? LinearInput::down : LinearInput::output, {&one, 1}, x, cols);
}

// Matrices that see one input, what they lack and what was corrected.
void Forward::linear(const ForwardInput& input, const Op& op, LinearInput which, std::span<const SparseLinear> linears, const Source& x, int cols) {
  const int n = static_cast<int>(input.tokens.size());
  if (anySparse()) {
    for (int row = 0; row < n; ++row) linearRow(input, op, row, which, linears, x, cols);
    return;
  }
  const RowLinears all(linears, 0);
  products_.multiply(all.targets(), x, n, cols, input.activations, all.factors());
  const LayerWeights& w = layerOf(input, op);
  if (which == LinearInput::down && w.downCorrections) correct(stream_, *w.downCorrections, x, n, all.targets()[0].y, all.targets()[0].yStride);
}

// The residual is not rounded, whatever activations are.
void Forward::shortcut(const ForwardInput& input, const Op& op) {
  const Matrix& w = *(op.down ? layerOf(input, op).ffnShortcut : layerOf(input, op).attnShortcut);
  const Target target{argsOf(w), aside_.as<float>(), w.rows, nullptr, false};
  products_.multiply({&target, 1}, {residual_.as<float>(), w.cols}, static_cast<int>(input.tokens.size()), w.cols, Activations::f32);
  std::swap(residual_, aside_);
}

// The activation is made on the way into the second matrix.
void Forward::gateUp(const ForwardInput& input, const Op& op) {
  const LayerWeights& w = layerOf(input, op);
  const Source x = normed(input, 0, w.ffnNorm, w.ffnNormBias);
  tapStream(input, 2 * op.layer + 1);
  tapInput(input, op, LinearInput::ffn, x, width(input));
  const ChannelMajorLayer& channels = channelsOf(input, op);
  std::vector<SparseLinear> linears = {{{argsOf(*w.up), up_.as<float>(), w.up->rows, w.upBias, false}, factorsOf(w.upError), w.up, channels.up.get()}};
  if (model_.gatedFfn)
    linears.push_back({{argsOf(*w.gate), gate_.as<float>(), w.gate->rows, w.gateBias, false}, factorsOf(w.gateError), w.gate, channels.gate.get()});
  if (!anySparse()) {
    linear(input, op, LinearInput::ffn, linears, x, width(input));
    return tapGate(input, op);
  }
  for (int row = 0; row < static_cast<int>(input.tokens.size()); ++row) gateUpRow(input, op, row, linears, x);
}

void Forward::tapGate(const ForwardInput& input, const Op& op) const {
  auto* tap = dynamic_cast<GateTap*>(input.tap);
  if (!tap || !model_.gatedFfn) return;
  const int n = static_cast<int>(input.tokens.size()), ffn = layerOf(input, op).gate->rows;
  std::vector<float> host(input.tokens.size() * static_cast<size_t>(ffn));
  gate_.copyTo(stream_, host.data(), host.size() * sizeof(float));
  tap->takeGate(op.layer, host.data(), ffn, n, ffn);
}

void Forward::logits(const ForwardInput& input, int firstRow, int rows, float* out) {
  const Target target{argsOf(*input.weights.head), out, model_.vocab, nullptr, false};
  products_.multiply({&target, 1}, normed(input, firstRow, input.weights.outputNorm, input.weights.outputNormBias), rows, width(input),
                     input.activations);
}

}  // namespace winnow::cuda
