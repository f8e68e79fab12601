// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

namespace winnow {
void installTokenFlowAccessibility();  // once per program; later calls do nothing
}
