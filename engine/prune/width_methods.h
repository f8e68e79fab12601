// SPDX-License-Identifier: GPL-3.0-or-later
// What width.cpp lists, one file per method, and what they share.
#pragma once
#include <vector>

#include "engine/prune/width.h"

namespace winnow {

std::vector<double> cfspScores(const WidthInput& input);
std::vector<double> releasedCfspScores(const WidthInput& input);
std::vector<double> cfspShares(std::span<const LayerInfluence> layers, double kept);
std::vector<double> minitronScores(const WidthInput& input);
std::vector<double> modegptScores(const WidthInput& input);
std::vector<double> modegptShares(std::span<const LayerInfluence> layers, double kept);
std::vector<double> randomChannelScores(const WidthInput& input);

// Sums, over bands of rows that threads share, of what `add` puts into [width]: in the order of the bands, whatever the threads.
std::vector<double> sumOverRows(const WidthInput::Decode& decode, int rows, int cols, int width, ThreadPool* pool,
                                const std::function<void(const float* row, int index, double* sums)>& add);

}  // namespace winnow
