// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/plot/cursor_link.h"

#include <algorithm>
#include <cmath>

namespace winnow {

qint64 CursorLink::token() const { return position_ ? std::max<qint64>(0, std::llround(*position_)) : -1; }

void CursorLink::setPosition(double x) {
  if (std::isfinite(x)) set(x);
}

void CursorLink::clear() { set(std::nullopt); }

void CursorLink::set(std::optional<double> x) {
  if (x == position_) return;
  const qint64 before = token();
  position_ = x;
  Q_EMIT positionChanged();
  if (token() != before) Q_EMIT tokenHovered(token());
}

void AxisLink::setMode(Mode mode) {
  if (mode_ == mode) return;
  mode_ = mode;
  place();
  Q_EMIT changed();
}

void AxisLink::setRange(double lower, double upper) {
  if (!std::isfinite(lower) || !std::isfinite(upper) || upper - lower < 1e-9) return;
  if (mode_ == Mode::fixed && lower == lower_ && upper == upper_) return;
  mode_ = Mode::fixed;
  lower_ = lower;
  upper_ = upper;
  Q_EMIT changed();
}

void AxisLink::extendTo(double first, double last) {
  if (!std::isfinite(first) || !std::isfinite(last)) return;
  if (any_ && first >= first_ && last <= last_) return;
  first_ = any_ ? std::min(first_, first) : first;
  last_ = any_ ? std::max(last_, last) : last;
  any_ = true;
  const double lower = lower_, upper = upper_;
  place();
  if (lower != lower_ || upper != upper_) Q_EMIT changed();
}

void AxisLink::reset() {
  any_ = false;
  mode_ = Mode::fit;
  first_ = last_ = lower_ = 0;
  upper_ = 32;
  Q_EMIT changed();
}

void AxisLink::place() {
  if (mode_ == Mode::fixed) return;
  if (!any_) {
    lower_ = 0;
    upper_ = 32;
    return;
  }
  if (mode_ == Mode::follow) {
    const double width = upper_ - lower_;
    upper_ = last_ + width * 0.04;
    lower_ = upper_ - width;
    return;
  }
  // Grown in steps of about an eighth, so that the axis does not move at every token.
  lower_ = first_;
  const double span = std::max(last_ - first_, 1.0), step = std::exp2(std::floor(std::log2(std::max(span, 32.0))) - 3);
  upper_ = lower_ + std::max(32.0, std::ceil(span / step) * step);
}

}  // namespace winnow
