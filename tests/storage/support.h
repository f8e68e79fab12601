// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include <QDir>
#include <QFile>
#include <QTemporaryDir>
#include <QTest>

#include <string>

#include "storage/open.h"
#include "storage/session_file.h"

namespace winnow::storage::test {

using Mode = SessionFile::Mode;
using Session = std::shared_ptr<SessionFile>;

inline Session opened(const std::string& path, Mode mode, OpenReport* report = nullptr, const SessionOptions& options = {}) {
  auto session = openSession(path, mode, report, options);
  if (!session) qWarning("%s", session.error().message.c_str());
  return session ? *session : nullptr;
}

inline ConfigRecord config(double bits) {
  return {"", {{"weights.bits", "integer", "bit", bits, "prepare_weights"},
               {"weights.method", "enumeration", "", std::string("rtn"), "prepare_weights"},
               {"weights.symmetric", "boolean", "", 1.0, ""}}};
}

inline NewRun newRun(const std::string& name = "a run") {
  NewRun run;
  run.name = name;
  run.model.path = "/models/tiny.gguf";
  run.model.name = "tiny";
  run.model.format = "gguf";
  run.model.architecture = "llama";
  run.model.fileBytes = 1234;
  run.model.mtimeUs = 99;
  run.model.layers = 5;
  run.device.name = "CPU";
  run.device.threads = 2;
  run.environment.os = "Debian";
  run.environment.ramBytes = int64_t{1} << 34;
  run.requested = config(4);
  run.effective = config(8);
  run.divergenceJson = R"([{"knob":"weights.bits","requested":"4","effective":"8","reason":"rows of 12"}])";
  run.prompt = "Once upon a time";
  run.protocol = "llama";
  run.corpusName = "wiki.txt";
  run.corpusBytes = 77;
  run.seed = 42;
  return run;
}

inline TokenSample token(int64_t index) {
  TokenSample t;
  t.index = index;
  t.token = static_cast<int32_t>(index * 7);
  t.tNs = index * 1000;
  t.durationNs = 999;
  t.nll = 0.5 + static_cast<double>(index);
  t.kvLive = index;
  t.piece = " tok";
  return t;
}

inline std::string bytesOf(const std::string& path) {
  QFile file(QString::fromStdString(path));
  return file.open(QIODevice::ReadOnly) ? file.readAll().toStdString() : std::string();
}
inline void writeBytes(const std::string& path, const std::string& bytes) {
  QFile file(QString::fromStdString(path));
  QVERIFY(file.open(QIODevice::WriteOnly));
  file.write(bytes.data(), static_cast<qint64>(bytes.size()));
}

class Folder {
 public:
  std::string operator/(const std::string& name) const { return folder_.filePath(QString::fromStdString(name)).toStdString(); }

 private:
  QTemporaryDir folder_;
};

}  // namespace winnow::storage::test

#define REQUIRE_OK(result)                                                \
  do {                                                                    \
    if (!(result)) QFAIL((result).error().message.c_str());               \
  } while (false)
