// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include "engine/core/check.h"

namespace winnow::cuda {

void throwIfFailed(int error, const char* what);  // cudaError_t; throws DeviceFailure

}  // namespace winnow::cuda
