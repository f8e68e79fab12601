// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/plot/plot_widget.h"

#include <QStyle>
#include <QVBoxLayout>
#include <cmath>

#include "engine/core/check.h"
#include "experiments/format.h"
#include "experiments/statistics.h"
#include "panels/plot/plot_widget_impl.h"

namespace winnow {

PlotWidget::PlotWidget(const PlotContext& context, const QString& id, const QString& title, const ChartAxis& x, const ChartAxis& y, QWidget* parent)
    : QWidget(parent), impl_(std::make_unique<Impl>()) {
  CHECK(context.themes && context.clock && context.cursor && context.axis, "a plot needs all four");
  Impl& d = *impl_;
  d.context = context;
  d.id = id;
  d.title = title;
  setProperty("card", true);
  setAttribute(Qt::WA_StyledBackground);
  setFocusPolicy(Qt::StrongFocus);
  installPlotAccessibility();
  setAccessibleName(title);
  setObjectName(QStringLiteral("plot-") + id);
  d.scene = std::make_unique<PlotScene>(x, y, this);
  buildHeader(title);
  d.empty = new QLabel(d.scene->plot());
  d.empty->setAlignment(Qt::AlignCenter);
  d.empty->setProperty("role", QStringLiteral("secondary"));
  d.empty->setWordWrap(true);
  d.empty->setAttribute(Qt::WA_TransparentForMouseEvents);
  auto* layout = new QVBoxLayout(this);
  layout->setContentsMargins(12, 8, 8, 6);
  layout->setSpacing(2);
  layout->addLayout(d.header);
  layout->addWidget(d.scene->plot(), 1);

  QCustomPlot* plot = d.scene->plot();
  plot->installEventFilter(this);
  connect(plot->xAxis, qOverload<const QCPRange&>(&QCPAxis::rangeChanged), this,
          [this](const QCPRange& range) { impl_->context.axis->setRange(range.lower, range.upper); });
  connect(context.axis, &AxisLink::changed, this, [this] { impl_->context.clock->request(this); });
  connect(context.cursor, &CursorLink::positionChanged, this, &PlotWidget::showCursor);
  connect(context.themes, &ThemeManager::changed, this, &PlotWidget::restyle);
  restyle();
}

PlotWidget::~PlotWidget() { impl_->context.clock->forget(this); }

void PlotWidget::buildHeader(const QString& title) {
  Impl& d = *impl_;
  const auto label = [this](const char* role) {
    auto* l = new QLabel(this);
    l->setProperty("role", QString::fromLatin1(role));
    return l;
  };
  d.titleLabel = label("heading");
  d.titleLabel->setText(title);
  d.unit = label("secondary");
  const ChartAxis& y = d.scene->yDescription();
  d.unit->setText(y.unit == QLatin1String("B") || y.unit.isEmpty() ? y.title : QStringLiteral("%1, %2").arg(y.title, y.unit));
  d.note = label("secondary");
  d.note->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
  d.note->setAlignment(Qt::AlignRight | Qt::AlignVCenter);
  d.legend = new SeriesLegend(this);
  d.legend->hide();
  d.header = new QGridLayout;
  d.header->setHorizontalSpacing(8);
  d.header->setVerticalSpacing(0);
  d.header->addWidget(d.titleLabel, 0, 0);
  d.header->addWidget(d.unit, 0, 1);
  d.header->addWidget(d.legend, 0, 2);
  d.header->addWidget(d.note, 0, 3);
  d.header->setColumnStretch(3, 1);
}

// Beside the title where there is room, below it where not.
void PlotWidget::placeLegend() {
  Impl& d = *impl_;
  if (d.legend->isHidden()) return;
  const int used = d.titleLabel->sizeHint().width() + d.unit->sizeHint().width() + d.note->sizeHint().width() + 60;
  const bool below = used + d.legend->widthOfOneRow() > width();
  if (below == d.legendBelow) return;
  d.legendBelow = below;
  d.header->removeWidget(d.legend);
  if (below)
    d.header->addWidget(d.legend, 1, 0, 1, 4);
  else
    d.header->addWidget(d.legend, 0, 2);
}

int PlotWidget::addSeries(const SeriesOptions& options) {
  Impl& d = *impl_;
  const int index = static_cast<int>(d.scene->series().size());
  PlotSeries series;
  series.options = options;
  d.scene->series().push_back(std::move(series));
  const Theme& theme = d.context.themes->theme();
  auto* entry = new LegendEntry(options.name, theme.style(options.slot), options.shape == Shape::stack, options.hatched, d.legend);
  entry->setFont(interfaceFont(d.context.themes->fontScale() * 12 / 13));
  entry->setStyleColors(theme, theme.style(options.slot));
  entry->setVisible(!options.hiddenWhileZero);
  connect(entry, &QCheckBox::toggled, this, [this, index](bool on) { setSeriesVisible(index, on); });
  connect(entry, &LegendEntry::soloRequested, this, [this, index] { solo(index); });
  d.entries.push_back(entry);
  d.legend->add(entry);
  d.legend->setVisible(d.entries.size() > 1);
  placeLegend();
  changed();
  return index;
}

void PlotWidget::append(int index, double x, double y) {
  Impl& d = *impl_;
  PlotSeries& s = d.scene->series().at(static_cast<size_t>(index));
  s.data.append(x, y);
  if (!s.anything && y != 0 && std::isfinite(y)) {
    s.anything = true;
    if (s.options.hiddenWhileZero) {
      d.entries[static_cast<size_t>(index)]->show();
      d.legend->refresh();
      placeLegend();
    }
  }
  d.context.axis->extendTo(x, x);
  changed();
}

void PlotWidget::setEstimates(int index, const std::vector<Point>& points) {
  PlotSeries& s = impl_->scene->series().at(static_cast<size_t>(index));
  s.estimates.clear();
  for (const Point& p : points) {
    s.estimates.push_back({p.x, p.y, p.low, p.high, p.preliminary});
    impl_->context.axis->extendTo(p.x, p.x);
  }
  changed();
}

void PlotWidget::addMarker(const ChartMarker& marker, const QString& detail) {
  impl_->scene->markers().push_back(marker);
  impl_->markerDetails.push_back(detail.isEmpty() ? marker.label : detail);
  changed();
}

void PlotWidget::clearData() {
  Impl& d = *impl_;
  for (size_t i = 0; i < d.entries.size(); ++i) {
    PlotSeries& s = d.scene->series()[i];
    s.data.clear();
    s.estimates.clear();
    s.anything = false;
    d.entries[i]->forgetValue();
    if (s.options.hiddenWhileZero) d.entries[i]->hide();
  }
  d.legend->refresh();
  d.scene->markers().clear();
  d.scene->setShaded(0, {});
  d.markerDetails.clear();
  d.note->clear();
  changed();
}

void PlotWidget::setEmptyText(const QString& sentence) {
  impl_->empty->setText(sentence);
  changed();
}

void PlotWidget::setNote(const QString& note) {
  if (impl_->note->text() == note) return;
  impl_->note->setText(note);
  placeLegend();
}

void PlotWidget::setNoteWarning(bool warning) {
  const QString role = warning ? QStringLiteral("badge") : QStringLiteral("secondary");
  if (impl_->note->property("role").toString() == role) return;
  impl_->note->setProperty("role", role);
  impl_->note->style()->unpolish(impl_->note);
  impl_->note->style()->polish(impl_->note);
}

void PlotWidget::setXTitleShown(bool shown) {
  impl_->scene->setXTitleShown(shown);
  changed();
}

void PlotWidget::setMarkerLabelsShown(bool shown) {
  impl_->scene->setMarkerLabelsShown(shown);
  changed();
}

void PlotWidget::setShaded(double until, const QString& label) {
  impl_->scene->setShaded(until, label);
  changed();
}

void PlotWidget::setSeriesVisible(int index, bool visible) {
  impl_->scene->series().at(static_cast<size_t>(index)).visible = visible;
  impl_->entries[static_cast<size_t>(index)]->setChecked(visible);
  changed();
}

bool PlotWidget::isSeriesVisible(int index) const { return impl_->scene->series().at(static_cast<size_t>(index)).visible; }

void PlotWidget::solo(int index) {
  bool alone = true;
  for (int i = 0; i < seriesCount(); ++i) alone &= isSeriesVisible(i) == (i == index);
  for (int i = 0; i < seriesCount(); ++i) setSeriesVisible(i, alone || i == index);
}

void PlotWidget::setLogarithmic(bool on) {
  impl_->scene->setLogarithmic(on);
  changed();
}
bool PlotWidget::isLogarithmic() const { return impl_->scene->yDescription().logarithmic; }
int PlotWidget::seriesCount() const { return static_cast<int>(impl_->entries.size()); }
int PlotWidget::replots() const { return impl_->replots; }
size_t PlotWidget::markerLabels() const { return impl_->scene->markerLabels(); }

void PlotWidget::changed() { impl_->context.clock->request(this); }

bool PlotWidget::isShown() const { return isVisible() && !window()->isMinimized() && !visibleRegion().isEmpty(); }

void PlotWidget::replotNow() {
  Impl& d = *impl_;
  ++d.replots;
  d.scene->replot(d.context.axis->lower(), d.context.axis->upper(), d.context.axis->last());
  const bool empty = !d.scene->hasData();
  d.empty->setVisible(empty);
  if (empty) d.empty->setGeometry(d.scene->plot()->rect().adjusted(16, 0, -16, -16));
}

void PlotWidget::showEvent(QShowEvent* event) {
  QWidget::showEvent(event);
  changed();
}

void PlotWidget::resizeEvent(QResizeEvent* event) {
  QWidget::resizeEvent(event);
  placeLegend();
  changed();
}

void PlotWidget::changeEvent(QEvent* event) {
  QWidget::changeEvent(event);
  if (event->type() == QEvent::FontChange && impl_ && impl_->scene) restyle();
}

void PlotWidget::restyle() {
  Impl& d = *impl_;
  const Theme& theme = d.context.themes->theme();
  d.scene->setTheme(theme, d.context.themes->fontScale());
  for (size_t i = 0; i < d.entries.size(); ++i) {
    d.entries[i]->setFont(interfaceFont(d.context.themes->fontScale() * 12 / 13));
    d.entries[i]->setStyleColors(theme, theme.style(d.scene->series()[i].options.slot));
  }
  d.legend->refresh();
  changed();
}

void PlotWidget::showCursor() {
  Impl& d = *impl_;
  const auto at = d.context.cursor->position();
  d.scene->showCursor(at);
  if (!isVisible()) return;
  const Format format;
  const double reach = std::max(0.5, (d.context.axis->upper() - d.context.axis->lower()) / std::max(width(), 1) * 2);
  for (size_t i = 0; i < d.entries.size(); ++i) {
    const PlotSeries& s = d.scene->series()[i];
    double value = std::numeric_limits<double>::quiet_NaN();
    if (at && s.options.shape == Shape::estimates) {
      for (const Estimate& e : s.estimates)
        if (e.x <= *at) value = e.y;
    } else if (at) {
      value = s.data.nearest(*at, reach);
    }
    d.entries[i]->setValue(std::isfinite(value) ? format.value(value, d.scene->yDescription().unit) : QString());
  }
}

QString PlotWidget::summary(int index) const {
  const PlotSeries& s = impl_->scene->series().at(static_cast<size_t>(index));
  const QString unit = impl_->scene->yDescription().unit;
  const Format format;
  if (s.options.shape == Shape::estimates) {
    if (s.estimates.empty()) return tr("%1, no values").arg(s.options.name);
    return tr("%1, %Ln measurements, last %2", nullptr, static_cast<int>(s.estimates.size())).arg(s.options.name, format.value(s.estimates.back().y, unit));
  }
  if (s.data.empty()) return tr("%1, no values").arg(s.options.name);
  const double middle = median({s.data.y().begin(), s.data.y().end()});
  return tr("%1, %Ln points, median %2", nullptr, static_cast<int>(s.data.size())).arg(s.options.name, format.value(middle, unit));
}

QString PlotWidget::description() const {
  QStringList parts;
  for (int i = 0; i < seriesCount(); ++i) parts << summary(i);
  if (!impl_->markerDetails.isEmpty()) parts << tr("changes: %1").arg(impl_->markerDetails.join(QStringLiteral(", ")));
  return parts.join(QStringLiteral("; "));
}

Chart PlotWidget::chart() const {
  const PlotScene& scene = *impl_->scene;
  Chart chart;
  chart.name = impl_->id;
  chart.title = impl_->title;
  Chart::Panel panel;
  panel.x = scene.xDescription();
  panel.y = scene.yDescription();
  panel.markers = impl_->scene->markers();
  for (const PlotSeries& s : scene.series()) {
    if (!s.visible || (s.options.shape == Shape::stack && !s.anything)) continue;
    ChartSeries out;
    out.name = s.options.name;
    if (s.options.shape == Shape::estimates) {
      for (const Estimate& e : s.estimates) {
        out.x.push_back(e.x);
        out.y.push_back(e.y);
        out.low.push_back(e.low);
        out.high.push_back(e.high);
      }
    } else {
      out.x.assign(s.data.x().begin(), s.data.x().end());
      out.y.assign(s.data.y().begin(), s.data.y().end());
      if (s.options.shape == Shape::stack) panel.kind = Chart::Kind::stackedArea;
    }
    panel.series.push_back(std::move(out));
  }
  chart.panels.push_back(std::move(panel));
  return chart;
}

}  // namespace winnow
