// SPDX-License-Identifier: GPL-3.0-or-later
// PlotScene: the QCustomPlot of a PlotWidget, with what it draws. Private to panels/plot.
#pragma once
#include "panels/plot/drawing.h"
#include "panels/plot/plot_widget.h"

namespace winnow {

struct PlotSeries {
  PlotWidget::SeriesOptions options;
  BucketSeries data;                // line and stack
  std::vector<Estimate> estimates;
  bool visible = true;
  bool anything = false;            // a value other than 0 came
};

class PlotScene {
 public:
  PlotScene(ChartAxis x, ChartAxis y, QWidget* parent);

  QCustomPlot* plot() const { return plot_; }
  AxisPair axes() const { return {plot_->xAxis, plot_->yAxis}; }
  std::vector<PlotSeries>& series() { return series_; }
  const std::vector<PlotSeries>& series() const { return series_; }
  std::vector<ChartMarker>& markers() { return markers_; }
  const ChartAxis& xDescription() const { return x_; }
  const ChartAxis& yDescription() const { return y_; }
  bool hasData() const;
  int outliers() const { return outliers_; }  // beyond the value axis at present

  void setTheme(const Theme& theme, double fontScale);
  void setLogarithmic(bool on);
  void setXTitleShown(bool shown);
  void setMarkerLabelsShown(bool shown) { markerLabelsShown_ = shown; }
  void setShaded(double until, const QString& label);  // the prompt: no token of it was generated
  void replot(double lower, double upper, double newest);  // decimates, scales the value axis, draws
  void showCursor(std::optional<double> x);       // the overlay alone
  void showMeasure(std::optional<QCPRange> range, const QString& text);  // likewise
  size_t markerLabels() const;

 private:
  struct Prepared {
    PreparedLine line;
    std::vector<QPointF> top, bottom;  // stack outlines
  };
  void prepare(double lower, double upper);
  void prepareStacks(double lower, double upper, double pixels);
  void scaleValues();
  void reserveMargins();
  void drawShade(QCPPainter* painter);
  void drawBelow(QCPPainter* painter);
  void drawAbove(QCPPainter* painter);
  void drawOutliers(QCPPainter* painter);
  void drawCursor(QCPPainter* painter);
  void drawMeasure(QCPPainter* painter);

  QCustomPlot* plot_;  // owned by the parent widget
  ChartAxis x_, y_;
  bool xTitleShown_ = true, markerLabelsShown_ = true;
  double shadedUntil_ = 0;
  QString shadeLabel_;
  Theme theme_;
  QFont font_;
  std::vector<PlotSeries> series_;
  std::vector<Prepared> prepared_;
  std::vector<ChartMarker> markers_;
  std::optional<double> cursor_;
  std::optional<QCPRange> measured_;
  QString measureText_;
  int outliers_ = 0;
  double newest_ = 0;  // x up to which the last estimate holds
};

}  // namespace winnow
