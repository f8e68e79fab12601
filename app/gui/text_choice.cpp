// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/text_choice.h"

#include <QFileDialog>
#include <QHBoxLayout>
#include <QLineEdit>
#include <QToolButton>

#include "app/gui/measure_dialog.h"
#include "experiments/text_file.h"

namespace winnow {

TextChoice::TextChoice(const QString& name, QWidget* parent) : QWidget(parent), path_(new QLineEdit(this)) {
  auto* line = new QHBoxLayout(this);
  line->setContentsMargins(0, 0, 0, 0);
  path_->setObjectName(name + QStringLiteral(".path"));
  path_->setAccessibleName(tr("File of the text"));
  say(tr("the sample text"), tr("Text (*.txt *.md *.raw);;All files (*)"));
  auto* browse = new QToolButton(this);
  browse->setObjectName(name + QStringLiteral(".browse"));
  browse->setText(QStringLiteral("…"));
  browse->setAccessibleName(tr("Choose a file"));
  connect(browse, &QToolButton::clicked, this, [this] {
    const QString path = QFileDialog::getOpenFileName(this, tr("Choose a text"), path_->text(), filter_);
    if (!path.isEmpty()) path_->setText(path);
  });
  line->addWidget(path_, 1);
  line->addWidget(browse);
}

void TextChoice::say(const QString& placeholder, const QString& filter) {
  path_->setPlaceholderText(placeholder);
  filter_ = filter;
}

QString TextChoice::path() const { return path_->text(); }

Result<std::string> TextChoice::read() const {
  if (path_->text().isEmpty()) return sampleText().toStdString();
  return readTextFile(path_->text());
}

}  // namespace winnow
