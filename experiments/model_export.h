// SPDX-License-Identifier: GPL-3.0-or-later
// The weights of a configuration as a model file, for the window and winnow-cli.
#pragma once
#include <string>

#include "engine/run/engine.h"
#include "engine/weights/export.h"

namespace winnow {

// A path that ends in .gguf becomes a GGUF, any other a folder of Hugging Face. Knobs of the run (cache, attention sharing, compute) are not of the
// weights: a note names those that are set. Adjusted knobs too.
Result<ExportSummary> exportModel(const Engine& engine, const Config& config, const std::string& path, const Progress& progress);

}  // namespace winnow
