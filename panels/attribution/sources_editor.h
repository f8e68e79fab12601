// SPDX-License-Identifier: GPL-3.0-or-later
// The context as text whose sources are seen: every other one on a band, a tick where each begins. The cut follows a unit until somebody
// splits or merges by hand; those boundaries then move with the text. Everything, boundaries included, is undone by the editor's undo.
#pragma once
#include <QPlainTextEdit>
#include <QTimer>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "experiments/context_file.h"
#include "panels/theme/theme.h"

namespace winnow {

class SourcesEditor : public QPlainTextEdit {
  Q_OBJECT
 public:
  struct Piece {
    int begin = 0, end = 0;  // UTF-16 offsets in the text, the white space after it left out
    int id = 0;              // of the characters' mark, where the cut comes from one
  };
  // Cuts a text into sources. Empty function: the whole text is one.
  using Splitter = std::function<std::vector<Source>(const std::string& text)>;

  explicit SourcesEditor(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setSplitter(Splitter splitter);  // how the unit cuts; boundaries made by hand are given up
  void setDocuments();                  // the unit is what was loaded: a passage; in one text, the sections under its headings
  void setContext(const std::vector<Passage>& passages, bool append = false);  // one step of undo

  void keepPieces();                         // the boundaries there are become somebody's own
  bool isCustom() const { return custom_; }  // boundaries made by hand
  const std::vector<Piece>& pieces();        // of the text as it is now
  std::vector<ByteRange> byteRanges();       // the same in UTF-8
  std::vector<Document> documents();         // the passages loaded; none if there is but one
  int pieceAtCursor();                       // -1 = in none
  bool canSplit();
  bool canMerge();

 public Q_SLOTS:
  void splitAtCursor();      // Ctrl+Return
  void mergeWithPrevious();  // Ctrl+Shift+Return

 Q_SIGNALS:
  void piecesChanged();  // cut anew, or the cursor is in another piece

 protected:
  void paintEvent(QPaintEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;

 private:
  struct Run {
    int begin = 0, id = 0;
  };
  std::vector<Run> runs(int property) const;  // of characters with one value, in order
  std::vector<Piece> piecesOf(const std::vector<Run>& runs) const;
  std::vector<ByteRange> bytesOf(const std::vector<Piece>& pieces) const;
  std::vector<Piece> automaticPieces() const;
  std::vector<int> starts();
  void cut();
  void mark(const std::vector<int>& starts);  // makes these the boundaries
  void forget();                              // boundaries made by hand
  void paintPieces(QPainter& painter, const QRect& area);
  void paintPiece(QPainter& painter, const QTextBlock& block, const QRectF& box, size_t index);

  Theme theme_ = Theme::builtIn(false);
  Splitter splitter_;
  std::map<int, Passage> passages_;  // ever loaded, by the number their characters bear; without their text
  std::vector<Piece> pieces_;
  bool stale_ = false, custom_ = false, documents_ = false, marking_ = false;
  int current_ = -1;
  QTimer timer_;
};

}  // namespace winnow
