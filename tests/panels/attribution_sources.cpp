// SPDX-License-Identifier: GPL-3.0-or-later
// Where sources come from: text and files, units, boundaries moved by hand, undo of all of it.
#include <QComboBox>
#include <QFile>
#include <QLabel>
#include <QSignalSpy>
#include <QSpinBox>
#include <QTemporaryDir>
#include <QToolButton>

#include "panels/attribution/context_panel.h"
#include "tests/support/qt_main.h"

using namespace winnow;
using winnow::testing::child;

namespace {

const QString kText = QStringLiteral("The cat sat. The dög ran.\n\nIt rained. 🌧 Water fell.");

struct Stage {
  ContextPanel panel;
  QTemporaryDir folder;
  Stage() {
    panel.resize(500, 300);
    panel.show();
    panel.setText(kText, QStringLiteral("a.txt"));
  }
  SourcesEditor* editor() { return panel.editor(); }
  QStringList sources() {
    QStringList out;
    const QString text = editor()->toPlainText();
    for (const auto& piece : editor()->pieces()) out << text.mid(piece.begin, piece.end - piece.begin);
    return out;
  }
  void cut(SourceUnit unit) {
    auto* box = child<QComboBox>(&panel, "attribution.unit");
    box->setCurrentIndex(box->findData(static_cast<int>(unit)));
  }
  SourceUnit unit() { return static_cast<SourceUnit>(child<QComboBox>(&panel, "attribution.unit")->currentData().toInt()); }
  void cursorAt(const QString& before) {
    QTextCursor cursor = editor()->textCursor();
    cursor.setPosition(static_cast<int>(editor()->toPlainText().indexOf(before)));
    editor()->setTextCursor(cursor);
  }
  QString file(const char* name, const QByteArray& bytes) {
    const QString path = folder.filePath(QString::fromLatin1(name));
    QFile out(path);
    if (out.open(QIODevice::WriteOnly)) out.write(bytes);
    return path;
  }
  AttributeSpec spec() {
    AttributeSpec out;
    panel.fillSpec(out);
    return out;
  }
};

}  // namespace

class AttributionSourcesTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  WINNOW_FAIL_ON_WARNINGS

  void unitsAreSeen() {
    Stage stage;
    QCOMPARE(stage.sources(), (QStringList{QStringLiteral("The cat sat."), QStringLiteral("The dög ran."), QStringLiteral("It rained."),
                                           QStringLiteral("🌧 Water fell.")}));
    stage.cut(SourceUnit::paragraph);
    QCOMPARE(stage.sources().size(), 2);
    QVERIFY(stage.spec().unit == SourceUnit::paragraph);
    stage.cut(SourceUnit::document);
    QCOMPARE(stage.sources().size(), 1);
    QVERIFY(child<QLabel>(&stage.panel, "attribution.where")->text().startsWith(QStringLiteral("1 source")));
    // Tokens are cut by the model.
    stage.panel.setWindows([](const std::string& text, int tokens) {
      std::vector<Source> out;
      for (size_t at = 0; at < text.size(); at += static_cast<size_t>(tokens)) {
        Source source;
        source.start = static_cast<int64_t>(at);
        source.end = static_cast<int64_t>(std::min(text.size(), at + static_cast<size_t>(tokens)));
        out.push_back(source);
      }
      return out;
    });
    stage.editor()->setPlainText(QStringLiteral("abcdefghij"));
    stage.cut(SourceUnit::window);
    auto* size = child<QSpinBox>(&stage.panel, "attribution.window");
    QVERIFY(size->isVisible());
    size->setValue(4);
    QCOMPARE(stage.sources(), (QStringList{QStringLiteral("abcd"), QStringLiteral("efgh"), QStringLiteral("ij")}));
    QCOMPARE(stage.spec().windowTokens, 4);
  }

  void boundariesMoveByHandAndBack() {
    Stage stage;
    stage.editor()->setFocus();
    stage.cursorAt(QStringLiteral("ran."));
    QVERIFY(child<QToolButton>(&stage.panel, "attribution.split")->isEnabled());
    QTest::keyClick(stage.editor(), Qt::Key_Return, Qt::ControlModifier);
    QCOMPARE(stage.sources().mid(0, 3), (QStringList{QStringLiteral("The cat sat."), QStringLiteral("The dög"), QStringLiteral("ran.")}));
    QVERIFY(stage.unit() == SourceUnit::given);
    QCOMPARE(stage.editor()->toPlainText(), kText);  // the text is as it was
    // In bytes of the text: "ö" has two.
    const AttributeSpec spec = stage.spec();
    QVERIFY(spec.unit == SourceUnit::given);
    QCOMPARE(spec.ranges.size(), size_t{5});
    const std::string utf8 = kText.toStdString();
    QCOMPARE(utf8.substr(static_cast<size_t>(spec.ranges[2].start), static_cast<size_t>(spec.ranges[2].end - spec.ranges[2].start)),
             std::string("ran."));
    QCOMPARE(utf8.substr(static_cast<size_t>(spec.ranges[4].start), static_cast<size_t>(spec.ranges[4].end - spec.ranges[4].start)),
             std::string("🌧 Water fell."));
    QTest::keyClick(stage.editor(), Qt::Key_Return, Qt::ControlModifier | Qt::ShiftModifier);
    QCOMPARE(stage.sources().size(), 4);
    QCOMPARE(stage.sources()[1], QStringLiteral("The dög ran."));
    stage.editor()->undo();
    QCOMPARE(stage.sources().size(), 5);
    stage.editor()->undo();
    QCOMPARE(stage.sources().size(), 4);
    QVERIFY(!stage.editor()->isCustom());
    QVERIFY(stage.unit() == SourceUnit::sentence);  // the unit is back
    stage.editor()->redo();
    QCOMPARE(stage.sources().size(), 5);
  }

  void boundariesFollowTheText() {
    Stage stage;
    stage.cursorAt(QStringLiteral("ran."));
    stage.editor()->splitAtCursor();
    stage.cursorAt(QStringLiteral("cat"));
    stage.editor()->insertPlainText(QStringLiteral("old "));
    QCOMPARE(stage.sources()[0], QStringLiteral("The old cat sat."));
    QCOMPARE(stage.sources()[2], QStringLiteral("ran."));
    stage.cut(SourceUnit::sentence);  // given up
    QCOMPARE(stage.sources().size(), 4);
    stage.editor()->undo();
    QCOMPARE(stage.sources().size(), 5);
    QVERIFY(stage.unit() == SourceUnit::given);
  }

  void atABoundaryThereIsNothingToSplit() {
    Stage stage;
    stage.cursorAt(QStringLiteral("The dög"));
    QVERIFY(!stage.editor()->canSplit());
    stage.cursorAt(QStringLiteral("The cat"));
    QVERIFY(!stage.editor()->canMerge());
    stage.editor()->clear();
    QVERIFY(!stage.editor()->canSplit());
    QVERIFY(!stage.editor()->canMerge());
    QCOMPARE(stage.sources().size(), 0);
  }

  void passagesComeFromAFile() {
    Stage stage;
    const QString path =
        stage.file("passages.jsonl", "{\"title\": \"One\", \"text\": \"Cats sleep. They purr.\"}\n{\"text\": \"Dogs r\xc3\xa4n.\"}\n");
    QVERIFY(stage.panel.openFile(path, false).ok());
    QVERIFY(stage.unit() == SourceUnit::document);
    QCOMPARE(stage.sources(), (QStringList{QStringLiteral("Cats sleep. They purr."), QStringLiteral("Dogs rän.")}));
    AttributeSpec spec = stage.spec();
    QCOMPARE(spec.documents.size(), size_t{2});
    QCOMPARE(spec.documents[0].title, std::string("One"));
    QCOMPARE(spec.documents[1].end - spec.documents[1].start, int64_t{10});
    // Another file after it.
    QVERIFY(stage.panel.openFile(stage.file("more.txt", "Birds fly.\n"), true).ok());
    QCOMPARE(stage.sources().size(), 3);
    stage.editor()->undo();
    QCOMPARE(stage.sources().size(), 2);
    stage.editor()->undo();
    QCOMPARE(stage.editor()->toPlainText(), kText);  // opening a file is undone too
  }

  void questionsAreLeafedThrough() {
    Stage stage;
    QSignalSpy asked(&stage.panel, &ContextPanel::questionChosen);
    const QString path = stage.file("questions.jsonl",
                                    "{\"question\": \"Who?\", \"context\": \"A cat.\", \"response\": \"The cat.\"}\n"
                                    "{\"question_text\": \"What?\", \"contexts\": [{\"title\": \"T\", \"paragraph_text\": \"A dog.\"}, "
                                    "{\"paragraph_text\": \"A bird.\"}]}\n");
    QVERIFY(stage.panel.openFile(path, false).ok());
    QCOMPARE(asked.count(), 1);
    QCOMPARE(asked[0][0].toString(), QStringLiteral("Who?"));
    QCOMPARE(asked[0][1].toString(), QStringLiteral("The cat."));
    QCOMPARE(stage.editor()->toPlainText(), QStringLiteral("A cat."));
    auto* example = child<QSpinBox>(&stage.panel, "attribution.example");
    QVERIFY(example->isVisible());
    example->setValue(2);
    QCOMPARE(asked.count(), 2);
    QCOMPARE(stage.editor()->toPlainText(), QStringLiteral("A dog.\n\nA bird."));
  }

  void troubleIsOneSentence() {
    Stage stage;
    const auto message = [&](const QString& path) {
      const Status read = stage.panel.openFile(path, false);
      return read.ok() ? QString() : QString::fromStdString(read.error().message);
    };
    QVERIFY2(message(stage.file("bad.jsonl", "{\"text\": \"a\"}\nnot json\n")).contains(QStringLiteral("line 2")),
             qPrintable(message(stage.folder.filePath(QStringLiteral("bad.jsonl")))));
    QVERIFY(!message(stage.file("empty.jsonl", "\n\n")).isEmpty());
    QVERIFY(!message(stage.folder.filePath(QStringLiteral("absent.txt"))).isEmpty());
    QCOMPARE(stage.editor()->toPlainText(), kText);  // what was there stays
  }
};

WINNOW_TEST_MAIN(AttributionSourcesTest)
#include "attribution_sources.moc"
