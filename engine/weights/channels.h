// SPDX-License-Identifier: GPL-3.0-or-later
// Which channels of the feed-forwards of a model stay. What the methods think of channels is kept, so that another share asks nothing again.
#pragma once
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "engine/core/progress.h"
#include "engine/core/result.h"
#include "engine/prune/layer_drop.h"
#include "engine/prune/width.h"
#include "engine/weights/calibration.h"
#include "engine/weights/method_input.h"

namespace winnow {

class ChannelScores {
 public:
  // [layers], null where all channels stay or there is no feed-forward. `statistics` is null where the method looks at none, `identity` is theirs.
  // A merged layer is judged by its sum and by the inputs of the layer in whose place it stands. Thread-safe. Errors: cancelled, moments that
  // can't be factored. Throws std::bad_alloc.
  Result<std::vector<Channels>> keep(const Model& model, const WidthChoice& choice, const LayersLeft& left, const Calibration* statistics,
                                     const std::string& identity, InputPreparer& preparer, ThreadPool& pool, const Progress& progress);
  // The widths alone, for a plan.
  static std::vector<Channels> planned(const Model& model, const WidthChoice& choice, const LayersLeft& left);
  int measured() const;  // layers, ever

 private:
  std::vector<double> known(const std::string& of, const std::string& layer);
  void learn(const std::string& of, const std::string& layer, const std::vector<double>& scores);

  mutable std::mutex mutex_;
  std::string of_;                                     // the method and the text of those that are kept
  std::map<std::string, std::vector<double>> scores_;  // by layer and what it is a sum of
  int measured_ = 0;
};

}  // namespace winnow
