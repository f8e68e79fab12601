// SPDX-License-Identifier: GPL-3.0-or-later
// What the sessions of one engine share.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "engine/run/engine.h"
#include "engine/weights/converter.h"
#include "engine/weights/store.h"

namespace winnow {

struct EngineCore : std::enable_shared_from_this<EngineCore> {
  EngineCore(std::shared_ptr<const Model> opened, const EngineOptions& chosen, int threadCount, cpu::Isa kernels);

  Result<int> contextFor(const SessionOptions& wanted) const;  // tokens
  Result<std::unique_ptr<Session>> createSession(const Config& config, const SessionOptions& options, const Progress& progress);
  // Statistics of the dense model over a text; kept, so that each text is measured once. [any thread]
  Result<std::shared_ptr<const Calibration>> calibrate(const CalibrationChoice& choice, const Progress& progress);
  CalibrationSource calibrationSource() {
    return [this](const CalibrationChoice& choice, const Progress& progress) { return calibrate(choice, progress); };
  }

  // For the parts of engine/run that work beside a session.
  static auto& inside(Session& session) { return *session.impl_; }
  static const auto& inside(const Session& session) { return *session.impl_; }

  std::shared_ptr<const Model> model;
  std::shared_ptr<const Tokenizer> tokenizer;
  EngineOptions options;
  int threads;
  cpu::Isa isa;
  Ledger ledger;
  std::unique_ptr<cuda::GpuMonitor> gpuMonitor;  // of the CUDA device
  WeightStore store;
  std::mutex calibrationMutex;  // held while measuring: a second request waits for the first
  std::map<std::string, std::shared_ptr<const Calibration>> calibrations;
  Converter converter;  // last: it stops before what it uses goes
};

// The attention sharing of a resolved configuration.
std::vector<LayerSharing> sharingOf(const ModelConfig& model, const Config& config);

}  // namespace winnow
