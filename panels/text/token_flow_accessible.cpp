// SPDX-License-Identifier: GPL-3.0-or-later
// TokenFlow for screen readers: read-only text with a caret in characters.
#include "panels/text/token_flow_accessible.h"

#include <QAccessible>
#include <QAccessibleWidget>

#include "panels/text/token_flow.h"

namespace winnow {
namespace {

class AccessibleFlow : public QAccessibleWidget, public QAccessibleTextInterface {
 public:
  explicit AccessibleFlow(TokenFlow* flow) : QAccessibleWidget(flow, QAccessible::StaticText) {}

  void* interface_cast(QAccessible::InterfaceType type) override {
    if (type == QAccessible::TextInterface) return static_cast<QAccessibleTextInterface*>(this);
    return QAccessibleWidget::interface_cast(type);
  }
  QString text(QAccessible::Text kind) const override {
    if (kind == QAccessible::Value) return flow()->text();
    return QAccessibleWidget::text(kind);
  }
  QAccessible::State state() const override {
    QAccessible::State state = QAccessibleWidget::state();
    state.readOnly = true;
    state.multiLine = true;
    state.selectableText = true;
    return state;
  }

  void selection(int index, int* start, int* end) const override {
    *start = *end = 0;
    if (index != 0) return;
    const auto [first, last] = flow()->selectedTokens();
    if (first < 0) return;
    *start = offsetOf(first);
    *end = offsetOf(last + 1);
  }
  int selectionCount() const override { return flow()->selectedTokens().first < 0 ? 0 : 1; }
  void addSelection(int, int) override {}
  void removeSelection(int) override {}
  void setSelection(int, int, int) override {}
  int cursorPosition() const override { return offsetOf(std::max(0, flow()->cursor())); }
  void setCursorPosition(int position) override { flow()->setCursor(tokenOf(position), true); }
  QString text(int start, int end) const override { return flow()->text().mid(start, end - start); }
  int characterCount() const override { return static_cast<int>(flow()->text().size()); }
  QRect characterRect(int offset) const override {
    const QRect box = flow()->tokenRect(tokenOf(offset));
    return {flow()->viewport()->mapToGlobal(box.topLeft()), box.size()};
  }
  int offsetAtPoint(const QPoint& point) const override {
    const int token = flow()->tokenAt(flow()->viewport()->mapFromGlobal(point));
    return token < 0 ? -1 : offsetOf(token);
  }
  void scrollToSubstring(int start, int) override { flow()->setCursor(tokenOf(start), true); }
  // What is painted behind a token, said in numbers.
  QString attributes(int offset, int* start, int* end) const override {
    const int token = tokenOf(offset);
    *start = token < 0 ? 0 : offsetOf(token);
    *end = token < 0 ? characterCount() : offsetOf(token + 1);
    return token < 0 ? QString() : flow()->tip(token);
  }

 private:
  TokenFlow* flow() const { return static_cast<TokenFlow*>(widget()); }
  int offsetOf(int token) const {
    int offset = 0;
    for (int i = 0; i < token && i < static_cast<int>(flow()->tokens().size()); ++i)
      offset += static_cast<int>(flow()->tokens()[static_cast<size_t>(i)].text.size());
    return offset;
  }
  int tokenOf(int offset) const {
    int at = 0;
    for (size_t i = 0; i < flow()->tokens().size(); ++i) {
      at += static_cast<int>(flow()->tokens()[i].text.size());
      if (offset < at) return static_cast<int>(i);
    }
    return -1;
  }
};

QAccessibleInterface* make(const QString&, QObject* object) {
  if (auto* flow = qobject_cast<TokenFlow*>(object)) return new AccessibleFlow(flow);
  return nullptr;
}

}  // namespace

void installTokenFlowAccessibility() {
  static const bool once = [] {
    QAccessible::installFactory(make);
    return true;
  }();
  Q_UNUSED(once)
}

}  // namespace winnow
