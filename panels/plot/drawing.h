// SPDX-License-Identifier: GPL-3.0-or-later
// How series look, shared by the live plots and the exported charts. Private to panels/plot: it includes QCustomPlot.
#pragma once
#include <qcustomplot.h>

#include <functional>
#include <span>
#include <vector>

#include "experiments/chart_data.h"
#include "panels/plot/bucket_series.h"
#include "panels/theme/theme.h"

namespace winnow {

// Draws by a function, clipped to its axis rectangle.
class PaintedItem : public QCPLayerable {
 public:
  using Paint = std::function<void(QCPPainter*)>;
  PaintedItem(QCPAxisRect* rect, const QString& layer, int margin, Paint paint);  // margin: pixels it may reach beyond

 protected:
  void applyDefaultAntialiasingHint(QCPPainter* painter) const override { painter->setAntialiasing(true); }
  QRect clipRect() const override { return rect_->rect().adjusted(-margin_, -margin_, margin_, margin_); }
  void draw(QCPPainter* painter) override { paint_(painter); }

 private:
  QCPAxisRect* rect_;
  int margin_;
  Paint paint_;
};

struct Estimate {
  double x = 0, y = 0;
  double low = 0, high = 0;   // equal to y: no interval
  bool preliminary = false;   // still being measured: hollow
};

// What of a series is drawn at the present range: at most two points per pixel.
struct PreparedLine {
  struct Column {
    double x, halfWidth, low, high, max;
  };
  std::vector<QPointF> points;  // data coordinates; NaN y = gap
  std::vector<Column> band;     // p5 .. p95 where points were too dense
  bool sparse = false;          // wide enough apart for single markers
};
PreparedLine prepareLine(const BucketSeries& series, double lower, double upper, double pixels);

struct AxisPair {
  QCPAxis* x;
  QCPAxis* y;
  QPointF pixel(double kx, double vy) const { return {x->coordToPixel(kx), y->coordToPixel(vy)}; }
};
void drawBand(QCPPainter* painter, const AxisPair& axes, const PreparedLine& line, const SeriesStyle& style);
void drawLine(QCPPainter* painter, const AxisPair& axes, const PreparedLine& line, const QPen& pen, const SeriesStyle& style);
// One layer of a stack between two outlines of equal x. `hatched` marks memory that is mapped, not owned.
// Edges come after all fills: the layer above would cover them.
void fillStackLayer(QCPPainter* painter, const AxisPair& axes, std::span<const QPointF> bottom, std::span<const QPointF> top, const SeriesStyle& style,
                    bool hatched);
void drawStackEdge(QCPPainter* painter, const AxisPair& axes, std::span<const QPointF> bottom, std::span<const QPointF> top, const SeriesStyle& style);
// holdUntil: joined, each holding until the next and the last until this x; null: points alone.
void drawEstimates(QCPPainter* painter, const AxisPair& axes, std::span<const Estimate> estimates, const SeriesStyle& style, const QColor& background,
                   const double* holdUntil);
void drawMarker(QPainter* painter, const QPointF& at, const SeriesStyle& style, double radius, const QColor* fill = nullptr);
// Vertical epoch lines, with labels at the top edge if asked.
void drawEpochs(QCPPainter* painter, const AxisPair& axes, std::span<const ChartMarker> markers, const Theme& theme, const QFont& font, bool labels);

// A band of the line's colour and stripes over it.
QBrush hatchBrush(const SeriesStyle& style);

// Upper end of the value axis: everything, unless a few outliers would flatten the rest; `beyond` counts those left out.
double niceUpper(std::vector<double> maxima, int* beyond);

// Axes without boxes: faint grid, small labels in the secondary colour. `unit` "B" counts in powers of two.
void styleAxes(QCPAxisRect* rect, const Theme& theme, const QFont& font);
void setTicker(QCPAxis* axis, const ChartAxis& description, int approximateCount);

}  // namespace winnow
