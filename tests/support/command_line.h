// SPDX-License-Identifier: GPL-3.0-or-later
// Runs winnow-cli as a person would: arguments in; exit code, standard output and standard error out.
#pragma once
#include <QCoreApplication>
#include <QFile>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <QProcess>
#include <QTemporaryDir>
#include <QTest>
#include <unistd.h>

namespace winnow::testing {

inline QString program() { return QCoreApplication::applicationDirPath() + QStringLiteral("/../bin/winnow-cli"); }
inline QString model(const char* name) { return QStringLiteral(WINNOW_SHARED_DATA "/models/") + QLatin1String(name) + QStringLiteral(".gguf"); }
inline QString corpus(const char* name) { return QStringLiteral(WINNOW_SHARED_DATA "/corpora/") + QLatin1String(name); }

struct Answer {
  int code = -1;
  QByteArray out, err;
  QJsonObject json() const { return QJsonDocument::fromJson(out).object(); }
};

inline Answer finished(QProcess& process, int timeoutMs = 300'000) {
  Answer answer;
  if (!process.waitForFinished(timeoutMs)) process.kill();
  answer.code = process.exitStatus() == QProcess::NormalExit ? process.exitCode() : 128;
  answer.out = process.readAllStandardOutput();
  answer.err = process.readAllStandardError();
  return answer;
}

inline double processorSeconds(const QProcess& process) {
  QFile stat(QStringLiteral("/proc/%1/stat").arg(process.processId()));
  if (!stat.open(QIODevice::ReadOnly)) return 0;
  const QByteArray line = stat.readAll();
  const QList<QByteArray> fields = line.mid(line.lastIndexOf(')') + 2).split(' ');  // from the third on: state
  return fields.size() < 13 ? 0 : (fields[11].toDouble() + fields[12].toDouble()) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

inline Answer run(const QStringList& arguments, const QByteArray& input = {}) {
  QProcess process;
  process.start(program(), arguments);
  process.write(input);
  process.closeWriteChannel();
  return finished(process);
}
inline Answer runJson(QStringList arguments, const QByteArray& input = {}) {
  arguments << QStringLiteral("--json");
  return run(arguments, input);
}

inline bool write(const QString& path, const QByteArray& bytes) {
  QFile file(path);
  return file.open(QIODevice::WriteOnly) && file.write(bytes) == bytes.size();
}

// A refusal: the exit code, its one line on stderr that holds `says`, and the error object with --json.
inline bool refused(const QStringList& arguments, int code, const char* says, const QByteArray& input = {}) {
  const Answer answer = runJson(arguments, input);
  const QJsonObject error = answer.json().value(QStringLiteral("error")).toObject();
  const QByteArray line = answer.err.trimmed().split('\n').last();
  const bool good = answer.code == code && error.value(QStringLiteral("code")).toInt() == code && !error.value(QStringLiteral("message")).toString().isEmpty() &&
                    error.contains(QStringLiteral("hint")) && line.contains(says) && !answer.err.contains("internal error");
  if (!good)
    qInfo("%s: exit %d (expected %d), stderr \"%s\" (expected \"%s\"), stdout \"%s\"", qPrintable(arguments.join(QLatin1Char(' '))), answer.code, code,
          answer.err.trimmed().constData(), says, answer.out.left(300).trimmed().constData());
  return good;
}

inline QStringList missingKeys(const QJsonObject& object, const QStringList& keys) {
  QStringList missing;
  for (const QString& key : keys)
    if (!object.contains(key)) missing << key;
  return missing;
}

}  // namespace winnow::testing

#define NEED_SHARED_DATA() \
  if (!QFile::exists(winnow::testing::model("stories260K-f32"))) QSKIP("shared test data not present")
