// SPDX-License-Identifier: GPL-3.0-or-later
// TEAL (Liu et al., ICLR 2025), the same sparsity everywhere: an entry of a matrix' input takes part when |x| > t, the quantile of that magnitude at its
// place over a calibration text. The paper takes the quantile 0.5 + s / 2 of x for symmetric about zero; that of |x| needs no such thing.
#include "engine/sparsify/methods.h"

namespace winnow {

float tealThreshold(const ActivationProfile& profile, int layer, ActivationSite site, double sparsity) { return profile.quantile(layer, site, sparsity); }

}  // namespace winnow
