// SPDX-License-Identifier: GPL-3.0-or-later
// A file to read text from; none is the sample text.
#pragma once
#include <QWidget>

#include "engine/core/result.h"

class QLineEdit;

namespace winnow {

class TextChoice : public QWidget {
  Q_OBJECT
 public:
  explicit TextChoice(const QString& name, QWidget* parent = nullptr);  // objects are NAME.path and NAME.browse
  Result<std::string> read() const;
  QString path() const;  // as it stands there; may be empty
  void say(const QString& placeholder, const QString& filter);  // what no file means, and which files are offered

 private:
  QLineEdit* path_;
  QString filter_;
};

}  // namespace winnow
