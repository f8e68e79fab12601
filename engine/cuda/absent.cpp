// SPDX-License-Identifier: GPL-3.0-or-later
// Stands where the CUDA backend is not built.
#include "engine/cuda/probe.h"
#include "engine/run/devices.h"

namespace winnow {

Result<std::unique_ptr<Device>> openCudaDevice(const ModelConfig&, Ledger&) { return cuda::probeDevices(cuda::buildInfo()).error(); }

}  // namespace winnow
