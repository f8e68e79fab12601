// SPDX-License-Identifier: GPL-3.0-or-later
#if defined(__AVX2__)
#include "engine/cpu/channels.h"

namespace winnow::cpu {
const ChannelKernels* avx2ChannelKernels() { return &kChannelTable; }
}  // namespace winnow::cpu
#else
#include "engine/cpu/channel_kernels.h"

namespace winnow::cpu {
const ChannelKernels* avx2ChannelKernels() { return nullptr; }
}  // namespace winnow::cpu
#endif
