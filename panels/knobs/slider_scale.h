// SPDX-License-Identifier: GPL-3.0-or-later
// Slider positions to values and back, linear or logarithmic. A range that starts at 0 keeps 0 as its first position.
#pragma once
#include <algorithm>
#include <cmath>

namespace winnow {

struct SliderScale {
  double minimum = 0, maximum = 1, step = 1;
  bool logarithmic = false;
  bool whole = false;  // integers

  static constexpr int kLogPositions = 400;
  double floorValue() const { return minimum > 0 ? minimum : (step > 0 ? step : 1e-3); }
  int positions() const {
    if (logarithmic) return kLogPositions;
    const double n = step > 0 ? (maximum - minimum) / step : 1000;
    return static_cast<int>(std::clamp(std::round(n), 1.0, 10000.0));
  }
  double snapped(double value) const {
    if (step > 0 && !logarithmic) value = minimum + std::round((value - minimum) / step) * step;
    if (whole) value = std::round(value);
    return std::clamp(value, minimum, maximum);
  }
  double valueAt(int position) const {
    const int n = positions();
    position = std::clamp(position, 0, n);
    if (position == 0) return minimum;
    if (position == n) return maximum;
    const double t = static_cast<double>(position) / n;
    if (!logarithmic) return snapped(minimum + t * (maximum - minimum));
    double value = floorValue() * std::pow(maximum / floorValue(), t);
    if (whole) {
      const double grain = std::pow(2.0, std::max(0.0, std::floor(std::log2(value)) - 4));  // two significant figures or so
      value = std::round(value / grain) * grain;
    } else {
      const double grain = std::pow(10.0, std::floor(std::log10(value)) - 1);
      value = std::round(value / grain) * grain;
    }
    return std::clamp(value, minimum, maximum);
  }
  int positionOf(double value) const {
    const int n = positions();
    value = std::clamp(value, minimum, maximum);
    if (!logarithmic) return static_cast<int>(std::lround((value - minimum) / (maximum - minimum) * n));
    if (value < floorValue()) return 0;
    return static_cast<int>(std::lround(std::log(value / floorValue()) / std::log(maximum / floorValue()) * n));
  }
};

}  // namespace winnow
