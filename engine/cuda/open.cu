// SPDX-License-Identifier: GPL-3.0-or-later
// The GPU the probe chose.
#include "engine/cuda/backend.h"
#include "engine/cuda/probe.h"
#include "engine/run/devices.h"

namespace winnow {

Result<std::unique_ptr<Device>> openCudaDevice(const ModelConfig& model, Ledger& ledger) {
  const cuda::DeviceReport report = cuda::probeDevices(cuda::buildInfo());
  if (!report.ready()) return report.error();
  const cuda::DeviceInfo& chosen = report.devices[static_cast<size_t>(report.chosen)];
  auto device = std::make_unique<cuda::CudaDevice>(model, ledger, chosen.index, "CUDA: " + report.sentence);
  if (!chosen.mig) device->watch(cuda::Nvml::load(), chosen.busId);  // a slice's power is not told apart from the whole
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace winnow
