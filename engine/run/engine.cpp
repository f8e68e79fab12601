// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/run/engine.h"

#include <sched.h>

#include <algorithm>
#include <thread>

#include "engine/cache/registry.h"
#include "engine/core/check.h"
#include "engine/run/core.h"
#include "engine/run/devices.h"
#include "engine/run/rehearse.h"
#include "engine/run/sparsity.h"

namespace winnow {
namespace {

int usableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

constexpr int kMaxThreads = 256;

std::unique_ptr<cuda::GpuMonitor> monitorOf(const Device& device) {
  if (device.busId().empty()) return nullptr;
  auto nvml = cuda::Nvml::load();
  return nvml ? std::make_unique<cuda::GpuMonitor>(std::move(nvml), device.busId()) : nullptr;
}

}  // namespace

EngineCore::EngineCore(std::shared_ptr<const Model> opened, const EngineOptions& chosen, int threadCount, std::unique_ptr<Ledger> counts,
                       std::unique_ptr<Device> computes)
    : model(std::move(opened)), options(chosen), threads(threadCount), ownLedger(std::move(counts)), ledger(*ownLedger), device(std::move(computes)),
      gpuMonitor(monitorOf(*device)), store(model, device->makeWeightPlace(ledger)), converter(store, threadCount, measurements()) {}

BackendOptions EngineCore::backendOptions(const SessionOptions& wanted, int context) const {
  return {std::clamp(wanted.maxBatch, 1, context), context, wanted.probabilityBytes};
}

Effective EngineCore::resolved(const Config& requested) const {
  Effective effective = resolve(requested, model->config());
  for (const Knob& knob : Schema::instance().knobs()) {
    const KnobValue value = effective.config.get(knob.name);
    const auto reason = device->refuses(knob.name, value);
    if (!reason) continue;
    effective.adjustments.push_back({knob.name, value, knob.defaultValue, *reason});
    effective.config = effective.config.with(knob.name, knob.defaultValue);
  }
  return effective;
}

Result<int> EngineCore::contextFor(const SessionOptions& wanted) const {
  const ModelConfig& config = model->config();
  if (wanted.context < 0) return Error{ErrorCode::usage, "A context of " + std::to_string(wanted.context) + " tokens is impossible.", "Choose at least 1."};
  const int context = wanted.context > 0 ? wanted.context : std::min(config.context > 0 ? config.context : 4096, 4096);
  if (config.position != PositionKind::learned) return context;
  const MasterTensor* positions = model->find(TensorRole::positionEmbedding);
  const int64_t known = positions ? positions->rows : config.context;
  if (context > known)
    return Error{ErrorCode::badInput, "A context of " + std::to_string(context) + " tokens was asked for, but " + model->path() + " has learned positions for " +
                                          std::to_string(known) + " tokens only.",
                 "Choose a context of at most " + std::to_string(known) + "."};
  return context;
}

Engine::Engine(std::shared_ptr<EngineCore> core) : core_(std::move(core)) {}
Engine::~Engine() = default;

Result<std::shared_ptr<Engine>> Engine::create(std::shared_ptr<const Model> model, const EngineOptions& options) {
  CHECK(model);
  if (options.device != "auto" && options.device != "cpu" && options.device != "cuda")
    return Error{ErrorCode::usage, "Device " + options.device + " is unknown: auto, cpu and cuda are.", ""};
  if (options.threads < 0 || options.threads > kMaxThreads)
    return Error{ErrorCode::usage, std::to_string(options.threads) + " threads are impossible: 1 to " + std::to_string(kMaxThreads) + ", or 0 for one per core.", ""};
  const int threads = options.threads > 0 ? options.threads : usableCores();
  auto ledger = std::make_unique<Ledger>();
  auto device = openDevice(model->config(), options, threads, *ledger);
  if (!device) return device.error();
  auto core = std::make_shared<EngineCore>(model, options, threads, std::move(ledger), std::move(*device));
#ifdef WINNOW_HAS_TEXT
  if (model->vocab().kind != VocabData::Kind::none) {
    auto tokenizer = Tokenizer::create(model->vocab());
    if (!tokenizer) return tokenizer.error();
    core->tokenizer = *tokenizer;
  }
#endif
  return std::shared_ptr<Engine>(new Engine(std::move(core)));
}

const Model& Engine::model() const { return *core_->model; }
std::shared_ptr<const Model> Engine::modelPointer() const { return core_->model; }
std::shared_ptr<const Tokenizer> Engine::tokenizer() const { return core_->tokenizer; }
int Engine::threads() const { return core_->threads; }
std::optional<cuda::GpuState> Engine::gpuState() const {
  return core_->gpuMonitor ? std::optional(core_->gpuMonitor->state()) : std::nullopt;
}
const Ledger& Engine::ledger() const { return core_->ledger; }

std::optional<DeviceMemory> Engine::deviceMemory() const { return core_->device->memory(); }
Effective Engine::resolved(const Config& requested) const { return core_->resolved(requested); }
std::string Engine::deviceDescription() const { return core_->device->description(); }

Result<std::unique_ptr<Session>> Engine::createSession(const Config& config, const SessionOptions& options, const Progress& progress) {
  return core_->createSession(config, options, progress);
}

Result<std::vector<LayerInfluence>> Engine::layerInfluence(const Config& config, const Progress& progress) {
  const std::string& chosen = config.text("calibration.text");
  const auto measured = core_->calibrate({chosen.empty() ? core_->options.calibrationSample : chosen, static_cast<int>(config.integer("calibration.tokens"))}, progress);
  if (!measured) return measured.error();
  std::vector<LayerInfluence> out;
  for (int layer = 0; layer < core_->model->config().layers; ++layer) out.push_back((*measured)->stream().influence(layer));
  return out;
}

Result<MemoryByTag> Engine::plan(const Config& config, const SessionOptions& options, int tokens, int64_t* promptCache) const {
  const auto contextTokens = core_->contextFor(options);
  if (!contextTokens) return contextTokens.error();
  if (tokens < 0 || tokens > *contextTokens)
    return Error{ErrorCode::usage, "A run of " + std::to_string(tokens) + " tokens does not fit a context of " + std::to_string(*contextTokens) + ".", ""};
  const auto planned = core_->rehearsed(config, options, *contextTokens, tokens);
  if (!planned) return planned.error();
  if (promptCache) *promptCache = planned->promptCache;
  return planned->all;
}

WeightTarget EngineCore::targetOf(const Config& config) const {
  return weightTarget(*model, config, options.calibrationSample);
}

Result<Rehearsal> EngineCore::rehearsed(const Config& config, const SessionOptions& wanted, int context, int tokens) const {
  const ModelConfig& shape = model->config();
  const Effective effective = resolved(config);
  Ledger counted(true);
  WeightStore planned(model, device->makeWeightPlace(counted));
  ThreadPool pool(wanted.threads > 0 ? wanted.threads : threads);  // scratch is per thread
  const WeightTarget target = targetOf(effective.config);
  const auto weights = planned.build(target, pool, {}, {});
  if (!weights) return weights.error();
  std::optional<Calibration> statistics;
  if (target.calibration) statistics.emplace(slicedShape(shape, target.calibration->sliced), counted, target.calibration->moments ? &pool : nullptr);
  std::optional<StreamBases> bases;
  if (target.slice) bases.emplace(counted, shape, slicedWidth(shape.hidden, target.slice->removed), "");
  std::optional<ActivationProfile> profile;
  if (target.profiled) profile.emplace((*weights)->shape(), counted, target.profiled->tokens, std::vector<std::vector<float>>(static_cast<size_t>(shape.layers)));
  SessionSparsity sparsity;
  sparsity.configure((*weights)->shape(), **weights, effective.config, counted);

  const std::vector<LayerSharing>& fitted = (*weights)->sharing;
  const std::vector<Buffer> projections = target.sharing && target.sharing->refit ? SharingFit::reserve(shape, fitted, counted) : std::vector<Buffer>();
  const Plan plan = buildPlan(shape, fitted.empty() ? sharingWithout(sharingOf(shape, effective.config), (*weights)->parts) : fitted, (*weights)->parts,
                              (*weights)->sliceWidth > 0);
  BackendOptions fitting = backendOptions(wanted, context);
  fitting.shape = (*weights)->narrowShape;
  const auto backend = device->makeBackend(counted, pool, fitting);
  const RehearsedSession session{shape, plan, **weights, effective.config, context, wanted.promptCacheBytes};
  rehearseBatch(*backend, counted, session);
  Rehearsal out = rehearse(*backend, counted, session, tokens);
  const MemoryByTag read = (*weights)->memory(plan);
  for (const MemoryTag tag : {MemoryTag::weights, MemoryTag::weightsMapped}) out.all[static_cast<size_t>(tag)] = read[static_cast<size_t>(tag)];
  return out;
}

Status EngineCore::fits(const Config& config, const SessionOptions& wanted, int context) {
  const std::optional<DeviceMemory> memory = device->memory();
  if (!memory) return Done{};
  const auto planned = rehearsed(config, wanted, context, context);
  if (!planned) return planned.error();
  const int64_t weights = store.bytesToMake(targetOf(resolved(config).config));
  // A cache that chooses once needs its whole prompt; one that only waits to be quantized does without where there is no room.
  const int64_t held = planned->onDevice[static_cast<size_t>(MemoryTag::kv)];
  const int64_t cache = kvPolicy(resolved(config).config.text("kv.policy")).once ? std::max(held, planned->promptCache) : held;
  int64_t rest = 0;
  for (const int64_t bytes : planned->onDevice) rest += bytes;
  rest -= held + planned->onDevice[static_cast<size_t>(MemoryTag::prefillTwin)];  // twins take what is left
  const int64_t needed = weights + cache + rest, free = memory->freeBytes + memory->spareBytes;
  if (needed <= free) return Done{};
  const auto mib = [](int64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; };
  return Error{ErrorCode::resources, "This needs " + mib(needed) + " of the GPU's memory (weights " + mib(weights) + ", a cache of " + std::to_string(context) +
                                         " tokens " + mib(cache) + ", the rest " + mib(rest) + "), and " + mib(free) + " of its " +
                                         mib(memory->totalBytes) + " are free.",
               "Choose fewer bits or a smaller context, or use --device cpu."};
}

}  // namespace winnow
