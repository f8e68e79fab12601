// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/text/flow_legend.h"

#include <QPainter>
#include <cmath>

namespace winnow {
namespace {
constexpr int kStrip = 96;  // px
QString number(float value) { return QString::number(static_cast<double>(value), 'g', 3); }
}  // namespace

FlowLegend::FlowLegend(QWidget* parent) : QWidget(parent) {
  setSizePolicy(QSizePolicy::Fixed, QSizePolicy::Fixed);
  setAccessibleName(tr("Colour scale"));
}

void FlowLegend::setTheme(const Theme& theme) {
  theme_ = theme;
  update();
}

void FlowLegend::setScale(const FlowScale& scale) {
  scale_ = scale;
  setVisible(scale.kind != FlowColour::plain);
  setAccessibleDescription(tr("from %1 to %2").arg(low(), high()));
  QString tip;
  if (scale.kind == FlowColour::nll) tip = tr("Negative log-likelihood of each token: 0 nat was certain, 2.3 nat is one chance in ten");
  if (scale.kind == FlowColour::latency) tip = tr("Time per token; the scale runs from the 5th to the 95th percentile");
  if (scale.kind == FlowColour::score)
    tip = tr("Change of the response's log-probability: 2.30 nat is a factor of ten. Below %1 nat is noise and stays unpainted.")
              .arg(number(scale.noise));
  setToolTip(tip);
  updateGeometry();
  update();
}

QString FlowLegend::low() const {
  return scale_.kind == FlowColour::score ? QStringLiteral("−") + number(scale_.high) : number(scale_.low);
}

QString FlowLegend::high() const {
  return (scale_.kind == FlowColour::score ? QStringLiteral("+") : QString()) + number(scale_.high) + QLatin1Char(' ') + scale_.unit;
}

QSize FlowLegend::sizeHint() const {
  const QFontMetrics metrics = fontMetrics();
  return {kStrip + metrics.horizontalAdvance(low()) + metrics.horizontalAdvance(high()) + 14, metrics.height() + 8};
}

void FlowLegend::paintEvent(QPaintEvent*) {
  QPainter painter(this);
  const int left = fontMetrics().horizontalAdvance(low()) + 6;
  painter.setPen(theme_.textSecondary);
  painter.drawText(QRect(0, 0, left - 4, height()), Qt::AlignVCenter | Qt::AlignLeft, low());
  painter.drawText(QRect(left + kStrip + 6, 0, width(), height()), Qt::AlignVCenter | Qt::AlignLeft, high());
  const int top = height() / 2 - 6;
  constexpr int cells = 24;
  for (int i = 0; i < cells; ++i) {
    float t = (static_cast<float>(i) + 0.5f) / cells;
    if (scale_.kind == FlowColour::score) t = 2 * t - 1;
    const QRectF cell(left + i * kStrip / cells, top, kStrip / cells, 12);
    painter.fillRect(cell, flowBackground(t, theme_));
    if (const int thick = flowLineThickness(t); thick > 0)
      painter.fillRect(QRectF(cell.left(), top + 13, cell.width(), thick), flowLine(t, theme_));
  }
  painter.setPen(theme_.border);
  painter.drawRect(QRectF(left - 0.5, top - 0.5, kStrip, 12));
}

}  // namespace winnow
