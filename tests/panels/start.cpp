// SPDX-License-Identifier: GPL-3.0-or-later
// Start page, events and inspector.
#include <QAbstractItemModelTester>
#include <QComboBox>
#include <QLabel>
#include <QPushButton>
#include <QSignalSpy>
#include <QToolButton>

#include "panels/events/events_panel.h"
#include "panels/inspector/inspector.h"
#include "panels/start/start_page.h"
#include "tests/support/qt_main.h"

using namespace winnow;
using winnow::testing::child;

class StartTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  WINNOW_FAIL_ON_WARNINGS

  void recentFilesSayHowTheyAre() {
    StartPage page;
    page.resize(1000, 700);
    page.show();
    page.setRecent(
        {{RecentFile::State::ok, QStringLiteral("/m/a.gguf"), {}, 2048}, {RecentFile::State::moved, QStringLiteral("/m/b.gguf"), {}, 1}},
        {});
    const auto find = [&](const QString& part) -> QToolButton* {
      for (auto* each : page.findChildren<QToolButton*>())
        if (each->accessibleName().contains(part)) return each;
      return nullptr;
    };
    QVERIFY(find(QStringLiteral("a.gguf")) && find(QStringLiteral("a.gguf"))->isEnabled());
    QVERIFY(find(QStringLiteral("b.gguf")) && !find(QStringLiteral("b.gguf"))->isEnabled());
    QVERIFY(find(QStringLiteral("b.gguf"))->accessibleName().contains(QStringLiteral("moved")));
    QSignalSpy chosen(&page, &StartPage::recentRequested);
    find(QStringLiteral("a.gguf"))->click();
    QCOMPARE(chosen.last().first().toString(), QStringLiteral("/m/a.gguf"));
    QCOMPARE(winnow::testing::unnamedFocusable(&page).join(QLatin1Char(10)), QString());
  }

  void loadingBlocksAndCancels() {
    StartPage page;
    page.show();
    QSignalSpy cancelled(&page, &StartPage::cancelRequested);
    page.setLoading(QStringLiteral("reading tensors"), 0.4);
    QVERIFY(!child<QPushButton>(&page, "start.openModel")->isEnabled());
    auto* bar = child<QWidget>(&page, "start.loading");
    QVERIFY(bar->isVisible());
    bar->findChild<QPushButton*>()->click();
    QCOMPARE(cancelled.count(), 1);
    page.setLoading({}, 0);
    QVERIFY(!bar->isVisible());
    QVERIFY(child<QPushButton>(&page, "start.starter")->isEnabled());
  }

  void interruptedRunsAreOffered() {
    StartPage page;
    page.show();
    page.setInterrupted(0, 0);
    QVERIFY(!child<QWidget>(&page, "start.interrupted")->isVisible());
    page.setInterrupted(2, 600);
    QVERIFY(child<QWidget>(&page, "start.interrupted")->isVisible());
  }

  void eventsAreBoundedFilteredCopied() {
    EventsPanel panel;
    auto tester = std::make_unique<QAbstractItemModelTester>(panel.model(), QAbstractItemModelTester::FailureReportingMode::Fatal);
    panel.add({1000, QStringLiteral("info"), QStringLiteral("a"), QStringLiteral("one")});
    panel.add({2000, QStringLiteral("error"), QStringLiteral("b"), QStringLiteral("two")});
    child<QComboBox>(&panel, "events.level")->setCurrentIndex(2);
    QCOMPARE(panel.visibleText(), QStringLiteral("1970-01-01T00:00:02.000Z error b two"));
    child<QComboBox>(&panel, "events.level")->setCurrentIndex(0);
    QCOMPARE(panel.visibleText().count(QLatin1Char('\n')), 1);
    tester.reset();  // it looks at every row after every change
    for (int i = 0; i < EventModel::kLimit + 50; ++i) panel.model()->add({i, QStringLiteral("info"), {}, QStringLiteral("x")});
    QVERIFY(panel.model()->rowCount() <= EventModel::kLimit);
  }

  void inspectorShowsTokenAndDifferences() {
    Inspector inspector;
    inspector.resize(300, 700);
    inspector.show();
    TokenPoint point;
    point.index = 183;
    point.text = QStringLiteral(" cache");
    point.ms = 18.42;
    point.nll = 1.83;
    point.kvLive = 1024;
    point.kvEvicted = 17;
    point.opMs = {{QStringLiteral("attention"), 6.91}};
    inspector.setToken(&point);
    const QString token = child<QWidget>(&inspector, "inspector.token")->accessibleDescription();
    for (const char* part : {"cache", "18.4", "attention", "6.91", "1.83", "17 evicted"})
      QVERIFY2(token.contains(QString::fromLatin1(part)), qPrintable(token));
    Effective effective;
    effective.config = Config().with("weights.bits", int64_t{6});
    effective.adjustments.push_back({"weights.bits", int64_t{5}, int64_t{6}, "rows of 172"});
    inspector.setEffective(effective, true, 0.4);
    const QString got = child<QWidget>(&inspector, "inspector.configuration")->accessibleDescription();
    for (const char* part : {"asked for 5", "got 6", "rows of 172", "40"})
      QVERIFY2(got.contains(QString::fromLatin1(part)), qPrintable(got));
    inspector.setToken(nullptr);
    QVERIFY(!child<QWidget>(&inspector, "inspector.token")->accessibleDescription().contains(QStringLiteral("18.4")));
  }
};

WINNOW_TEST_MAIN(StartTest)
#include "start.moc"
