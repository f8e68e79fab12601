// SPDX-License-Identifier: GPL-3.0-or-later
// Memory that was planned against what the ledger has: within 2 % or 64 KiB, whichever is more.
#pragma once
#include <algorithm>
#include <cmath>

#include "engine/core/memory.h"
#include "tests/support/check.h"

namespace winnow::test {

template <class... About>
void expectAsPlanned(int64_t planned, int64_t used, const About&... about) {
  EXPECT(std::fabs(static_cast<double>(planned - used)) <= std::max(0.02 * static_cast<double>(used), 65536.0), about..., "planned", planned, "used", used);
}

template <class... About>
void expectAsPlanned(const MemoryByTag& planned, const MemoryByTag& used, const About&... about) {
  for (size_t tag = 0; tag < used.size(); ++tag) expectAsPlanned(planned[tag], used[tag], about..., memoryTagName(static_cast<MemoryTag>(tag)));
}

}  // namespace winnow::test
