// SPDX-License-Identifier: GPL-3.0-or-later
// Finds the GPU, or says which step failed.
#include <cuda_runtime.h>

#include "engine/cuda/backend.h"
#include "engine/run/devices.h"

namespace winnow {
namespace {

constexpr int kLeastMajor = 8;  // sm_80

Error unavailable(const std::string& what, const std::string& hint) { return {ErrorCode::resources, "Device cuda was asked for, but " + what, hint}; }

}  // namespace

Result<std::unique_ptr<Device>> openCudaDevice(const ModelConfig& model, Ledger& ledger) {
  int driver = 0, count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    return unavailable("this machine has no NVIDIA driver.", "Install one, or use --device cpu.");
  if (const cudaError_t error = cudaGetDeviceCount(&count); error == cudaErrorInsufficientDriver)
    return unavailable("its driver speaks CUDA " + std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10) + " and this build needs " +
                           std::to_string(CUDART_VERSION / 1000) + ".0 or newer.",
                       "Update the NVIDIA driver, or use --device cpu.");
  else if (error != cudaSuccess || count == 0)
    return unavailable(std::string("no GPU answers: ") + cudaGetErrorString(error == cudaSuccess ? cudaErrorNoDevice : error) + ".", "Use --device cpu.");
  cudaDeviceProp properties{};
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, 0); error != cudaSuccess)
    return unavailable(std::string("the GPU does not answer: ") + cudaGetErrorString(error) + ".", "Use --device cpu.");
  if (properties.major < kLeastMajor)
    return unavailable("the GPU (" + std::string(properties.name) + ") has compute capability " + std::to_string(properties.major) + "." +
                           std::to_string(properties.minor) + " and 8.0 is needed.", "Use --device cpu.");
  const std::string description = std::string("CUDA: ") + properties.name + ", " + std::to_string(properties.totalGlobalMem >> 20) + " MiB";
  return std::unique_ptr<Device>(std::make_unique<cuda::CudaDevice>(model, ledger, description));
}

}  // namespace winnow
