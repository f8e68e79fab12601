// SPDX-License-Identifier: GPL-3.0-or-later
// A PlotWidget for screen readers: a chart with a summary of each series. Its legend entries are its children, being check boxes.
#include <QAccessibleWidget>

#include "panels/plot/plot_widget.h"

namespace winnow {
namespace {

class PlotAccessible : public QAccessibleWidget {
 public:
  explicit PlotAccessible(PlotWidget* plot) : QAccessibleWidget(plot, QAccessible::Chart) {}
  QString text(QAccessible::Text kind) const override {
    if (kind == QAccessible::Description) return static_cast<PlotWidget*>(widget())->description();
    return QAccessibleWidget::text(kind);
  }
};

QAccessibleInterface* makeInterface(const QString& className, QObject* object) {
  auto* plot = className == QLatin1String("winnow::PlotWidget") ? qobject_cast<PlotWidget*>(object) : nullptr;
  return plot ? new PlotAccessible(plot) : nullptr;
}

}  // namespace

void installPlotAccessibility() {
  QAccessible::removeFactory(makeInterface);  // installed once, however many plots there are
  QAccessible::installFactory(makeInterface);
}

}  // namespace winnow
