// SPDX-License-Identifier: GPL-3.0-or-later
// CMake tells this file alone what nvcc compiles: nothing else has to be built again when that changes.
#include "engine/cuda/probe.h"

namespace winnow::cuda {

BuildInfo buildInfo() {
#ifdef WINNOW_CUDA_RUNTIME
  return {true, WINNOW_CUDA_RUNTIME, WINNOW_CUDA_ARCHITECTURES};
#else
  return {};
#endif
}

}  // namespace winnow::cuda
