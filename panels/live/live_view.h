// SPDX-License-Identifier: GPL-3.0-or-later
// LiveView: what the running generation costs and how good it is, token by token. Key numbers on top, linked plots below.
#pragma once
#include <QElapsedTimer>
#include <QTimer>
#include <QWidget>
#include <array>
#include <vector>

#include "experiments/workbench.h"
#include "panels/live/stat_tile.h"
#include "panels/plot/plot_widget.h"

class QGridLayout;
class QVBoxLayout;

namespace winnow {

class LiveView : public QWidget {
  Q_OBJECT
 public:
  // context.axis may be null: then the view has its own.
  explicit LiveView(const PlotContext& context, QWidget* parent = nullptr);

  void attach(Workbench* workbench);  // connects the slots below to its signals

  const std::vector<PlotWidget*>& plots() const { return plots_; }
  void setPlotShown(size_t plot, bool shown);

 public Q_SLOTS:
  void beginGeneration(const winnow::GenerateRequest& request);
  void addTokens(const std::vector<winnow::TokenPoint>& points);
  void addEpoch(const winnow::EpochPoint& epoch);
  void setQuality(const winnow::QualityPoint& point);
  void setJob(const winnow::JobState& state);
  void clear();

 Q_SIGNALS:
  void exportRequested(const winnow::Chart& chart);

 protected:
  void resizeEvent(QResizeEvent* event) override;

 private:
  enum Plot { latency, memory, perplexity, divergence, confidence, cache, energy, plotCount };
  enum Tile { timeTile, rateTile, memoryTile, perplexityTile, divergenceTile, tileCount };

  void buildTiles();
  void buildPlots();
  void addToken(const TokenPoint& point);
  void addEnergy(const TokenPoint& point);
  void updateTiles();
  void updateQualityTiles();
  void updateQualityPlots();
  void updateStall();
  void arrangeTiles();
  void placeTitles();
  void scheduleTiles();

  PlotContext context_;
  std::vector<PlotWidget*> plots_;
  std::array<StatTile*, tileCount> tiles_{};
  QGridLayout* tileGrid_ = nullptr;
  QVBoxLayout* stack_ = nullptr;
  int tileColumns_ = 0;
  std::array<int, static_cast<size_t>(MemoryTag::count)> memorySeries_{};

  std::vector<double> decodeMs_;      // of every generated token
  std::vector<qint64> decodeToken_;   // its index
  qint64 epochToken_ = 0;             // where the present epoch began
  qint64 lastToken_ = -1, promptTokens_ = 0, generated_ = 0;
  double prefillMs_ = 0;
  MemoryByTag memoryNow_{};
  int64_t memoryPeak_ = 0;
  double joules_ = 0;                 // of the generated tokens whose energy is known
  qint64 joulesTokens_ = 0;
  std::vector<QualityPoint> quality_;  // the latest of each epoch
  JobState job_;
  QElapsedTimer sinceToken_;
  QTimer tileTimer_, stallTimer_;
};

}  // namespace winnow
