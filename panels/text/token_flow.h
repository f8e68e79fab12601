// SPDX-License-Identifier: GPL-3.0-or-later
// Text as tokens, each coloured by a measured value. Paints only what is visible, so its length costs nothing. Used for
// output (negative log-likelihood, latency) and for attribution (scores of groups of words).
#pragma once
#include <QAbstractScrollArea>
#include <QHash>
#include <limits>
#include <vector>

#include "panels/text/flow_colours.h"

namespace winnow {

struct FlowToken {
  QString text;
  float nll = std::numeric_limits<float>::quiet_NaN();  // nats
  float ms = std::numeric_limits<float>::quiet_NaN();
  float score = std::numeric_limits<float>::quiet_NaN();  // nats, attribution
  int group = -1;        // tokens of one source light up together
  bool prompt = false;
  bool unscored = false;  // hatched: not evaluated yet
};

class TokenFlow : public QAbstractScrollArea {
  Q_OBJECT
 public:
  explicit TokenFlow(QWidget* parent = nullptr);

  void setTheme(const Theme& theme);
  void clear();
  void append(const std::vector<FlowToken>& tokens);
  void setTokens(std::vector<FlowToken> tokens);
  void setScores(const std::vector<std::pair<float, bool>>& byGroup);  // (score, unscored); the text stays
  void addMarker(int token, const QString& label);                     // before this token
  void setColour(FlowColour colour);
  FlowColour colour() const { return colour_; }
  const FlowScale& scale() const { return scale_; }
  void setScoreScale(float maximum, float noiseFloor);                 // nats
  void setPlaceholder(const QString& text);
  void setCaption(const QString& text) { setAccessibleName(text); }
  void setFollow(bool on) { follow_ = on; }

  const std::vector<FlowToken>& tokens() const { return tokens_; }
  int cursor() const { return cursor_; }
  void setCursor(int token, bool scrollTo);      // outlined; -1 = none. Emits nothing.
  void setGroup(int group, bool scrollTo);       // lit group; -1 = none. Emits nothing.
  void setChosenGroup(int group);                // framed until another is; -1 = none. Emits nothing.
  void selectTokens(int first, int last);        // -1, -1 = none. Emits nothing.
  QString text() const;
  QString selectedText() const;
  std::pair<int, int> selectedTokens() const;    // first and last; -1 = none
  int tokenAt(const QPoint& viewportPoint) const;
  QRect tokenRect(int token) const;              // in the viewport; empty when not laid out
  QString tip(int token) const;                  // its text and its values
  int lines() const { return static_cast<int>(lineStart_.size()); }

 public Q_SLOTS:
  void copy();
  void selectAll();

 Q_SIGNALS:
  void hovered(int token);                       // pointer or caret; -1 = left
  void groupHovered(int group);
  void activated(int token);                     // double click or Enter
  void clicked(int token);                       // pressed and released without a drag; -1 = beside the text
  void selectionChanged(int first, int last);    // by pointer or keyboard; -1, -1 = none
  void scaleChanged();

 protected:
  void paintEvent(QPaintEvent* event) override;
  void resizeEvent(QResizeEvent* event) override;
  void mouseMoveEvent(QMouseEvent* event) override;
  void mousePressEvent(QMouseEvent* event) override;
  void mouseReleaseEvent(QMouseEvent* event) override;
  void mouseDoubleClickEvent(QMouseEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;
  void contextMenuEvent(QContextMenuEvent* event) override;
  void changeEvent(QEvent* event) override;
  bool viewportEvent(QEvent* event) override;

 private:
  struct Fragment {   // a piece of a token on one line, or a marker
    int token = 0;
    int begin = 0, length = 0;  // in the token's text; marker: length -1, begin = index of the marker
    float x = 0, width = 0;
  };
  struct Marker {
    int token;
    QString label;
  };
  void layoutFrom(int token);
  void placeToken(int token);
  void place(int token, int begin, int length, float width);
  void breakLine();
  float widthOf(const QString& text);
  void updateScrollBar();
  void updateScale();
  int lineOf(int token) const;
  int lineHeight() const;
  void drawFragment(QPainter& painter, const Fragment& fragment, int y, int height) const;
  bool startsGroup(const Fragment& fragment) const;
  void drawMarker(QPainter& painter, const Fragment& fragment, int y, int height) const;
  void hover(int token);
  void moveCaret(int token, bool select);
  void tellSelection();

  std::vector<FlowToken> tokens_;
  std::vector<Marker> markers_;
  std::vector<Fragment> fragments_;
  std::vector<int> lineStart_;       // first fragment of each line
  std::vector<int> firstFragment_;   // of each token laid out
  float x_ = 0;
  QHash<QString, float> widths_;
  Theme theme_ = Theme::builtIn(false);
  FlowColour colour_ = FlowColour::nll;
  FlowScale scale_;
  FlowScale scoreScale_;
  QString placeholder_;
  int cursor_ = -1, group_ = -1, chosen_ = -1, anchor_ = -1, caret_ = -1, pressed_ = -1;
  std::pair<int, int> told_{-1, -1};  // the selection last told
  bool dragging_ = false, follow_ = true;
};

}  // namespace winnow
