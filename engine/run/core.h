// SPDX-License-Identifier: GPL-3.0-or-later
// What the sessions of one engine share.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "engine/cuda/nvml.h"
#include "engine/run/engine.h"
#include "engine/run/rehearse.h"
#include "engine/share/fit.h"
#include "engine/share/registry.h"
#include "engine/weights/converter.h"
#include "engine/weights/store.h"

namespace winnow {

struct CalibrationTokens {
  std::vector<int32_t> ids;
  int window = 0;  // tokens
};

// Who looks on during a pass; null: nobody.
struct PassTaps {
  LinearInputTap* inputs = nullptr;
  AttentionTap* attention = nullptr;
};

struct EngineCore : std::enable_shared_from_this<EngineCore> {
  EngineCore(std::shared_ptr<const Model> opened, const EngineOptions& chosen, int threadCount, std::unique_ptr<Ledger> counts, std::unique_ptr<Device> computes);

  // What runs of a request on this model and this device.
  Result<int> contextFor(const SessionOptions& wanted) const;  // tokens
  Effective resolved(const Config& requested) const;  // resolve() and what the device says to it
  BackendOptions backendOptions(const SessionOptions& wanted, int context) const;
  WeightTarget targetOf(const Config& config) const;  // of one that resolve() made, on this device
  // What a session with `tokens` tokens in its cache uses, by the allocating code on a planning ledger.
  Result<Rehearsal> rehearsed(const Config& config, const SessionOptions& wanted, int context, int tokens) const;
  // Whether a full context fits what the device has free: a refusal comes before anything is taken.
  Status fits(const Config& config, const SessionOptions& wanted, int context);
  Result<std::unique_ptr<Session>> createSession(const Config& config, const SessionOptions& options, const Progress& progress);
  Result<CalibrationTokens> calibrationTokens(const CalibrationChoice& choice) const;
  // Statistics of the dense model, or of a sliced one, over a text; kept, so that each text is measured once. [any thread]
  Result<std::shared_ptr<const Calibration>> calibrate(const CalibrationChoice& choice, const Progress& progress);
  // Of the dense weights of some layers, in the model the target describes. [any thread]
  Result<std::shared_ptr<const BlockGradients>> gradients(const WeightTarget& target, const CalibrationChoice& choice, LayerRange layers, const Progress& progress);
  // What passes through the heads of the dense model over a text; the last one is kept. [any thread]
  Result<std::shared_ptr<const HeadRelevance>> relevance(const CalibrationChoice& choice, const Progress& progress);
  // What merging leaves of the layers; kept, so that each way of merging is tried once. [any thread]
  Result<LayersLeft> merged(const LayerDrop& drop, const CalibrationChoice& choice, const Progress& progress);
  Result<std::shared_ptr<const Calibration>> measured(std::span<const int32_t> ids, int window, const CalibrationChoice& choice, const Progress& progress);
  // Which directions of the residual stream stay; the last answer is kept. [any thread]
  Result<Bases> streamBases(const SliceChoice& choice, const Progress& progress);
  // Of the master; found once. [any thread]
  Result<std::shared_ptr<const std::vector<SuperWeight>>> superWeights(const Progress& progress);
  // Of the activations of a set over a text; kept for the last few sets. [any thread]
  Result<std::shared_ptr<const ActivationProfile>> profile(const WeightTarget& target, const WeightSet& set, const CalibrationChoice& choice, const Progress& progress);
  // The tap sees one pass over the ids, by windows from an empty cache.
  Status observe(const WeightTarget& target, const Measurements& measurements, std::span<const int32_t> ids, int window, ThreadPool& pool,
                 LinearInputTap& tap, const Progress& progress);
  Status observe(const WeightSet& weights, const Plan& plan, std::span<const int32_t> ids, int window, ThreadPool& pool, const PassTaps& taps, const Progress& progress);
  // What a calibration text says of layers that share attention, in the model whose layers are `left`; the last one is kept. [any thread]
  Result<std::shared_ptr<const SharingFit>> fitSharing(const SharingFitChoice& choice, const LayersLeft& left, const Progress& progress);
  Measurements measurements() {
    return {[this](const CalibrationChoice& choice, const Progress& progress) { return calibrate(choice, progress); },
            [this](const Progress& progress) { return superWeights(progress); },
            [this](const WeightTarget& target, const CalibrationChoice& choice, LayerRange layers, const Progress& progress) {
              return gradients(target, choice, layers, progress);
            },
            [this](const LayerDrop& drop, const CalibrationChoice& choice, const Progress& progress) { return merged(drop, choice, progress); },
            [this](const SharingFitChoice& choice, const LayersLeft& left, const Progress& progress) { return fitSharing(choice, left, progress); },
            [this](const CalibrationChoice& choice, const Progress& progress) { return relevance(choice, progress); },
            [this](const WeightTarget& target, const WeightSet& set, const CalibrationChoice& choice, const Progress& progress) {
              return profile(target, set, choice, progress);
            },
            [this](const SliceChoice& choice, const Progress& progress) { return streamBases(choice, progress); }};
  }

  // For the parts of engine/run that work beside an engine or a session.
  static EngineCore& of(const Engine& engine) { return *engine.core_; }
  static auto& inside(Session& session) { return *session.impl_; }
  static const auto& inside(const Session& session) { return *session.impl_; }

  std::shared_ptr<const Model> model;
  std::shared_ptr<const Tokenizer> tokenizer;
  EngineOptions options;
  int threads;
  std::unique_ptr<Ledger> ownLedger;
  Ledger& ledger;
  std::unique_ptr<Device> device;
  std::unique_ptr<cuda::GpuMonitor> gpuMonitor;  // of a GPU that NVML knows
  WeightStore store;
  std::mutex calibrationMutex;  // held while measuring: a second request waits for the first
  std::map<std::string, std::shared_ptr<const Calibration>> calibrations;
  std::mutex superMutex;  // held while searching
  std::shared_ptr<const std::vector<SuperWeight>> superFound;
  std::mutex relevanceMutex;  // held while measuring
  std::string relevanceOf;
  std::shared_ptr<const HeadRelevance> headRelevance;
  std::mutex mergeMutex;  // held while trying
  std::map<std::string, LayersLeft> merges;
  std::mutex sharingMutex;  // held while fitting
  std::string sharingFitted;
  std::shared_ptr<const SharingFit> sharingFit;
  std::mutex streamMutex;  // held while measuring
  Bases stream;
  std::mutex profileMutex;  // held while measuring
  std::vector<std::pair<std::string, std::shared_ptr<const ActivationProfile>>> profiles;  // the newest last
  Converter converter;  // last: it stops before what it uses goes
};

}  // namespace winnow
