// SPDX-License-Identifier: GPL-3.0-or-later
// From what a person names to a model file: a path, or "starter", the model that comes with Winnow. Without trained weights
// the starter is synthesized on first use into the user's cache folder, and is called what it is: random weights. "starter-proxy" is the
// small model of its family, where one comes with it.
#pragma once
#include <string>

#include "engine/core/progress.h"
#include "engine/core/result.h"

namespace winnow {

struct ModelSource {
  std::string path;
  bool randomWeights = false;
};
Result<ModelSource> resolveModel(const std::string& nameOrPath, const Progress& progress);

// A file that ships with Winnow ("plans/demo-sweep.json"): beside the executable, in the install prefix, in the source tree.
// Empty when it is nowhere.
std::string findResource(const std::string& relative);

}  // namespace winnow
