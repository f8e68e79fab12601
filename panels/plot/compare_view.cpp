// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/plot/compare_view.h"

#include <QAbstractTableModel>
#include <QComboBox>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QPushButton>
#include <QScrollArea>
#include <QTableView>
#include <cmath>

#include "experiments/format.h"

namespace winnow {

class ComparisonModel : public QAbstractTableModel {
 public:
  enum Column { name, time, timeChange, memory, memoryChange, quality, qualityChange, columns };

  ComparisonModel(ThemeManager* themes, QObject* parent) : QAbstractTableModel(parent), themes_(themes) {
    connect(themes, &ThemeManager::changed, this, [this] {
      if (!rows_.empty()) Q_EMIT dataChanged(index(0, 0), index(rowCount({}) - 1, columns - 1));
    });
  }
  void setRows(std::vector<ComparisonRow> rows) {
    beginResetModel();
    rows_ = std::move(rows);
    endResetModel();
  }
  int rowCount(const QModelIndex& parent) const override { return parent.isValid() ? 0 : static_cast<int>(rows_.size()); }
  int columnCount(const QModelIndex& parent) const override { return parent.isValid() ? 0 : columns; }

  QVariant headerData(int section, Qt::Orientation orientation, int role) const override {
    if (orientation != Qt::Horizontal) return {};
    if (role == Qt::TextAlignmentRole) return QVariant(alignment(section));
    if (role != Qt::DisplayRole) return {};
    switch (section) {
      case name: return CompareView::tr("Run");
      case time: return CompareView::tr("Time per token, p50");
      case memory: return CompareView::tr("Peak memory");
      case quality: return CompareView::tr("Perplexity");
      default: return CompareView::tr("Change");
    }
  }

  QVariant data(const QModelIndex& index, int role) const override {
    const ComparisonRow& row = rows_[static_cast<size_t>(index.row())];
    switch (role) {
      case Qt::DisplayRole: return display(row, index.column());
      case Qt::TextAlignmentRole: return QVariant(alignment(index.column()));
      case Qt::ForegroundRole: return color(row, index.column());
      case Qt::ToolTipRole: return toolTip(row, index.column());
      case Qt::FontRole:
        if (row.baseline && index.column() == name) {
          QFont font = interfaceFont(themes_->fontScale());
          font.setWeight(QFont::DemiBold);
          return font;
        }
        return {};
      default: return {};
    }
  }

 private:
  static Qt::Alignment alignment(int column) {
    return (column == time || column == memory || column == quality ? Qt::AlignRight : Qt::AlignLeft) | Qt::AlignVCenter;
  }
  static const MetricChange* change(const ComparisonRow& row, int column) {
    switch (column) {
      case timeChange: return &row.latency;
      case memoryChange: return &row.memory;
      case qualityChange: return &row.perplexity;
      default: return nullptr;
    }
  }
  static QString figure(const std::optional<Figure>& f, const QString& unit) {
    if (!f) return Format::missing();
    const Format format;
    return f->interval ? format.interval(f->value, f->interval->low, f->interval->high, unit) : format.value(f->value, unit);
  }
  static QString changeText(const MetricChange& c) {
    if (!c.figure) return {};
    if (c.verdict == Verdict::notComparable) return c.words;
    const QString percentage = Format().relative(c.ratio);
    if (c.verdict == Verdict::withinNoise) return QStringLiteral("%1  %2").arg(percentage, c.words);
    return QStringLiteral("%1 %2  %3").arg(c.ratio > 1 ? QStringLiteral("▲") : QStringLiteral("▼"), percentage, c.words);
  }
  static QString display(const ComparisonRow& row, int column) {
    switch (column) {
      case name: return row.figures.name;
      case time: return figure(row.latency.figure, QStringLiteral("ms"));
      case memory: return figure(row.memory.figure, QStringLiteral("B"));
      case quality: return figure(row.perplexity.figure, QStringLiteral("perplexity"));
      default: return changeText(*change(row, column));
    }
  }
  QVariant color(const ComparisonRow& row, int column) const {
    const MetricChange* c = change(row, column);
    if (!c) return {};
    const Theme& theme = themes_->theme();
    return c->verdict == Verdict::better ? theme.better : c->verdict == Verdict::worse ? theme.worse : theme.textSecondary;
  }
  static QVariant toolTip(const ComparisonRow& row, int column) {
    if (const MetricChange* c = change(row, column); c && c->interval) {
      const Format format;
      return CompareView::tr("95 % interval of the change: %1 to %2").arg(format.relative(c->interval->low), format.relative(c->interval->high));
    }
    if (column != name) return {};
    QStringList runs;
    for (const auto& run : row.figures.runs) runs << QStringLiteral("#%1 %2").arg(run.id).arg(runName(run));
    return runs.join(u'\n');
  }

  ThemeManager* themes_;
  std::vector<ComparisonRow> rows_;
};

CompareView::CompareView(ThemeManager* themes, QWidget* parent) : QWidget(parent), themes_(themes) {
  setAccessibleName(tr("Comparison of runs"));
  setObjectName(QStringLiteral("compare-view"));
  view_ = new ChartView(themes, this);
  view_->setMinimumHeight(220);
  notes_ = new QLabel(this);
  notes_->setProperty("role", QStringLiteral("notice"));
  notes_->setWordWrap(true);
  table_ = new QTableView(this);
  model_ = new ComparisonModel(themes, table_);
  table_->setModel(model_);
  table_->setAccessibleName(tr("Figures of the compared runs"));
  table_->setShowGrid(false);
  table_->setAlternatingRowColors(true);
  table_->setTabKeyNavigation(false);
  table_->setSelectionBehavior(QAbstractItemView::SelectRows);
  table_->setWordWrap(false);
  table_->verticalHeader()->hide();
  table_->verticalHeader()->setDefaultSectionSize(30);
  table_->horizontalHeader()->setHighlightSections(false);
  auto* content = new QWidget;
  auto* stack = new QVBoxLayout(content);
  stack->setContentsMargins(0, 0, 4, 0);
  stack->setSpacing(8);
  stack->addWidget(view_);
  stack->addWidget(notes_);
  stack->addWidget(table_);
  stack->addStretch(1);
  auto* scroll = new QScrollArea(this);
  scroll->setWidget(content);
  scroll->setWidgetResizable(true);
  scroll->setFocusPolicy(Qt::NoFocus);
  scroll->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
  auto* layout = new QVBoxLayout(this);
  layout->setContentsMargins(12, 12, 8, 8);
  layout->setSpacing(8);
  layout->addWidget(buildBar());
  layout->addWidget(scroll, 1);
  connect(view_, &ChartView::exportRequested, this, &CompareView::exportRequested);
  reload();
}

CompareView::~CompareView() = default;

QWidget* CompareView::buildBar() {
  auto* bar = new QWidget(this);
  auto* layout = new QHBoxLayout(bar);
  layout->setContentsMargins(0, 0, 0, 0);
  layout->setSpacing(8);
  const auto label = [&](const QString& text, QWidget* buddy) {
    auto* l = new QLabel(text, bar);
    l->setBuddy(buddy);
    layout->addWidget(l);
    layout->addWidget(buddy);
  };
  charts_ = new QComboBox(bar);
  charts_->setAccessibleName(tr("Chart"));
  const std::pair<const char*, QString> titles[] = {{"comparison", tr("Comparison")}, {"latency", tr("Latency")}, {"memory", tr("Memory")},
                                                    {"perplexity", tr("Perplexity")}, {"pareto", tr("Speed against quality")}, {"kv", tr("KV cache")},
                                                    {"attribution", tr("Attribution")}, {"retrieval", tr("Retrieval")}, {"depth", tr("Depth of context")}};
  for (const auto& [name, title] : titles) charts_->addItem(title, QString::fromLatin1(name));
  label(tr("&Chart"), charts_);
  baselines_ = new QComboBox(bar);
  baselines_->setAccessibleName(tr("Baseline"));
  baselines_->setSizeAdjustPolicy(QComboBox::AdjustToContents);
  baselines_->setMaximumWidth(260);
  label(tr("&Baseline"), baselines_);
  layout->addStretch(1);
  export_ = new QPushButton(tr("Export…"), bar);
  layout->addWidget(export_);
  connect(charts_, &QComboBox::activated, this, &CompareView::showChart);
  connect(baselines_, &QComboBox::activated, this, &CompareView::showTable);
  connect(export_, &QPushButton::clicked, this, [this] {
    if (view_->chart()) Q_EMIT exportRequested(*view_->chart());
  });
  return bar;
}

void CompareView::setSession(std::shared_ptr<storage::SessionFile> session) {
  session_ = std::move(session);
  runs_.clear();
  reload();
}

void CompareView::setRuns(const std::vector<storage::Id>& runs) {
  runs_ = runs;
  reload();
}

void CompareView::setChart(const QString& name) {
  if (const int at = charts_->findData(name); at >= 0) charts_->setCurrentIndex(at);
  showChart();
}

std::optional<Chart> CompareView::chart() const { return view_->chart(); }

void CompareView::reload() {
  fillBaselines();
  showChart();
  showTable();
}

void CompareView::fillBaselines() {
  const QVariant before = baselines_->currentData();
  baselines_->clear();
  if (session_ && !runs_.empty())
    if (auto runs = selectRuns(*session_, runs_)) {
      baselines_->addItem(tr("the session's, else the first"), qlonglong{-1});
      for (const auto& run : *runs) baselines_->addItem(QStringLiteral("#%1 %2").arg(run.id).arg(runName(run)), static_cast<qlonglong>(run.id));
    }
  if (const int at = baselines_->findData(before); at >= 0) baselines_->setCurrentIndex(at);
  baselines_->setEnabled(baselines_->count() > 0);
}

void CompareView::showChart() {
  if (!session_ || runs_.empty()) {
    view_->setChart({}, tr("Choose runs in the run table to see them side by side here."));
  } else {
    auto chart = buildChart(*session_, charts_->currentData().toString(), runs_);
    if (chart)
      view_->setChart(*std::move(chart));
    else
      view_->setChart({}, QString::fromStdString(chart.error().message + ' ' + chart.error().hint));
  }
  export_->setEnabled(view_->chart().has_value());
}

void CompareView::showTable() {
  std::vector<ComparisonRow> rows;
  QStringList notes;
  if (session_ && !runs_.empty()) {
    const qlonglong baseline = baselines_->currentData().toLongLong();
    auto comparison = compareRuns(*session_, runs_, baseline > 0 ? std::optional<storage::Id>(baseline) : std::nullopt);
    if (comparison) {
      rows = std::move(comparison->rows);
      notes = comparison->notes;
    }
  }
  if (const auto shown = view_->chart())  // what the chart says already
    for (const QString& said : shown->notes) notes.removeAll(said);
  const int count = static_cast<int>(rows.size());
  model_->setRows(std::move(rows));
  table_->setVisible(count > 0);
  notes_->setVisible(!notes.isEmpty());
  notes_->setText(notes.join(u'\n'));
  table_->resizeColumnsToContents();
  QFont bold = interfaceFont(themes_->fontScale());  // the header's, which the view does not measure
  bold.setWeight(QFont::DemiBold);
  for (int c = 0; c < ComparisonModel::columns; ++c)
    table_->setColumnWidth(c, std::max(table_->columnWidth(c), QFontMetrics(bold).horizontalAdvance(model_->headerData(c, Qt::Horizontal, Qt::DisplayRole).toString()) + 24));
  int needed = 0;
  for (int c = 0; c < ComparisonModel::columns; ++c) needed += table_->columnWidth(c);
  table_->horizontalHeader()->setStretchLastSection(needed < width() - 40);  // else it scrolls: squeezed figures help nobody
  table_->setFixedHeight(table_->horizontalHeader()->sizeHint().height() + count * 30 + 6 + (count > 0 ? 12 : 0));
}

}  // namespace winnow
