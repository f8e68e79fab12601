// SPDX-License-Identifier: GPL-3.0-or-later
// Where sources come from: a text pasted, a text or Markdown file, passages of a JSONL file; the unit they are cut by, and boundaries
// moved by hand.
#pragma once
#include <QWidget>

#include "experiments/workbench.h"
#include "panels/attribution/sources_editor.h"

class QComboBox;
class QLabel;
class QSpinBox;
class QToolButton;

namespace winnow {

class ContextPanel : public QWidget {
  Q_OBJECT
 public:
  // Cuts a text by tokens, which only an open model can; empty function: there is none.
  using Windows = std::function<std::vector<Source>(const std::string& text, int tokens)>;

  explicit ContextPanel(QWidget* parent = nullptr);
  void setTheme(const Theme& theme) { editor_->setTheme(theme); }
  void setWindows(Windows windows);
  void setText(const QString& text, const QString& name);
  // Errors: what is wrong with the file. Questions of a file can be leafed through; append: its text comes after what is there.
  Status openFile(const QString& path, bool append);
  QString text() const { return editor_->toPlainText(); }
  bool isEmpty() const { return editor_->document()->isEmpty(); }
  void fillSpec(AttributeSpec& spec);  // context, unit and boundaries
  SourcesEditor* editor() const { return editor_; }

 Q_SIGNALS:
  void openRequested(bool append);
  void changed();  // the text or its boundaries
  void questionChosen(const QString& question, const QString& answer);

 private:
  QWidget* buildHead();
  QWidget* buildFoot();
  void applyUnit();
  void setQuestions(std::vector<Question> questions);
  void showQuestion(int index);
  void refresh();

  SourcesEditor* editor_ = nullptr;
  QComboBox* unit_ = nullptr;
  QSpinBox *window_ = nullptr, *example_ = nullptr;
  QLabel *where_ = nullptr, *exampleOf_ = nullptr;
  QToolButton *split_ = nullptr, *merge_ = nullptr;
  Windows windows_;
  std::vector<Question> questions_;               // of the file that is open, if it asks any
  SourceUnit unitBefore_ = SourceUnit::sentence;  // boundaries were moved by hand
  bool refreshing_ = false;
};

}  // namespace winnow
