// SPDX-License-Identifier: GPL-3.0-or-later
// From what a person names to a file: a path stays what it is; "starter" and "starter-proxy" are the models that come with Winnow.
#pragma once
#include <string>
#include <string_view>

#include "engine/core/result.h"

namespace winnow {

bool isBundledModel(std::string_view name);
Result<std::string> resolveModel(const std::string& nameOrPath);

// A file that ships with Winnow ("plans/demo-sweep.json"): beside the executable, in the install prefix, in the source tree.
// Empty when it is nowhere.
std::string findResource(const std::string& relative);

}  // namespace winnow
