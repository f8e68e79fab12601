// SPDX-License-Identifier: GPL-3.0-or-later
// From the device a person asked for to one that computes.
#pragma once
#include <memory>

#include "engine/core/memory.h"
#include "engine/core/result.h"
#include "engine/run/backend.h"
#include "engine/run/engine.h"

namespace winnow {

// auto: the GPU where this build can use one and it answers, else the CPU. cuda: that or an Error that names the step that failed.
// The device counts in the engine's ledger, which outlives it, as the model's configuration does.
Result<std::unique_ptr<Device>> openDevice(const ModelConfig& model, const EngineOptions& options, int threads, Ledger& ledger);

// engine/cuda where it is linked in; else absent.cpp, which says so.
Result<std::unique_ptr<Device>> openCudaDevice(const ModelConfig& model, Ledger& ledger);

}  // namespace winnow
