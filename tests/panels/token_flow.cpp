// SPDX-License-Identifier: GPL-3.0-or-later
// Tokens as coloured cells: layout, pointing, keyboard, selection, scales, and that length costs nothing.
#include <QAccessible>
#include <QApplication>
#include <QClipboard>
#include <QElapsedTimer>
#include <QImage>
#include <QScrollBar>
#include <QSignalSpy>
#include <cmath>
#include <numbers>

#include "panels/text/token_flow.h"
#include "tests/support/qt_main.h"

using namespace winnow;

namespace {

std::vector<FlowToken> words(int count) {
  static const QStringList some{QStringLiteral("Once"),  QStringLiteral(" upon"), QStringLiteral(" a"),
                                QStringLiteral(" time"), QStringLiteral(","),     QStringLiteral(" there")};
  std::vector<FlowToken> out;
  for (int i = 0; i < count; ++i) {
    FlowToken token;
    token.text = some[i % some.size()];
    token.nll = static_cast<float>(i % 9);
    token.ms = 10.0f + static_cast<float>(i % 5);
    out.push_back(token);
  }
  return out;
}

}  // namespace

class TokenFlowTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  WINNOW_FAIL_ON_WARNINGS

  void everyTokenIsWhereItIsDrawn() {
    TokenFlow flow;
    flow.resize(420, 2000);
    flow.show();
    flow.setTokens(words(200));
    QVERIFY(flow.lines() > 3);
    for (int i = 0; i < 200; ++i) {
      const QRect box = flow.tokenRect(i);
      QVERIFY(!box.isEmpty());
      QVERIFY(box.right() <= flow.viewport()->width());
      QCOMPARE(flow.tokenAt(box.center()), i);
    }
    QCOMPARE(flow.tokenAt({-5, -5}), -1);
    QCOMPARE(flow.tokenAt({10, 1900}), -1);
  }

  void newLinesAndLongTokensBreak() {
    TokenFlow flow;
    flow.resize(200, 400);
    flow.show();
    std::vector<FlowToken> tokens(4);
    tokens[0].text = QStringLiteral("a.\n\nb");
    tokens[1].text = QString(300, QLatin1Char('x'));
    tokens[2].text = QString();
    tokens[3].text = QStringLiteral("\n");
    flow.setTokens(tokens);
    QVERIFY(flow.lines() >= 3 + 300 / 30);
    QCOMPARE(flow.text(), tokens[0].text + tokens[1].text + tokens[3].text);
    QVERIFY(flow.tokenRect(1).top() > flow.tokenRect(0).top());
  }

  void appendingEqualsSetting() {
    TokenFlow whole, parts;
    for (TokenFlow* each : {&whole, &parts}) {
      each->resize(300, 500);
      each->show();
    }
    const auto all = words(500);
    whole.setTokens(all);
    for (size_t i = 0; i < all.size(); i += 7)
      parts.append({all.begin() + static_cast<std::ptrdiff_t>(i), all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), i + 7))});
    QCOMPARE(parts.lines(), whole.lines());
    parts.verticalScrollBar()->setValue(0);
    for (int i = 0; i < 500; i += 13) QCOMPARE(parts.tokenRect(i), whole.tokenRect(i));
  }

  void followsTheEndUnlessScrolledAway() {
    TokenFlow flow;
    flow.resize(300, 120);
    flow.show();
    flow.append(words(300));
    QCOMPARE(flow.verticalScrollBar()->value(), flow.verticalScrollBar()->maximum());
    flow.verticalScrollBar()->setValue(0);
    flow.append(words(50));
    QCOMPARE(flow.verticalScrollBar()->value(), 0);
  }

  void coloursAreThereAndDifferByValue() {
    TokenFlow flow;
    flow.resize(400, 80);
    flow.show();
    std::vector<FlowToken> tokens(2);
    tokens[0].text = QStringLiteral("     ");
    tokens[0].nll = 8;
    tokens[1].text = QStringLiteral("     ");
    tokens[1].nll = 0;
    flow.setTokens(tokens);
    const QImage image = flow.viewport()->grab().toImage();
    const QColor strong = image.pixelColor(flow.tokenRect(0).center()), none = image.pixelColor(flow.tokenRect(1).center());
    QVERIFY(strong != none);
    QVERIFY(strong.red() > strong.blue() + 40);   // orange
    flow.setColour(FlowColour::plain);
    const QImage plain = flow.viewport()->grab().toImage();
    QCOMPARE(plain.pixelColor(flow.tokenRect(0).center()), plain.pixelColor(flow.tokenRect(1).center()));
  }

  void scoreScaleNeverEndsBelowATenfoldProbability() {
    QCOMPARE(scoreScale(0.3f, 0.05f).high, std::numbers::ln10_v<float>);
    QCOMPARE(scoreScale(7.0f, 0.05f).high, 7.0f);
    const FlowScale scale = scoreScale(5, 0.2f);
    QVERIFY(!scale.position(0.15f));                      // noise stays unpainted
    QVERIFY(!scale.position(std::nanf("")));
    QCOMPARE(*scale.position(5), 1.0f);
    QVERIFY(*scale.position(-2) < 0);
    QCOMPARE(flowLineThickness(1), 4);
    QCOMPARE(flowLineThickness(0.05f), 0);
  }

  void latencyScaleIsRobust() {
    std::vector<float> ms(100, 10);
    for (size_t i = 0; i < 50; ++i) ms[i] = 12;
    ms[7] = 900;
    const FlowScale scale = latencyScale(ms);
    QVERIFY(scale.high < 20);
    QVERIFY(latencyScale({}).high > 0);
  }

  void epochMarkersTakePlaceInTheText() {
    TokenFlow flow;
    flow.resize(600, 300);
    flow.show();
    flow.append(words(20));
    const QRect before = flow.tokenRect(10);
    flow.addMarker(10, QStringLiteral("weights.bits 16 → 4"));
    QVERIFY(flow.tokenRect(10) != before);
    QCOMPARE(flow.tokenRect(9), flow.tokenRect(9));
    flow.addMarker(20, QStringLiteral("kv.policy full → window"));   // before the next token
    flow.append(words(1));
    QVERIFY(!flow.tokenRect(20).isEmpty());
  }

  void pointingTells() {
    TokenFlow flow;
    flow.resize(400, 200);
    flow.show();
    flow.setTokens(words(30));
    QSignalSpy hovered(&flow, &TokenFlow::hovered);
    QTest::mouseMove(flow.viewport(), flow.tokenRect(4).center());
    QTRY_COMPARE(hovered.count(), 1);
    QCOMPARE(hovered.last().first().toInt(), 4);
    flow.setCursor(8, true);   // from elsewhere: quiet
    QCOMPARE(hovered.count(), 1);
    QCOMPARE(flow.cursor(), 8);
  }

  void groupsLightUpTogether() {
    TokenFlow flow;
    flow.resize(400, 200);
    flow.show();
    auto tokens = words(20);
    for (int i = 0; i < 20; ++i) tokens[static_cast<size_t>(i)].group = i / 10;
    flow.setTokens(tokens);
    QSignalSpy groups(&flow, &TokenFlow::groupHovered);
    QTest::mouseMove(flow.viewport(), flow.tokenRect(13).center());
    QTRY_COMPARE(groups.count(), 1);
    QCOMPARE(groups.last().first().toInt(), 1);
  }

  void selectAndCopy() {
    TokenFlow flow;
    flow.resize(400, 200);
    flow.show();
    flow.setTokens(words(30));
    QTest::mousePress(flow.viewport(), Qt::LeftButton, {}, flow.tokenRect(1).center());
    QMouseEvent drag(QEvent::MouseMove, flow.tokenRect(3).center(), flow.viewport()->mapToGlobal(flow.tokenRect(3).center()), Qt::NoButton,
                     Qt::LeftButton, Qt::NoModifier);
    QApplication::sendEvent(flow.viewport(), &drag);
    QTest::mouseRelease(flow.viewport(), Qt::LeftButton, {}, flow.tokenRect(3).center());
    QCOMPARE(flow.selectedText(), QStringLiteral(" upon a time"));
    QTest::keyClick(&flow, Qt::Key_C, Qt::ControlModifier);
    QCOMPARE(QApplication::clipboard()->text(), QStringLiteral(" upon a time"));
    QTest::mouseClick(flow.viewport(), Qt::LeftButton, {}, flow.tokenRect(0).center());
    QCOMPARE(flow.selectedText(), QString());
    flow.selectAll();
    QCOMPARE(flow.selectedText(), flow.text());
  }

  void theCaretWalks() {
    TokenFlow flow;
    flow.resize(240, 100);
    flow.show();
    flow.activateWindow();
    flow.setFocus();
    flow.setTokens(words(200));
    QSignalSpy hovered(&flow, &TokenFlow::hovered);
    QSignalSpy activated(&flow, &TokenFlow::activated);
    QTest::keyClick(&flow, Qt::Key_Home);
    QTest::keyClick(&flow, Qt::Key_Right);
    QTest::keyClick(&flow, Qt::Key_Right);
    QCOMPARE(hovered.last().first().toInt(), 2);
    QTest::keyClick(&flow, Qt::Key_Down);
    QVERIFY(hovered.last().first().toInt() > 4);
    QTest::keyClick(&flow, Qt::Key_End);
    QCOMPARE(hovered.last().first().toInt(), 199);
    QVERIFY(flow.verticalScrollBar()->value() > 0);     // scrolled to it
    QTest::keyClick(&flow, Qt::Key_Left, Qt::ShiftModifier);
    QCOMPARE(flow.selectedText(), flow.tokens()[198].text + flow.tokens()[199].text);
    QTest::keyClick(&flow, Qt::Key_Return);
    QCOMPARE(activated.last().first().toInt(), 198);
  }

  void screenReadersGetTheText() {
    TokenFlow flow;
    flow.setTokens(words(4));
    flow.setCaption(QStringLiteral("Output"));
    QAccessibleInterface* spoken = QAccessible::queryAccessibleInterface(&flow);
    QVERIFY(spoken);
    QCOMPARE(spoken->text(QAccessible::Name), QStringLiteral("Output"));
    QCOMPARE(spoken->text(QAccessible::Value), QStringLiteral("Once upon a time"));
    QVERIFY(spoken->textInterface());
    QCOMPARE(spoken->textInterface()->text(0, 4), QStringLiteral("Once"));
    QCOMPARE(spoken->textInterface()->characterCount(), 16);
  }

  void thirtyTwoThousandTokensPaintQuickly() {
    TokenFlow flow;
    flow.resize(900, 500);
    flow.show();
    flow.setTokens(words(32000));
    flow.verticalScrollBar()->setValue(flow.verticalScrollBar()->maximum() / 2);
    flow.viewport()->grab();  // warm
    QElapsedTimer clock;
    clock.start();
    for (int i = 0; i < 10; ++i) flow.viewport()->grab();
    QVERIFY2(clock.elapsed() < 10 * 60, qPrintable(QStringLiteral("%1 ms for 10 paints").arg(clock.elapsed())));
    clock.restart();
    flow.append(words(8));
    QVERIFY2(clock.elapsed() < 60, qPrintable(QStringLiteral("%1 ms to append").arg(clock.elapsed())));
  }
};

WINNOW_TEST_MAIN(TokenFlowTest)
#include "token_flow.moc"
