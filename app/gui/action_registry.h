// SPDX-License-Identifier: GPL-3.0-or-later
// Every action exists once. Menus, tool bar, command palette and the shortcut sheet are made from it.
#pragma once
#include <QAction>
#include <QHash>
#include <QObject>
#include <functional>
#include <vector>

class QMenuBar;
class QWidget;

namespace winnow {

class ActionRegistry : public QObject {
  Q_OBJECT
 public:
  // The actions' shortcuts work in `window`.
  explicit ActionRegistry(QWidget* window);

  struct Spec {
    QString id;       // "run.generate"; also the object name
    QString text;     // with its mnemonic
    QString menu;     // "File"
    QKeySequence shortcut = {};
    QString tip = {};
    QString icon = {};
    bool checkable = false;
  };
  QAction* add(const Spec& spec, const std::function<void()>& handler);
  void adopt(QAction* action, const QString& id, const QString& menu);  // an action made elsewhere (docks, undo)
  void separator(const QString& menu);
  QAction* action(const QString& id) const { return byId_.value(id); }
  const std::vector<QAction*>& all() const { return actions_; }
  void fill(QMenuBar* bar) const;
  static QString plainText(const QAction* action);   // without mnemonic and dots
  QString menuOf(const QAction* action) const { return menus_.value(action); }

 private:
  QWidget* window_;
  std::vector<QAction*> actions_;
  QHash<QString, QAction*> byId_;
  QHash<const QAction*, QString> menus_;
  std::vector<std::pair<QString, QAction*>> order_;  // null action: a separator
};

}  // namespace winnow
