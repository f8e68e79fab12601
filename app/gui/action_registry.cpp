// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/action_registry.h"

#include <QMenu>
#include <QMenuBar>
#include <QWidget>

#include "app/gui/icons.h"

namespace winnow {

ActionRegistry::ActionRegistry(QWidget* window) : QObject(window), window_(window) {}

QAction* ActionRegistry::add(const Spec& spec, const std::function<void()>& handler) {
  auto* action = new QAction(spec.text, this);
  action->setShortcut(spec.shortcut);
  action->setCheckable(spec.checkable);
  QString tip = spec.tip.isEmpty() ? plainText(action) : spec.tip;
  if (!spec.shortcut.isEmpty()) tip += QStringLiteral(" (%1)").arg(spec.shortcut.toString(QKeySequence::NativeText));
  action->setToolTip(tip);
  action->setStatusTip(QString());
  if (!spec.icon.isEmpty()) action->setProperty("iconName", spec.icon);
  connect(action, &QAction::triggered, this, [handler] { handler(); });
  adopt(action, spec.id, spec.menu);
  return action;
}

void ActionRegistry::adopt(QAction* action, const QString& id, const QString& menu) {
  Q_ASSERT(!byId_.contains(id));
  action->setObjectName(id);
  action->setIconVisibleInMenu(false);
  window_->addAction(action);
  actions_.push_back(action);
  byId_.insert(id, action);
  menus_.insert(action, menu);
  order_.emplace_back(menu, action);
}

void ActionRegistry::separator(const QString& menu) { order_.emplace_back(menu, nullptr); }

void ActionRegistry::fill(QMenuBar* bar) const {
  QHash<QString, QMenu*> menus;
  for (const auto& [title, action] : order_) {
    QMenu*& menu = menus[title];
    if (!menu) {
      menu = bar->addMenu(title);
      menu->setToolTipsVisible(true);
    }
    if (action) menu->addAction(action);
    else menu->addSeparator();
  }
}

QString ActionRegistry::plainText(const QAction* action) {
  QString text = action->text();
  text.remove(QLatin1Char('&'));
  if (text.endsWith(QChar(0x2026))) text.chop(1);
  return text;
}

}  // namespace winnow
