// SPDX-License-Identifier: GPL-3.0-or-later
// The functions that registry.cpp lists; those of a method are in the file of its name.
#pragma once
#include "engine/sparsify/method.h"

namespace winnow {

float catsThreshold(const ActivationProfile& profile, int layer, ActivationSite site, double sparsity);
float tealThreshold(const ActivationProfile& profile, int layer, ActivationSite site, double sparsity);
std::vector<int32_t> griffinNeurons(const PromptNeurons& prompt, const ActivationProfile* profile, int layer, double sparsity);
std::vector<int32_t> tdaNeurons(const PromptNeurons& prompt, const ActivationProfile* profile, int layer, double sparsity);

}  // namespace winnow
