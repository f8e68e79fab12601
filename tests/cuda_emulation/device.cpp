// SPDX-License-Identifier: GPL-3.0-or-later
// Opens the emulated device where the engine asks for a GPU.
#include "engine/cuda/backend.h"
#include "engine/run/devices.h"

namespace winnow {

Result<std::unique_ptr<Device>> openCudaDevice(const ModelConfig& model, Ledger& ledger) {
  return std::unique_ptr<Device>(std::make_unique<cuda::CudaDevice>(model, ledger, 0, "CUDA: emulated"));
}

}  // namespace winnow
