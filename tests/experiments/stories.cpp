// SPDX-License-Identifier: GPL-3.0-or-later
// The stories of resources/stories: each is what its file says, and exact leave-one-out finds the sentence a response rests on.
#include <QFile>
#include <QJsonDocument>
#include <QJsonObject>
#include <QRegularExpression>
#include <QTest>
#include <algorithm>

#include "engine/attribute/attribute.h"

using namespace winnow;

namespace {

struct Story {
  QString title;
  std::string context, question, response;
  size_t answer = 0;
};

}  // namespace

class StoriesTest : public QObject {
  Q_OBJECT

  QList<Story> stories_;

 private Q_SLOTS:
  void initTestCase() {
    QFile file(QStringLiteral(WINNOW_TESTS_DIR "/../resources/stories/stories.jsonl"));
    QVERIFY(file.open(QIODevice::ReadOnly));
    while (!file.atEnd()) {
      const QJsonObject line = QJsonDocument::fromJson(file.readLine()).object();
      stories_.append({line[u"title"].toString(), line[u"context"].toString().toStdString(), line[u"question"].toString().toStdString(),
                       line[u"response"].toString().toStdString(), static_cast<size_t>(line[u"answer"].toInt(-1))});
    }
    QCOMPARE(stories_.size(), 20);
  }

  // The last word of the response is in the sentence it rests on and in no other, nor in the cue.
  void answersAreInOneSentence() {
    static const QRegularExpression notLetters(QStringLiteral("[^a-z]+"));
    for (const Story& story : stories_) {
      const auto words = [](const std::string& text) { return QString::fromStdString(text).toLower().split(notLetters, Qt::SkipEmptyParts); };
      const QString word = words(story.response).last();
      const std::vector<Source> sources = splitSources(story.context, SourceUnit::sentence);
      QVERIFY2(sources.size() >= 6 && story.answer < sources.size(), qPrintable(story.title));
      for (size_t i = 0; i < sources.size(); ++i) QVERIFY2(words(sources[i].text).contains(word) == (i == story.answer), qPrintable(story.title));
      QVERIFY2(!words(story.question).contains(word), qPrintable(story.title));
    }
  }

  void leaveOneOutNamesTheSentence_data() {
    QTest::addColumn<QString>("model");
    QTest::newRow("starter") << QStringLiteral(WINNOW_TESTS_DIR "/../resources/starter/starter.gguf");
    QTest::newRow("shared chat model") << QStringLiteral(WINNOW_SHARED_DATA "/models/tinystories-instruct-3m-chat-f32.gguf");
  }
  void leaveOneOutNamesTheSentence() {
    QFETCH(QString, model);
    if (model.startsWith(QStringLiteral(WINNOW_SHARED_DATA)) && !QFile::exists(model)) QSKIP("The shared model tinystories-instruct-3m-chat-f32.gguf is not there.");
    auto loaded = Model::open(model.toStdString());
    QVERIFY2(loaded, loaded ? "" : loaded.error().message.c_str());
    auto engine = Engine::create(*loaded, EngineOptions{});
    QVERIFY(engine);
    auto session = (*engine)->createSession(Config(), SessionOptions{}, Progress{});
    QVERIFY2(session, session ? "" : session.error().message.c_str());
    int named = 0;
    for (const Story& story : stories_) {
      AttributeRequest request;
      request.context = story.context;
      request.question = story.question;
      request.response = story.response;
      request.method = "loo";
      const auto result = attribute(**session, *(*engine)->tokenizer(), request, Progress{});
      QVERIFY2(result, result ? "" : result.error().message.c_str());
      const auto best = std::ranges::max_element(result->sources, {}, [](const Source& s) { return s.score.value_or(-1e9); });
      named += static_cast<size_t>(best - result->sources.begin()) == story.answer;
    }
    qInfo("%d of 20 named", named);
    QVERIFY2(named >= 14, qPrintable(QStringLiteral("%1 of 20").arg(named)));
  }
};

QTEST_GUILESS_MAIN(StoriesTest)
#include "stories.moc"
