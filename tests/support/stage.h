// SPDX-License-Identifier: GPL-3.0-or-later
// The real window with the real engine for tests, and a watch on its event loop.
#pragma once
#include <QAbstractButton>
#include <QCheckBox>
#include <QDialog>
#include <QElapsedTimer>
#include <QFileInfo>
#include <QSignalSpy>
#include <QSpinBox>
#include <QTemporaryDir>
#include <QTimer>
#include <atomic>
#include <chrono>
#include <thread>

#include "app/gui/action_registry.h"
#include "app/gui/banner.h"
#include "app/gui/main_window.h"
#include "app/gui/measure_dialog.h"
#include "panels/knobs/knob_panel.h"
#include "panels/runs/runs_view.h"
#include "panels/text/prompt_panel.h"
#include "panels/text/token_flow.h"
#include "tests/support/qt_main.h"

namespace winnow::testing {

inline constexpr int kLong = 60000;         // ms: for slow machines and sanitizers
inline constexpr int kLongContext = 65536;  // tokens

// After each test: a dialog that a failure left open would take the keys of the next.
inline void closeDialogs() {
  for (QWidget* each : QApplication::topLevelWidgets())
    if (qobject_cast<QDialog*>(each)) each->close();
}

struct Stage {
  ThemeManager themes;
  Settings settings;
  std::unique_ptr<Workbench> workbench;
  std::unique_ptr<MainWindow> window;

  Stage() {
    themes.setMode(ThemeManager::Mode::light);
    workbench = std::make_unique<Workbench>(EngineOptions{});
    window = std::make_unique<MainWindow>(&themes, workbench.get(), &settings, machineInfo(0));
    window->resize(1440, 900);
    window->show();
  }
  ~Stage() {
    window.reset();
    workbench.reset();
  }
  QAction* action(const char* id) { return window->actions()->action(QString::fromLatin1(id)); }
  bool open(const QString& model, int context = 0) {
    if (context > 0) workbench->openModel(model, context);
    else window->openModel(model);
    return QTest::qWaitFor([this] { return workbench->hasModel() && !workbench->job().running; }, kLong);
  }
  bool idle() {
    return QTest::qWaitFor([this] { return !workbench->job().running && !workbench->weightsPending(); }, kLong);
  }
  // A generation that goes on until it is stopped: changes fall between its tokens on any machine.
  void generateForLong() {
    child<QSpinBox>(window.get(), "tokens")->setValue(60000);
    child<QCheckBox>(window.get(), "ignoreEnd")->setChecked(true);
    action("run.generate")->trigger();
  }
  bool moreTokens(size_t than) {
    return QTest::qWaitFor([&] { return window->prompt()->flow()->tokens().size() > than; }, kLong);
  }
  bool stop() {
    action("run.stop")->trigger();
    return idle();
  }
  template <class T = QAbstractButton>
  T* knob(const char* name) { return child<T>(window->knobs(), name); }
  size_t runs() const { return window->runs()->model()->runs().size(); }
};

inline QString smallModel() { return sharedData(QStringLiteral("models/stories260K-f32.gguf")); }

// The shared models where they are, else the starter that every build has.
inline QString someModel() { return QFileInfo::exists(smallModel()) ? smallModel() : QStringLiteral("starter"); }

// Fails the test when the event loop stood still for longer than `limitMs`, and than this machine lets any thread stand still:
// a second thread measures how late a sleep ends at the same time.
class StallDetector : public QObject {
 public:
  explicit StallDetector(qint64 limitMs = 600) : limitMs_(limitMs), machine_([this](const std::stop_token& end) { measure(end); }) {
    clock_.start();
    timer_.setInterval(10);
    connect(&timer_, &QTimer::timeout, this, [this] { worst = std::max(worst, clock_.restart() - 10); });
    timer_.start();
  }
  QString verdict(const char* what) {
    worst = std::max(worst, clock_.restart() - 10);
    qInfo("%s: longest stall of the event loop %lld ms, of any thread %lld ms", what, static_cast<long long>(worst), static_cast<long long>(machineMs_.load()));
    const bool good = worst <= limitMs_ + 2 * machineMs_;
    const QString text = good ? QString() : QStringLiteral("%1: the window stood still for %2 ms").arg(QString::fromLatin1(what)).arg(worst);
    worst = 0;
    machineMs_ = 0;
    return text;
  }
  qint64 worst = 0;

 private:
  void measure(const std::stop_token& end) {
    QElapsedTimer clock;
    while (!end.stop_requested()) {
      clock.start();
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      machineMs_ = std::max<qint64>(machineMs_, clock.elapsed() - 10);
    }
  }
  QTimer timer_;
  QElapsedTimer clock_;
  qint64 limitMs_;
  std::atomic<qint64> machineMs_ = 0;
  std::jthread machine_;
};

}  // namespace winnow::testing
