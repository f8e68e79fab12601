// SPDX-License-Identifier: GPL-3.0-or-later
// Energy from the driver's meter to the session file and out of it: a generation on the emulated GPU, with a stand-in of NVML.
// It tells a steady power and has no counter: what is expected then does not depend on when a busy machine reads it.
#include <QFile>
#include <QTemporaryDir>
#include <QTest>
#include <algorithm>
#include <chrono>
#include <cmath>

#include "engine/run/engine.h"
#include "experiments/jobs.h"
#include "tests/cuda_emulation/emulator.h"
#include "tests/engine/fakes/settings.h"

using namespace winnow;

namespace {

const char* const kStories = WINNOW_SHARED_DATA "/models/stories260K-f32.gguf";
constexpr double kWatts = 40;

}  // namespace

class EnergyTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void aGenerationRecordsWhatItsTokensTook() {
    if (!QFile::exists(QString::fromUtf8(kStories))) QSKIP("shared test data not present");
    auto& fake = test::settingsOf<test::FakeNvml>(WINNOW_FAKE_NVML, "fakeNvml");
    emulator::haveBusId(fake.busId);
    fake.milliwatts = static_cast<long long>(kWatts * 1e3);
    fake.millijoules = -1;
    const auto start = std::chrono::steady_clock::now();
    EngineOptions options;
    options.device = "cuda";
    options.threads = 1;
    const auto engine = *Engine::create(*Model::open(kStories), options);
    QVERIFY(engine->gpuState().has_value());
    SessionOptions sessionOptions;
    sessionOptions.context = 64;
    sessionOptions.maxBatch = 8;
    const auto session = std::move(engine->createSession(Config(), sessionOptions, {})).value();

    const QTemporaryDir folder;
    const std::string path = folder.filePath("energy.winnow").toStdString();
    GenerateRequest request;
    request.prompt = QStringLiteral("Once");
    request.tokens = 1;
    request.ignoreEos = true;
    JobContext job;
    job.engine = engine;
    const auto first = generateRun(job, *session, request);  // how long a token takes here
    QVERIFY(first.ok());
    const double ms = std::max(first->tokenMs.front(), 1.0);
    request.tokens = std::clamp(static_cast<int>(1500 / ms), 2, 56);
    if (ms * request.tokens < 1200) QSKIP("tokens pass too fast for the meter to tell them");
    job.file = *storage::SessionFile::open(path, storage::SessionFile::Mode::create);
    std::vector<double> shown;
    double seconds = 0;
    GenerateObserver observer;
    observer.onToken = [&](const TokenPoint& point) {
      if (point.prompt) return;
      shown.push_back(point.joules);
      seconds += point.ms / 1e3;
    };
    const auto done = generateRun(job, *session, request, observer);
    QVERIFY(done.ok());

    // Of each token: the power around it times its time, shown and kept.
    QVERIFY(bool(job.file->flush()));
    const auto tokens = job.file->tokens(done->run);
    QVERIFY(bool(tokens));
    size_t at = 0;
    double sum = 0;
    for (const storage::TokenSample& token : *tokens) {
      if (token.prefill) continue;
      QVERIFY(token.joules && *token.joules > 0);
      QCOMPARE(*token.joules, shown[at]);
      sum += *token.joules;
      ++at;
    }
    QCOMPARE(at, shown.size());
    QVERIFY2(std::fabs(sum / seconds / kWatts - 1) < 1e-9, qPrintable(QString::number(sum / seconds)));
    const auto summary = job.file->run(done->run);
    QVERIFY(bool(summary));
    const auto found = summary->metrics.find("joules_per_token");
    if (seconds < 1.1) QSKIP("tokens passed too fast for the meter to tell them");
    QVERIFY(found != summary->metrics.end());
    QCOMPARE(found->second.unit, std::string("J"));
    QCOMPARE(found->second.n, static_cast<int64_t>(shown.size()));
    const double whole = found->second.value * static_cast<double>(found->second.n);
    const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    QVERIFY2(whole > 0 && whole < kWatts * all, qPrintable(QString::number(whole)));
    QVERIFY(bool(job.file->close()));
    job.file.reset();

    // Read again, as another program would.
    const auto again = storage::SessionFile::open(path, storage::SessionFile::Mode::readOnly);
    QVERIFY(bool(again));
    const auto kept = (*again)->tokens(done->run);
    QVERIFY(bool(kept));
    QCOMPARE(*kept->back().joules, shown.back());
    emulator::haveBusId("");
  }
};

QTEST_GUILESS_MAIN(EnergyTest)
#include "energy.moc"
