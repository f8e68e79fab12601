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

 private:
  QLineEdit* path_;
};

}  // namespace winnow
