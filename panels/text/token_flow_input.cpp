// SPDX-License-Identifier: GPL-3.0-or-later
// TokenFlow: pointer, keyboard, selection, clipboard.
#include <QAccessible>
#include <QApplication>
#include <QClipboard>
#include <QContextMenuEvent>
#include <QHelpEvent>
#include <QKeyEvent>
#include <QMenu>
#include <QMouseEvent>
#include <QScrollBar>
#include <QToolTip>
#include <cmath>

#include "panels/text/token_flow.h"

namespace winnow {

QString TokenFlow::text() const {
  QString all;
  for (const FlowToken& token : tokens_) all += token.text;
  return all;
}

QString TokenFlow::selectedText() const {
  if (anchor_ < 0 || caret_ < 0) return {};
  QString out;
  for (int i = std::min(anchor_, caret_); i <= std::max(anchor_, caret_); ++i) out += tokens_[static_cast<size_t>(i)].text;
  return out;
}

std::pair<int, int> TokenFlow::selectedTokens() const {
  if (anchor_ < 0 || caret_ < 0) return {-1, -1};
  return std::minmax(anchor_, caret_);
}

void TokenFlow::copy() {
  const QString chosen = selectedText();
  QApplication::clipboard()->setText(chosen.isEmpty() ? text() : chosen);
}

void TokenFlow::selectAll() {
  if (tokens_.empty()) return;
  anchor_ = 0;
  caret_ = static_cast<int>(tokens_.size()) - 1;
  tellSelection();
  viewport()->update();
}

void TokenFlow::selectTokens(int first, int last) {
  const bool any = first >= 0 && last >= first && last < static_cast<int>(tokens_.size());
  if (selectedTokens() == (any ? std::pair(first, last) : std::pair(-1, -1))) return;
  anchor_ = any ? first : -1;
  if (any) caret_ = last;
  told_ = selectedTokens();
  viewport()->update();
}

void TokenFlow::setChosenGroup(int group) {
  if (group == chosen_) return;
  chosen_ = group;
  viewport()->update();
}

void TokenFlow::tellSelection() {
  const auto now = selectedTokens();
  if (now == told_) return;
  told_ = now;
  Q_EMIT selectionChanged(now.first, now.second);
}

void TokenFlow::setCursor(int token, bool scrollTo) {
  if (token >= static_cast<int>(tokens_.size())) token = -1;
  if (token == cursor_) return;
  cursor_ = token;
  if (scrollTo && token >= 0) {
    const QRect box = tokenRect(token);
    QScrollBar* bar = verticalScrollBar();
    if (box.top() < 0) bar->setValue(bar->value() + box.top() - 4);
    if (box.bottom() > viewport()->height()) bar->setValue(bar->value() + box.bottom() - viewport()->height() + 4);
  }
  viewport()->update();
}

void TokenFlow::setGroup(int group, bool scrollTo) {
  if (group == group_) return;
  group_ = group;
  if (scrollTo && group >= 0) {
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (tokens_[i].group != group) continue;
      const QRect box = tokenRect(static_cast<int>(i));
      if (box.top() < 0 || box.bottom() > viewport()->height())
        verticalScrollBar()->setValue(verticalScrollBar()->value() + box.top() - viewport()->height() / 3);
      break;
    }
  }
  viewport()->update();
}

void TokenFlow::hover(int token) {
  if (token == cursor_) return;
  const int group = token >= 0 ? tokens_[static_cast<size_t>(token)].group : -1;
  if (group != group_) {
    group_ = group;
    Q_EMIT groupHovered(group);
  }
  cursor_ = token;
  viewport()->update();
  Q_EMIT hovered(token);
}

void TokenFlow::mouseMoveEvent(QMouseEvent* event) {
  const int token = tokenAt(event->position().toPoint());
  hover(token);
  if (dragging_ && token >= 0 && token != caret_) {
    anchor_ = pressed_;
    caret_ = token;
    tellSelection();
    viewport()->update();
  }
}

void TokenFlow::mousePressEvent(QMouseEvent* event) {
  if (event->button() != Qt::LeftButton) return;
  const int token = tokenAt(event->position().toPoint());
  const bool extend = event->modifiers() & Qt::ShiftModifier;
  if (token < 0) {
    anchor_ = -1;
  } else if (extend && caret_ >= 0) {
    if (anchor_ < 0) anchor_ = caret_;
    caret_ = token;
  } else {
    anchor_ = -1;
    caret_ = pressed_ = token;
    dragging_ = true;
  }
  tellSelection();
  viewport()->update();
}

void TokenFlow::mouseReleaseEvent(QMouseEvent* event) {
  dragging_ = false;
  if (event->button() == Qt::LeftButton && anchor_ < 0) Q_EMIT clicked(tokenAt(event->position().toPoint()));
}

void TokenFlow::mouseDoubleClickEvent(QMouseEvent* event) {
  const int token = tokenAt(event->position().toPoint());
  if (token >= 0) Q_EMIT activated(token);
}

void TokenFlow::moveCaret(int token, bool select) {
  if (tokens_.empty()) return;
  token = std::clamp(token, 0, static_cast<int>(tokens_.size()) - 1);
  if (select) {
    if (anchor_ < 0) anchor_ = std::max(0, caret_);
  } else {
    anchor_ = -1;
  }
  caret_ = token;
  const int before = cursor_;
  setCursor(token, true);
  cursor_ = before;
  hover(token);
  tellSelection();
  if (QAccessible::isActive()) {
    int offset = 0;
    for (int i = 0; i < token; ++i) offset += static_cast<int>(tokens_[static_cast<size_t>(i)].text.size());
    QAccessibleTextCursorEvent moved(this, offset);
    QAccessible::updateAccessibility(&moved);
  }
  viewport()->update();
}

void TokenFlow::keyPressEvent(QKeyEvent* event) {
  if (event->matches(QKeySequence::Copy)) return copy();
  if (event->matches(QKeySequence::SelectAll)) return selectAll();
  if (event->key() == Qt::Key_Escape && anchor_ >= 0) {
    anchor_ = -1;
    tellSelection();
    return viewport()->update();
  }
  const bool select = event->modifiers() & Qt::ShiftModifier;
  const QRect at = tokenRect(std::max(0, caret_));
  const auto vertical = [&](int pixels) {
    const int page = verticalScrollBar()->value();
    const int line = std::clamp((at.center().y() + pixels + page) / lineHeight(), 0, std::max(0, lines() - 1));
    const QPoint goal(at.left() + 1, 10 + line * lineHeight() - page + lineHeight() / 2);
    const int found = tokenAt(goal);
    if (found >= 0) return found;
    const int first = fragments_.empty() ? 0
                                         : fragments_[static_cast<size_t>(lineStart_[static_cast<size_t>(line)]) < fragments_.size()
                                                          ? static_cast<size_t>(lineStart_[static_cast<size_t>(line)])
                                                          : fragments_.size() - 1]
                                               .token;
    return first;
  };
  switch (event->key()) {
    case Qt::Key_Left: return moveCaret(caret_ - 1, select);
    case Qt::Key_Right: return moveCaret(caret_ + 1, select);
    case Qt::Key_Home: return moveCaret(0, select);
    case Qt::Key_End: return moveCaret(static_cast<int>(tokens_.size()) - 1, select);
    case Qt::Key_Up: return moveCaret(vertical(-lineHeight()), select);
    case Qt::Key_Down: return moveCaret(vertical(lineHeight()), select);
    case Qt::Key_PageUp: return moveCaret(vertical(-viewport()->height()), select);
    case Qt::Key_PageDown: return moveCaret(vertical(viewport()->height()), select);
    case Qt::Key_Return:
    case Qt::Key_Enter:
      if (caret_ >= 0) Q_EMIT activated(caret_);
      return;
    default: QAbstractScrollArea::keyPressEvent(event);
  }
}

void TokenFlow::contextMenuEvent(QContextMenuEvent* event) {
  QMenu menu(this);
  menu.addAction(selectedText().isEmpty() ? tr("Copy text") : tr("Copy selection"), this, &TokenFlow::copy);
  menu.addAction(tr("Select all"), this, &TokenFlow::selectAll);
  menu.exec(event->globalPos());
}

void TokenFlow::changeEvent(QEvent* event) {
  QAbstractScrollArea::changeEvent(event);
  if (event->type() == QEvent::FontChange || event->type() == QEvent::StyleChange) {
    widths_.clear();
    layoutFrom(0);
  }
  if (event->type() == QEvent::PaletteChange) viewport()->update();
}

QString TokenFlow::tip(int index) const {
  const FlowToken& token = tokens_[static_cast<size_t>(index)];
  QStringList parts{QStringLiteral("“%1”").arg(token.text.toHtmlEscaped().replace(QLatin1Char('\n'), QStringLiteral("⏎")))};
  if (token.group < 0) parts << tr("token %1").arg(index);
  if (std::isfinite(token.ms) && !token.prompt) parts << tr("%1 ms").arg(static_cast<double>(token.ms), 0, 'g', 3);
  if (std::isfinite(token.nll))
    parts << tr("%1 nat (probability %2 %)")
                 .arg(static_cast<double>(token.nll), 0, 'f', 2)
                 .arg(100 * std::exp(-static_cast<double>(token.nll)), 0, 'g', 2);
  if (std::isfinite(token.score)) parts << tr("%1 nat").arg(static_cast<double>(token.score), 0, 'f', 2);
  if (token.unscored) parts << tr("not evaluated yet");
  return parts.join(QStringLiteral(" · "));
}

bool TokenFlow::viewportEvent(QEvent* event) {
  if (event->type() == QEvent::Leave) hover(-1);
  if (event->type() == QEvent::ToolTip) {
    auto* help = static_cast<QHelpEvent*>(event);
    const int token = tokenAt(help->pos());
    if (token >= 0) QToolTip::showText(help->globalPos(), tip(token), this);
    else QToolTip::hideText();
    return true;
  }
  return QAbstractScrollArea::viewportEvent(event);
}

}  // namespace winnow
