// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include <stdexcept>

namespace winnow {

// A device failed: lost, out of order, a call refused. What was being computed is void; whoever runs it ends it with this text, and the
// program lives on.
struct DeviceFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace winnow
