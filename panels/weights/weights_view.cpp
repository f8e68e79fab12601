// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/weights/weights_view.h"

#include <QComboBox>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QMenu>
#include <QProgressBar>
#include <QPushButton>
#include <QSortFilterProxyModel>
#include <QSplitter>
#include <QTableView>
#include <QToolButton>
#include <QVBoxLayout>
#include <algorithm>
#include <cmath>

#include "experiments/format.h"
#include "panels/weights/bar_strip.h"
#include "panels/weights/weight_files.h"
#include "panels/weights/weight_map.h"
#include "panels/weights/weight_table.h"

namespace winnow {
namespace {

QLabel* heading(const QString& text, QWidget* parent) {
  auto* label = new QLabel(text, parent);
  label->setProperty("role", QStringLiteral("heading"));
  label->setMinimumWidth(40);
  label->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
  return label;
}

QWidget* stacked(QWidget* parent, std::initializer_list<QWidget*> parts) {
  auto* box = new QWidget(parent);
  auto* column = new QVBoxLayout(box);
  column->setContentsMargins(0, 0, 0, 0);
  column->setSpacing(4);
  for (QWidget* part : parts) column->addWidget(part, part == *(parts.end() - 1) ? 1 : 0);
  return box;
}

}  // namespace

WeightsView::WeightsView(QWidget* parent) : QWidget(parent) {
  setObjectName(QStringLiteral("weights"));
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(10, 8, 10, 8);
  all->setSpacing(6);
  all->addWidget(buildBar());
  totals_ = new QLabel(this);
  totals_->setObjectName(QStringLiteral("weights.totals"));
  totals_->setProperty("role", QStringLiteral("small"));
  totals_->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
  totals_->setWordWrap(true);
  all->addWidget(totals_);

  map_ = new WeightMap(this);
  map_->setObjectName(QStringLiteral("weights.map"));
  connect(map_, &WeightMap::tensorChosen, this, [this](int tensor) { choose(tensor, false); });
  histogramTitle_ = heading({}, this);
  histogram_ = new BarStrip(tr("Values before and after"), this);
  histogram_->setObjectName(QStringLiteral("weights.histogram"));
  auto* left = new QSplitter(Qt::Vertical, this);
  left->addWidget(map_);
  left->addWidget(stacked(left, {histogramTitle_, histogram_}));
  auto* right = new QSplitter(Qt::Vertical, this);
  right->addWidget(buildTable());
  right->addWidget(buildSensitivity());
  auto* halves = new QSplitter(Qt::Horizontal, this);
  halves->addWidget(left);
  halves->addWidget(right);
  for (QSplitter* each : {left, right, halves}) each->setChildrenCollapsible(false);
  for (QSplitter* each : {left, right}) {
    each->setStretchFactor(0, 5);
    each->setStretchFactor(1, 3);
  }
  halves->setStretchFactor(0, 1);
  halves->setStretchFactor(1, 1);
  all->addWidget(halves, 1);
  setModel({});
}

QWidget* WeightsView::buildBar() {
  auto* bar = new QWidget(this);
  auto* row = new QHBoxLayout(bar);
  row->setContentsMargins(0, 0, 0, 0);
  row->setSpacing(8);
  quantity_ = new QComboBox(bar);
  quantity_->setObjectName(QStringLiteral("weights.quantity"));
  quantity_->setAccessibleName(tr("What the map shows"));
  for (int q = 0; q < static_cast<int>(WeightQuantity::count); ++q) {
    quantity_->addItem(quantityName(static_cast<WeightQuantity>(q)));
    quantity_->setItemData(q, quantityMeaning(static_cast<WeightQuantity>(q)), Qt::ToolTipRole);
  }
  connect(quantity_, &QComboBox::currentIndexChanged, this, [this] { showMap(); });
  row->addWidget(quantity_);
  progress_ = new QProgressBar(bar);
  progress_->setObjectName(QStringLiteral("weights.progress"));
  progress_->setAccessibleName(tr("Comparing the weights"));
  progress_->setMaximumWidth(220);
  progress_->setRange(0, 1000);
  progress_->setFormat(tr("comparing"));
  row->addWidget(progress_);
  stop_ = new QToolButton(bar);
  stop_->setObjectName(QStringLiteral("weights.stop"));
  connect(stop_, &QToolButton::clicked, this, [this] {
    stopped_ = comparing_;
    if (comparing_) Q_EMIT stopComparingRequested();
    else Q_EMIT compareAgainRequested();
  });
  row->addWidget(stop_);
  row->addStretch(1);
  super_ = new QToolButton(bar);
  super_->setObjectName(QStringLiteral("weights.super"));
  super_->setText(tr("Super weights…"));
  super_->setToolTip(tr("Look for single weights that the whole model relies on, and keep them or take them away"));
  connect(super_, &QToolButton::clicked, this, &WeightsView::superWeightsRequested);
  row->addWidget(super_);
  export_ = new QToolButton(bar);
  export_->setObjectName(QStringLiteral("weights.export"));
  export_->setText(tr("Export"));
  export_->setToolTip(tr("Picture or table of what is shown"));
  export_->setPopupMode(QToolButton::InstantPopup);
  auto* menu = new QMenu(export_);
  menu->addAction(tr("Picture…"), this, [this] { Q_EMIT exportRequested(weightChart(model_->report(), quantity(), name_, settings_, sensitivity_)); });
  menu->addAction(tr("Table…"), this,
                  [this] { Q_EMIT exportTableRequested(weightCsv(model_->report(), sensitivity_), weightJson(model_->report(), settings_, sensitivity_)); });
  export_->setMenu(menu);
  row->addWidget(export_);
  exportModel_ = new QPushButton(tr("Export model…"), bar);
  exportModel_->setObjectName(QStringLiteral("weights.exportModel"));
  exportModel_->setToolTip(tr("Write the compressed weights as a GGUF or a folder of Hugging Face"));
  connect(exportModel_, &QPushButton::clicked, this, &WeightsView::exportModelRequested);
  row->addWidget(exportModel_);
  return bar;
}

QWidget* WeightsView::buildTable() {
  model_ = new WeightTableModel(this);
  sorted_ = new QSortFilterProxyModel(this);
  sorted_->setSourceModel(model_);
  sorted_->setSortRole(WeightTableModel::SortRole);
  table_ = new QTableView(this);
  table_->setObjectName(QStringLiteral("weights.table"));
  table_->setAccessibleName(tr("Matrices"));
  table_->setModel(sorted_);
  table_->setSortingEnabled(true);
  table_->sortByColumn(WeightTableModel::Matrix, Qt::AscendingOrder);
  table_->setSelectionBehavior(QAbstractItemView::SelectRows);
  table_->setSelectionMode(QAbstractItemView::SingleSelection);
  table_->setTabKeyNavigation(false);
  table_->setShowGrid(false);
  table_->verticalHeader()->hide();
  table_->verticalHeader()->setDefaultSectionSize(table_->fontMetrics().height() + 8);
  table_->horizontalHeader()->setStretchLastSection(true);
  connect(table_->selectionModel(), &QItemSelectionModel::currentRowChanged, this, [this](const QModelIndex& now) {
    if (now.isValid()) choose(model_->report().tensors[static_cast<size_t>(sorted_->mapToSource(now).row())].tensor, true);
  });
  return table_;
}

QWidget* WeightsView::buildSensitivity() {
  auto* head = new QWidget(this);
  auto* row = new QHBoxLayout(head);
  row->setContentsMargins(0, 0, 0, 0);
  row->setSpacing(8);
  sensitivityTitle_ = heading(tr("Layer sensitivity"), head);
  sensitivityTitle_->setToolTip(tr("Divergence of the predictions when one layer, or one kind of matrix, is compressed and all else stays as in the file."));
  row->addWidget(sensitivityTitle_, 1);
  sensitivityProgress_ = new QProgressBar(head);
  sensitivityProgress_->setObjectName(QStringLiteral("weights.sensitivity.progress"));
  sensitivityProgress_->setAccessibleName(tr("Measuring layer by layer"));
  sensitivityProgress_->setRange(0, 1000);
  sensitivityProgress_->setMaximumWidth(180);
  row->addWidget(sensitivityProgress_);
  measure_ = new QPushButton(head);
  measure_->setObjectName(QStringLiteral("weights.sensitivity.measure"));
  connect(measure_, &QPushButton::clicked, this, [this] {
    if (job_.running && job_.kind == JobState::Kind::plan) Q_EMIT stopRequested();
    else Q_EMIT sensitivityRequested();
  });
  row->addWidget(measure_);
  bars_ = new BarStrip(tr("Layer sensitivity"), this);
  bars_->setObjectName(QStringLiteral("weights.sensitivity"));
  return stacked(this, {head, bars_});
}

void WeightsView::setTheme(const Theme& theme) {
  map_->setTheme(theme);
  histogram_->setTheme(theme);
  bars_->setTheme(theme);
}

WeightQuantity WeightsView::quantity() const { return static_cast<WeightQuantity>(quantity_->currentIndex()); }

QString WeightsView::emptyText() const {
  if (name_.isEmpty()) return tr("Open a model to see what compression does to its weights.");
  if (!failure_.isEmpty()) return failure_;
  return stopped_ ? tr("The comparison was stopped.") : tr("The weights are being compared with those of the file…");
}

void WeightsView::setModel(const QString& name) {
  name_ = name;
  reported_ = comparing_ = stopped_ = false;
  failure_.clear();
  chosen_ = -1;
  model_->setReport({});
  settings_.clear();
  histogramTitle_->setText(tr("Values"));
  histogram_->clear(tr("Choose a matrix in the map or the table."));
  sensitivity_ = {};
  showMap();
  showTotals();
  showSensitivityState();
  setComparing(-1, {});
}

void WeightsView::setReport(const WeightReport& report, const QString& settings) {
  reported_ = true;
  stopped_ = false;
  failure_.clear();
  settings_ = settings;
  const bool first = model_->rowCount() == 0;
  const int kept = chosen_;
  chosen_ = -1;
  model_->setReport(report);
  if (first) table_->resizeColumnsToContents();
  showMap();
  showTotals();
  if (kept >= 0) choose(kept, false);
}

void WeightsView::showMap() {
  if (reported_) map_->setReport(model_->report(), quantity());
  else map_->clear(emptyText());
  for (QToolButton* each : {export_, super_}) each->setEnabled(reported_);
  exportModel_->setEnabled(reported_ && !job_.running);
}

void WeightsView::showTotals() {
  if (!reported_) return totals_->setText({});
  const WeightReport& report = model_->report();
  double signal = 0, noise = 0;
  for (const TensorReport& row : report.tensors) {
    signal += row.signal;
    noise += row.noise;
  }
  const Format f;
  QStringList parts{settings_.isEmpty() ? tr("as in the file") : settings_,
                    tr("%1 of matrices, %2 in the file").arg(f.bytes(static_cast<double>(report.bytes)), f.bytes(static_cast<double>(report.masterBytes))),
                    tr("%1 bits per weight").arg(f.significant(8 * static_cast<double>(report.bytes) / static_cast<double>(std::max<int64_t>(1, report.values))))};
  if (report.zeros > 0) parts << tr("%1 zeros").arg(f.percent(static_cast<double>(report.zeros) / static_cast<double>(report.values)));
  parts << (noise > 0 ? tr("SQNR of all %1").arg(quantityText(10 * std::log10(signal / noise), WeightQuantity::sqnr)) : tr("exact"));
  totals_->setText(parts.join(QStringLiteral(" · ")));
  totals_->setToolTip(totals_->text());
}

void WeightsView::choose(int tensor, bool fromTable) {
  if (tensor == chosen_) return;
  chosen_ = tensor;
  map_->setChosen(tensor);
  const auto& rows = model_->report().tensors;
  const auto found = std::ranges::find(rows, tensor, &TensorReport::tensor);
  if (found == rows.end()) return;
  histogramTitle_->setText(tr("Values of %1").arg(matrixLabel(*found)));
  if (!fromTable) {
    const QModelIndex index = sorted_->mapFromSource(model_->index(static_cast<int>(found - rows.begin()), 0));
    table_->setCurrentIndex(index);
    table_->scrollTo(index);
  }
  Q_EMIT histogramRequested(tensor);
}

void WeightsView::setHistogram(const WeightHistogram& h) {
  if (h.tensor != chosen_) return;
  const Format f;
  BarStripData strip;
  const double width = (h.high - h.low) / static_cast<double>(h.before.size());
  int64_t most = 0;
  for (size_t i = 0; i < h.before.size(); ++i) {
    BarStripData::Bar bar;
    bar.value = static_cast<double>(h.after[i]);
    bar.outline = static_cast<double>(h.before[i]);
    const double left = h.low + width * static_cast<double>(i);
    bar.told = tr("%1 to %2: %3 before, %4 now").arg(f.significant(left), f.significant(left + width), f.count(h.before[i]), f.count(h.after[i]));
    most = std::max({most, h.before[i], h.after[i]});
    strip.bars.push_back(std::move(bar));
  }
  bool first = true;
  for (size_t code = 0; code < h.codes.size() && h.codes.size() <= 32; ++code) {  // more would be a fog
    BarStripData::Bar bar;
    bar.value = static_cast<double>(h.codes[code]);
    bar.name = QString::number(code);
    bar.apart = std::exchange(first, false);
    bar.told = tr("code %1: %2 weights").arg(code).arg(f.count(h.codes[code]));
    most = std::max(most, h.codes[code]);
    strip.bars.push_back(std::move(bar));
  }
  strip.low = f.significant(h.low);
  if (h.codes.empty() || h.codes.size() > 32) strip.high = f.significant(h.high);
  strip.top = tr("%1, root scale").arg(f.count(most));
  strip.legend = h.codes.empty() || h.codes.size() > 32 ? tr("now: %1").arg(QString::fromStdString(h.format)) : tr("now, then its codes: %1").arg(QString::fromStdString(h.format));
  strip.outlineLegend = tr("in the file");
  strip.rootScale = true;
  histogram_->setData(std::move(strip));
}

void WeightsView::setComparing(double fraction, const QString& what) {
  comparing_ = fraction >= 0;
  progress_->setVisible(comparing_);
  if (comparing_) progress_->setValue(static_cast<int>(std::lround(fraction * 1000)));
  if (!comparing_ && !what.isEmpty()) {
    failure_ = what;
    totals_->setText(what);
  }
  const bool again = !comparing_ && (stopped_ || !failure_.isEmpty()) && !name_.isEmpty();
  stop_->setVisible(comparing_ || again);
  stop_->setText(comparing_ ? tr("Stop") : tr("Compare again"));
  stop_->setAccessibleName(stop_->text());
  if (!reported_) showMap();
}

void WeightsView::setCompressed(bool on) {
  compressed_ = on;
  showSensitivityState();
}

void WeightsView::setJob(const JobState& job) {
  job_ = job;
  exportModel_->setEnabled(reported_ && !job.running);
  showSensitivityState();
}

void WeightsView::showSensitivityState() {
  const bool running = job_.running && job_.kind == JobState::Kind::plan;
  const int total = static_cast<int>(sensitivity_.points.size());
  sensitivityProgress_->setVisible(running);
  if (running) {
    sensitivityProgress_->setValue(static_cast<int>(std::lround(std::max(0.0, job_.fraction) * 1000)));
    sensitivityProgress_->setFormat(job_.secondsLeft > 0 ? tr("%1 left").arg(Format().duration(job_.secondsLeft * 1e9)) : tr("measuring"));
  }
  measure_->setText(running ? tr("Stop") : tr("Measure"));
  measure_->setEnabled(running || (!job_.running && !name_.isEmpty() && compressed_));
  measure_->setToolTip(running        ? tr("Keeps what is measured")
                       : !compressed_ ? tr("Nothing is compressed: choose fewer bits or a pruning ratio first")
                                      : tr("Compress one layer after the other, alone, and measure the divergence on the sample text"));
  measure_->setAccessibleDescription(measure_->toolTip());
  sensitivityTitle_->setText(total == 0 ? tr("Layer sensitivity") : tr("Layer sensitivity: %1 of %2").arg(sensitivity_.done).arg(total));
  if (sensitivity_.points.empty())
    bars_->clear(name_.isEmpty() ? tr("Open a model first.") : compressed_ ? tr("How much does each layer cost alone? Measure it in the background.")
                                                                          : tr("Nothing is compressed: choose fewer bits or a pruning ratio, then measure each layer alone."));
}

void WeightsView::setSensitivity(const Sensitivity& sensitivity) {
  sensitivity_ = sensitivity;
  const Format f;
  BarStripData strip;
  double most = 0;
  bool layers = true;
  for (const Sensitivity::Point& point : sensitivity.points) {
    if (point.rule.isEmpty()) continue;
    BarStripData::Bar bar;
    const QString name = point.layer >= 0 ? tr("layer %1").arg(point.layer) : point.name;
    bar.name = point.name;
    bar.apart = layers && point.layer < 0;
    layers = layers && point.layer >= 0;
    if (point.state == storage::PointState::done) {
      bar.value = std::max(0.0, point.kld);
      bar.low = std::max(0.0, point.kldLow);
      bar.high = point.kldHigh;
      most = std::max(most, bar.high);
      bar.told = tr("only %1: KLD %2, perplexity %3").arg(name, f.interval(point.kld, point.kldLow, point.kldHigh, QStringLiteral("nat")), f.perplexity(point.perplexity));
    } else {
      bar.value = std::nan("");
      bar.told = point.note.isEmpty() ? tr("%1: not measured yet").arg(name) : tr("%1: %2").arg(name, point.note);
    }
    strip.bars.push_back(std::move(bar));
  }
  strip.top = f.nats(most);
  const QString settings = sensitivity.settings.isEmpty() ? QString() : QStringLiteral(" · ") + sensitivity.settings;
  strip.legend = tr("KLD of only this%1").arg(sensitivity.baseline > 0 ? tr(", baseline perplexity %1").arg(f.perplexity(sensitivity.baseline)) + settings : settings);
  if (!strip.bars.empty()) bars_->setData(std::move(strip));
  showSensitivityState();
}

}  // namespace winnow
