// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/cache/cache_view.h"

#include <QComboBox>
#include <QHBoxLayout>
#include <QLabel>
#include <QMenu>
#include <QSignalBlocker>
#include <QSlider>
#include <QToolButton>
#include <QVBoxLayout>
#include <algorithm>

#include "experiments/format.h"
#include "panels/cache/cache_files.h"
#include "panels/cache/occupancy_map.h"

namespace winnow {
namespace {

constexpr int kReplayMs = 60;

QString heldText(const CacheMap& map) {
  const Format f;
  double kept = 0;
  for (const CacheMapRow& row : map.rows) kept += static_cast<double>(row.kept);
  const double mean = kept / static_cast<double>(std::max<size_t>(1, map.rows.size())), fed = static_cast<double>(std::max<int64_t>(1, map.position));
  QStringList parts{CacheView::tr("%1 of %2 positions held by a head on average (%3)").arg(f.significant(mean), f.count(map.position), f.percent(mean / fed)),
                    CacheView::tr("%1 of keys and values in pages of %2").arg(f.bytes(static_cast<double>(map.stats.liveBytes)), f.bytes(static_cast<double>(map.stats.allocatedBytes)))};
  if (map.stats.unsealedBytes > 0) parts << CacheView::tr("%1 not quantized yet").arg(f.bytes(static_cast<double>(map.stats.unsealedBytes)));
  return parts.join(QStringLiteral(" · "));
}

}  // namespace

CacheView::CacheView(QWidget* parent) : QWidget(parent) {
  setObjectName(QStringLiteral("cache"));
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(10, 8, 10, 8);
  all->setSpacing(6);
  all->addWidget(buildBar());
  map_ = new OccupancyMap(this);
  map_->setObjectName(QStringLiteral("cache.map"));
  all->addWidget(map_, 1);
  all->addWidget(buildTime());
  replay_.setInterval(kReplayMs);
  connect(&replay_, &QTimer::timeout, this, [this] {
    if (time_->value() < time_->maximum()) time_->setValue(time_->value() + 1);
    else play(false);
  });
  setModel({});
}

QWidget* CacheView::buildBar() {
  auto* bar = new QWidget(this);
  auto* row = new QHBoxLayout(bar);
  row->setContentsMargins(0, 0, 0, 0);
  row->setSpacing(8);
  rows_ = new QComboBox(bar);
  rows_->setObjectName(QStringLiteral("cache.rows"));
  rows_->setAccessibleName(tr("Rows of the map"));
  rows_->addItems({tr("By layer"), tr("By head")});
  connect(rows_, &QComboBox::currentIndexChanged, this, [this] { showMoment(time_->value()); });
  row->addWidget(rows_);
  totals_ = new QLabel(bar);
  totals_->setObjectName(QStringLiteral("cache.totals"));
  totals_->setProperty("role", QStringLiteral("small"));
  totals_->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
  totals_->setWordWrap(true);
  row->addWidget(totals_, 1);
  export_ = new QToolButton(bar);
  export_->setObjectName(QStringLiteral("cache.export"));
  export_->setText(tr("Export"));
  export_->setToolTip(tr("Picture or table of the moment shown"));
  export_->setPopupMode(QToolButton::InstantPopup);
  auto* menu = new QMenu(export_);
  menu->addAction(tr("Picture…"), this, [this] { Q_EMIT exportRequested(cacheChart(history_.at(time_->value()), byHead(), name_, settings_)); });
  menu->addAction(tr("Table…"), this, [this] { Q_EMIT exportTableRequested(cacheCsv(history_.at(time_->value()))); });
  export_->setMenu(menu);
  row->addWidget(export_);
  return bar;
}

QWidget* CacheView::buildTime() {
  auto* bar = new QWidget(this);
  auto* row = new QHBoxLayout(bar);
  row->setContentsMargins(0, 0, 0, 0);
  row->setSpacing(8);
  play_ = new QToolButton(bar);
  play_->setObjectName(QStringLiteral("cache.play"));
  connect(play_, &QToolButton::clicked, this, [this] { play(!replay_.isActive()); });
  row->addWidget(play_);
  time_ = new QSlider(Qt::Horizontal, bar);
  time_->setObjectName(QStringLiteral("cache.time"));
  time_->setAccessibleName(tr("Moment of the generation"));
  time_->setPageStep(10);
  connect(time_, &QSlider::valueChanged, this, &CacheView::showMoment);
  connect(time_, &QSlider::sliderPressed, this, [this] { play(false); });
  row->addWidget(time_, 1);
  moment_ = new QLabel(bar);
  moment_->setObjectName(QStringLiteral("cache.moment"));
  moment_->setMinimumWidth(moment_->fontMetrics().horizontalAdvance(tr("after %1 tokens").arg(QStringLiteral("00000"))));
  row->addWidget(moment_);
  newest_ = new QToolButton(bar);
  newest_->setObjectName(QStringLiteral("cache.newest"));
  newest_->setText(tr("Newest"));
  newest_->setToolTip(tr("Follow the generation"));
  connect(newest_, &QToolButton::clicked, this, [this] {
    play(false);
    time_->setValue(time_->maximum());
  });
  row->addWidget(newest_);
  play(false);
  return bar;
}

void CacheView::setTheme(const Theme& theme) { map_->setTheme(theme); }

bool CacheView::byHead() const { return rows_->currentIndex() == 1; }
bool CacheView::following() const { return time_->value() == time_->maximum() && !replay_.isActive(); }

void CacheView::setModel(const QString& name) {
  name_ = name;
  begin();
}

void CacheView::setSettings(const QString& settings) { settings_ = settings; }

void CacheView::begin() {
  play(false);
  history_.clear();
  const QSignalBlocker quiet(time_);
  time_->setRange(0, 0);
  showNothing();
}

void CacheView::add(const CacheMap& map) {
  if (map.rows.empty() || map.position == 0) return;
  const bool follow = history_.size() == 0 || following();
  history_.add(map);
  {
    const QSignalBlocker quiet(time_);
    time_->setRange(0, history_.size() - 1);
    if (follow) time_->setValue(history_.size() - 1);
  }
  showMoment(time_->value());
}

void CacheView::showMoment(int index) {
  if (history_.size() == 0) return showNothing();
  const CacheMap& map = history_.at(std::clamp(index, 0, history_.size() - 1));
  map_->setMap(map, byHead());
  totals_->setText(heldText(map));
  totals_->setToolTip(totals_->text());
  moment_->setText(tr("after %1 tokens").arg(Format().count(map.position)));
  for (QWidget* each : {static_cast<QWidget*>(export_), static_cast<QWidget*>(rows_)}) each->setEnabled(true);
  play_->setEnabled(history_.size() > 1);
  time_->setEnabled(history_.size() > 1);
  newest_->setEnabled(!following());
}

void CacheView::showNothing() {
  map_->clear(name_.isEmpty() ? tr("Open a model to see what its cache holds.")
                              : tr("Generate some text: what the cache holds appears here, layer by layer. With a budget (kv.budget) or fewer bits (kv.k_bits, kv.v_bits) it holds less."));
  totals_->clear();
  moment_->clear();
  for (QWidget* each : {static_cast<QWidget*>(export_), static_cast<QWidget*>(rows_), static_cast<QWidget*>(play_), static_cast<QWidget*>(time_), static_cast<QWidget*>(newest_)})
    each->setEnabled(false);
}

void CacheView::play(bool on) {
  if (on && time_->value() == time_->maximum()) time_->setValue(0);
  on ? replay_.start() : replay_.stop();
  play_->setText(on ? tr("Pause") : tr("Replay"));
  play_->setToolTip(on ? tr("Stop the replay") : tr("Show again how the cache filled and what was evicted"));
}

}  // namespace winnow
