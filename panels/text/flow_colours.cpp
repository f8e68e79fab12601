// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/text/flow_colours.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace winnow {
namespace {

QColor mix(const QColor& a, const QColor& b, float t) {
  const auto channel = [t](int x, int y) { return static_cast<int>(std::lround(x + (y - x) * t)); };
  return {channel(a.red(), b.red()), channel(a.green(), b.green()), channel(a.blue(), b.blue())};
}

}  // namespace

std::optional<float> FlowScale::position(float value) const {
  if (!std::isfinite(value)) return std::nullopt;
  if (kind == FlowColour::score) {
    if (std::fabs(value) <= noise) return std::nullopt;
    return std::clamp(value / high, -1.0f, 1.0f);
  }
  if (high <= low) return 0.0f;
  return std::clamp((value - low) / (high - low), 0.0f, 1.0f);
}

FlowScale nllScale() { return {FlowColour::nll, 0, 8, 0, QStringLiteral("nat")}; }

FlowScale latencyScale(std::vector<float> milliseconds) {
  std::erase_if(milliseconds, [](float v) { return !std::isfinite(v); });
  FlowScale scale{FlowColour::latency, 0, 1, 0, QStringLiteral("ms")};
  if (milliseconds.empty()) return scale;
  const auto quantile = [&](double q) {
    const auto at = milliseconds.begin() + static_cast<std::ptrdiff_t>(q * static_cast<double>(milliseconds.size() - 1));
    std::nth_element(milliseconds.begin(), at, milliseconds.end());
    return *at;
  };
  scale.low = quantile(0.05);
  scale.high = std::max(quantile(0.95), scale.low * 1.05f);
  return scale;
}

FlowScale scoreScale(float largest, float noiseFloor) {
  return {FlowColour::score, 0, std::max(largest, std::numbers::ln10_v<float>), std::max(noiseFloor, 0.0f), QStringLiteral("nat")};
}

QColor flowBackground(float position, const Theme& theme) {
  const QColor& weak = position >= 0 ? theme.attributionPlusWeak : theme.attributionMinusWeak;
  const QColor& strong = position >= 0 ? theme.attributionPlusStrong : theme.attributionMinusStrong;
  const float t = std::fabs(position);
  return t < 0.5f ? mix(theme.surface, weak, t * 2) : mix(weak, strong, t * 2 - 1);
}

QColor flowLine(float position, const Theme& theme) { return position >= 0 ? theme.worse : theme.better; }

int flowLineThickness(float position) { return static_cast<int>(std::lround(std::fabs(position) * 4)); }

}  // namespace winnow
