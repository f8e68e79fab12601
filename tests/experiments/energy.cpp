// SPDX-License-Identifier: GPL-3.0-or-later
// Energy from the driver's meter to the session file and out of it: a generation on the emulated GPU, with a stand-in of NVML whose counter runs.
#include <QFile>
#include <QTemporaryDir>
#include <QTest>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "engine/run/engine.h"
#include "experiments/jobs.h"
#include "tests/cuda_emulation/emulator.h"
#include "tests/engine/fakes/settings.h"

using namespace winnow;

namespace {

const char* const kStories = WINNOW_SHARED_DATA "/models/stories260K-f32.gguf";
constexpr double kWatts = 40;

// Adds kWatts times the time that passed to the counter, as a driver does.
class Meter {
 public:
  explicit Meter(test::FakeNvml& fake) : fake_(fake), thread_([this] { run(); }) {}
  ~Meter() {
    stop_ = true;
    thread_.join();
  }
  double joules() const { return static_cast<double>(std::atomic_ref(fake_.millijoules).load()) / 1e3; }

 private:
  void run() {
    const auto start = std::chrono::steady_clock::now();
    const long long first = fake_.millijoules;
    while (!stop_) {
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      std::atomic_ref(fake_.millijoules).store(first + std::llround(seconds * kWatts * 1e3));
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  test::FakeNvml& fake_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace

class EnergyTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void aGenerationRecordsWhatItsTokensTook() {
    if (!QFile::exists(QString::fromUtf8(kStories))) QSKIP("shared test data not present");
    auto& fake = test::settingsOf<test::FakeNvml>(WINNOW_FAKE_NVML, "fakeNvml");
    emulator::haveBusId(fake.busId);
    const Meter meter(fake);
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
    GenerateObserver observer;
    observer.onToken = [&](const TokenPoint& point) {
      if (!point.prompt) shown.push_back(point.joules);
    };
    const auto done = generateRun(job, *session, request, observer);
    QVERIFY(done.ok());

    // Of each token: the power around it times its time, shown and kept.
    QVERIFY(bool(job.file->flush()));
    const auto tokens = job.file->tokens(done->run);
    QVERIFY(bool(tokens));
    size_t at = 0;
    double sum = 0, seconds = 0;
    for (const storage::TokenSample& token : *tokens) {
      if (token.prefill) continue;
      QVERIFY(token.joules && *token.joules > 0);
      QCOMPARE(*token.joules, shown[at]);
      sum += *token.joules;
      seconds += done->tokenMs[at] / 1e3;
      ++at;
    }
    QCOMPARE(at, shown.size());
    // The counter is read every 100 ms, in steps of 20 ms: power is right to a third, energy to what a busy machine delays two readings by.
    QVERIFY2(std::fabs(sum / seconds / kWatts - 1) < 0.33, qPrintable(QString::number(sum / seconds)));
    const auto summary = job.file->run(done->run);
    QVERIFY(bool(summary));
    const auto found = summary->metrics.find("joules_per_token");
    QVERIFY(found != summary->metrics.end());
    QCOMPARE(found->second.unit, std::string("J"));
    QCOMPARE(found->second.n, static_cast<int64_t>(shown.size()));
    const double whole = found->second.value * static_cast<double>(found->second.n);
    QVERIFY2(std::fabs(whole - kWatts * seconds) < kWatts * 0.5 + 0.1 * kWatts * seconds, qPrintable(QString::number(whole)));
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
