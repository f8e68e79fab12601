// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/run/engine.h"

#include <sched.h>

#include <algorithm>
#include <thread>

#include "engine/core/check.h"
#include "engine/cuda/probe.h"
#include "engine/run/core.h"
#include "engine/run/rehearse.h"
#include "engine/share/registry.h"

namespace winnow {
namespace {

int usableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

constexpr int kMaxThreads = 256;

}  // namespace

std::vector<LayerSharing> sharingOf(const ModelConfig& model, const Config& config) {
  for (const ShareMethodInfo& method : shareMethods())
    if (method.name == config.text("share.method")) return method.sharing(model, config);
  return noSharing(model.layers);
}

EngineCore::EngineCore(std::shared_ptr<const Model> opened, const EngineOptions& chosen, int threadCount, cpu::Isa kernels)
    : model(std::move(opened)), options(chosen), threads(threadCount), isa(kernels), store(model, ledger), converter(store, threadCount, calibrationSource()) {}

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
  if (options.device == "cuda") return cuda::probeDevices(cuda::buildInfo()).error();
  if (options.device != "auto" && options.device != "cpu")
    return Error{ErrorCode::usage, "Device " + options.device + " is unknown: auto, cpu and cuda are.", ""};
  if (options.threads < 0 || options.threads > kMaxThreads)
    return Error{ErrorCode::usage, std::to_string(options.threads) + " threads are impossible: 1 to " + std::to_string(kMaxThreads) + ", or 0 for one per core.", ""};
  const cpu::Isa isa = options.isa.value_or(cpu::bestIsa());
  auto core = std::make_shared<EngineCore>(model, options, options.threads > 0 ? options.threads : usableCores(), isa);
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

std::string Engine::deviceDescription() const {
  return "CPU: " + std::to_string(core_->threads) + (core_->threads == 1 ? " thread, " : " threads, ") + cpu::isaName(core_->isa);
}

Result<std::unique_ptr<Session>> Engine::createSession(const Config& config, const SessionOptions& options, const Progress& progress) {
  return core_->createSession(config, options, progress);
}

Result<MemoryByTag> Engine::plan(const Config& config, const SessionOptions& options, int tokens) const {
  const ModelConfig& model = core_->model->config();
  const auto contextTokens = core_->contextFor(options);
  if (!contextTokens) return contextTokens.error();
  if (tokens < 0 || tokens > *contextTokens)
    return Error{ErrorCode::usage, "A run of " + std::to_string(tokens) + " tokens does not fit a context of " + std::to_string(*contextTokens) + ".", ""};
  const Effective effective = resolve(config, model);
  Ledger ledger(true);
  WeightStore store(core_->model, ledger);
  ThreadPool pool(options.threads > 0 ? options.threads : core_->threads);  // scratch is per thread
  const WeightTarget target = weightTarget(*core_->model, effective.config, core_->options.calibrationSample);
  const auto weights = store.build(target, pool, {}, {});
  if (!weights) return weights.error();
  std::optional<Calibration> statistics;
  if (target.calibration) statistics.emplace(model, ledger);

  const Plan plan = buildPlan(model, sharingOf(model, effective.config));
  cpu::Context context(pool, core_->isa, &ledger);
  const RehearsedSession session{model, plan, **weights, effective.config, options, *contextTokens};
  rehearseBatch(context, ledger, session);
  MemoryByTag out = rehearse(context, ledger, session, tokens);
  const MemoryByTag read = (*weights)->memory(plan);
  for (const MemoryTag tag : {MemoryTag::weights, MemoryTag::weightsMapped}) out[static_cast<size_t>(tag)] = read[static_cast<size_t>(tag)];
  return out;
}

}  // namespace winnow
