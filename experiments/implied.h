// SPDX-License-Identifier: GPL-3.0-or-later
// Values that only follow from others (weights.bits=4 alone is method rtn): said once, not twice.
#pragma once
#include <string>

#include "engine/knobs/knobs.h"

namespace winnow {

// Would `knob` have this value if nobody had set it?
inline bool follows(const Config& others, const std::string& knob, const KnobValue& value) {
  const Knob* declared = Schema::instance().find(knob);
  return declared && resolve(others.with(knob, declared->defaultValue), ModelConfig{}).requested.get(knob) == value;
}

}  // namespace winnow
