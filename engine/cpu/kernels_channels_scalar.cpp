// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/cpu/channels.h"

namespace winnow::cpu {
const ChannelKernels* scalarChannelKernels() { return &kChannelTable; }
}  // namespace winnow::cpu
