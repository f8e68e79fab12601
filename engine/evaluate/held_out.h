// SPDX-License-Identifier: GPL-3.0-or-later
// Methods that were calibrated on a text may not be judged by it.
#pragma once
#include <string>

#include "engine/core/result.h"
#include "engine/knobs/knobs.h"

namespace winnow {

// badInput when the calibration text that a configuration names, as far as it is read, shares a passage with the text to evaluate on. Nothing is
// said of the sample text, of texts that can't be read (preparing the weights reports those), and where no method is calibrated.
Status heldOut(const Config& effective, const std::string& evaluated);

}  // namespace winnow
