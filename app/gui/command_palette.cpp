// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/command_palette.h"

#include <QAction>
#include <QKeyEvent>
#include <QLineEdit>
#include <QListWidget>
#include <QTimer>
#include <QVBoxLayout>
#include <algorithm>

#include "app/gui/action_registry.h"

namespace winnow {

int paletteScore(const QString& text, const QString& words) {
  int at = -1, gaps = 0, first = 0;
  for (const QChar letter : words) {
    if (letter.isSpace()) continue;
    const int found = static_cast<int>(text.indexOf(letter, at + 1, Qt::CaseInsensitive));
    if (found < 0) return -1;
    if (at < 0) first = found;
    else gaps += found - at - 1;
    at = found;
  }
  return gaps * 4 + first;
}

CommandPalette::CommandPalette(const ActionRegistry& actions, QWidget* parent) : QDialog(parent), actions_(actions) {
  setObjectName(QStringLiteral("palette"));
  setWindowTitle(tr("Commands"));
  setModal(true);
  resize(520, 380);
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(10, 10, 10, 10);
  edit_ = new QLineEdit(this);
  edit_->setObjectName(QStringLiteral("palette.edit"));
  edit_->setPlaceholderText(tr("Type a command"));
  edit_->setAccessibleName(tr("Command"));
  edit_->installEventFilter(this);
  list_ = new QListWidget(this);
  list_->setObjectName(QStringLiteral("palette.list"));
  list_->setAccessibleName(tr("Commands"));
  list_->setFocusPolicy(Qt::NoFocus);
  all->addWidget(edit_);
  all->addWidget(list_, 1);
  connect(edit_, &QLineEdit::textChanged, this, &CommandPalette::filter);
  connect(list_, &QListWidget::itemClicked, this, [this] { runCurrent(); });
  filter({});
}

void CommandPalette::filter(const QString& text) {
  std::vector<std::pair<int, QAction*>> found;
  for (QAction* action : actions_.all()) {
    if (!action->isEnabled() || action->text().isEmpty()) continue;
    const int score = paletteScore(ActionRegistry::plainText(action), text);
    if (score >= 0) found.emplace_back(score, action);
  }
  if (!text.isEmpty()) std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  list_->clear();
  for (const auto& [score, action] : found) {
    QString line = QStringLiteral("%1: %2").arg(actions_.menuOf(action).remove(QLatin1Char('&')), ActionRegistry::plainText(action));
    if (action->isCheckable()) line += action->isChecked() ? tr("  (on)") : tr("  (off)");
    if (!action->shortcut().isEmpty()) line += QStringLiteral("    %1").arg(action->shortcut().toString(QKeySequence::NativeText));
    auto* item = new QListWidgetItem(line, list_);
    item->setData(Qt::UserRole, action->objectName());
  }
  list_->setCurrentRow(0);
}

void CommandPalette::runCurrent() {
  const QListWidgetItem* item = list_->currentItem();
  if (!item) return;
  QAction* action = actions_.action(item->data(Qt::UserRole).toString());
  accept();
  if (action) QTimer::singleShot(0, action, &QAction::trigger);  // after the palette is gone
}

bool CommandPalette::eventFilter(QObject* watched, QEvent* event) {
  if (watched == edit_ && event->type() == QEvent::KeyPress) {
    auto* key = static_cast<QKeyEvent*>(event);
    switch (key->key()) {
      case Qt::Key_Down:
      case Qt::Key_Up: {
        const int step = key->key() == Qt::Key_Down ? 1 : -1;
        list_->setCurrentRow(std::clamp(list_->currentRow() + step, 0, list_->count() - 1));
        return true;
      }
      case Qt::Key_Return:
      case Qt::Key_Enter: runCurrent(); return true;
      default: break;
    }
  }
  return QDialog::eventFilter(watched, event);
}

}  // namespace winnow
