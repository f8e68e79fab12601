// SPDX-License-Identifier: GPL-3.0-or-later
// CATS (Lee et al., COLM 2024): a neuron takes part when |act(gate)| > t_l, the quantile of that magnitude in its layer over a calibration text.
#include "engine/sparsify/methods.h"

namespace winnow {

float catsThreshold(const ActivationProfile& profile, int layer, ActivationSite site, double sparsity) { return profile.quantile(layer, site, sparsity); }

}  // namespace winnow
