// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attribution/context_panel.h"

#include <QComboBox>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QLabel>
#include <QMenu>
#include <QSpinBox>
#include <QToolButton>
#include <QVBoxLayout>

#include "experiments/text_file.h"
#include "panels/text/wording.h"

namespace winnow {
namespace {

constexpr int kQuestions = 2000;            // of one file
constexpr qint64 kTextLimit = 8 << 20;      // bytes of a text to work with
constexpr size_t kWindowLimit = 256 << 10;  // bytes: a longer text is cut into tokens by the run alone

}  // namespace

ContextPanel::ContextPanel(QWidget* parent) : QWidget(parent) {
  auto* column = new QVBoxLayout(this);
  column->setContentsMargins(0, 0, 0, 0);
  column->setSpacing(6);
  editor_ = new SourcesEditor(this);
  editor_->setObjectName(QStringLiteral("attribution.context"));
  editor_->setAccessibleName(tr("Context"));
  editor_->setPlaceholderText(
      tr("Paste the text whose parts are to be judged, or open a text, a Markdown file or a JSONL of passages.\n\n"
         "Every other source gets a band, so that you see what will be left out together. Ctrl+Return splits a source at "
         "the cursor, Ctrl+Shift+Return merges it with the one before."));
  editor_->setMinimumHeight(60);
  column->addWidget(buildHead());
  column->addWidget(editor_, 1);
  column->addWidget(buildFoot());
  connect(editor_, &SourcesEditor::piecesChanged, this, &ContextPanel::refresh);
  connect(editor_, &QPlainTextEdit::textChanged, this, &ContextPanel::changed);
  applyUnit();
}

QWidget* ContextPanel::buildHead() {
  auto* head = new QWidget(this);
  auto* row = new QHBoxLayout(head);
  row->setContentsMargins(0, 0, 0, 0);
  auto* open = new QToolButton(head);
  open->setText(tr("Open…"));
  open->setObjectName(QStringLiteral("attribution.open"));
  open->setToolTip(tr("A text, a Markdown file or a JSONL of passages, in place of what is here"));
  auto* add = new QToolButton(head);
  add->setText(tr("Add…"));
  add->setObjectName(QStringLiteral("attribution.add"));
  add->setToolTip(tr("Another file after what is here, as a document of its own"));
  unit_ = new QComboBox(head);
  unit_->setObjectName(QStringLiteral("attribution.unit"));
  unit_->setAccessibleName(tr("Unit"));
  unit_->addItem(tr("Documents"), static_cast<int>(SourceUnit::document));
  unit_->addItem(tr("Paragraphs"), static_cast<int>(SourceUnit::paragraph));
  unit_->addItem(tr("Sentences"), static_cast<int>(SourceUnit::sentence));
  unit_->addItem(tr("Token windows"), static_cast<int>(SourceUnit::window));
  unit_->addItem(tr("Cut by hand"), static_cast<int>(SourceUnit::given));
  unit_->setCurrentIndex(2);
  window_ = new QSpinBox(head);
  window_->setObjectName(QStringLiteral("attribution.window"));
  window_->setAccessibleName(tr("Tokens of a window"));
  window_->setRange(1, 512);
  window_->setValue(AttributeRequest().windowTokens);
  window_->setSuffix(tr(" tokens"));
  window_->setKeyboardTracking(false);
  exampleOf_ = new QLabel(head);
  exampleOf_->setProperty("role", QStringLiteral("secondary"));
  example_ = new QSpinBox(head);
  example_->setObjectName(QStringLiteral("attribution.example"));
  example_->setAccessibleName(tr("Example of the file"));
  example_->setPrefix(tr("Example "));
  example_->setMinimum(1);
  example_->setKeyboardTracking(false);
  row->addWidget(unit_);
  row->addWidget(window_);
  row->addStretch(1);
  row->addWidget(example_);
  row->addWidget(exampleOf_);
  row->addWidget(open);
  row->addWidget(add);
  example_->hide();
  exampleOf_->hide();
  connect(open, &QToolButton::clicked, this, [this] { Q_EMIT openRequested(false); });
  connect(add, &QToolButton::clicked, this, [this] { Q_EMIT openRequested(true); });
  connect(unit_, &QComboBox::currentIndexChanged, this, [this] {
    if (!refreshing_) applyUnit();
  });
  connect(window_, &QSpinBox::valueChanged, this, &ContextPanel::applyUnit);
  connect(example_, &QSpinBox::valueChanged, this, [this](int value) { showQuestion(value - 1); });
  return head;
}

QWidget* ContextPanel::buildFoot() {
  auto* foot = new QWidget(this);
  auto* row = new QHBoxLayout(foot);
  row->setContentsMargins(0, 0, 0, 0);
  where_ = new QLabel(foot);
  where_->setObjectName(QStringLiteral("attribution.where"));
  where_->setProperty("role", QStringLiteral("secondary"));
  split_ = new QToolButton(foot);
  split_->setText(tr("Split here"));
  split_->setObjectName(QStringLiteral("attribution.split"));
  split_->setToolTip(tr("A source begins at the cursor (Ctrl+Return)"));
  merge_ = new QToolButton(foot);
  merge_->setText(tr("Merge with previous"));
  merge_->setObjectName(QStringLiteral("attribution.merge"));
  merge_->setToolTip(tr("The source at the cursor joins the one before (Ctrl+Shift+Return)"));
  row->addWidget(where_, 1);
  row->addWidget(split_);
  row->addWidget(merge_);
  // The buttons leave the cursor where it is.
  connect(split_, &QToolButton::clicked, this, [this] {
    editor_->splitAtCursor();
    editor_->setFocus();
  });
  connect(merge_, &QToolButton::clicked, this, [this] {
    editor_->mergeWithPrevious();
    editor_->setFocus();
  });
  return foot;
}

void ContextPanel::setWindows(Windows windows) {
  windows_ = std::move(windows);
  if (static_cast<SourceUnit>(unit_->currentData().toInt()) == SourceUnit::window) applyUnit();
}

void ContextPanel::applyUnit() {
  const auto unit = static_cast<SourceUnit>(unit_->currentData().toInt());
  window_->setVisible(unit == SourceUnit::window);
  switch (unit) {
    case SourceUnit::given: editor_->keepPieces(); break;  // what is there stays and can be moved
    case SourceUnit::document: editor_->setDocuments(); break;
    case SourceUnit::window:
      editor_->setSplitter([this](const std::string& text) {
        return windows_ && text.size() <= kWindowLimit ? windows_(text, window_->value()) : std::vector<Source>();
      });
      break;
    default: editor_->setSplitter([unit](const std::string& text) { return splitSources(text, unit); });
  }
  refresh();
}

void ContextPanel::setText(const QString& text, const QString& name) {
  setQuestions({});
  editor_->setContext({{{}, name.toStdString(), text.toStdString()}});
}

void ContextPanel::setQuestions(std::vector<Question> questions) {
  questions_ = std::move(questions);
  const int count = static_cast<int>(questions_.size());
  example_->setVisible(count > 1);
  exampleOf_->setVisible(count > 1);
  exampleOf_->setText(tr("of %1").arg(Format().count(count)));
  const QSignalBlocker quiet(example_);
  example_->setMaximum(std::max(1, count));
  example_->setValue(1);
  if (count > 0) showQuestion(0);
}

Status ContextPanel::openFile(const QString& path, bool append) {
  if (!holdsPassages(path)) {
    const auto text = readTextFile(path, kTextLimit);
    if (!text) return text.error();
    if (!append) setQuestions({});
    editor_->setContext({{{}, QFileInfo(path).fileName().toStdString(), *text}}, append);
    return Done{};
  }
  // A file of questions over passages, or of passages alone.
  if (auto questions = readQuestions(path, kQuestions); questions && !questions->empty() && !append) {
    setQuestions(std::move(*questions));
    return Done{};
  }
  const auto passages = readPassages(path);
  if (!passages) return passages.error();
  if (passages->empty()) return Error{ErrorCode::badInput, tr("%1 holds no passages.").arg(path).toStdString(), {}};
  if (!append) setQuestions({});
  editor_->setContext(*passages, append);
  if (!append) unit_->setCurrentIndex(unit_->findData(static_cast<int>(SourceUnit::document)));
  return Done{};
}

void ContextPanel::showQuestion(int index) {
  if (index < 0 || index >= static_cast<int>(questions_.size())) return;
  const Question& question = questions_[static_cast<size_t>(index)];
  editor_->setContext(question.passages.empty() ? std::vector<Passage>{{{}, {}, question.context}} : question.passages);
  Q_EMIT questionChosen(QString::fromStdString(question.question), QString::fromStdString(question.response.value_or("")));
}

void ContextPanel::fillSpec(AttributeSpec& spec) {
  spec.context = text();
  spec.unit = static_cast<SourceUnit>(unit_->currentData().toInt());
  spec.windowTokens = window_->value();
  if (editor_->isCustom()) {
    spec.unit = SourceUnit::given;
    spec.ranges = editor_->byteRanges();
  } else {
    spec.documents = editor_->documents();
    spec.fit = !spec.documents.empty();  // what the model's context cannot hold is left out, and said
  }
}

void ContextPanel::refresh() {
  const auto& pieces = editor_->pieces();
  refreshing_ = true;
  // By hand while there are boundaries of somebody's own; undo brings the unit back.
  const auto shown = static_cast<SourceUnit>(unit_->currentData().toInt());
  if (!editor_->isCustom() && shown != SourceUnit::given) unitBefore_ = shown;
  if (editor_->isCustom() != (shown == SourceUnit::given))
    unit_->setCurrentIndex(unit_->findData(static_cast<int>(editor_->isCustom() ? SourceUnit::given : unitBefore_)));
  refreshing_ = false;
  window_->setVisible(static_cast<SourceUnit>(unit_->currentData().toInt()) == SourceUnit::window);
  const int at = editor_->pieceAtCursor();
  QString text = pieces.empty() ? QString() : plural(static_cast<qint64>(pieces.size()), tr("%1 source"), tr("%1 sources"));
  if (at >= 0 && pieces.size() > 1) text += QStringLiteral(" · ") + tr("the cursor is in %1").arg(at + 1);
  if (pieces.empty() && !isEmpty()) text = windows_ ? QString() : tr("Token windows appear when a model is open");
  where_->setText(text);
  split_->setEnabled(editor_->canSplit());
  merge_->setEnabled(editor_->canMerge());
  Q_EMIT changed();
}

}  // namespace winnow
