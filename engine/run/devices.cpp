// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/run/devices.h"

#include "engine/cpu/backend.h"

namespace winnow {

Result<std::unique_ptr<Device>> openDevice(const ModelConfig& model, const EngineOptions& options, int threads, Ledger& ledger) {
  if (options.device != "cpu") {
    auto gpu = openCudaDevice(model, ledger);
    if (gpu || options.device == "cuda") return gpu;
  }
  return std::unique_ptr<Device>(std::make_unique<cpu::CpuDevice>(model, threads, options.isa.value_or(cpu::bestIsa())));
}

}  // namespace winnow
