// SPDX-License-Identifier: GPL-3.0-or-later
// What the window does with broken, foreign and busy files, at awkward moments, and that it never stands still.
#include <QScopeGuard>
#include <QTableView>
#include <sqlite3.h>

#include "panels/live/live_view.h"
#include "tests/support/stage.h"

using namespace winnow;
using namespace winnow::testing;

namespace {

void put(const QString& path, const QByteArray& bytes) {
  QFile file(path);
  QVERIFY(file.open(QIODevice::WriteOnly));
  file.write(bytes);
}
QByteArray contentOf(const QString& path) {
  QFile file(path);
  return file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
}

// How often a widget is painted.
class FrameCounter : public QObject {
 public:
  explicit FrameCounter(QWidget* widget) { widget->installEventFilter(this); }
  int frames = 0;

 protected:
  bool eventFilter(QObject*, QEvent* event) override {
    frames += event->type() == QEvent::Paint;
    return false;
  }
};

}  // namespace

class TroubleTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  WINNOW_FAIL_ON_WARNINGS

  void cleanup() { closeDialogs(); }

  // A session file that can't be used is answered in one sentence and left as it is.
  void troubledSessions_data() {
    QTest::addColumn<QString>("trouble");
    QTest::addColumn<QString>("expected");
    for (const auto& [trouble, expected] : {std::pair("other program's", "not a Winnow session"), std::pair("newer", "newer"), std::pair("damaged", "damaged"),
                                            std::pair("truncated", "damaged"), std::pair("read-only", "read"), std::pair("in use", "another Winnow"), std::pair("locked", "locked")})
      QTest::newRow(trouble) << QString::fromLatin1(trouble) << QString::fromLatin1(expected);
  }
  void troubledSessions() {
    QFETCH(QString, trouble);
    QFETCH(QString, expected);
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("study.winnow"));
    {
      auto file = storage::SessionFile::open(path.toStdString(), storage::SessionFile::Mode::create);
      QVERIFY(file);
      QVERIFY((*file)->close());
    }
    QByteArray bytes = contentOf(path);
    if (trouble == QStringLiteral("other program's")) bytes.replace(68, 4, "ABCD");                            // application_id
    if (trouble == QStringLiteral("newer")) bytes.replace(60, 4, QByteArray::fromHex("000003e8"));              // user_version
    if (trouble == QStringLiteral("damaged")) bytes.replace(100, 6000, QByteArray(6000, 'x'));
    if (trouble == QStringLiteral("truncated")) bytes.truncate(bytes.size() / 2);
    std::shared_ptr<storage::SessionFile> holder;
    if (trouble == QStringLiteral("in use")) holder = *storage::SessionFile::open(path.toStdString(), storage::SessionFile::Mode::open);
    else put(path, bytes);
    sqlite3* other = nullptr;
    if (trouble == QStringLiteral("locked")) {
      QCOMPARE(sqlite3_open(path.toUtf8().constData(), &other), SQLITE_OK);
      QCOMPARE(sqlite3_exec(other, "PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE", nullptr, nullptr, nullptr), SQLITE_OK);
    }
    const auto unlock = qScopeGuard([&] { sqlite3_close(other); });
    if (trouble == QStringLiteral("read-only")) QFile::setPermissions(path, QFile::ReadOwner);
    Stage stage;
    QVERIFY(stage.open(someModel()));
    StallDetector stalls;
    const bool opened = stage.window->openSession(path);
    if (trouble == QStringLiteral("read-only") && opened && !stage.workbench->session()->readOnly()) QSKIP("this user may write to read-only files");
    QCOMPARE(stalls.verdict("opening"), QString());
    QTRY_VERIFY_WITH_TIMEOUT(stage.window->banner()->isVisible(), kLong);
    const QString said = stage.window->banner()->message();
    QVERIFY2(said.contains(QStringLiteral("study.winnow")) && said.contains(expected, Qt::CaseInsensitive), qPrintable(said));
    QVERIFY(stage.workbench->hasModel());
    stage.action("run.generate")->trigger();   // work goes on; the runs go elsewhere or are not stored
    QVERIFY(stage.idle());
    if (holder) QVERIFY(holder->close());
    else if (!other) QCOMPARE(contentOf(path), bytes);
  }

  void aNewSessionReplacesNothing() {
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("kept.winnow"));
    put(path, "somebody's notes");
    Stage stage;
    QString error;
    QVERIFY(!stage.workbench->createSession(path, &error));
    QVERIFY2(error.contains(QStringLiteral("exists")) && error.contains(QStringLiteral("kept.winnow")), qPrintable(error));
    QCOMPARE(contentOf(path), QByteArray("somebody's notes"));
  }

  void theSessionOfARunningJobStays() {
    QTemporaryDir folder;
    Stage stage;
    QVERIFY(stage.open(someModel(), kLongContext));
    stage.generateForLong();
    QVERIFY(stage.moreTokens(6));
    const auto before = stage.workbench->session();
    QString error;
    QVERIFY(!stage.workbench->createSession(folder.filePath(QStringLiteral("other.winnow")), &error));
    QVERIFY2(error.contains(QStringLiteral("Stop it first")), qPrintable(error));
    QCOMPARE(stage.workbench->session(), before);
    QVERIFY(stage.stop());
  }

  void brokenModels_data() {
    QTest::addColumn<QString>("how");
    QTest::addColumn<QString>("expected");
    QTest::newRow("truncated") << QStringLiteral("truncated") << QStringLiteral("outside the file");
    QTest::newRow("NaN") << QStringLiteral("NaN") << QStringLiteral("not finite");
  }
  void brokenModels() {
    QFETCH(QString, how);
    QFETCH(QString, expected);
    if (!QFileInfo::exists(smallModel())) QSKIP("the shared model stories260K-f32.gguf is not there");
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("broken.gguf"));
    QByteArray bytes = contentOf(smallModel());
    if (how == QStringLiteral("truncated")) bytes.truncate(bytes.size() / 2);
    else
      for (qsizetype at = bytes.size() - 400000; at < bytes.size() - 200000; at += 4) bytes.replace(at, 4, QByteArray::fromHex("0000c07f"));
    put(path, bytes);
    Stage stage;
    stage.window->openModel(path);
    if (how == QStringLiteral("NaN")) {
      QTRY_VERIFY_WITH_TIMEOUT(stage.workbench->hasModel() && !stage.workbench->job().running, kLong);
      stage.action("run.generate")->trigger();
    }
    QTRY_VERIFY_WITH_TIMEOUT(stage.window->banner()->isVisible() && stage.window->banner()->tone() == Banner::Tone::error, kLong);
    const QString said = stage.window->banner()->message();
    QVERIFY2(said.contains(expected), qPrintable(said));
    QVERIFY(stage.idle());
  }

  // Loading, converting, generating, evaluating, opening a session: the event loop goes on beside each.
  void theWindowNeverStandsStill() {
    const QString shared = sharedData(QStringLiteral("models/tinystories-instruct-3m-chat-f32.gguf"));
    Stage stage;
    QTest::qWait(100);
    StallDetector stalls;
    QVERIFY(stage.open(QFileInfo::exists(shared) ? shared : QStringLiteral("starter")));
    QTest::qWait(50);
    QCOMPARE(stalls.verdict("loading"), QString());
    stage.knob("knob.weights.bits.4")->click();
    QVERIFY(stage.idle());
    stage.knob("knob.weights.bits.2")->click();
    QVERIFY(stage.idle());
    QCOMPARE(stalls.verdict("converting"), QString());
    child<QSpinBox>(stage.window.get(), "tokens")->setValue(200);
    child<QCheckBox>(stage.window.get(), "ignoreEnd")->setChecked(true);
    stage.action("run.generate")->trigger();
    QVERIFY(stage.idle());
    QCOMPARE(stalls.verdict("generating"), QString());
    EvaluateSpec spec;
    spec.textInline = sampleText();
    spec.context = 128;
    spec.chunks = 6;
    stage.workbench->evaluate(spec);
    QTRY_VERIFY_WITH_TIMEOUT(!stage.workbench->job().running, kLong);
    QCOMPARE(stalls.verdict("evaluating"), QString());
    stage.action("view.runs")->trigger();
    stage.window->runs()->table()->selectAll();
    stage.action("run.compare")->trigger();
    QTest::qWait(100);
    QCOMPARE(stalls.verdict("comparing"), QString());
  }

  // Charts and text are drawn at display rate while tokens arrive faster than that. The floor is that of a busy machine.
  void framesWhileDecoding() {
    Stage stage;
    QVERIFY(stage.open(someModel(), kLongContext));
    stage.generateForLong();
    QVERIFY(stage.moreTokens(100));
    auto* live = stage.window->findChild<LiveView*>();
    FrameCounter chart(live->plots().front()->findChild<QWidget*>()), text(stage.window->prompt()->flow()->viewport());
    QElapsedTimer clock;
    clock.start();
    const size_t before = stage.window->prompt()->flow()->tokens().size();
    QTest::qWait(2000);
    const double seconds = static_cast<double>(clock.elapsed()) / 1000;
    const auto tokens = static_cast<double>(stage.window->prompt()->flow()->tokens().size() - before);
    qInfo("%.0f tokens/s, chart %.1f frames/s, text %.1f frames/s", tokens / seconds, chart.frames / seconds, text.frames / seconds);
    QVERIFY(stage.stop());
    QVERIFY(tokens > 0 && text.frames / seconds > 5);
  }

  void badFilesAreAnsweredInTheWindow_data() {
    QTest::addColumn<QByteArray>("content");
    QTest::addColumn<QString>("name");
    QTest::newRow("empty model") << QByteArray() << QStringLiteral("empty.gguf");
    QTest::newRow("not a model") << QByteArray("this is no model at all, only text") << QStringLiteral("text.gguf");
    QTest::newRow("not a session") << QByteArray("SQLite format 3, but not really") << QStringLiteral("fake.winnow");
    QTest::newRow("unknown kind") << QByteArray("x") << QStringLiteral("thing.xyz");
  }
  void badFilesAreAnsweredInTheWindow() {
    QFETCH(QByteArray, content);
    QFETCH(QString, name);
    QTemporaryDir folder;
    QFile file(folder.filePath(name));
    QVERIFY(file.open(QIODevice::WriteOnly));
    file.write(content);
    file.close();
    Stage stage;
    stage.window->openPath(file.fileName());
    QTRY_VERIFY_WITH_TIMEOUT(stage.window->banner()->isVisible(), kLong);
    QVERIFY2(stage.window->banner()->message().contains(name), qPrintable(stage.window->banner()->message()));
    QVERIFY(stage.window->startPageShown());
  }

  void aMissingModelLeavesTheOpenOne() {
    Stage stage;
    QVERIFY(stage.open(someModel()));
    const QString name = stage.workbench->model().name;
    stage.window->openModel(QStringLiteral("/nowhere/missing.gguf"));
    QTRY_VERIFY_WITH_TIMEOUT(stage.window->banner()->isVisible(), kLong);
    QVERIFY(stage.window->banner()->message().contains(QStringLiteral("missing.gguf")));
    QVERIFY(stage.workbench->hasModel());
    QCOMPARE(stage.workbench->model().name, name);
  }

  void closingAtAnyMoment_data() {
    QTest::addColumn<QString>("moment");
    for (const char* each : {"loading", "prefill", "generating", "converting", "evaluating", "attributing"})
      QTest::newRow(each) << QString::fromLatin1(each);
  }
  void closingAtAnyMoment() {
    QFETCH(QString, moment);
    auto stage = std::make_unique<Stage>();
    stage->window->openModel(someModel());
    if (moment != QStringLiteral("loading")) {
      QTRY_VERIFY_WITH_TIMEOUT(stage->workbench->hasModel() && !stage->workbench->job().running, kLong);
    }
    GenerateRequest request;
    request.prompt = QStringLiteral("Once upon a time");
    request.tokens = 4000;
    request.ignoreEos = true;
    if (moment == QStringLiteral("prefill") || moment == QStringLiteral("generating")) stage->workbench->generate(request);
    if (moment == QStringLiteral("generating")) QTRY_VERIFY_WITH_TIMEOUT(!stage->window->prompt()->flow()->tokens().empty(), kLong);
    if (moment == QStringLiteral("converting")) child<QAbstractButton>(stage->window->knobs(), "knob.weights.bits.3")->click();
    if (moment == QStringLiteral("evaluating")) {
      EvaluateSpec spec;
      spec.textInline = sampleText();
      spec.context = 128;
      stage->workbench->evaluate(spec);
      QTest::qWait(30);
    }
    if (moment == QStringLiteral("attributing")) {
      AttributeSpec spec;
      spec.context = sampleText().left(600);
      spec.responseTokens = 8;
      stage->workbench->attribute(spec);
      QTest::qWait(30);
    }
    QElapsedTimer clock;
    clock.start();
    stage->window->close();
    stage.reset();
    QVERIFY2(clock.elapsed() < 5000, qPrintable(QStringLiteral("closing took %1 ms").arg(clock.elapsed())));
  }

  void stopEndsWithinAMoment() {
    Stage stage;
    QVERIFY(stage.open(someModel()));
    GenerateRequest request;
    request.prompt = QStringLiteral("The dog");
    request.tokens = 100000;
    request.ignoreEos = true;
    stage.workbench->generate(request);
    QTRY_VERIFY_WITH_TIMEOUT(!stage.window->prompt()->flow()->tokens().empty() || !stage.workbench->job().running, kLong);
    QElapsedTimer clock;
    clock.start();
    stage.action("run.stop")->trigger();
    QTRY_VERIFY_WITH_TIMEOUT(!stage.workbench->job().running, kLong);
    QVERIFY2(clock.elapsed() < 2000, qPrintable(QStringLiteral("stopping took %1 ms").arg(clock.elapsed())));
  }
};

WINNOW_TEST_MAIN(TroubleTest)
#include "trouble.moc"
