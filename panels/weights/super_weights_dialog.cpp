// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/weights/super_weights_dialog.h"

#include <QDialogButtonBox>
#include <QHeaderView>
#include <QLabel>
#include <QPushButton>
#include <QTableWidget>
#include <QVBoxLayout>

#include "experiments/format.h"

namespace winnow {
namespace {

QTableWidget* tableOf(const std::vector<SuperWeight>& found, QWidget* parent) {
  using Dialog = SuperWeightsDialog;
  auto* table = new QTableWidget(static_cast<int>(found.size()), 6, parent);
  table->setObjectName(QStringLiteral("weights.super.table"));
  table->setAccessibleName(Dialog::tr("Super weights"));
  table->setHorizontalHeaderLabels({Dialog::tr("Layer"), Dialog::tr("Output"), Dialog::tr("Input"), Dialog::tr("Weight"), Dialog::tr("Meets"), Dialog::tr("Makes")});
  const QString tips[] = {Dialog::tr("Whose down projection it is in"), Dialog::tr("Row of the matrix: the channel it writes"),
                          Dialog::tr("Column of the matrix: the channel it reads"), Dialog::tr("Its value in the file"),
                          Dialog::tr("Largest input of the channel it reads"), Dialog::tr("Output of its row there")};
  for (int column = 0; column < 6; ++column) table->horizontalHeaderItem(column)->setToolTip(tips[column]);
  const Format f;
  for (int i = 0; i < static_cast<int>(found.size()); ++i) {
    const SuperWeight& weight = found[static_cast<size_t>(i)];
    const QString cells[] = {f.count(weight.layer), f.count(weight.row),              f.count(weight.column),
                             f.significant(weight.value), f.significant(weight.activation), f.significant(weight.output)};
    for (int column = 0; column < 6; ++column) {
      auto* cell = new QTableWidgetItem(cells[column]);
      cell->setTextAlignment(Qt::AlignRight | Qt::AlignVCenter);
      table->setItem(i, column, cell);
    }
  }
  table->setEditTriggers(QAbstractItemView::NoEditTriggers);
  table->setSelectionBehavior(QAbstractItemView::SelectRows);
  table->setTabKeyNavigation(false);
  table->setShowGrid(false);
  table->verticalHeader()->hide();
  table->horizontalHeader()->setSectionResizeMode(QHeaderView::Stretch);
  return table;
}

}  // namespace

SuperWeightsDialog::SuperWeightsDialog(const std::vector<SuperWeight>& found, const QString& model, const QString& now, QWidget* parent) : QDialog(parent) {
  setWindowTitle(tr("Super weights"));
  resize(620, found.empty() ? 160 : 360);
  auto* layout = new QVBoxLayout(this);
  layout->setContentsMargins(16, 16, 16, 16);
  layout->setSpacing(12);
  auto* said = new QLabel(this);
  said->setObjectName(QStringLiteral("weights.super.said"));
  said->setWordWrap(true);
  said->setText(found.empty() ? tr("No weight of %1 stands out: neither an input nor an output of a down projection is far beyond those of the other layers.").arg(model)
                              : tr("Single weights of down projections that meet a huge input and make the huge output %1 relies on. Kept, they stay exact at "
                                   "any width; taken away, they show what hangs on them.")
                                    .arg(model));
  layout->addWidget(said, found.empty() ? 1 : 0);
  if (!found.empty()) layout->addWidget(tableOf(found, this), 1);
  auto* buttons = new QDialogButtonBox(QDialogButtonBox::Close, this);
  const std::pair<const char*, QString> ways[] = {{"keep", tr("Keep exact")}, {"zero", tr("Set to zero")}, {"off", tr("As others")}};
  for (const auto& [what, text] : ways) {
    if (found.empty() || now == QLatin1String(what)) continue;
    QPushButton* button = buttons->addButton(text, QDialogButtonBox::ActionRole);
    button->setObjectName(QStringLiteral("weights.super.") + QLatin1String(what));
    connect(button, &QPushButton::clicked, this, [this, what = QString::fromLatin1(what)] {
      Q_EMIT chosen(what);
      accept();
    });
  }
  connect(buttons, &QDialogButtonBox::rejected, this, &QDialog::reject);
  layout->addWidget(buttons);
}

}  // namespace winnow
