// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/text/token_flow.h"

#include <QPainter>
#include <QResizeEvent>
#include <QScrollBar>
#include <cmath>

#include "panels/text/token_flow_accessible.h"
#include "panels/text/wording.h"

namespace winnow {
namespace {

constexpr int kMargin = 10;       // px around the text
constexpr int kMarkerPad = 6;     // px inside an epoch marker
constexpr int kMarkerLimit = 220;  // px; longer labels are elided

}  // namespace

TokenFlow::TokenFlow(QWidget* parent) : QAbstractScrollArea(parent) {
  installTokenFlowAccessibility();
  setFocusPolicy(Qt::StrongFocus);
  setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
  viewport()->setMouseTracking(true);
  viewport()->setCursor(Qt::IBeamCursor);
  viewport()->setBackgroundRole(QPalette::Base);
  viewport()->setAutoFillBackground(true);
  scale_ = nllScale();
  setAccessibleName(tr("Text as tokens"));
}

void TokenFlow::setTheme(const Theme& theme) {
  theme_ = theme;
  viewport()->update();
}

void TokenFlow::clear() {
  tokens_.clear();
  markers_.clear();
  cursor_ = group_ = chosen_ = anchor_ = caret_ = -1;
  told_ = {-1, -1};
  layoutFrom(0);
  updateScale();
}

void TokenFlow::append(const std::vector<FlowToken>& tokens) {
  const int first = static_cast<int>(tokens_.size());
  const bool atEnd = verticalScrollBar()->value() >= verticalScrollBar()->maximum() - lineHeight();
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  for (int i = first; i < static_cast<int>(tokens_.size()); ++i) placeToken(i);
  updateScrollBar();
  updateScale();
  if (follow_ && atEnd) verticalScrollBar()->setValue(verticalScrollBar()->maximum());
  viewport()->update();
}

void TokenFlow::setTokens(std::vector<FlowToken> tokens) {
  tokens_ = std::move(tokens);
  markers_.clear();
  cursor_ = group_ = chosen_ = anchor_ = caret_ = -1;
  told_ = {-1, -1};
  layoutFrom(0);
  updateScale();
}

void TokenFlow::setScores(const std::vector<std::pair<float, bool>>& byGroup) {
  for (FlowToken& token : tokens_) {
    if (token.group < 0 || token.group >= static_cast<int>(byGroup.size())) continue;
    std::tie(token.score, token.unscored) = byGroup[static_cast<size_t>(token.group)];
  }
  viewport()->update();
}

void TokenFlow::addMarker(int token, const QString& label) {
  markers_.push_back({std::clamp(token, 0, static_cast<int>(tokens_.size())), label});
  std::stable_sort(markers_.begin(), markers_.end(), [](const Marker& a, const Marker& b) { return a.token < b.token; });
  if (token < static_cast<int>(tokens_.size())) layoutFrom(0);
}

void TokenFlow::setColour(FlowColour colour) {
  colour_ = colour;
  updateScale();
  viewport()->update();
}

void TokenFlow::setScoreScale(float maximum, float noiseFloor) {
  scoreScale_ = scoreScale(maximum, noiseFloor);
  updateScale();
  viewport()->update();
}

void TokenFlow::setPlaceholder(const QString& text) {
  placeholder_ = text;
  viewport()->update();
}

void TokenFlow::updateScale() {
  switch (colour_) {
    case FlowColour::plain: scale_ = {}; break;
    case FlowColour::nll: scale_ = nllScale(); break;
    case FlowColour::score: scale_ = scoreScale_; break;
    case FlowColour::latency: {
      std::vector<float> all;
      all.reserve(tokens_.size());
      for (const FlowToken& token : tokens_)
        if (!token.prompt) all.push_back(token.ms);
      scale_ = latencyScale(std::move(all));
      break;
    }
  }
  Q_EMIT scaleChanged();
}

// ---- layout -------------------------------------------------------------------------------------------------------------

int TokenFlow::lineHeight() const { return fontMetrics().height() + 9; }

float TokenFlow::widthOf(const QString& text) {
  const auto known = widths_.constFind(text);
  if (known != widths_.constEnd()) return *known;
  if (widths_.size() > 50000) widths_.clear();
  const float width = static_cast<float>(QFontMetricsF(font()).horizontalAdvance(text));
  widths_.insert(text, width);
  return width;
}

void TokenFlow::breakLine() {
  lineStart_.push_back(static_cast<int>(fragments_.size()));
  x_ = kMargin;
}

void TokenFlow::place(int token, int begin, int length, float width) {
  const float right = static_cast<float>(viewport()->width() - kMargin);
  if (x_ + width > right && x_ > kMargin) breakLine();
  fragments_.push_back({token, begin, length, x_, width});
  x_ += width;
}

void TokenFlow::placeToken(int index) {
  if (lineStart_.empty()) breakLine();
  for (size_t m = 0; m < markers_.size(); ++m) {
    if (markers_[m].token != index) continue;
    const float width =
        std::min<float>(kMarkerLimit, static_cast<float>(fontMetrics().horizontalAdvance(markers_[m].label)) + 2 * kMarkerPad);
    place(index, static_cast<int>(m), -1, width + 4);
  }
  firstFragment_.push_back(static_cast<int>(fragments_.size()));
  const QString& text = tokens_[static_cast<size_t>(index)].text;
  const float room = static_cast<float>(viewport()->width() - 2 * kMargin);
  int begin = 0;
  while (begin <= text.size()) {
    int end = static_cast<int>(text.indexOf(QLatin1Char('\n'), begin));
    const bool newline = end >= 0;
    if (!newline) end = static_cast<int>(text.size());
    const QString piece = text.mid(begin, end - begin);
    const float width = piece.isEmpty() ? (newline ? 6.0f : text.isEmpty() ? 2.0f : 0.0f) : widthOf(piece);
    if (width > room && piece.size() > 1) {  // longer than a line: cut anywhere
      for (int at = 0; at < piece.size();) {
        int count = 1;
        while (at + count < piece.size() && widthOf(piece.mid(at, count + 1)) < room) ++count;
        place(index, begin + at, count, widthOf(piece.mid(at, count)));
        at += count;
      }
    } else if (width > 0) {
      place(index, begin, end - begin, width);
    }
    if (!newline) break;
    breakLine();
    begin = end + 1;
  }
  if (firstFragment_.back() == static_cast<int>(fragments_.size())) place(index, 0, 0, 0);
}

void TokenFlow::layoutFrom(int) {
  fragments_.clear();
  lineStart_.clear();
  firstFragment_.clear();
  x_ = kMargin;
  for (int i = 0; i < static_cast<int>(tokens_.size()); ++i) placeToken(i);
  updateScrollBar();
  viewport()->update();
}

void TokenFlow::updateScrollBar() {
  const int height = static_cast<int>(lineStart_.size()) * lineHeight() + 2 * kMargin;
  verticalScrollBar()->setRange(0, std::max(0, height - viewport()->height()));
  verticalScrollBar()->setPageStep(viewport()->height());
  verticalScrollBar()->setSingleStep(lineHeight());
}

void TokenFlow::resizeEvent(QResizeEvent* event) {
  QAbstractScrollArea::resizeEvent(event);
  if (event->oldSize().width() != event->size().width()) layoutFrom(0);
  else updateScrollBar();
}

int TokenFlow::lineOf(int token) const {
  if (token < 0 || token >= static_cast<int>(firstFragment_.size())) return -1;
  const int fragment = firstFragment_[static_cast<size_t>(token)];
  return static_cast<int>(std::upper_bound(lineStart_.begin(), lineStart_.end(), fragment) - lineStart_.begin()) - 1;
}

QRect TokenFlow::tokenRect(int token) const {
  const int line = lineOf(token);
  if (line < 0) return {};
  const Fragment& fragment = fragments_[static_cast<size_t>(firstFragment_[static_cast<size_t>(token)])];
  const int y = kMargin + line * lineHeight() - verticalScrollBar()->value();
  return {static_cast<int>(fragment.x), y, std::max(2, static_cast<int>(std::ceil(fragment.width))), lineHeight()};
}

int TokenFlow::tokenAt(const QPoint& point) const {
  const int line = (point.y() + verticalScrollBar()->value() - kMargin) / lineHeight();
  if (line < 0 || line >= static_cast<int>(lineStart_.size())) return -1;
  const auto begin = static_cast<size_t>(lineStart_[static_cast<size_t>(line)]);
  const size_t end = static_cast<size_t>(line) + 1 < lineStart_.size() ? static_cast<size_t>(lineStart_[static_cast<size_t>(line) + 1])
                                                                       : fragments_.size();
  for (size_t i = begin; i < end; ++i) {
    const Fragment& fragment = fragments_[i];
    if (point.x() >= fragment.x && static_cast<float>(point.x()) < fragment.x + fragment.width) return fragment.token;
  }
  return -1;
}

// ---- painting -----------------------------------------------------------------------------------------------------------

void TokenFlow::paintEvent(QPaintEvent*) {
  QPainter painter(viewport());
  if (tokens_.empty()) {
    painter.setPen(palette().color(QPalette::PlaceholderText));
    painter.drawText(viewport()->rect().adjusted(kMargin, kMargin, -kMargin, -kMargin), Qt::AlignLeft | Qt::AlignTop | Qt::TextWordWrap,
                     placeholder_);
    return;
  }
  const int height = lineHeight();
  const int top = verticalScrollBar()->value();
  const int first = std::max(0, (top - kMargin) / height);
  const int last = std::min(static_cast<int>(lineStart_.size()) - 1, (top + viewport()->height()) / height);
  for (int line = first; line <= last; ++line) {
    const int y = kMargin + line * height - top;
    const int begin = lineStart_[static_cast<size_t>(line)];
    const int end =
        line + 1 < static_cast<int>(lineStart_.size()) ? lineStart_[static_cast<size_t>(line) + 1] : static_cast<int>(fragments_.size());
    for (int i = begin; i < end; ++i) {
      const Fragment& fragment = fragments_[static_cast<size_t>(i)];
      if (fragment.length < 0) drawMarker(painter, fragment, y, height);
      else drawFragment(painter, fragment, y, height);
    }
  }
}

// The first piece of a source: a thin line keeps neighbours of one colour apart.
bool TokenFlow::startsGroup(const Fragment& fragment) const {
  if (colour_ != FlowColour::score || fragment.begin > 0) return false;
  const int group = tokens_[static_cast<size_t>(fragment.token)].group;
  return group > 0 && fragment.token > 0 && tokens_[static_cast<size_t>(fragment.token) - 1].group != group;
}

void TokenFlow::drawFragment(QPainter& painter, const Fragment& fragment, int y, int height) const {
  const FlowToken& token = tokens_[static_cast<size_t>(fragment.token)];
  const QRectF cell(fragment.x, y + 2, fragment.width, height - 5);
  const bool selected = anchor_ >= 0 && fragment.token >= std::min(anchor_, caret_) && fragment.token <= std::max(anchor_, caret_);
  const float value = colour_ == FlowColour::nll ? token.nll : colour_ == FlowColour::latency ? token.ms : token.score;
  const auto position =
      colour_ == FlowColour::plain || (token.prompt && colour_ == FlowColour::latency) ? std::nullopt : scale_.position(value);
  if (selected) {
    painter.fillRect(cell, palette().color(QPalette::Highlight));
  } else if (position) {
    painter.fillRect(cell, flowBackground(*position, theme_));
    if (const int thick = flowLineThickness(*position); thick > 0)
      painter.fillRect(QRectF(fragment.x, y + height - 4, fragment.width - 1, thick > 3 ? 3.5 : thick), flowLine(*position, theme_));
  } else if (colour_ == FlowColour::score && token.unscored) {
    painter.fillRect(cell, QBrush(palette().color(QPalette::Mid), Qt::BDiagPattern));
  }
  const bool lit = fragment.token == cursor_ || (group_ >= 0 && token.group == group_);
  QColor pen = palette().color(selected                                       ? QPalette::HighlightedText
                               : token.prompt && colour_ != FlowColour::score ? QPalette::PlaceholderText
                                                                              : QPalette::Text);
  if (position && !selected) pen = palette().color(QPalette::Text);
  const bool noise = colour_ == FlowColour::score && !position && !selected && std::isfinite(token.score);
  if (noise) pen = theme_.textSecondary;
  painter.setPen(pen);
  if (fragment.length > 0)
    painter.drawText(QPointF(fragment.x, y + 3 + fontMetrics().ascent()), token.text.mid(fragment.begin, fragment.length));
  if (startsGroup(fragment)) painter.fillRect(QRectF(fragment.x - 1, y + 2, 1, height - 5), theme_.borderStrong);
  if (chosen_ >= 0 && token.group == chosen_) {  // a frame around the source, open between its words
    painter.fillRect(QRectF(cell.left(), cell.top() - 1, cell.width(), 2), theme_.accent);
    painter.fillRect(QRectF(cell.left(), cell.bottom() - 1, cell.width(), 2), theme_.accent);
  }
  if (lit && fragment.token != cursor_) {  // the source at hand: a frame open between its words
    painter.fillRect(QRectF(cell.left(), cell.top() - 1, cell.width(), 1), palette().color(QPalette::Text));
    painter.fillRect(QRectF(cell.left(), cell.bottom(), cell.width(), 1), palette().color(QPalette::Text));
  } else if (lit) {
    painter.setPen(QPen(palette().color(QPalette::Text), 1.5));
    painter.setBrush(Qt::NoBrush);
    painter.drawRect(cell.adjusted(0.5, 0.5, -0.5, -0.5));
  }
  if (fragment.token == caret_ && hasFocus()) {
    painter.fillRect(QRectF(fragment.x, y + 1, 2, height - 3), palette().color(QPalette::Text));
  }
}

void TokenFlow::drawMarker(QPainter& painter, const Fragment& fragment, int y, int height) const {
  painter.save();
  painter.setRenderHint(QPainter::Antialiasing);
  const QRectF pill(fragment.x + 2, y + 2.5, fragment.width - 5, height - 7);
  QColor accent = palette().color(QPalette::Highlight);
  painter.setPen(QPen(accent, 1.2));
  painter.setBrush(palette().color(QPalette::Base));
  painter.drawRoundedRect(pill, 4, 4);
  painter.fillRect(QRectF(pill.left() - 1, y, 2.5, height - 1), accent);
  const QFont small = scaledFont(font(), 0.9);
  painter.setFont(small);
  painter.setPen(palette().color(QPalette::Text));
  const QString label = QFontMetrics(small).elidedText(markers_[static_cast<size_t>(fragment.begin)].label, Qt::ElideRight,
                                                       static_cast<int>(pill.width()) - 8);
  painter.drawText(pill, Qt::AlignCenter, label);
  painter.restore();
}

}  // namespace winnow
