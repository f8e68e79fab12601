// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/live/stat_tile.h"

#include <QPainter>
#include <QStyleOption>
#include <cmath>

#include "experiments/format.h"

namespace winnow {
namespace {

constexpr int padding = 12;

struct Fonts {
  QFont label, value, unit, detail;
};
Fonts fontsFor(double scale) {
  Fonts f{interfaceFont(scale * 12 / 13), interfaceFont(scale * 23 / 13), interfaceFont(scale), interfaceFont(scale * 11 / 13)};
  f.value.setWeight(QFont::Medium);
  return f;
}

// The thin space before the unit; the same space groups thousands.
qsizetype unitStart(const QString& value) {
  const qsizetype last = value.lastIndexOf(Format::thinSpace);
  return last >= 0 && last + 1 < value.size() && !value[last + 1].isDigit() ? last : -1;
}

// Whole parts of "a · b · c" that fit, the first ones first: half a number would be a wrong one.
QString fitted(QString detail, const QFontMetrics& metrics, int width) {
  const QString separator = QStringLiteral(" · ");
  while (metrics.horizontalAdvance(detail) > width && detail.contains(separator)) detail.truncate(detail.lastIndexOf(separator));
  return metrics.elidedText(detail, Qt::ElideRight, width);
}

}  // namespace

StatTile::StatTile(ThemeManager* themes, const QString& label, int slot, QWidget* parent)
    : QWidget(parent), themes_(themes), label_(label), value_(Format::missing()), slot_(slot) {
  setProperty("card", true);
  setAttribute(Qt::WA_StyledBackground);
  setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Fixed);
  connect(themes, &ThemeManager::changed, this, [this] {
    updateGeometry();
    update();
  });
  describe();
}

void StatTile::setNumber(const QString& value, const QString& detail) {
  if (value == value_ && detail == detail_) return;
  value_ = value;
  detail_ = detail;
  describe();
  update();
}

void StatTile::setDelta(const QString& delta, Tone tone) {
  if (delta == delta_ && tone == tone_) return;
  delta_ = delta;
  tone_ = tone;
  describe();
  update();
}

void StatTile::setBusy(bool busy) {
  busy_ = busy;
  update();
}

void StatTile::describe() {
  setAccessibleName(label_);
  QString text = value_;
  if (!delta_.isEmpty()) text += QStringLiteral(", ") + delta_;
  setAccessibleDescription(detail_.isEmpty() ? text : text + QStringLiteral("; ") + detail_);
  setToolTip(detail_.isEmpty() ? label_ : QStringLiteral("%1: %2\n%3").arg(label_, text, detail_));
}

QSize StatTile::sizeHint() const {
  const Fonts fonts = fontsFor(themes_->fontScale());
  const int height = QFontMetrics(fonts.label).height() + QFontMetrics(fonts.value).height() + QFontMetrics(fonts.detail).height() + 24;
  return {172, height};
}

void StatTile::paintEvent(QPaintEvent*) {
  QPainter painter(this);
  painter.setRenderHint(QPainter::Antialiasing);
  QStyleOption option;
  option.initFrom(this);
  style()->drawPrimitive(QStyle::PE_Widget, &option, &painter, this);
  const Theme& theme = themes_->theme();
  const Fonts fonts = fontsFor(themes_->fontScale());
  QRect area = rect().adjusted(padding, 10, -padding, -10);

  const QFontMetrics labelMetrics(fonts.label), valueMetrics(fonts.value), unitMetrics(fonts.unit), detailMetrics(fonts.detail);
  painter.setPen(Qt::NoPen);
  painter.setBrush(theme.style(slot_).line);
  painter.drawEllipse(QPointF(area.left() + 4, area.top() + labelMetrics.height() / 2.0), 3.5, 3.5);
  painter.setFont(fonts.label);
  painter.setPen(theme.textSecondary);
  painter.drawText(QRect(area.left() + 14, area.top(), area.width() - 14, labelMetrics.height()), Qt::AlignLeft | Qt::AlignVCenter,
                   labelMetrics.elidedText(label_, Qt::ElideRight, area.width() - 14));

  const int baseline = area.top() + labelMetrics.height() + 2 + valueMetrics.ascent();
  const qsizetype split = unitStart(value_);
  const QString number = split < 0 ? value_ : value_.left(split), unit = split < 0 ? QString() : value_.mid(split + 1);
  painter.setFont(fonts.value);
  painter.setPen(busy_ ? theme.textSecondary : theme.text);
  painter.drawText(area.left(), baseline, number);
  int x = area.left() + valueMetrics.horizontalAdvance(number) + 4;
  painter.setFont(fonts.unit);
  painter.setPen(theme.textSecondary);
  painter.drawText(x, baseline, unit);
  x += unitMetrics.horizontalAdvance(unit) + 10;
  const int deltaWidth = unitMetrics.horizontalAdvance(delta_);
  if (!delta_.isEmpty() && x + deltaWidth <= area.right()) {
    painter.setPen(tone_ == Tone::neutral ? theme.textSecondary : tone_ == Tone::better ? theme.better : theme.worse);
    painter.drawText(area.right() - deltaWidth, baseline, delta_);
  }
  painter.setFont(fonts.detail);
  painter.setPen(theme.textSecondary);
  painter.drawText(QRect(area.left(), area.bottom() - detailMetrics.height() + 1, area.width(), detailMetrics.height()), Qt::AlignLeft | Qt::AlignVCenter,
                   fitted(detail_, detailMetrics, area.width()));
}

}  // namespace winnow
