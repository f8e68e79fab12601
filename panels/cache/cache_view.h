// SPDX-License-Identifier: GPL-3.0-or-later
// What the cache holds while tokens are generated, and, by the slider, what it held at each moment before.
#pragma once
#include <QTimer>
#include <QWidget>

#include "experiments/chart_data.h"
#include "panels/cache/cache_history.h"
#include "panels/theme/theme.h"

class QComboBox;
class QLabel;
class QSlider;
class QToolButton;

namespace winnow {

class OccupancyMap;

class CacheView : public QWidget {
  Q_OBJECT
 public:
  explicit CacheView(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setModel(const QString& name);   // empty: none is open
  void setSettings(const QString& settings);  // of the cache, for what is exported
  void begin();                         // another generation
  void add(const CacheMap& map);

 Q_SIGNALS:
  void exportRequested(const winnow::Chart& chart);
  void exportTableRequested(const QByteArray& csv);

 private:
  QWidget* buildBar();
  QWidget* buildTime();
  void showMoment(int index);  // of the history
  void showNothing();
  void play(bool on);
  bool byHead() const;
  bool following() const;

  QComboBox* rows_ = nullptr;
  QLabel *totals_ = nullptr, *moment_ = nullptr;
  QToolButton *export_ = nullptr, *play_ = nullptr, *newest_ = nullptr;
  QSlider* time_ = nullptr;
  OccupancyMap* map_ = nullptr;
  QTimer replay_;
  CacheHistory history_;
  QString name_, settings_;
};

}  // namespace winnow
