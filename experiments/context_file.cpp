// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/context_file.h"

#include <QFile>
#include <QFileInfo>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>

#include "experiments/text_file.h"

namespace winnow {
namespace {

constexpr qint64 kLongestLine = 16 << 20;  // bytes
constexpr size_t kMostPassages = 100000;

std::string words(const QJsonObject& object, const char* key) { return object.value(QLatin1String(key)).toString().toStdString(); }

Error lineError(const QString& path, int line, const std::string& found, const std::string& expected) {
  return {ErrorCode::badInput, path.toStdString() + ", line " + std::to_string(line) + ": " + found + ".", expected};
}

const char* const kPassageShape = "A passage is {\"text\": \"...\"}, with \"title\" and \"id\" where there are any.";
const char* const kQuestionShape = "A question is {\"question\", \"context\"}, the context a text or a list of passages, or a line of HotpotQA.";

// The objects of a file, a line each; blank lines are passed over. `take` is told the line's number; its error ends it, false stops.
template <class Take>
Status eachObject(const QString& path, const char* shape, const Take& take) {
  if (!QFileInfo(path).isFile()) return Error{ErrorCode::badInput, path.toStdString() + " is not a file that can be read.", "Check the path."};
  QFile file(path);
  if (!file.open(QIODevice::ReadOnly)) return Error{ErrorCode::badInput, path.toStdString() + " can't be read: " + file.errorString().toStdString() + ".", "Check the path."};
  for (int number = 1; !file.atEnd(); ++number) {
    const QByteArray line = file.readLine(kLongestLine);
    if (line.size() >= kLongestLine - 1) return lineError(path, number, "the line is longer than 16 MiB", shape);
    if (line.trimmed().isEmpty()) continue;
    QJsonParseError problem;
    const QJsonDocument json = QJsonDocument::fromJson(line, &problem);
    if (problem.error != QJsonParseError::NoError) return lineError(path, number, "no JSON: " + problem.errorString().toStdString(), shape);
    if (!json.isObject()) return lineError(path, number, "not an object", shape);
    const Result<bool> more = take(json.object(), number);
    if (!more) return more.error();
    if (!*more) break;
  }
  return Done{};
}

// HotpotQA calls a passage's text paragraph_text.
std::optional<Passage> passageOf(const QJsonObject& object) {
  const char* key = object.contains(QLatin1String("text")) ? "text" : "paragraph_text";
  if (!object.value(QLatin1String(key)).isString()) return std::nullopt;
  Passage passage{words(object, "id"), words(object, "title"), QString::fromStdString(words(object, key)).trimmed().toStdString(),
                  object.value(QLatin1String("is_supporting")).toBool() || object.value(QLatin1String("supporting")).toBool()};
  return passage;
}

Result<Question> questionOf(const QJsonObject& object, const QString& path, int line) {
  Question out;
  const bool hotpot = object.contains(QLatin1String("question_text"));
  out.question = words(object, hotpot ? "question_text" : "question");
  out.id = words(object, hotpot ? "question_id" : "id");
  if (out.id.empty()) out.id = std::to_string(line);
  if (object.value(QLatin1String("response")).isString()) out.response = words(object, "response");
  const QJsonValue context = object.value(QLatin1String(hotpot ? "contexts" : "context"));
  out.context = context.toString().toStdString();
  const QJsonArray passages = context.toArray();
  for (const QJsonValue& each : passages) {
    auto passage = passageOf(each.toObject());
    if (!passage) return lineError(path, line, "a passage has no text", kQuestionShape);
    out.passages.push_back(std::move(*passage));
  }
  if (out.question.empty()) return lineError(path, line, "there is no question", kQuestionShape);
  if (out.context.empty() && out.passages.empty()) return lineError(path, line, "there is no context", kQuestionShape);
  return out;
}

}  // namespace

ContextText joinPassages(const std::vector<Passage>& passages) {
  ContextText out;
  for (const Passage& passage : passages) {
    if (!out.text.empty()) out.text += "\n\n";
    const auto start = static_cast<int64_t>(out.text.size());
    out.text += passage.text;
    out.documents.push_back({passage.id, passage.title, start, static_cast<int64_t>(out.text.size())});
  }
  return out;
}

Result<std::vector<Passage>> readPassages(const QString& path) {
  std::vector<Passage> out;
  const Status read = eachObject(path, kPassageShape, [&](const QJsonObject& object, int line) -> Result<bool> {
    auto passage = passageOf(object);
    if (!passage) return lineError(path, line, "there is no \"text\"", kPassageShape);
    if (out.size() >= kMostPassages) return lineError(path, line, "more than 100 000 passages", kPassageShape);
    out.push_back(std::move(*passage));
    return true;
  });
  if (!read) return read.error();
  return out;
}

bool holdsPassages(const QString& path) { return path.endsWith(QLatin1String(".jsonl"), Qt::CaseInsensitive) || path.endsWith(QLatin1String(".ndjson"), Qt::CaseInsensitive); }

Result<ContextText> readContext(const QString& path) {
  if (holdsPassages(path)) {
    const auto passages = readPassages(path);
    if (!passages) return passages.error();
    return joinPassages(*passages);
  }
  auto text = readTextFile(path);
  if (!text) return text.error();
  return ContextText{std::move(*text), {}};
}

Result<std::vector<Question>> readQuestions(const QString& path, int limit) {
  std::vector<Question> out;
  if (limit <= 0) return out;
  const Status read = eachObject(path, kQuestionShape, [&](const QJsonObject& object, int line) -> Result<bool> {
    auto question = questionOf(object, path, line);
    if (!question) return question.error();
    out.push_back(std::move(*question));
    return out.size() < static_cast<size_t>(limit);
  });
  if (!read) return read.error();
  return out;
}

}  // namespace winnow
