// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attribution/sources_editor.h"

#include <QKeyEvent>
#include <QPainter>
#include <QTextBlock>
#include <algorithm>

namespace winnow {
namespace {

// Properties of characters: which source somebody put them in, and which passage they were loaded with. Undo covers both.
constexpr int kSource = QTextFormat::UserProperty + 1;
constexpr int kPassage = QTextFormat::UserProperty + 2;
constexpr int kDelayMs = 200;  // from a key to a new cut

// UTF-8 offsets of UTF-16 ones, and back; both ascending.
class Offsets {
 public:
  explicit Offsets(const QString& text) : text_(text) {}
  int64_t bytes(int at) {
    while (unit_ < at && unit_ < text_.size()) step();
    return byte_;
  }
  int units(int64_t byte) {
    while (byte_ < byte && unit_ < text_.size()) step();
    return unit_;
  }

 private:
  void step() {
    const QChar c = text_[unit_];
    if (c.isHighSurrogate() && unit_ + 1 < text_.size() && text_[unit_ + 1].isLowSurrogate()) {
      unit_ += 2;
      byte_ += 4;
    } else {
      ++unit_;
      byte_ += c.unicode() < 0x80 ? 1 : c.unicode() < 0x800 ? 2 : 3;
    }
  }
  const QString& text_;
  int unit_ = 0;
  int64_t byte_ = 0;
};

QColor blend(const QColor& a, const QColor& b, double t) {
  const auto channel = [t](int x, int y) { return static_cast<int>(x + (y - x) * t + 0.5); };
  return {channel(a.red(), b.red()), channel(a.green(), b.green()), channel(a.blue(), b.blue())};
}

}  // namespace

SourcesEditor::SourcesEditor(QWidget* parent) : QPlainTextEdit(parent) {
  setTabChangesFocus(true);
  setAcceptDrops(false);
  timer_.setSingleShot(true);
  timer_.setInterval(kDelayMs);
  connect(&timer_, &QTimer::timeout, this, [this] { pieces(); });
  connect(document(), &QTextDocument::contentsChanged, this, [this] {
    stale_ = true;
    if (!marking_) timer_.start();
  });
  connect(this, &QPlainTextEdit::cursorPositionChanged, this, [this] {
    if (stale_) return;
    const int now = pieceAtCursor();
    if (now == current_) return;
    current_ = now;
    viewport()->update();
    Q_EMIT piecesChanged();
  });
}

void SourcesEditor::setTheme(const Theme& theme) {
  theme_ = theme;
  viewport()->update();
}

void SourcesEditor::setSplitter(Splitter splitter) {
  splitter_ = std::move(splitter);
  documents_ = false;
  forget();
}

void SourcesEditor::setDocuments() {
  splitter_ = [](const std::string& text) { return splitDocuments(text, {}); };
  documents_ = true;
  forget();
}

void SourcesEditor::forget() {
  if (custom_) {
    QTextCursor all(document());
    all.beginEditBlock();
    const std::vector<Run> passages = runs(kPassage);  // those stay what they are
    for (size_t i = 0; i < passages.size(); ++i) {
      all.setPosition(i == 0 ? 0 : passages[i].begin);
      if (i + 1 < passages.size()) all.setPosition(passages[i + 1].begin, QTextCursor::KeepAnchor);
      else all.movePosition(QTextCursor::End, QTextCursor::KeepAnchor);
      QTextCharFormat plain;
      if (passages[i].id > 0) plain.setProperty(kPassage, passages[i].id);
      all.setCharFormat(plain);
    }
    all.endEditBlock();
  }
  stale_ = true;
  cut();
}

void SourcesEditor::setContext(const std::vector<Passage>& passages, bool append) {
  QTextCursor at(document());
  marking_ = true;
  at.beginEditBlock();
  if (append) {
    at.movePosition(QTextCursor::End);
  } else {
    at.select(QTextCursor::Document);
    at.removeSelectedText();
  }
  for (const Passage& passage : passages) {
    if (at.position() > 0) at.insertText(QStringLiteral("\n\n"));
    const int number = passages_.empty() ? 1 : passages_.rbegin()->first + 1;
    passages_[number] = {passage.id, passage.title, {}, passage.supporting};
    QTextCharFormat format;
    format.setProperty(kPassage, number);
    QString text = QString::fromStdString(passage.text);
    text.replace(QStringLiteral("\r\n"), QStringLiteral("\n"));
    at.insertText(text.trimmed(), format);
  }
  at.endEditBlock();
  marking_ = false;
  stale_ = true;
  moveCursor(QTextCursor::Start);
  cut();
}

// ---- the cut ------------------------------------------------------------------------------------------------------------

std::vector<SourcesEditor::Run> SourcesEditor::runs(int property) const {
  std::vector<Run> out;
  for (QTextBlock block = document()->begin(); block.isValid(); block = block.next())
    for (auto it = block.begin(); !it.atEnd(); ++it) {
      const int id = it.fragment().charFormat().intProperty(property);
      if (out.empty() || out.back().id != id) out.push_back({it.fragment().position(), id});
    }
  return out;
}

std::vector<SourcesEditor::Piece> SourcesEditor::piecesOf(const std::vector<Run>& runs) const {
  const QString text = toPlainText();
  std::vector<Piece> out;
  for (size_t i = 0; i < runs.size(); ++i) {
    int begin = i == 0 ? 0 : runs[i].begin, end = i + 1 < runs.size() ? runs[i + 1].begin : static_cast<int>(text.size());
    while (begin < end && text[begin].isSpace()) ++begin;
    while (end > begin && text[end - 1].isSpace()) --end;
    if (end > begin) out.push_back({begin, end, runs[i].id});
  }
  return out;
}

std::vector<SourcesEditor::Piece> SourcesEditor::automaticPieces() const {
  if (documents_) {
    const std::vector<Run> loaded = runs(kPassage);
    if (loaded.size() > 1) return piecesOf(loaded);
  }
  if (!splitter_) return piecesOf({{0, 0}});
  const QString text = toPlainText();
  Offsets offsets(text);
  std::vector<Piece> out;
  for (const Source& source : splitter_(text.toStdString())) {
    const int first = offsets.units(source.start);
    out.push_back({first, offsets.units(source.end)});
  }
  return out;
}

void SourcesEditor::cut() {
  timer_.stop();
  if (!stale_) return;
  stale_ = false;
  const std::vector<Run> own = runs(kSource);
  custom_ = std::any_of(own.begin(), own.end(), [](const Run& run) { return run.id > 0; });
  pieces_ = custom_ ? piecesOf(own) : automaticPieces();
  current_ = pieceAtCursor();
  viewport()->update();
  Q_EMIT piecesChanged();
}

const std::vector<SourcesEditor::Piece>& SourcesEditor::pieces() {
  cut();
  return pieces_;
}

std::vector<ByteRange> SourcesEditor::bytesOf(const std::vector<Piece>& pieces) const {
  const QString text = toPlainText();
  Offsets offsets(text);
  std::vector<ByteRange> out;
  for (const Piece& piece : pieces) {
    const int64_t begin = offsets.bytes(piece.begin);
    out.push_back({begin, offsets.bytes(piece.end)});
  }
  return out;
}

std::vector<ByteRange> SourcesEditor::byteRanges() { return bytesOf(pieces()); }

std::vector<Document> SourcesEditor::documents() {
  const std::vector<Piece> loaded = piecesOf(runs(kPassage));
  std::vector<Document> out;
  if (loaded.size() < 2) return out;
  const std::vector<ByteRange> ranges = bytesOf(loaded);
  for (size_t i = 0; i < loaded.size(); ++i) {
    const auto known = passages_.find(loaded[i].id);
    const Passage passage = known == passages_.end() ? Passage() : known->second;
    out.push_back({passage.id, passage.title, ranges[i].start, ranges[i].end});
  }
  return out;
}

int SourcesEditor::pieceAtCursor() {
  const int at = textCursor().position();
  const auto after =
      std::upper_bound(pieces_.begin(), pieces_.end(), at, [](int position, const Piece& piece) { return position < piece.begin; });
  return static_cast<int>(after - pieces_.begin()) - 1;
}

bool SourcesEditor::canSplit() {
  const int piece = (pieces(), pieceAtCursor());
  if (piece < 0) return false;
  const int at = textCursor().position();
  return at > pieces_[static_cast<size_t>(piece)].begin && at < pieces_[static_cast<size_t>(piece)].end;
}

bool SourcesEditor::canMerge() { return (pieces(), pieceAtCursor()) > 0; }

std::vector<int> SourcesEditor::starts() {
  std::vector<int> out;
  for (const Piece& piece : pieces()) out.push_back(piece.begin);
  return out;
}

void SourcesEditor::keepPieces() {
  if (!pieces().empty() && !custom_) mark(starts());
}

void SourcesEditor::splitAtCursor() {
  if (!canSplit()) return;
  std::vector<int> starts = this->starts();
  starts.insert(starts.begin() + pieceAtCursor() + 1, textCursor().position());
  mark(starts);
}

void SourcesEditor::mergeWithPrevious() {
  if (!canMerge()) return;
  std::vector<int> starts = this->starts();
  starts.erase(starts.begin() + pieceAtCursor());
  mark(starts);
}

void SourcesEditor::mark(const std::vector<int>& starts) {
  QTextCursor at(document());
  marking_ = true;
  at.beginEditBlock();
  for (size_t i = 0; i < starts.size(); ++i) {
    at.setPosition(i == 0 ? 0 : starts[i]);
    if (i + 1 < starts.size()) at.setPosition(starts[i + 1], QTextCursor::KeepAnchor);
    else at.movePosition(QTextCursor::End, QTextCursor::KeepAnchor);
    QTextCharFormat format;
    format.setProperty(kSource, static_cast<int>(i) + 1);
    at.mergeCharFormat(format);
  }
  at.endEditBlock();
  marking_ = false;
  stale_ = true;
  cut();
}

// ---- input and painting -------------------------------------------------------------------------------------------------

void SourcesEditor::keyPressEvent(QKeyEvent* event) {
  if ((event->key() == Qt::Key_Return || event->key() == Qt::Key_Enter) && event->modifiers() & Qt::ControlModifier)
    return event->modifiers() & Qt::ShiftModifier ? mergeWithPrevious() : splitAtCursor();
  QPlainTextEdit::keyPressEvent(event);
}

void SourcesEditor::paintPiece(QPainter& painter, const QTextBlock& block, const QRectF& box, size_t index) {
  const Piece& piece = pieces_[index];
  const int first = std::max(piece.begin - block.position(), 0), last = std::min(piece.end - block.position(), block.length() - 1);
  const bool current = static_cast<int>(index) == current_;
  const QColor band = blend(theme_.surface, theme_.accent, current ? 0.26 : 0.12);
  const QTextLayout* layout = block.layout();
  for (int i = 0; i < layout->lineCount(); ++i) {
    const QTextLine line = layout->lineAt(i);
    const int begin = std::max(first, line.textStart()), end = std::min(last, line.textStart() + line.textLength());
    if (begin >= end) continue;
    const qreal left = box.left() + line.cursorToX(begin), right = box.left() + line.cursorToX(end), top = box.top() + line.y();
    if (index % 2 == 1 || current) painter.fillRect(QRectF(left, top, right - left, line.height()), band);
    if (begin == piece.begin - block.position()) painter.fillRect(QRectF(left - 1.5, top, 2, line.height()), theme_.accent);
  }
}

void SourcesEditor::paintPieces(QPainter& painter, const QRect& area) {
  for (QTextBlock block = firstVisibleBlock(); block.isValid(); block = block.next()) {
    const QRectF box = blockBoundingGeometry(block).translated(contentOffset());
    if (box.top() > area.bottom()) break;
    const int begin = block.position(), end = begin + block.length();
    auto piece =
        std::lower_bound(pieces_.begin(), pieces_.end(), begin, [](const Piece& each, int position) { return each.end <= position; });
    for (; piece != pieces_.end() && piece->begin < end; ++piece)
      paintPiece(painter, block, box, static_cast<size_t>(piece - pieces_.begin()));
  }
}

void SourcesEditor::paintEvent(QPaintEvent* event) {
  if (!stale_) {  // while somebody types, the old cut does not fit the text
    QPainter painter(viewport());
    paintPieces(painter, event->rect());
  }
  QPlainTextEdit::paintEvent(event);
}

}  // namespace winnow
