// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/plot/chart_view.h"

#include <QApplication>
#include <QClipboard>
#include <QContextMenuEvent>
#include <QKeyEvent>
#include <QMenu>
#include <QMimeData>
#include <QPainter>
#include <QStyleOption>

#include "panels/plot/chart_painter.h"
#include "panels/plot/table_dialog.h"

namespace winnow {
namespace {
constexpr int inset = 3;  // the card's border and focus ring
}

ChartView::ChartView(ThemeManager* themes, QWidget* parent) : QWidget(parent), themes_(themes) {
  setProperty("card", true);
  setAttribute(Qt::WA_StyledBackground);
  setFocusPolicy(Qt::StrongFocus);
  QSizePolicy policy(QSizePolicy::Expanding, QSizePolicy::MinimumExpanding);
  policy.setHeightForWidth(true);
  setSizePolicy(policy);
  connect(themes, &ThemeManager::changed, this, &ChartView::invalidate);
}

void ChartView::setChart(std::optional<Chart> chart, const QString& emptyText) {
  chart_ = std::move(chart);
  emptyText_ = emptyText;
  setAccessibleName(chart_ ? chart_->title : tr("Chart"));
  QStringList parts;
  if (chart_)
    for (const Chart::Panel& p : chart_->panels) parts << tr("%1: %Ln series", nullptr, static_cast<int>(p.series.size())).arg(p.title.isEmpty() ? p.y.title : p.title);
  setAccessibleDescription(chart_ ? parts.join(QStringLiteral("; ")) + QStringLiteral(". ") + chart_->caption : emptyText_);
  updateGeometry();
  invalidate();
}

QSize ChartView::sizeHint() const { return chart_ ? suitableSize(*chart_, 800).toSize() : QSize(480, 240); }
int ChartView::heightForWidth(int width) const { return chart_ ? static_cast<int>(suitableSize(*chart_, width).height()) : 160; }

void ChartView::invalidate() {
  picture_ = {};
  update();
}

void ChartView::resizeEvent(QResizeEvent*) { invalidate(); }

void ChartView::paintEvent(QPaintEvent*) {
  QPainter painter(this);
  QStyleOption option;
  option.initFrom(this);
  style()->drawPrimitive(QStyle::PE_Widget, &option, &painter, this);
  if (!chart_) {
    painter.setPen(themes_->theme().textSecondary);
    painter.drawText(rect().adjusted(24, 16, -24, -16), Qt::AlignCenter | Qt::TextWordWrap, emptyText_);
    return;
  }
  const QSize size = this->size() - QSize(2 * inset, 2 * inset);
  if (size.width() < 80 || size.height() < 60) return;
  if (picture_.isNull()) {
    picture_ = QPixmap(size * devicePixelRatioF());
    paintChart(&picture_, size, *chart_, {themes_->theme(), themes_->fontScale(), true, true, false});
    picture_.setDevicePixelRatio(devicePixelRatioF());
  }
  painter.drawPixmap(inset, inset, picture_);
}

void ChartView::keyPressEvent(QKeyEvent* event) {
  if (chart_ && event->matches(QKeySequence::Copy)) return copy();
  if (chart_ && event->modifiers() == Qt::ControlModifier && event->key() == Qt::Key_T) return showTable();
  QWidget::keyPressEvent(event);
}

void ChartView::contextMenuEvent(QContextMenuEvent* event) {
  if (!chart_) return;
  auto* menu = new QMenu(this);
  menu->setAttribute(Qt::WA_DeleteOnClose);
  menu->addAction(tr("Copy picture and numbers\tCtrl+C"), this, &ChartView::copy);
  menu->addAction(tr("Show as table\tCtrl+T"), this, &ChartView::showTable);
  menu->addAction(tr("Export…"), this, [this] { Q_EMIT exportRequested(*chart_); });
  menu->popup(event->globalPos());
}

void ChartView::showTable() {
  if (!chart_) return;
  auto* dialog = new TableDialog(*chart_, this);
  dialog->setAttribute(Qt::WA_DeleteOnClose);
  dialog->open();
}

void ChartView::copy() {
  auto* content = new QMimeData;
  content->setImageData(picture_.toImage());
  content->setText(toTabSeparated(*chart_));
  QApplication::clipboard()->setMimeData(content);
}

}  // namespace winnow
