// SPDX-License-Identifier: GPL-3.0-or-later
// Type a few letters, press Enter: every enabled action of the registry.
#pragma once
#include <QDialog>

class QLineEdit;
class QListWidget;

namespace winnow {

class ActionRegistry;

class CommandPalette : public QDialog {
  Q_OBJECT
 public:
  CommandPalette(const ActionRegistry& actions, QWidget* parent);

 protected:
  bool eventFilter(QObject* watched, QEvent* event) override;

 private:
  void filter(const QString& text);
  void runCurrent();
  const ActionRegistry& actions_;
  QLineEdit* edit_ = nullptr;
  QListWidget* list_ = nullptr;
};

// The letters of `words` in order in `text`; smaller is better, negative is no match.
int paletteScore(const QString& text, const QString& words);

}  // namespace winnow
