// SPDX-License-Identifier: GPL-3.0-or-later
// A text whose pieces bear scores, as the window shows it: a background and an underline behind each.
#include <algorithm>
#include <cmath>

#include "panels/plot/chart_panels.h"
#include "panels/text/flow_colours.h"

namespace winnow {
namespace {

// Lays words of one piece after the other; false: the area is full.
class TextPainter {
 public:
  TextPainter(QCPPainter* painter, const QRectF& area, const PanelLook& look)
      : painter_(painter), area_(area), look_(look), metrics_(look.font), line_(metrics_.height() + 7), x_(area.left()), y_(area.top()) {}

  bool piece(const QString& text, double score, const FlowScale& scale) {
    const bool scored = std::isfinite(score);
    const auto position = scored ? scale.position(static_cast<float>(score)) : std::nullopt;
    for (qsizetype begin = 0; begin < text.size();) {
      qsizetype end = begin;
      while (end < text.size() && !text[end].isSpace()) ++end;
      bool broken = false;
      while (end < text.size() && text[end].isSpace() && !broken) broken = text[end++] == u'\n';
      if (!word(text.mid(begin, end - begin).remove(u'\n'), position, scored)) return false;
      if (broken && !nextLine()) return false;
      begin = end;
    }
    return true;
  }

 private:
  bool nextLine() {
    x_ = area_.left();
    y_ += line_;
    return y_ + line_ <= area_.bottom();
  }

  bool word(const QString& text, const std::optional<float>& position, bool scored) {
    const double width = metrics_.horizontalAdvance(text);
    if (x_ + width > area_.right() && x_ > area_.left() && !nextLine()) {
      painter_->drawText(QPointF(area_.right() - metrics_.horizontalAdvance(QStringLiteral("…")), y_ - line_ + 2 + metrics_.ascent()),
                         QStringLiteral("…"));
      return false;
    }
    const Theme& theme = look_.style->theme;
    if (position) {
      painter_->fillRect(QRectF(x_, y_ + 1, width, line_ - 4), flowBackground(*position, theme));
      if (const int thick = flowLineThickness(*position); thick > 0)
        painter_->fillRect(QRectF(x_, y_ + line_ - 4, width, thick > 3 ? 3.5 : thick), flowLine(*position, theme));
    }
    painter_->setPen(scored && !position ? theme.textSecondary : theme.text);
    painter_->drawText(QPointF(x_, y_ + 2 + metrics_.ascent()), text);
    x_ += width;
    return true;
  }

  QCPPainter* painter_;
  QRectF area_;
  const PanelLook& look_;
  QFontMetricsF metrics_;
  double line_, x_, y_;
};

}  // namespace

void paintScoredText(QCPPainter* painter, const QRectF& area, const Chart::Panel& panel, const PanelLook& look) {
  if (panel.series.empty()) return;
  const ChartSeries& s = panel.series.front();
  float largest = 0, noise = 0;
  for (const double y : s.y)
    if (std::isfinite(y)) largest = std::max(largest, static_cast<float>(std::fabs(y)));
  if (panel.series.size() > 1 && !panel.series[1].y.empty()) noise = static_cast<float>(std::fabs(panel.series[1].y.back()));
  const FlowScale scale = scoreScale(largest, noise);
  painter->setFont(look.font);
  painter->setPen(Qt::NoPen);
  TextPainter text(painter, area, look);
  for (size_t i = 0; i < s.labels.size() && i < s.y.size(); ++i)
    if (!text.piece(s.labels[i], s.y[i], scale)) return;
}

}  // namespace winnow
