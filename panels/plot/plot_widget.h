// SPDX-License-Identifier: GPL-3.0-or-later
// PlotWidget: a live plot in a card. Title, legend of check boxes, shared crosshair, epoch markers; wheel zooms, drag pans, double
// click or 0 fits, F follows the newest, L is logarithmic, comma and point step the cursor, Ctrl+T shows the numbers as a table.
#pragma once
#include <QWidget>
#include <memory>
#include <vector>

#include "experiments/chart_data.h"
#include "panels/plot/cursor_link.h"
#include "panels/plot/replot_clock.h"
#include "panels/theme/theme_manager.h"

namespace winnow {

struct PlotContext {      // all owned by the view or the application, and outliving the plot
  ThemeManager* themes = nullptr;
  ReplotClock* clock = nullptr;
  CursorLink* cursor = nullptr;
  AxisLink* axis = nullptr;
};

class PlotWidget : public QWidget, public Replottable {
  Q_OBJECT
 public:
  enum class Shape {
    line,       // where points are dense: the median with a band p5 to p95
    stack,      // an area on top of the series before
    estimates,  // few points with intervals, each holding until the next
  };
  struct SeriesOptions {
    QString name;
    int slot = 0;  // of the theme
    Shape shape = Shape::line;
    bool hatched = false;
    bool hiddenWhileZero = false;  // no legend entry before there is something to show
  };
  struct Point {  // of an estimate
    double x = 0, y = 0, low = 0, high = 0;
    bool preliminary = false;
  };

  // id names the chart in exports ("latency"); title and axes are shown.
  PlotWidget(const PlotContext& context, const QString& id, const QString& title, const ChartAxis& x, const ChartAxis& y, QWidget* parent = nullptr);
  ~PlotWidget() override;

  int addSeries(const SeriesOptions& options);
  void append(int series, double x, double y);              // ascending x
  void setEstimates(int series, const std::vector<Point>& points);
  void addMarker(const ChartMarker& marker, const QString& detail = {});
  void clearData();
  void setEmptyText(const QString& sentence);
  void setNote(const QString& note);      // right of the title: the summary, or what it waits for
  void setNoteWarning(bool warning);
  void setXTitleShown(bool shown);        // in a stack only the last has it
  void setMarkerLabelsShown(bool shown);  // and only the first the names of the changes
  void setShaded(double until, const QString& label);  // the prompt's part of the axis
  void setSeriesVisible(int series, bool visible);
  bool isSeriesVisible(int series) const;
  void setLogarithmic(bool on);
  bool isLogarithmic() const;

  Chart chart() const;                    // what is shown, as data
  QString summary(int series) const;      // "latency, 512 points, median 20.3 ms"
  QString description() const;            // all series and changes: what a screen reader says
  int seriesCount() const;
  int replots() const;                    // so far
  size_t markerLabels() const;            // drawn at the last replot, after collapsing

  bool isShown() const override;
  void replotNow() override;
  QSize sizeHint() const override { return {640, 190}; }
  QSize minimumSizeHint() const override { return {240, 150}; }

 public Q_SLOTS:
  void showTable();
  void copy();                            // picture and tab-separated numbers

 Q_SIGNALS:
  void exportRequested(const winnow::Chart& chart);

 protected:
  bool eventFilter(QObject* watched, QEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;
  void contextMenuEvent(QContextMenuEvent* event) override;
  void showEvent(QShowEvent* event) override;
  void resizeEvent(QResizeEvent* event) override;
  void changeEvent(QEvent* event) override;

 private:
  struct Impl;
  void buildHeader(const QString& title);
  void placeLegend();
  void restyle();
  void changed();
  void showCursor();
  void solo(int series);
  bool mouse(QEvent* event);
  void zoom(double factor, double around);
  void step(int tokens);
  void measure(double to);
  void showMarkerDetail(const QPoint& at);
  std::unique_ptr<Impl> impl_;
};

void installPlotAccessibility();  // by every plot; a no-op after the first

}  // namespace winnow
