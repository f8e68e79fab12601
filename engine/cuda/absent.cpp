// SPDX-License-Identifier: GPL-3.0-or-later
// Stands where the CUDA backend is not built.
#include "engine/run/devices.h"

namespace winnow {

Result<std::unique_ptr<Device>> openCudaDevice(const ModelConfig&, Ledger&) {
  return Error{ErrorCode::resources, "Device cuda was asked for, but this build has no CUDA backend.", "Use --device auto or --device cpu."};
}

}  // namespace winnow
