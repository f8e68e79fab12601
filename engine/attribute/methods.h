// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include "engine/attribute/method.h"

namespace winnow {

Status runAttribot(AttributionTask& task);
Status runLeaveOneOut(AttributionTask& task);

}  // namespace winnow
