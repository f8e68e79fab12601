// SPDX-License-Identifier: GPL-3.0-or-later
// The GPU the probe chose.
#include "engine/cuda/backend.h"
#include "engine/cuda/probe.h"
#include "engine/run/devices.h"

namespace winnow {

Result<std::unique_ptr<Device>> openCudaDevice(const ModelConfig& model, Ledger& ledger) {
  const cuda::DeviceReport report = cuda::probeDevices(cuda::buildInfo());
  if (!report.ready()) return report.error();
  const cuda::DeviceInfo& device = report.devices[static_cast<size_t>(report.chosen)];
  return std::unique_ptr<Device>(std::make_unique<cuda::CudaDevice>(model, ledger, device.index, "CUDA: " + report.sentence, device.busId));
}

}  // namespace winnow
