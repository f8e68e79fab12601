// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/model/config.h"

#include <cmath>

#include "engine/core/check.h"

namespace winnow {
namespace {

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
double llama3Frequency(const RopeConfig& rope, double frequency) {
  const double wavelength = 2.0 * 3.14159265358979323846 / frequency;
  const double longest = rope.originalContext / static_cast<double>(rope.lowFreqFactor);
  const double shortest = rope.originalContext / static_cast<double>(rope.highFreqFactor);
  if (wavelength < shortest) return frequency;
  if (wavelength > longest) return frequency / rope.factor;
  const double kept = (rope.originalContext / wavelength - rope.lowFreqFactor) / (rope.highFreqFactor - rope.lowFreqFactor);
  return (1.0 - kept) * frequency / rope.factor + kept * frequency;
}

}  // namespace

std::vector<float> ropeFrequencies(const RopeConfig& rope) {
  CHECK(rope.frequencyFactors.empty() || rope.frequencyFactors.size() == static_cast<size_t>(rope.dims) / 2);
  std::vector<float> out(static_cast<size_t>(rope.dims) / 2);
  for (size_t i = 0; i < out.size(); ++i) {
    double frequency = std::pow(static_cast<double>(rope.base), -2.0 * static_cast<double>(i) / rope.dims);
    if (rope.scaling == RopeScaling::linear) frequency /= rope.factor;
    if (rope.scaling == RopeScaling::llama3) frequency = llama3Frequency(rope, frequency);
    if (!rope.frequencyFactors.empty()) frequency /= rope.frequencyFactors[i];
    out[i] = static_cast<float>(frequency);
  }
  return out;
}

}  // namespace winnow
