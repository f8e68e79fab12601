// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cuda/backend.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <utility>

#include "engine/core/check.h"
#include "engine/cuda/checked.h"
#include "engine/cuda/fp8.h"
#include "engine/cuda/roofline.h"
#include "engine/cuda/weights.h"
#include "engine/run/op_cost.h"
#include "engine/run/sampler.h"
#include "engine/sparsify/prompt.h"
#include "engine/sparsify/skipped.h"

namespace winnow::cuda {
namespace {

size_t floats(int64_t n) { return static_cast<size_t>(n) * sizeof(float); }
DeviceKvCache& cacheOf(const SequenceRows& sequence) { return static_cast<DeviceKvCache&>(*sequence.cache); }

void need(DeviceBuffer& buffer, Ledger& ledger, MemoryTag tag, size_t bytes) {
  if (buffer.bytes() >= bytes) return;
  buffer = DeviceBuffer();
  buffer = DeviceBuffer(ledger, tag, bytes);
}

}  // namespace

CudaBackend::CudaBackend(Ledger& host, Ledger& device, int ordinal, const ModelConfig& model, const BackendOptions& options, std::atomic<uint64_t>& caches)
    : ordinal_(ordinal), options_(options), model_(options_.shape ? *options_.shape : model), host_(host), device_(host.planning(), host.planning() ? nullptr : &device), whole_(device), caches_(caches),
      forward_(host, device_, model_, options_, stream_.get()) {
  logits_ = DeviceBuffer(device_, MemoryTag::activations, floats(model.vocab));
  hostLogits_ = PinnedBuffer(host, MemoryTag::activations, floats(model.vocab));
  // Slices of about 16 MiB: enough rows to read the head once for many tokens.
  sliceRows_ = static_cast<int>(std::min<int64_t>(std::max<int64_t>((int64_t{4} << 20) / model.vocab, 16), options.batch));
}

CudaBackend::~CudaBackend() = default;

std::unique_ptr<KvCache> CudaBackend::makeCache(int context) {
  useDevice(ordinal_);
  return std::make_unique<DeviceKvCache>(host_, device_, model_, context, stream_.get(), ++caches_);
}

void CudaBackend::reserveSlice() {
  if (slice_.bytes() > 0) return;
  slice_ = DeviceBuffer(device_, MemoryTag::activations, floats(int64_t{sliceRows_} * model_.vocab));
  hostSlice_ = PinnedBuffer(host_, MemoryTag::activations, slice_.bytes());
}

std::string CudaBackend::whyNoTwins() const {
  const Cublas& library = forward_.products().library();
  return library.available() ? "" : "twins are what cuBLASLt multiplies: " + library.reason() + ".";
}

// The cache at its full length goes before, and a reserve: for what is not ours, and where nobody asked for twins a tenth of the device.
int64_t CudaBackend::roomForTwins(const ForwardInput& input) const {
  constexpr int64_t kReserve = int64_t{256} << 20;
  size_t freeBytes = 0, totalBytes = 0;
  throwIfFailed(cudaMemGetInfo(&freeBytes, &totalBytes), "memory");
  const int64_t wholeCache = int64_t{2} * model_.layers * model_.kvRows() * static_cast<int64_t>(sizeof(uint16_t)) * options_.context;
  int64_t room = static_cast<int64_t>(freeBytes) - std::max<int64_t>(wholeCache - device_.bytes(MemoryTag::kv), 0);
  if (device_.planning()) {  // the driver knows nothing of what a plan has taken; weights that are there already may be the plan's
    const int64_t weights = input.weights.memory(input.plan)[static_cast<size_t>(MemoryTag::weights)];
    room -= device_.total() + std::max<int64_t>(weights - whole_.bytes(MemoryTag::weights), 0);
  }
  const bool asked = forward_.products().twins().mode() == PrefillTwin::on;
  return room - (asked ? kReserve : std::max(static_cast<int64_t>(totalBytes) / 10, kReserve));
}

void CudaBackend::run(const ForwardInput& input) {
  const auto n = static_cast<int>(input.tokens.size());
  CHECK(n > 0 && n <= options_.batch, n, options_.batch);
  useDevice(ordinal_);
  forward_.leaveOut(std::exchange(sparse_, {}));
  CHECK(forward_.sparse().empty() || static_cast<int>(forward_.sparse().size()) == n, n);
  forward_.makeRoom(input);
  if (input.sink) reserveSlice();
  Twins& twins = forward_.products().twins();
  twins.follow(input.weights.serial, twins.mode(), input.activations == Activations::fp8);
  forward_.makeTwins(input, [&] { return roomForTwins(input); });
  if (!device_.planning()) {
    if (input.times) makeMarks(input);
    for (const SequenceRows& sequence : input.sequences) {
      cacheOf(sequence).prepare();
      if (sequence.count == 1) cacheOf(sequence).takeBounds();
    }
    forward_.upload(input);
    logitsOnDevice_ = false;
    const bool replayed = n == 1 && input.wantLogits && !input.sink && !input.attention && !input.tap;
    replayed ? step(input) : pass(input);
    countSkipped(input);
    if (auto* prompt = dynamic_cast<PromptNeurons*>(input.tap)) forward_.takeSquares(input, *prompt);
  }
  for (const SequenceRows& sequence : input.sequences) cacheOf(sequence).appended(sequence.first, sequence.count);
  if (input.times && !device_.planning()) fillTimes(input);
}

void CudaBackend::observe(KvCache& kv, int window) {
  auto& cache = static_cast<DeviceKvCache&>(kv);
  const int queries = std::min(window, cache.queriesKept());
  if (queries == 0) return;
  useDevice(ordinal_);
  cache.prepare();
  forward_.observe(cache, queries);
}

void CudaBackend::makeMarks(const ForwardInput& input) {
  if (marks_ && markedOps_ == input.plan.ops.size()) return;
  graph_.reset();  // it names the events
  marks_ = std::make_unique<EventMarks>(stream_.get(), input.plan.ops.size());
  markedOps_ = input.plan.ops.size();
}

void CudaBackend::lastLogits(const ForwardInput& input, int row) {
  if (input.times) marks_->begin(markedOps_ - 1);
  forward_.logits(input, row, 1, logits_.as<float>());
  if (input.times) marks_->end();
}

void CudaBackend::fetchLogits() {
  logits_.copyTo(stream_.get(), hostLogits_.as<float>(), floats(model_.vocab));
  logitsOnDevice_ = true;
}

void CudaBackend::step(const ForwardInput& input) {
  const DeviceKvCache& cache = cacheOf(input.sequences.front());
  GraphKey key{.weights = input.weights.serial, .cache = cache.serial(), .forms = cache.formTables(), .room = forward_.room(), .slots = forward_.slots(),
               .leaders = {}, .sums = cache.observed().all ? cache.deviceSums(0) : nullptr, .queries = cache.deviceQueries(0),
               .remembered = cache.observed().newest, .activations = input.activations, .timed = input.times != nullptr,
               .rotates = cache.format().rotateKeys, .turns = cache.countsWithin(), .selection = cache.selection(),
               .bounds = cache.selection() > 0 ? cache.bounds(KvCache::kDenseLayers) : nullptr, .blockStride = cache.blockStride(), .aligned = cache.format().aligned, .unread = cache.unreadChunks(0)};
  if (!forward_.sparse().empty() && forward_.sparse()[0]) key.sparse = forward_.sparse()[0]->serial;
  for (const LayerSharing& share : input.plan.sharing) {
    key.leaders.push_back(share.attnSource);
    key.leaders.push_back(share.source);
    key.leaders.push_back(static_cast<int>(share.heads.size()));  // heads_ holds which
  }
  for (const LayerParts& parts : input.plan.parts) key.leaders.push_back(parts.attention + 2 * parts.ffn);
  if (!graph_ || key != key_) {
    graph_.reset();
    if (marks_) marks_->capturing(true);
    graph_ = std::make_unique<CapturedStep>(stream_.get(), [&] {
      forward_.enqueue(input, input.times ? marks_.get() : nullptr);
      lastLogits(input, 0);
    });
    graphSkips_ = forward_.takeSkips();
    key_ = std::move(key);
    ++captures_;
  }
  graph_->launch(stream_.get());
  fetchLogits();
  skipping_ = graphSkips_;
}

void CudaBackend::pass(const ForwardInput& input) {
  if (marks_) marks_->capturing(false);
  forward_.enqueue(input, input.times ? marks_.get() : nullptr);
  skipping_ = forward_.takeSkips();
  if (input.sink) return sinkLogits(input);
  if (!input.wantLogits) return;
  lastLogits(input, static_cast<int>(input.tokens.size()) - 1);
  fetchLogits();
}

void CudaBackend::sinkLogits(const ForwardInput& input) {
  forward_.gatherRows(input);
  const auto n = static_cast<int>(input.sinkRows.empty() ? input.tokens.size() : input.sinkRows.size());
  auto* rows = hostSlice_.as<float>();
  sinkNs_ = 0;
  const struct Held {  // rows are shown until the sink returns or throws
    int& rows;
    ~Held() { rows = 0; }
  } held{sliceHeld_};
  for (int first = input.sinkRows.empty() ? input.sinkFrom : 0; first < n; first += sliceRows_) {
    const int count = std::min(sliceRows_, n - first);
    if (input.times) marks_->begin(markedOps_ - 1);
    forward_.logits(input, first, count, slice_.as<float>());
    if (input.times) marks_->end();
    slice_.copyTo(stream_.get(), rows, floats(int64_t{count} * model_.vocab));
    if (input.times) sinkNs_ += marks_->ns(markedOps_ - 1);
    if (first + count == n) std::copy_n(rows + int64_t{count - 1} * model_.vocab, model_.vocab, hostLogits_.as<float>());
    sliceHeld_ = count;
    (*input.sink)(input.sinkFirst + first, count, rows);
  }
}

// What the rows left out is known when they have passed: the device counted it.
void CudaBackend::countSkipped(const ForwardInput& input) {
  skipped_.assign(input.plan.ops.size(), {});
  if (skipping_.empty()) return;
  constexpr size_t kPlaces = SparseUse::kNeurons + 1;
  const std::vector<int32_t> counts = forward_.keptCounts(forward_.sparse().size());
  for (const Skip& skip : skipping_) {
    const SparseStep& step = *forward_.sparse()[static_cast<size_t>(skip.row)];
    const SparseLayer& layer = step.layers[static_cast<size_t>(skip.layer)];
    const bool chosen = layer.chosen && skip.place == SparseUse::kNeurons;
    const size_t at = (static_cast<size_t>(skip.row) * static_cast<size_t>(model_.layers) + static_cast<size_t>(skip.layer)) * kPlaces + skip.place;
    const int64_t kept = chosen ? static_cast<int64_t>(layer.neurons.size()) : counts[at];
    SparseCount& count = step.use->at(skip.layer, skip.place);
    count.kept += kept;
    count.of += skip.of;
    for (size_t i = 0; i < skip.count; ++i) {
      const Skipped one = skippedOf(*skip.matrices[i].w, skip.matrices[i].channels, kept, skip.of, skip.row > 0);
      skipped_[skip.op].bytes += one.bytes;
      skipped_[skip.op].flops += one.flops;
      step.use->bytes += one.bytes;
    }
  }
}

void CudaBackend::fillTimes(const ForwardInput& input) {
  wait(stream_.get());
  const std::vector<int64_t> critical = forward_.criticalSlots();
  input.times->clear();
  for (size_t i = 0; i < markedOps_; ++i) {
    const Op& op = input.plan.ops[i];
    const bool attends = op.kind == OpKind::attend || (op.kind == OpKind::attendReuse && input.plan.headsOf(op).empty());  // other heads' rows are read whole
    const int64_t slots = attends ? critical[static_cast<size_t>(op.kind == OpKind::attend ? op.layer : op.leader)] : -1;
    OpTime time = declaredCost(input, model_, static_cast<int>(i), forward_.materialised(), slots);
    time.bytes -= skipped_[i].bytes;
    time.flops -= skipped_[i].flops;
    const bool last = i + 1 == markedOps_;
    time.ns = !last ? marks_->ns(i) : input.sink ? sinkNs_ : input.wantLogits ? marks_->ns(i) : 0;
    input.times->push_back(time);
  }
}

void CudaBackend::setLogits(const float* row) {
  std::copy_n(row, model_.vocab, hostLogits_.as<float>());
  logitsOnDevice_ = false;
}

// --- what is made of logits ----------------------------------------------------------------------------------------------

const float* CudaBackend::onDevice(const float* host, int rows, DeviceBuffer& spare) {
  if (logitsOnDevice_ && host == hostLogits_.as<float>() && rows == 1) return logits_.as<float>();
  const auto* held = hostSlice_.as<float>();
  if (sliceHeld_ > 0 && host >= held && host + int64_t{rows} * model_.vocab <= held + int64_t{sliceHeld_} * model_.vocab)
    return slice_.as<float>() + (host - held);
  const size_t bytes = floats(int64_t{rows} * model_.vocab);
  need(spare, device_, MemoryTag::activations, bytes);
  spare.copyFrom(stream_.get(), host, bytes);
  return spare.as<float>();
}

void CudaBackend::sendTargets(std::span<const int32_t> targets, size_t answerBytes) {
  useDevice(ordinal_);
  need(targets_, device_, MemoryTag::activations, targets.size_bytes());
  need(answers_, device_, MemoryTag::activations, answerBytes);
  targets_.copyFrom(stream_.get(), targets.data(), targets.size_bytes());
}

void CudaBackend::score(const float* logits, std::span<const int32_t> targets, TokenScore* out) {
  const auto n = static_cast<int>(targets.size());
  const size_t bytes = targets.size() * sizeof(TokenScore);
  sendTargets(targets, bytes);
  scoreLogits(stream_.get(), onDevice(logits, n, otherRows_), model_.vocab, model_.vocab, targets_.as<int32_t>(), n, answers_.as<TokenScore>());
  answers_.copyTo(stream_.get(), out, bytes);
}

void CudaBackend::compare(const float* base, const float* other, std::span<const int32_t> targets, Divergence* out) {
  const auto n = static_cast<int>(targets.size());
  const size_t bytes = targets.size() * sizeof(Divergence);
  sendTargets(targets, bytes);
  const float* first = onDevice(base, n, baseRows_);
  const float* second = onDevice(other, n, otherRows_);
  compareLogits(stream_.get(), first, second, model_.vocab, model_.vocab, targets_.as<int32_t>(), n, answers_.as<Divergence>());
  answers_.copyTo(stream_.get(), out, bytes);
}

int32_t CudaBackend::sample(std::span<const int32_t> history, const SamplerSettings& settings, uint64_t position) {
  const bool penalized = settings.repetitionPenalty != 1.0f;
  const size_t window = penalized ? std::min(history.size(), static_cast<size_t>(std::max(0, settings.repetitionWindow))) : 0;
  if (!logitsOnDevice_ || window > static_cast<size_t>(kMostHistory)) return winnow::sample(logits(), history, settings, position);
  useDevice(ordinal_);
  constexpr size_t kHead = 256;  // the token, then the position
  need(sampled_, device_, MemoryTag::activations, kHead + sampleScratchBytes(model_.vocab));
  sampled_.copyFrom(stream_.get(), &position, sizeof position, sizeof position);
  SampleArgs args;
  args.logits = logits_.as<float>();
  args.vocab = model_.vocab;
  args.temperature = settings.temperature;
  args.topK = settings.topK;
  args.topP = settings.topP;
  args.minP = settings.minP;
  args.repetitionPenalty = settings.repetitionPenalty;
  args.seed = settings.seed;
  if (window > 0) {
    need(history_, device_, MemoryTag::activations, window * sizeof(int32_t));
    history_.copyFrom(stream_.get(), history.data() + (history.size() - window), window * sizeof(int32_t));
    args.history = history_.as<int32_t>();
    args.historyCount = static_cast<int>(window);
  }
  args.token = sampled_.as<int32_t>();
  args.position = sampled_.as<uint64_t>() + 1;
  args.scratch = sampled_.as<char>() + kHead;
  cuda::sample(stream_.get(), args);
  int32_t token = 0;
  sampled_.copyTo(stream_.get(), &token, sizeof token);
  return token;
}

double CudaBackend::readBandwidth(size_t bytes) {
  constexpr size_t kLeast = size_t{1} << 30;  // what a session asks for is far beyond a processor's cache, not a GPU's
  useDevice(ordinal_);
  size_t freeBytes = 0, totalBytes = 0;
  throwIfFailed(cudaMemGetInfo(&freeBytes, &totalBytes), "memory");
  return measureReadBandwidth(stream_.get(), std::min(std::max(bytes, kLeast), freeBytes / 4));
}

// Products run on the tensor cores in 16 bits whatever the weights are stored as; f32 inputs take twice the work.
double CudaBackend::peak(Storage storage, ActivationMode mode, int) {
  constexpr int kSide = 4096;
  useDevice(ordinal_);
  std::string why;
  const auto best = measureGemm(stream_.get(), {kSide, kSide, kSide}, storage == Storage::bf16 && mode == ActivationMode::bf16 ? GemmType::bf16 : GemmType::f16, &why);
  return best ? best->teraflops() * 1000 : 0;
}

// --- the device ----------------------------------------------------------------------------------------------------------

std::unique_ptr<Backend> CudaDevice::makeBackend(Ledger& ledger, ThreadPool&, const BackendOptions& options) {
  useDevice(ordinal_);
  return std::make_unique<CudaBackend>(ledger, ledger_, ordinal_, model_, options, caches_);
}

std::unique_ptr<WeightPlace> CudaDevice::makeWeightPlace(Ledger& ledger) { return std::make_unique<DevicePlace>(ledger.planning() ? ledger : ledger_, ordinal_); }

std::optional<std::string> CudaDevice::refuses(std::string_view knob, const KnobValue& value) const {
  if (knob == "compute.activations" && std::get<std::string>(value) == "fp8") {
    if (model_.hidden % kFp8Multiple != 0) return "FP8 multiplies matrices whose rows and columns are multiples of 16, and this model's are " + std::to_string(model_.hidden) + " wide.";
    useDevice(ordinal_);
    Ledger counted(true);
    if (const std::string why = Cublas(counted, true).whyNoFp8(); !why.empty()) return why;
  }
  return std::nullopt;
}

std::optional<DeviceMemory> CudaDevice::memory() const {
  useDevice(ordinal_);
  size_t freeBytes = 0, totalBytes = 0;
  throwIfFailed(cudaMemGetInfo(&freeBytes, &totalBytes), "memory");
  return DeviceMemory{static_cast<int64_t>(freeBytes), static_cast<int64_t>(totalBytes), ledger_.total(), ledger_.bytes(MemoryTag::prefillTwin)};
}

}  // namespace winnow::cuda
