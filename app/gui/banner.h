// SPDX-License-Identifier: GPL-3.0-or-later
// A message in the window: what happened, what to do, details to copy. Never a modal box.
#pragma once
#include <QFrame>

class QLabel;
class QToolButton;

namespace winnow {

class Banner : public QFrame {
  Q_OBJECT
 public:
  enum class Tone { notice, error };
  explicit Banner(QWidget* parent = nullptr);
  void show(Tone tone, const QString& message, const QString& hint);
  void clear() { hide(); }
  QString message() const { return message_; }
  Tone tone() const { return tone_; }

 private:
  QString message_, hint_;
  Tone tone_ = Tone::notice;
  QLabel* text_ = nullptr;
  QToolButton* copy_ = nullptr;
};

}  // namespace winnow
