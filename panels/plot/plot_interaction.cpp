// SPDX-License-Identifier: GPL-3.0-or-later
// What a person does with a PlotWidget by mouse, keyboard and menu.
#include <QApplication>
#include <QClipboard>
#include <QContextMenuEvent>
#include <QKeyEvent>
#include <QMenu>
#include <QMimeData>
#include <QMouseEvent>
#include <QToolTip>
#include <QWheelEvent>
#include <algorithm>
#include <cmath>

#include "experiments/format.h"
#include "experiments/statistics.h"
#include "panels/plot/plot_widget_impl.h"
#include "panels/plot/table_dialog.h"

namespace winnow {

bool PlotWidget::eventFilter(QObject* watched, QEvent* event) {
  if (impl_ && impl_->scene && watched == impl_->scene->plot() && mouse(event)) return true;
  return QWidget::eventFilter(watched, event);
}

bool PlotWidget::mouse(QEvent* event) {
  Impl& d = *impl_;
  const auto coordinate = [&](const QPointF& at) { return d.scene->axes().x->pixelToCoord(at.x()); };
  switch (event->type()) {
    case QEvent::MouseMove: {
      auto* e = static_cast<QMouseEvent*>(event);
      if (d.measureFrom) {
        measure(coordinate(e->position()));
        return true;
      }
      if (e->buttons() == Qt::NoButton) {
        const double x = coordinate(e->position());
        d.context.cursor->setPosition(d.scene->xDescription().unit == QLatin1String("token") ? std::max(0.0, std::round(x)) : x);
        showMarkerDetail(e->pos());
      }
      return false;
    }
    case QEvent::Leave: d.context.cursor->clear(); return false;
    case QEvent::MouseButtonPress: {
      auto* e = static_cast<QMouseEvent*>(event);
      setFocus(Qt::MouseFocusReason);
      d.pressedAt = e->pos();
      d.scene->showMeasure({}, {});
      if (e->button() == Qt::LeftButton && e->modifiers().testFlag(Qt::ControlModifier)) {
        d.measureFrom = coordinate(e->position());
        return true;
      }
      return false;
    }
    case QEvent::MouseButtonRelease: {
      auto* e = static_cast<QMouseEvent*>(event);
      const bool measured = d.measureFrom.has_value();
      d.measureFrom.reset();
      if (!measured && e->button() == Qt::LeftButton && (e->pos() - d.pressedAt).manhattanLength() < QApplication::startDragDistance())
        Q_EMIT d.context.cursor->tokenSelected(std::max<qint64>(0, std::llround(coordinate(e->position()))));
      return measured;
    }
    case QEvent::MouseButtonDblClick: d.context.axis->setMode(AxisLink::Mode::fit); return true;
    case QEvent::Wheel: {
      auto* e = static_cast<QWheelEvent*>(event);
      const bool fine = e->modifiers().testFlag(Qt::ShiftModifier);
      const double turns = (e->angleDelta().y() != 0 ? e->angleDelta().y() : e->angleDelta().x()) / 120.0;
      zoom(std::pow(fine ? 0.97 : 0.85, turns), coordinate(e->position()));
      return true;
    }
    default: return false;
  }
}

void PlotWidget::zoom(double factor, double around) {
  AxisLink* axis = impl_->context.axis;
  const double lower = around - (around - axis->lower()) * factor, upper = around + (axis->upper() - around) * factor;
  if (upper - lower >= 4 || factor > 1) axis->setRange(lower, upper);
}

void PlotWidget::step(int tokens) {
  CursorLink* cursor = impl_->context.cursor;
  cursor->setPosition(std::max(0.0, std::round(cursor->position().value_or(impl_->context.axis->upper())) + tokens));
}

// Ctrl+drag: how long, how many, and the figures of the first visible line in between.
void PlotWidget::measure(double to) {
  Impl& d = *impl_;
  const double low = std::min(*d.measureFrom, to), high = std::max(*d.measureFrom, to);
  const Format format;
  QStringList lines{tr("%1 to %2: %Ln tokens", nullptr, static_cast<int>(std::llround(high - low)))
                        .arg(format.count(std::llround(low)), format.count(std::llround(high)))};
  for (const PlotSeries& s : d.scene->series()) {
    if (!s.visible || s.options.shape == Shape::estimates) continue;
    const size_t begin = s.data.lowerIndex(low), end = s.data.lowerIndex(high);
    if (begin >= end) continue;
    const Summary summary = summarize({s.data.y().begin() + static_cast<ptrdiff_t>(begin), s.data.y().begin() + static_cast<ptrdiff_t>(end)});
    const QString unit = d.scene->yDescription().unit;
    if (s.options.shape == Shape::line)
      lines << tr("%1: p50 %2, p95 %3, mean %4").arg(s.options.name, format.value(summary.p50, unit), format.value(summary.p95, unit), format.value(summary.mean, unit));
    else if (s.anything)
      lines << tr("%1: %2 to %3").arg(s.options.name, format.value(s.data.y()[begin], unit), format.value(s.data.y()[end - 1], unit));
  }
  d.scene->showMeasure(QCPRange(low, high), lines.join(u'\n'));
}

void PlotWidget::showMarkerDetail(const QPoint& at) {
  Impl& d = *impl_;
  QStringList near;
  for (size_t i = 0; i < d.scene->markers().size(); ++i)
    if (std::fabs(d.scene->axes().x->coordToPixel(d.scene->markers()[i].x) - at.x()) < 8) near << d.markerDetails[static_cast<qsizetype>(i)];
  if (near.isEmpty())
    QToolTip::hideText();
  else
    QToolTip::showText(d.scene->plot()->mapToGlobal(at + QPoint(12, 12)), near.join(u'\n'), d.scene->plot());
}

void PlotWidget::keyPressEvent(QKeyEvent* event) {
  Impl& d = *impl_;
  AxisLink* axis = d.context.axis;
  const double width = axis->upper() - axis->lower(), middle = (axis->lower() + axis->upper()) / 2;
  if (event->matches(QKeySequence::Copy)) return copy();
  if (event->modifiers() == Qt::ControlModifier && event->key() == Qt::Key_T) return showTable();
  if (event->modifiers() & (Qt::ControlModifier | Qt::AltModifier)) return QWidget::keyPressEvent(event);
  switch (event->key()) {
    case Qt::Key_F: axis->setMode(axis->mode() == AxisLink::Mode::follow ? AxisLink::Mode::fit : AxisLink::Mode::follow); break;
    case Qt::Key_L: setLogarithmic(!isLogarithmic()); break;
    case Qt::Key_0: axis->setMode(AxisLink::Mode::fit); break;
    case Qt::Key_Comma: step(-1); break;
    case Qt::Key_Period: step(1); break;
    case Qt::Key_Plus:
    case Qt::Key_Equal: zoom(0.8, middle); break;
    case Qt::Key_Minus: zoom(1.25, middle); break;
    case Qt::Key_Left: axis->setRange(axis->lower() - width / 10, axis->upper() - width / 10); break;
    case Qt::Key_Right: axis->setRange(axis->lower() + width / 10, axis->upper() + width / 10); break;
    case Qt::Key_Return:
      if (d.context.cursor->token() >= 0) Q_EMIT d.context.cursor->tokenSelected(d.context.cursor->token());
      break;
    case Qt::Key_Escape:
      d.scene->showMeasure({}, {});
      d.context.cursor->clear();
      QWidget::keyPressEvent(event);
      break;
    default: QWidget::keyPressEvent(event);
  }
}

void PlotWidget::contextMenuEvent(QContextMenuEvent* event) {
  Impl& d = *impl_;
  auto* menu = new QMenu(this);
  menu->setAttribute(Qt::WA_DeleteOnClose);
  menu->addAction(tr("Copy picture and numbers\tCtrl+C"), this, &PlotWidget::copy);
  menu->addAction(tr("Show as table\tCtrl+T"), this, &PlotWidget::showTable);
  menu->addAction(tr("Export…"), this, [this] { Q_EMIT exportRequested(chart()); });
  menu->addSeparator();
  menu->addAction(tr("Fit everything\t0"), this, [&d] { d.context.axis->setMode(AxisLink::Mode::fit); });
  QAction* follow = menu->addAction(tr("Follow the newest\tF"), this, [&d](bool on) { d.context.axis->setMode(on ? AxisLink::Mode::follow : AxisLink::Mode::fit); });
  follow->setCheckable(true);
  follow->setChecked(d.context.axis->mode() == AxisLink::Mode::follow);
  QAction* logarithmic = menu->addAction(tr("Logarithmic\tL"), this, &PlotWidget::setLogarithmic);
  logarithmic->setCheckable(true);
  logarithmic->setChecked(isLogarithmic());
  menu->popup(event->globalPos());
}

void PlotWidget::showTable() {
  auto* dialog = new TableDialog(chart(), this);
  dialog->setAttribute(Qt::WA_DeleteOnClose);
  dialog->open();
}

void PlotWidget::copy() {
  auto* content = new QMimeData;
  content->setImageData(grab().toImage());
  content->setText(toTabSeparated(chart()));
  QApplication::clipboard()->setMimeData(content);
}

}  // namespace winnow
