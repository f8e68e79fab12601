// SPDX-License-Identifier: GPL-3.0-or-later
// The knob panel: made from the schema, driven by hand and keyboard, undone and redone, told what the engine made of it.
#include <QAbstractButton>
#include <QCheckBox>
#include <QLabel>
#include <QLineEdit>
#include <QSignalSpy>
#include <QSlider>
#include <QSpinBox>
#include <QToolButton>
#include <random>

#include "panels/knobs/knob_editor.h"
#include "panels/knobs/knob_panel.h"
#include "panels/knobs/knob_row.h"
#include "panels/knobs/slider_scale.h"
#include "panels/knobs/throttle.h"
#include "tests/support/qt_main.h"

using namespace winnow;
using winnow::testing::child;

namespace {

ModelConfig smallModel() {
  ModelConfig model;
  model.architecture = "llama";
  model.layers = 8;
  model.hidden = 64;
  model.heads = model.kvHeads = 8;
  model.headDim = 8;
  model.ffn = 172;
  model.vocab = 512;
  model.context = 512;
  return model;
}

struct Stage {
  KnobPanel panel{Schema::instance()};
  std::vector<std::pair<Config, QString>> sent;
  Stage() {
    QObject::connect(&panel, &KnobPanel::configRequested, &panel,
                     [this](const Config& config, const QString& cause) { sent.emplace_back(config, cause); });
    panel.setModel(smallModel(), {});
    panel.setEffective(resolve(Config(), smallModel()), false, 0);
    panel.resize(340, 900);
    panel.show();
  }
  void answer() { panel.setEffective(resolve(panel.requested(), smallModel()), false, 0); }
  QAbstractButton* choice(const char* name) { return child<QAbstractButton>(&panel, name); }
};

}  // namespace

class KnobsTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  WINNOW_FAIL_ON_WARNINGS

  void everyKnobHasANamedControl() {
    Stage stage;
    for (const Knob& knob : Schema::instance().knobs()) {
      KnobRow* row = stage.panel.row(QString::fromStdString(knob.name));
      QVERIFY2(row, knob.name.c_str());
      QVERIFY2(stage.panel.findChild<QWidget*>(knobObjectName(knob)), knob.name.c_str());
      QVERIFY2(row->editor()->value() == knob.defaultValue, knob.name.c_str());
      QVERIFY(row->cliFlag().startsWith(QStringLiteral("--set ") + QString::fromStdString(knob.name)));
      QVERIFY(row->minimumSizeHint().width() <= 312);  // fits the dock
    }
    QCOMPARE(winnow::testing::unnamedFocusable(&stage.panel).join(QLatin1Char(10)), QString());
  }

  void sliderScale_data() {
    QTest::addColumn<double>("low");
    QTest::addColumn<double>("high");
    QTest::addColumn<double>("step");
    QTest::addColumn<bool>("log");
    QTest::addColumn<bool>("whole");
    QTest::newRow("share") << 0.0 << 0.95 << 0.05 << false << false;
    QTest::newRow("small integers") << 0.0 << 256.0 << 1.0 << false << true;
    QTest::newRow("log integers") << 256.0 << 262144.0 << 1.0 << true << true;
    QTest::newRow("log from one") << 1.0 << 1024.0 << 1.0 << true << true;
    QTest::newRow("log real") << 0.01 << 100.0 << 0.05 << true << false;
  }
  void sliderScale() {
    QFETCH(double, low);
    QFETCH(double, high);
    QFETCH(double, step);
    QFETCH(bool, log);
    QFETCH(bool, whole);
    const SliderScale scale{low, high, step, log, whole};
    QCOMPARE(scale.valueAt(0), low);
    QCOMPARE(scale.valueAt(scale.positions()), high);
    double before = low;
    for (int i = 0; i <= scale.positions(); ++i) {
      const double value = scale.valueAt(i);
      QVERIFY(value >= before && value >= low && value <= high);
      if (whole) QCOMPARE(value, std::round(value));
      before = value;
      const double again = scale.valueAt(scale.positionOf(value));
      QVERIFY2(std::fabs(again - value) <= std::max(step, value * 0.06) + 1e-9, qPrintable(QString::number(value)));
    }
  }

  void throttleSendsFirstAndLast() {
    Throttle throttle(60);
    QList<int> got;
    for (int i = 0; i < 40; ++i) throttle.call([&got, i] { got << i; });
    QCOMPARE(got, QList<int>({0}));
    QTRY_COMPARE(got.size(), 2);
    QCOMPARE(got.last(), 39);
    throttle.call([&got] { got << 100; });
    throttle.flush();
    QCOMPARE(got.last(), 100);
  }

  void aClickAsksOnce() {
    Stage stage;
    QTest::mouseClick(stage.choice("knob.weights.bits.4"), Qt::LeftButton);
    QCOMPARE(stage.sent.size(), size_t{1});
    QCOMPARE(stage.sent[0].first.integer("weights.bits"), int64_t{4});
    QCOMPARE(stage.sent[0].second, QStringLiteral("user"));
    QCOMPARE(stage.panel.undoStack()->count(), 1);
  }

  void aDragIsOneStepAndKeepsItsEnd() {
    Stage stage;
    auto* slider = child<QSlider>(&stage.panel, "knob.prune.ratio.slider");
    slider->setSliderDown(true);
    for (int i = 1; i <= slider->maximum(); ++i) slider->setValue(i);
    slider->setValue(7);
    slider->setSliderDown(false);
    QCOMPARE(stage.panel.undoStack()->count(), 1);
    QVERIFY(stage.sent.size() <= 3);
    QCOMPARE(stage.sent.back().first.real("prune.ratio"), 0.35);
    // Back to where it was: nothing to undo.
    slider->setSliderDown(true);
    slider->setValue(3);
    slider->setValue(7);
    slider->setSliderDown(false);
    QCOMPARE(stage.panel.undoStack()->count(), 1);
  }

  void undoAndRedoApplyNow() {
    Stage stage;
    QTest::mouseClick(stage.choice("knob.weights.bits.4"), Qt::LeftButton);
    QTest::mouseClick(stage.choice("knob.weights.bits.2"), Qt::LeftButton);
    QCOMPARE(stage.panel.undoStack()->count(), 2);
    stage.panel.undoStack()->undo();
    QCOMPARE(stage.sent.back().first.integer("weights.bits"), int64_t{4});
    QCOMPARE(stage.sent.back().second, QStringLiteral("undo"));
    QVERIFY(stage.choice("knob.weights.bits.4")->isChecked());
    stage.panel.undoStack()->redo();
    QCOMPARE(stage.sent.back().first.integer("weights.bits"), int64_t{2});
    QCOMPARE(stage.sent.back().second, QStringLiteral("redo"));
  }

  void randomWalkUndoesToTheStart() {
    Stage stage;
    std::mt19937 random(11);
    const char* bits[] = {"knob.weights.bits.16", "knob.weights.bits.8", "knob.weights.bits.3", "knob.weights.bits.2"};
    for (int i = 0; i < 300; ++i) {
      switch (random() % 5) {
        case 0: stage.panel.undoStack()->undo(); break;
        case 1: stage.panel.undoStack()->redo(); break;
        case 2: child<QSlider>(&stage.panel, "knob.prune.ratio.slider")->setValue(static_cast<int>(random() % 20)); break;
        case 3: QTest::mouseClick(stage.choice(bits[random() % 4]), Qt::LeftButton); break;
        default: stage.panel.resetAll();
      }
    }
    while (stage.panel.undoStack()->canUndo()) stage.panel.undoStack()->undo();
    QVERIFY(stage.panel.requested() == Config());
    while (stage.panel.undoStack()->canRedo()) stage.panel.undoStack()->redo();
    QCOMPARE(QString::fromStdString(stage.sent.back().first.canonical()), QString::fromStdString(stage.panel.requested().canonical()));
  }

  void pendingThenInEffect() {
    Stage stage;
    KnobRow* row = stage.panel.row(QStringLiteral("weights.bits"));
    QTest::mouseClick(stage.choice("knob.weights.bits.8"), Qt::LeftButton);
    QCOMPARE(row->state(), KnobState::pending);
    stage.answer();
    QCOMPARE(row->state(), KnobState::applied);
    // bits alone means round-to-nearest: the method's row says so.
    auto* note = child<QLabel>(&stage.panel, "knob.weights.method.note");
    QVERIFY(note->isVisible());
    QVERIFY(note->text().contains(QStringLiteral("rtn")));
  }

  void aClampIsShownWithItsReason() {
    Stage stage;
    const Config asked = stage.panel.requested().with("weights.bits", int64_t{5});
    stage.panel.setRequested(asked);
    Effective effective;
    effective.requested = resolve(asked, smallModel()).requested;
    effective.config = effective.requested.with("weights.bits", int64_t{6});
    effective.adjustments.push_back({"weights.bits", int64_t{5}, int64_t{6}, "rows of 172 do not fit"});
    stage.panel.setEffective(effective, false, 0);
    KnobRow* row = stage.panel.row(QStringLiteral("weights.bits"));
    QCOMPARE(row->state(), KnobState::adjusted);
    auto* note = child<QLabel>(&stage.panel, "knob.weights.bits.note");
    QVERIFY(note->isVisible());
    QVERIFY(note->text().contains(QStringLiteral("rows of 172 do not fit")));
    QVERIFY(row->accessibleDescription().contains(QStringLiteral("rows of 172")));
  }

  void greyedRowsSayWhy() {
    Stage stage;
    KnobRow* group = stage.panel.row(QStringLiteral("weights.group"));
    QVERIFY(!group->editor()->isEnabled());
    QVERIFY(group->accessibleDescription().contains(QStringLiteral("weights.bits is below 16")));
    QTest::mouseClick(stage.choice("knob.weights.bits.4"), Qt::LeftButton);
    QVERIFY(group->editor()->isEnabled());
    stage.panel.setModel(std::nullopt, QStringLiteral("the model is loading"));
    QVERIFY(!group->editor()->isEnabled());
    QVERIFY(group->accessibleDescription().contains(QStringLiteral("the model is loading")));
  }

  void searchFindsByNameHelpAndUnit() {
    Stage stage;
    auto* search = child<QLineEdit>(&stage.panel, "knobs.search");
    QTest::keyClicks(search, QStringLiteral("evict"));
    QVERIFY(stage.panel.row(QStringLiteral("kv.policy"))->isVisible());
    QVERIFY(!stage.panel.row(QStringLiteral("weights.bits"))->isVisible());
    search->setText(QStringLiteral("no such knob"));
    for (const Knob& knob : Schema::instance().knobs()) QVERIFY(!stage.panel.row(QString::fromStdString(knob.name))->isVisible());
    search->clear();
    QVERIFY(stage.panel.row(QStringLiteral("weights.bits"))->isVisible());
  }

  void resetOneAndAll() {
    Stage stage;
    auto* reset = child<QToolButton>(&stage.panel, "knob.weights.bits.reset");
    QVERIFY(!reset->isEnabled());
    QTest::mouseClick(stage.choice("knob.weights.bits.2"), Qt::LeftButton);
    child<QSlider>(&stage.panel, "knob.prune.ratio.slider")->setValue(4);
    QVERIFY(reset->isEnabled());
    reset->click();
    QCOMPARE(stage.panel.requested().integer("weights.bits"), int64_t{16});
    QVERIFY(!stage.panel.requested().changed().empty());
    child<QToolButton>(&stage.panel, "knobs.resetAll")->click();
    QVERIFY(stage.panel.requested() == Config());
    stage.panel.undoStack()->undo();
    QCOMPARE(stage.panel.requested().real("prune.ratio"), 0.2);
  }

  void budgetIsAShareOrTokens() {
    Stage stage;
    auto* spin = child<QDoubleSpinBox>(&stage.panel, "knob.kv.budget");
    spin->setValue(50);
    QCOMPARE(stage.panel.requested().real("kv.budget"), 0.5);
    auto* editor = stage.panel.row(QStringLiteral("kv.budget"))->editor();
    editor->setValue(64.0);
    QCOMPARE(std::get<double>(editor->value()), 64.0);
    QCOMPARE(spin->value(), 64.0);
    editor->setValue(0.25);
    QCOMPARE(spin->value(), 25.0);
  }

  void keyboardAlone() {
    Stage stage;
    stage.panel.activateWindow();
    QVERIFY(QTest::qWaitForWindowActive(&stage.panel));
    stage.panel.focusSearch();
    QTRY_VERIFY(stage.panel.focusWidget() != nullptr);
    // Tab from the search field until the bits have the focus, then two steps to the right.
    QWidget* focus = stage.panel.focusWidget();
    for (int i = 0; i < 10 && focus && !focus->objectName().startsWith(QStringLiteral("knob.weights.bits.")); ++i) {
      QTest::keyClick(focus, Qt::Key_Tab);
      focus = QApplication::focusWidget();
    }
    QVERIFY2(focus && focus->objectName() == QStringLiteral("knob.weights.bits.16"),
             qPrintable(focus ? focus->objectName() : QStringLiteral("nothing")));
    QTest::keyClick(focus, Qt::Key_Right);
    QTest::keyClick(QApplication::focusWidget(), Qt::Key_Right);
    QCOMPARE(stage.panel.requested().integer("weights.bits"), int64_t{6});
    // One tab stop for the whole row of buttons.
    QTest::keyClick(QApplication::focusWidget(), Qt::Key_Tab);
    QVERIFY(!QApplication::focusWidget()->objectName().startsWith(QStringLiteral("knob.weights.bits.") + QStringLiteral("5")));
  }

  void theWheelPassesByUnlessFocused() {
    Stage stage;
    auto* spin = child<QAbstractSpinBox>(&stage.panel, "knob.prune.ratio");
    spin->clearFocus();
    const QPointF at(5, 5);
    QWheelEvent wheel(at, spin->mapToGlobal(at), {}, {0, 120}, Qt::NoButton, Qt::NoModifier, Qt::NoScrollPhase, false);
    QApplication::sendEvent(spin, &wheel);
    QCOMPARE(stage.panel.requested().real("prune.ratio"), 0.0);
  }

  void costIsThePlanners() {
    Stage stage;
    stage.panel.setPlanner([](const Config& config) {
      MemoryByTag memory{};
      memory[0] = config.integer("weights.bits") << 20;
      return memory;
    });
    auto* cost = child<QLabel>(&stage.panel, "knobs.cost");
    QVERIFY(cost->text().contains(QStringLiteral("16.0")));
    QTest::mouseClick(stage.choice("knob.weights.bits.4"), Qt::LeftButton);
    QVERIFY2(cost->text().contains(QStringLiteral("16.0")) && cost->text().contains(QStringLiteral("4.00")), qPrintable(cost->text()));
  }

  void mixedCacheOffersToRecompute() {
    Stage stage;
    QSignalSpy asked(&stage.panel, &KnobPanel::rebuildRequested);
    stage.panel.setCacheMixed(true, 40);
    auto* button = child<QAbstractButton>(&stage.panel, "knobs.rebuild");
    QVERIFY(button->isVisible());
    button->click();
    QCOMPARE(asked.count(), 1);
    stage.panel.setCacheMixed(false, 0);
    QVERIFY(!button->isVisible());
  }

  // Kept, it is not asked again until something else changes, or another cache mixes.
  void mixedCacheOffersToKeep() {
    Stage stage;
    auto* keep = child<QAbstractButton>(&stage.panel, "knobs.keep");
    stage.panel.setCacheMixed(true, 40);
    QVERIFY(keep->isVisible());
    keep->click();
    stage.panel.setCacheMixed(true, 40);
    QVERIFY(!keep->isVisible());
    QTest::mouseClick(stage.choice("knob.weights.bits.4"), Qt::LeftButton);
    stage.answer();
    stage.panel.setCacheMixed(true, 40);
    QVERIFY(keep->isVisible());
    keep->click();
    stage.panel.setCacheMixed(false, 0);
    stage.panel.setCacheMixed(true, 40);
    QVERIFY(keep->isVisible());
  }
};

WINNOW_TEST_MAIN(KnobsTest)
#include "knobs.moc"
