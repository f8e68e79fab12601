// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/plot/chart_painter.h"

#include <QFontInfo>
#include <algorithm>
#include <cmath>
#include <span>

#include "engine/core/check.h"
#include "panels/plot/chart_panels.h"

namespace winnow {
namespace {

constexpr double margin = 20, gap = 18;

// The family that is really there: files name it, and another machine shows what was measured here.
QFont present(QFont font) {
  const QString family = QFontInfo(font).family();
  font.setFamilies({family});
  return font;
}

// Panels beside each other: those that begin with bars, and small maps in twos. The others have a row each.
using Band = std::span<const Chart::Panel>;

bool isSmallMap(const Chart::Panel& panel) {
  return panel.kind == Chart::Kind::heatmap && panel.cells.size() <= 16 && std::ranges::all_of(panel.cells, [](const auto& row) { return row.size() <= 12; });
}

std::vector<Band> bandsOf(const Chart& chart) {
  std::vector<Band> bands;
  for (Band left(chart.panels); !left.empty(); left = left.subspan(bands.back().size())) {
    size_t count = 1;
    if (bands.empty() && left.front().kind == Chart::Kind::bars)
      count = static_cast<size_t>(std::ranges::find(left, Chart::Kind::heatmap, &Chart::Panel::kind) - left.begin());
    else if (left.size() > 1 && isSmallMap(left[0]) && isSmallMap(left[1]))
      count = 2;
    bands.push_back(left.first(count));
  }
  return bands;
}

bool sharesNames(Band panels) {
  return panels.size() > 1 && std::ranges::all_of(panels, [&](const Chart::Panel& p) {
           return p.kind == Chart::Kind::bars && p.x.categories == panels.front().x.categories;
         });
}

double heightOf(const Chart::Panel& panel) {
  switch (panel.kind) {
    case Chart::Kind::bars: return 96 + 34 * static_cast<double>(std::max<qsizetype>(panel.x.categories.size(), 2));
    case Chart::Kind::attribution: return 70 + 24 * std::min<double>(static_cast<double>(panel.series.empty() ? 1 : panel.series.front().y.size()), 40);
    case Chart::Kind::heatmap: return 70 + 22 * std::min<double>(static_cast<double>(panel.cells.size()), 24);
    case Chart::Kind::text: {  // at some hundred letters a line
      double lines = 1;
      if (!panel.series.empty())
        for (const QString& label : panel.series.front().labels) lines += static_cast<double>(label.size()) / 100 + static_cast<double>(label.count(u'\n'));
      return 40 + 21 * std::min(lines, 40.0);
    }
    default: return 340;
  }
}

double heightOf(Band panels) {
  double height = 0;
  for (const Chart::Panel& panel : panels) height = std::max(height, heightOf(panel));
  if (panels.front().kind == Chart::Kind::bars) height += 26 * static_cast<double>(std::ranges::count_if(panels, hasLegend));
  return height;
}

struct Page {
  QCPPainter* painter;
  const ChartStyle* style;
  QFont font, small, heading, title;
};

// Text in the width; returns the height it took.
double paintText(const Page& page, const QRectF& at, const QFont& font, const QColor& color, const QString& text, bool draw) {
  if (text.isEmpty()) return 0;
  const double height = std::ceil(QFontMetricsF(font).boundingRect(QRectF(0, 0, at.width(), 1e5), Qt::TextWordWrap, text).height());
  if (draw) {
    page.painter->setFont(font);
    page.painter->setPen(color);
    page.painter->drawText(QRectF(at.left(), at.top(), at.width(), height + 2), Qt::TextWordWrap, text);
  }
  return height;
}

void paintBeginningWithBars(const Page& page, const QRectF& area, Band panels, PanelLook look) {
  const size_t n = panels.size();
  const bool shared = sharesNames(panels);
  double names = 0;
  size_t columns = 0;
  for (const Chart::Panel& p : panels) {
    if (p.kind != Chart::Kind::bars || (shared && columns > 0)) continue;
    ++columns;
    names = std::max(names, nameColumnWidth(p, page.small, area.width() * (n == 1 ? 0.4 : 0.24)));
  }
  const double width = (area.width() - names * static_cast<double>(columns) - gap * static_cast<double>(n - 1)) / static_cast<double>(n);
  double x = area.left(), top = area.top();
  // One row of legends above all: the bars of a run stay on one line.
  look.legend = n == 1;
  for (const Chart::Panel& p : panels)
    if (!look.legend && hasLegend(p))
      top = paintLegend(page.painter, QRectF(area.left(), top, area.width(), area.height()), p, look, p.title.isEmpty() ? QString() : p.title + QLatin1Char(':'));
  for (size_t i = 0; i < n; ++i) {
    look.names = panels[i].kind == Chart::Kind::bars && !(shared && i > 0);
    look.namesWidth = look.names ? names : 0;
    const double w = std::floor(width + look.namesWidth);
    paintPanel(page.painter, QRectF(x, top, w, area.bottom() - top), panels[i], look);
    x += w + gap;
  }
}

void paintBand(const Page& page, const QRectF& area, Band panels, PanelLook look) {
  const double width = std::floor((area.width() - gap * static_cast<double>(panels.size() - 1)) / static_cast<double>(panels.size()));
  double x = area.left();
  for (const Chart::Panel& p : panels) {
    look.namesWidth = p.kind == Chart::Kind::bars ? nameColumnWidth(p, page.small, area.width() * 0.4) : 0;
    paintPanel(page.painter, QRectF(x, area.top(), width, area.height()), p, look);
    x += width + gap;
  }
}

void paintPanels(const Page& page, const QRectF& area, const Chart& chart) {
  PanelLook look{page.style, page.font, page.small, page.heading, true, 0, true};
  if (chart.panels.size() == 1 && chart.panels.front().kind != Chart::Kind::attribution && chart.panels.front().kind != Chart::Kind::text)
    look.title = !chart.panels.front().title.isEmpty();
  const std::vector<Band> bands = bandsOf(chart);
  double wanted = 0;
  for (const Band& band : bands) wanted += heightOf(band);
  const double available = area.height() - gap * static_cast<double>(bands.size() - 1);
  double y = area.top();
  for (const Band& band : bands) {
    const double h = std::floor(available * heightOf(band) / wanted);
    const QRectF row(area.left(), y, area.width(), h);
    if (&band == &bands.front() && band.front().kind == Chart::Kind::bars)
      paintBeginningWithBars(page, row, band, look);
    else
      paintBand(page, row, band, look);
    y += h + gap;
  }
}

}  // namespace

void paintChart(QPaintDevice* device, const QSizeF& size, const Chart& chart, const ChartStyle& style) {
  CHECK(size.width() > 0 && size.height() > 0, size.width(), size.height());
  QCPPainter painter;
  CHECK(painter.begin(device), "a chart is painted on a device that can be painted on");
  painter.setModes(style.vector ? QCPPainter::pmVectorized | QCPPainter::pmNoCaching | QCPPainter::pmNonCosmetic : QCPPainter::pmNoCaching);
  painter.setRenderHint(QPainter::TextAntialiasing);
  const QRectF target = painter.viewport();
  painter.scale(target.width() / size.width(), target.height() / size.height());
  painter.fillRect(QRectF(QPointF(0, 0), size), style.theme.plot);
  painter.setAntialiasing(true);  // shifts by half a pixel on pixel devices
  Page page{&painter, &style, present(interfaceFont(style.fontScale * 12 / 13)), present(interfaceFont(style.fontScale * 11 / 13)),
            present(interfaceFont(style.fontScale)), present(interfaceFont(style.fontScale * 17 / 13))};
  page.heading.setWeight(QFont::DemiBold);
  page.title.setWeight(QFont::DemiBold);
  QRectF area(margin, margin - 4, size.width() - 2 * margin, size.height() - 2 * margin + 8);
  if (style.title) area.setTop(area.top() + paintText(page, area, page.title, style.theme.text, chart.title, true) + 8);
  if (style.caption) {
    const QString notes = chart.notes.join(QStringLiteral("  "));
    const double captionHeight = paintText(page, area, page.small, {}, chart.caption, false), notesHeight = paintText(page, area, page.small, {}, notes, false);
    double y = area.bottom() - captionHeight - notesHeight - (notesHeight > 0 ? 3 : 0);
    area.setBottom(y - 10);
    if (notesHeight > 0) {
      paintText(page, QRectF(area.left(), y, area.width(), notesHeight), page.small, style.theme.noticeText, notes, true);
      y += notesHeight + 3;
    }
    paintText(page, QRectF(area.left(), y, area.width(), captionHeight), page.small, style.theme.textSecondary, chart.caption, true);
  }
  if (area.height() > 60) paintPanels(page, area, chart);
  painter.end();
}

QSizeF suitableSize(const Chart& chart, double width) {
  const std::vector<Band> bands = bandsOf(chart);
  double height = -gap;
  for (const Band& band : bands) height += heightOf(band) + gap;
  return {width, std::clamp(height + 110, 320.0, 1400.0)};
}

}  // namespace winnow
