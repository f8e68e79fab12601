// SPDX-License-Identifier: GPL-3.0-or-later
// Opens the emulated device where the engine asks for a GPU.
#include "engine/cuda/backend.h"
#include "engine/run/devices.h"
#include "tests/cuda_emulation/emulator.h"

namespace {
std::string knownAs;
}

void emulator::haveBusId(const std::string& id) { knownAs = id; }
const std::string& emulator::busId() { return knownAs; }

namespace winnow {

Result<std::unique_ptr<Device>> openCudaDevice(const ModelConfig& model, Ledger& ledger) {
  return std::unique_ptr<Device>(std::make_unique<cuda::CudaDevice>(model, ledger, 0, "CUDA: emulated", emulator::busId()));
}

}  // namespace winnow
