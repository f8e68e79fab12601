// SPDX-License-Identifier: GPL-3.0-or-later
// The attention sharing methods; one is one file and one line in registry.cpp.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "engine/plan/plan.h"

namespace winnow {

class Config;

struct ShareMethodInfo {
  std::string name, title, paper;
  std::vector<LayerSharing> (*sharing)(const ModelConfig& model, const Config& config) = nullptr;  // [layers]
};
std::span<const ShareMethodInfo> shareMethods();

// The attention sharing of a resolved configuration, before anything is measured.
std::vector<LayerSharing> sharingOf(const ModelConfig& model, const Config& config);

}  // namespace winnow
