// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/plot/table_dialog.h"

#include <QAbstractTableModel>
#include <QApplication>
#include <QClipboard>
#include <QDialogButtonBox>
#include <QHeaderView>
#include <QPushButton>
#include <QTableView>
#include <QVBoxLayout>
#include <cmath>

#include "experiments/format.h"

namespace winnow {
namespace {

struct Row {
  const Chart::Panel* panel;
  const ChartSeries* series;
  size_t point;
};

class ChartTableModel : public QAbstractTableModel {
 public:
  enum Column { panelColumn, seriesColumn, xColumn, yColumn, intervalColumn, columns };

  explicit ChartTableModel(const Chart& chart, QObject* parent) : QAbstractTableModel(parent), chart_(chart) {
    for (const Chart::Panel& p : chart_.panels)
      for (const ChartSeries& s : p.series)
        for (size_t i = 0; i < s.y.size(); ++i) rows_.push_back({&p, &s, i});
  }
  int rowCount(const QModelIndex& parent) const override { return parent.isValid() ? 0 : static_cast<int>(rows_.size()); }
  int columnCount(const QModelIndex& parent) const override { return parent.isValid() ? 0 : columns; }
  QVariant data(const QModelIndex& index, int role) const override {
    if (role == Qt::TextAlignmentRole && index.column() >= xColumn) return QVariant(Qt::AlignRight | Qt::AlignVCenter);
    if (role != Qt::DisplayRole) return {};
    const Row& row = rows_[static_cast<size_t>(index.row())];
    const ChartSeries& s = *row.series;
    const Format format;
    switch (index.column()) {
      case panelColumn: return row.panel->title.isEmpty() ? chart_.title : row.panel->title;
      case seriesColumn: return s.group.isEmpty() ? s.name : QStringLiteral("%1, %2").arg(s.group, s.name);
      case xColumn: return xText(*row.panel, s, row.point);
      case yColumn: return format.value(s.y[row.point], row.panel->y.unit);
      default: return s.low.size() == s.y.size() && std::isfinite(s.low[row.point])
                          ? QStringLiteral("%1 … %2").arg(format.value(s.low[row.point], row.panel->y.unit), format.value(s.high[row.point], row.panel->y.unit))
                          : Format::missing();
    }
  }
  QVariant headerData(int section, Qt::Orientation orientation, int role) const override {
    if (role != Qt::DisplayRole) return {};
    if (orientation == Qt::Vertical) return section + 1;
    switch (section) {
      case panelColumn: return TableDialog::tr("Chart");
      case seriesColumn: return TableDialog::tr("Series");
      case xColumn: return chart_.panels.empty() || chart_.panels.front().x.title.isEmpty() ? TableDialog::tr("At") : chart_.panels.front().x.title;
      case yColumn: return TableDialog::tr("Value");
      default: return TableDialog::tr("Interval");
    }
  }

 private:
  static QString xText(const Chart::Panel& panel, const ChartSeries& s, size_t point) {
    if (point < s.labels.size() && !s.labels[point].isEmpty()) return s.labels[point];
    const double x = s.x[point];
    if (!panel.x.categories.isEmpty() && x >= 0 && x < static_cast<double>(panel.x.categories.size()))
      return panel.x.categories[static_cast<qsizetype>(x)];
    return panel.x.unit == QLatin1String("token") ? Format().count(std::llround(x)) : Format().value(x, panel.x.unit);
  }
  const Chart chart_;
  std::vector<Row> rows_;
};

}  // namespace

TableDialog::TableDialog(const Chart& chart, QWidget* parent) : QDialog(parent) {
  setWindowTitle(tr("%1 as a table").arg(chart.title));
  resize(640, 480);
  auto* view = new QTableView(this);
  view->setModel(new ChartTableModel(chart, view));
  view->setAccessibleName(chart.title);
  view->setAlternatingRowColors(true);
  view->setShowGrid(false);
  view->setTabKeyNavigation(false);
  view->setSelectionBehavior(QAbstractItemView::SelectRows);
  view->horizontalHeader()->setStretchLastSection(true);
  view->verticalHeader()->hide();
  view->resizeColumnsToContents();
  auto* buttons = new QDialogButtonBox(QDialogButtonBox::Close, this);
  QPushButton* copy = buttons->addButton(tr("Copy"), QDialogButtonBox::ActionRole);
  connect(copy, &QPushButton::clicked, this, [chart] { QApplication::clipboard()->setText(toTabSeparated(chart)); });
  connect(buttons, &QDialogButtonBox::rejected, this, &QDialog::reject);
  auto* layout = new QVBoxLayout(this);
  layout->setContentsMargins(16, 16, 16, 16);
  layout->setSpacing(12);
  layout->addWidget(view);
  layout->addWidget(buttons);
}

QString toTabSeparated(const Chart& chart) {
  const auto plain = [](QString s) { return s.replace(u'\t', u' ').replace(u'\n', u' '); };
  const auto number = [](double v) { return std::isnan(v) ? QString() : QString::number(v, 'g', 17); };
  QString out = QStringLiteral("panel\tseries\tx\ty\tlow\thigh\tunit\n");
  for (const Chart::Panel& p : chart.panels)
    for (const ChartSeries& s : p.series)
      for (size_t i = 0; i < s.y.size(); ++i) {
        const bool interval = s.low.size() == s.y.size();
        out += QStringList{plain(p.title), plain(s.group.isEmpty() ? s.name : s.group + u' ' + s.name), number(s.x[i]), number(s.y[i]),
                           interval ? number(s.low[i]) : QString(), interval ? number(s.high[i]) : QString(), p.y.unit}
                   .join(u'\t') + u'\n';
      }
  return out;
}

}  // namespace winnow
