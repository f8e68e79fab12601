// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include "engine/attribute/method.h"

namespace winnow {

Status runAttention(AttributionTask& task);
Status runAttribot(AttributionTask& task);
Status runContextCite(AttributionTask& task);
Status runLeaveOneOut(AttributionTask& task);
Status runOcclusion(AttributionTask& task);
Status runRollout(AttributionTask& task);
Status runShapley(AttributionTask& task);

}  // namespace winnow
