// SPDX-License-Identifier: GPL-3.0-or-later
// CMake tells this file alone what nvcc compiles: nothing else has to be built again when that changes.
#include <algorithm>

#include "engine/cuda/probe.h"

namespace winnow::cuda {

BuildInfo buildInfo() {
#ifdef WINNOW_CUDA_RUNTIME
  std::string architectures = WINNOW_CUDA_ARCHITECTURES;
  std::replace(architectures.begin(), architectures.end(), ',', ';');  // definitions can't hold the other
  return {true, WINNOW_CUDA_RUNTIME, architectures};
#else
  return {};
#endif
}

}  // namespace winnow::cuda
