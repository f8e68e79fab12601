// SPDX-License-Identifier: GPL-3.0-or-later
// Methods that were calibrated on a text may not be judged by it.
#pragma once
#include <string>

#include "engine/run/engine.h"

namespace winnow {

// badInput when the text that a session's weights, thresholds or sharing were fitted to, as far as it is read, shares a passage with the text to
// evaluate on, be it a text of the person's or the sample. Nothing is said of texts that can't be read (preparing reports those), and where
// nothing is calibrated.
Status heldOut(const Session& session, const std::string& evaluated);

}  // namespace winnow
