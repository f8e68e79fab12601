// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/runs/runs_view.h"

#include <QApplication>
#include <QClipboard>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QLineEdit>
#include <QMenu>
#include <QPushButton>
#include <QStackedWidget>
#include <QStyledItemDelegate>
#include <QTableView>
#include <QVBoxLayout>

#include "panels/text/wording.h"

namespace winnow {
namespace {

// Tones the difference columns: better and worse in their colours, noise and "not comparable" in the secondary one.
class DeltaDelegate : public QStyledItemDelegate {
 public:
  explicit DeltaDelegate(QObject* parent) : QStyledItemDelegate(parent) {}
  Theme theme = Theme::builtIn(false);

 protected:
  void initStyleOption(QStyleOptionViewItem* option, const QModelIndex& index) const override {
    QStyledItemDelegate::initStyleOption(option, index);
    const QVariant verdict = index.data(RunModel::DeltaRole);
    if (!verdict.isValid()) return;
    QColor tone = theme.textSecondary;
    if (verdict.toInt() == static_cast<int>(RunDelta::Verdict::better)) tone = theme.better;
    if (verdict.toInt() == static_cast<int>(RunDelta::Verdict::worse)) tone = theme.worse;
    option->palette.setColor(QPalette::Text, tone);
  }
};

}  // namespace

RunsView::RunsView(QWidget* parent) : QWidget(parent) {
  setObjectName(QStringLiteral("runs"));
  setAccessibleName(tr("Runs"));
  filter_.setSourceModel(&model_);
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(10, 8, 10, 8);
  all->setSpacing(6);
  buildBar(all);

  pages_ = new QStackedWidget(this);
  auto* empty = new QLabel(tr("No runs yet.\nGenerate, evaluate, bench or attribute: every run is kept here and can be compared."), pages_);
  empty->setAlignment(Qt::AlignCenter);
  empty->setForegroundRole(QPalette::PlaceholderText);
  pages_->addWidget(empty);
  table_ = new QTableView(pages_);
  table_->setObjectName(QStringLiteral("runs.table"));
  table_->setAccessibleName(tr("Runs"));
  table_->setModel(&filter_);
  table_->setItemDelegate(new DeltaDelegate(table_));
  table_->setSelectionBehavior(QAbstractItemView::SelectRows);
  table_->setSelectionMode(QAbstractItemView::ExtendedSelection);
  table_->setEditTriggers(QAbstractItemView::EditKeyPressed);
  table_->setSortingEnabled(true);
  table_->sortByColumn(-1, Qt::DescendingOrder);
  table_->setShowGrid(false);
  table_->setAlternatingRowColors(true);
  table_->setWordWrap(false);
  table_->setTabKeyNavigation(false);
  table_->setContextMenuPolicy(Qt::CustomContextMenu);
  table_->verticalHeader()->hide();
  table_->verticalHeader()->setDefaultSectionSize(fontMetrics().height() + 12);
  table_->horizontalHeader()->setHighlightSections(false);
  table_->horizontalHeader()->setMinimumSectionSize(36);
  table_->horizontalHeader()->setDefaultAlignment(Qt::AlignLeft | Qt::AlignVCenter);
  pages_->addWidget(table_);
  all->addWidget(pages_, 1);

  auto* bottom = new QHBoxLayout;
  auto* label = new QLabel(tr("Notes"), this);
  notes_ = new QLineEdit(this);
  notes_->setObjectName(QStringLiteral("runs.notes"));
  notes_->setAccessibleName(tr("Notes of the selected run"));
  notes_->setPlaceholderText(tr("Select a run to write notes on it"));
  label->setBuddy(notes_);
  bottom->addWidget(label);
  bottom->addWidget(notes_, 1);
  all->addLayout(bottom);

  connect(table_->selectionModel(), &QItemSelectionModel::selectionChanged, this, &RunsView::selectionChanged);
  connect(table_, &QTableView::doubleClicked, this,
          [this](const QModelIndex& index) { Q_EMIT openRequested(index.data(RunModel::IdRole).toLongLong()); });
  connect(table_, &QTableView::customContextMenuRequested, this, &RunsView::showMenu);
  connect(&model_, &RunModel::renamed, this, &RunsView::renameRequested);
  connect(notes_, &QLineEdit::editingFinished, this, [this] {
    if (notesOf_ >= 0 && notes_->isModified()) Q_EMIT notesRequested(notesOf_, notes_->text());
    notes_->setModified(false);
  });
  setRuns({}, false);
}

void RunsView::buildBar(QVBoxLayout* all) {
  auto* bar = new QHBoxLayout;
  edit_ = new QLineEdit(this);
  edit_->setObjectName(QStringLiteral("runs.filter"));
  edit_->setAccessibleName(tr("Filter runs"));
  edit_->setPlaceholderText(tr("Filter: words, or terms such as kv.policy=h2o  perplexity<7  status=done"));
  edit_->setClearButtonEnabled(true);
  count_ = new QLabel(this);
  count_->setForegroundRole(QPalette::PlaceholderText);
  const auto button = [&](const QString& text, const QString& name, const QString& tip) {
    auto* b = new QPushButton(text, this);
    b->setObjectName(name);
    b->setToolTip(tip);
    return b;
  };
  open_ = button(tr("Open"), QStringLiteral("runs.open"), tr("Show the stored tokens and charts of this run (Enter)"));
  compare_ = button(tr("Compare"), QStringLiteral("runs.compare"), tr("Show the selected runs side by side"));
  baseline_ = button(tr("Set baseline"), QStringLiteral("runs.baseline"), tr("Compare the others with this run (Ctrl+Shift+B)"));
  export_ = button(tr("Export…"), QStringLiteral("runs.export"), tr("Export a chart of the selected runs"));
  delete_ = button(tr("Delete…"), QStringLiteral("runs.delete"), tr("Delete the selected runs from the session"));
  bar->addWidget(edit_, 1);
  bar->addWidget(count_);
  for (QPushButton* b : {open_, compare_, baseline_, export_, delete_}) bar->addWidget(b);
  all->addLayout(bar);
  problem_ = new QLabel(this);
  problem_->setObjectName(QStringLiteral("runs.problem"));
  problem_->hide();
  all->addWidget(problem_);
  connect(edit_, &QLineEdit::textChanged, this, &RunsView::filterChanged);
  connect(open_, &QPushButton::clicked, this, [this] { if (!selected().empty()) Q_EMIT openRequested(selected().front()); });
  connect(compare_, &QPushButton::clicked, this, [this] { Q_EMIT compareRequested(selected()); });
  connect(baseline_, &QPushButton::clicked, this, &RunsView::toggleBaseline);
  connect(export_, &QPushButton::clicked, this, [this] { Q_EMIT exportRequested(selected()); });
  connect(delete_, &QPushButton::clicked, this, [this] { Q_EMIT deleteRequested(selected()); });
}

void RunsView::setTheme(const Theme& theme) {
  static_cast<DeltaDelegate*>(table_->itemDelegate())->theme = theme;
  QPalette colours = problem_->palette();
  colours.setColor(QPalette::WindowText, theme.errorText);
  problem_->setPalette(colours);
  table_->viewport()->update();
}

void RunsView::setRuns(std::vector<storage::RunSummary> runs, bool readOnly) {
  const std::vector<qint64> kept = selected();
  readOnly_ = readOnly;
  model_.setReadOnly(readOnly);
  const std::vector<RunModel::Column> before = model_.columns();
  model_.setRuns(std::move(runs));
  pages_->setCurrentIndex(model_.runs().empty() ? 0 : 1);
  if (before.size() != model_.columns().size()) {
    table_->resizeColumnsToContents();
    for (int i = 0; i < model_.columnCount(); ++i) table_->setColumnWidth(i, std::clamp(table_->columnWidth(i), 40, 260));
  }
  auto* selection = table_->selectionModel();
  for (const qint64 id : kept) {
    const int row = model_.rowOf(id);
    if (row < 0) continue;
    const QModelIndex at = filter_.mapFromSource(model_.index(row, 1));
    selection->select(at, QItemSelectionModel::Select | QItemSelectionModel::Rows);
    if (!table_->currentIndex().isValid()) selection->setCurrentIndex(at, QItemSelectionModel::NoUpdate);
  }
  selectionChanged();
  updateCount();
}

void RunsView::updateCount() {
  const int shown = filter_.rowCount(), all = model_.rowCount();
  count_->setText(shown == all ? plural(all, tr("%1 run"), tr("%1 runs")) : tr("%1 of %2 runs").arg(shown).arg(all));
}

std::vector<qint64> RunsView::selected() const {
  std::vector<qint64> ids;
  for (const QModelIndex& row : table_->selectionModel()->selectedRows()) ids.push_back(row.data(RunModel::IdRole).toLongLong());
  return ids;
}

void RunsView::select(qint64 run) {
  const int row = model_.rowOf(run);
  if (row < 0) return;
  const QModelIndex index = filter_.mapFromSource(model_.index(row, 1));
  table_->selectionModel()->setCurrentIndex(index, QItemSelectionModel::ClearAndSelect | QItemSelectionModel::Rows);
  table_->scrollTo(index);
}

void RunsView::focusFilter() {
  edit_->setFocus(Qt::ShortcutFocusReason);
  edit_->selectAll();
}

void RunsView::selectionChanged() {
  const std::vector<qint64> ids = selected();
  const bool one = ids.size() == 1;
  const int row = one ? model_.rowOf(ids.front()) : -1;
  const storage::RunSummary* run = row >= 0 ? &model_.runs()[static_cast<size_t>(row)] : nullptr;
  open_->setEnabled(one);
  compare_->setEnabled(!ids.empty());
  baseline_->setEnabled(one && !readOnly_);
  baseline_->setText(run && run->baseline ? tr("Clear baseline") : tr("Set baseline"));
  export_->setEnabled(!ids.empty());
  delete_->setEnabled(!ids.empty() && !readOnly_);
  notes_->setEnabled(one && !readOnly_);
  if (!one) {
    notesOf_ = -1;
    notes_->clear();
  } else if (notesOf_ != ids.front() || !notes_->isModified()) {
    notesOf_ = ids.front();
    notes_->setText(run ? QString::fromStdString(run->notes) : QString());
    notes_->setModified(false);
  }
}

void RunsView::toggleBaseline() {
  const std::vector<qint64> ids = selected();
  if (ids.size() != 1) return;
  const int row = model_.rowOf(ids.front());
  const bool was = row >= 0 && model_.runs()[static_cast<size_t>(row)].baseline;
  Q_EMIT baselineRequested(was ? -1 : ids.front());
}

void RunsView::filterChanged(const QString& text) {
  RunQuery query = parseRunQuery(text);
  problem_->setVisible(!query.error.isEmpty());
  problem_->setText(query.error);
  edit_->setAccessibleDescription(query.error);
  if (!query.error.isEmpty()) return;  // the last understood filter stays
  filter_.setQuery(std::move(query));
  updateCount();
}

void RunsView::showMenu(const QPoint& at) {
  const std::vector<qint64> ids = selected();
  if (ids.empty()) return;
  QMenu menu(this);
  for (QPushButton* b : {open_, compare_, baseline_, export_}) {
    QAction* action = menu.addAction(b->text(), b, &QPushButton::click);
    action->setEnabled(b->isEnabled());
  }
  QAction* rename = menu.addAction(tr("Rename"), this, [this] { table_->edit(table_->currentIndex().siblingAtColumn(1)); });
  rename->setEnabled(ids.size() == 1 && !readOnly_);
  menu.addAction(tr("Copy row"), this, [this] {
    QStringList lines;
    for (const QModelIndex& row : table_->selectionModel()->selectedRows()) {
      QStringList cells;
      for (int column = 0; column < filter_.columnCount(); ++column) cells << row.siblingAtColumn(column).data().toString();
      lines << cells.join(QLatin1Char('\t'));
    }
    QApplication::clipboard()->setText(lines.join(QLatin1Char('\n')));
  });
  menu.addSeparator();
  QAction* remove = menu.addAction(delete_->text(), delete_, &QPushButton::click);
  remove->setEnabled(delete_->isEnabled());
  menu.exec(table_->viewport()->mapToGlobal(at));
}

}  // namespace winnow
