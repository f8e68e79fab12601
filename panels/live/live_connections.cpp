// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/live/live_view.h"

namespace winnow {

void LiveView::attach(Workbench* workbench) {
  connect(workbench, &Workbench::generationStarted, this, &LiveView::beginGeneration);
  connect(workbench, &Workbench::tokensArrived, this, &LiveView::addTokens);
  connect(workbench, &Workbench::epochBegan, this, &LiveView::addEpoch);
  connect(workbench, &Workbench::qualityChanged, this, &LiveView::setQuality);
  connect(workbench, &Workbench::jobChanged, this, &LiveView::setJob);
  connect(workbench, &Workbench::modelChanged, this, [this, workbench] {
    quality_.clear();  // another model: its figures start anew
    clear();
    if (workbench->hasModel()) setJob(workbench->job());
  });
}

}  // namespace winnow
