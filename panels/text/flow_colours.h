// SPDX-License-Identifier: GPL-3.0-or-later
// What a value looks like behind a token: a background and an underline, so that colour is not the only channel.
#pragma once
#include <QColor>
#include <QString>
#include <optional>
#include <vector>

#include "panels/theme/theme.h"

namespace winnow {

enum class FlowColour { plain, nll, latency, score };

struct FlowScale {
  FlowColour kind = FlowColour::plain;
  float low = 0, high = 1;   // values at the ends; score: -high .. high
  float noise = 0;           // score: below this nothing is painted
  QString unit;              // "nat", "ms"
  // 0..1 along the scale (score: -1..1); nullopt paints nothing.
  std::optional<float> position(float value) const;
};

// Surprise of a token: 0 to 8 nat, fixed, so that two runs look alike when they are.
FlowScale nllScale();
// From the 5th to the 95th percentile of what was measured.
FlowScale latencyScale(std::vector<float> milliseconds);
// The top is never below ln 10 nat (a tenfold probability), so that noise is not painted as certainty.
FlowScale scoreScale(float largest, float noiseFloor);

QColor flowBackground(float position, const Theme& theme);  // theme.text stays readable on it
QColor flowLine(float position, const Theme& theme);        // the underline's colour
int flowLineThickness(float position);                      // 0..4 px

}  // namespace winnow
