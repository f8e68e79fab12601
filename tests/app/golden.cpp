// SPDX-License-Identifier: GPL-3.0-or-later
// The window in its full state, both themes, held against the pictures of tests/golden/window. Its data are formulas: no engine, no
// clock. Pictures are compared after scaling down, so that how a machine draws the edges of letters does not matter; a panel that is
// gone does. "test_app_golden --accept" draws the pictures anew, after somebody has looked at them.
#include <QDockWidget>
#include <QFontInfo>
#include <QScrollArea>
#include <QTabWidget>
#include <QTableView>
#include <cmath>

#include "app/gui/main_window.h"
#include "experiments/attribution_record.h"
#include "panels/attribution/attribution_view.h"
#include "panels/inspector/inspector.h"
#include "panels/knobs/knob_panel.h"
#include "panels/live/live_view.h"
#include "panels/plot/compare_view.h"
#include "panels/runs/runs_view.h"
#include "panels/start/start_page.h"
#include "panels/text/prompt_panel.h"
#include "panels/text/token_flow.h"
#include "tests/support/chart_session.h"
#include "tests/support/qt_main.h"

using namespace winnow;
using winnow::testing::child;

namespace {

bool accept = false;

constexpr QSize kSize(1440, 900);
constexpr int kScale = 8;            // pixels to one of the compared picture
constexpr int kBlock = 10;           // of those to one block: 80 x 80 pixels of the window
constexpr double kMeanBound = 2.0;    // of 255, over the whole picture
constexpr double kBlockBound = 8.0;   // of 255, in the worst block

struct Difference {
  double mean = 0, worst = 0;
  QPoint at;  // of the worst block, in pixels
  bool small() const { return mean <= kMeanBound && worst <= kBlockBound; }
};

// Mean absolute difference of the channels, of everything and of the worst block.
Difference compare(const QImage& a, const QImage& b) {
  const QSize size(a.width() / kScale, a.height() / kScale);
  const auto down = [&](const QImage& image) {
    return image.convertToFormat(QImage::Format_RGB32).scaled(size, Qt::IgnoreAspectRatio, Qt::SmoothTransformation);
  };
  const QImage x = down(a), y = down(b);
  Difference out;
  for (int top = 0; top < size.height(); top += kBlock)
    for (int left = 0; left < size.width(); left += kBlock) {
      double sum = 0;
      int n = 0;
      for (int row = top; row < std::min(top + kBlock, size.height()); ++row)
        for (int column = left; column < std::min(left + kBlock, size.width()); ++column, ++n) {
          const QRgb p = x.pixel(column, row), q = y.pixel(column, row);
          sum += (std::abs(qRed(p) - qRed(q)) + std::abs(qGreen(p) - qGreen(q)) + std::abs(qBlue(p) - qBlue(q))) / 3.0;
        }
      out.mean += sum / (size.width() * size.height());
      if (sum / n > out.worst) {
        out.worst = sum / n;
        out.at = QPoint(left, top) * kScale;
      }
    }
  return out;
}

ModelInfo someModel() {
  ModelInfo info;
  info.name = QStringLiteral("Example 1B");
  info.path = QStringLiteral("/models/example-1b.gguf");
  info.format = QStringLiteral("gguf");
  info.architecture = QStringLiteral("llama");
  info.types = QStringLiteral("bf16");
  info.device = QStringLiteral("CPU: 8 threads, avx2");
  info.tokenizer = QStringLiteral("byte-level BPE (llama3)");
  info.fileBytes = qint64{2} << 30;
  info.config.architecture = "llama";
  info.config.layers = 16;
  info.config.hidden = 2048;
  info.config.heads = 32;
  info.config.kvHeads = 8;
  info.config.headDim = 64;
  info.config.ffn = 8192;
  info.config.vocab = 128256;
  info.config.context = 8192;
  info.config.parameters = 1'240'000'000;
  return info;
}

TokenPoint token(int i) {
  static const char* const words[] = {" the", " quick", " grain", " falls", " and", " the", " chaff", " flies", ",", " so", " what", " matters", " stays", "."};
  TokenPoint p;
  p.index = i;
  p.id = 100 + i;
  p.prompt = i < 24;
  p.text = QString::fromLatin1(words[i % std::size(words)]);
  p.epoch = i < 120 ? 0 : i < 200 ? 1 : 2;
  const double base = p.epoch == 0 ? 21 : p.epoch == 1 ? 12.5 : 9;
  p.ms = p.prompt ? (i == 0 ? 180 : 0) : base + 1.2 * std::sin(i * 0.7) + (i % 53 == 0 ? 9 : 0);
  p.nll = p.prompt ? -1 : 1.6 + 1.4 * std::sin(i * 1.3);
  p.entropy = 2.1;
  p.kvLive = p.epoch == 2 ? 128 : i + 1;
  p.kvEvicted = i + 1 - p.kvLive;
  p.memory[static_cast<size_t>(p.epoch == 0 ? MemoryTag::weightsMapped : MemoryTag::weights)] = p.epoch == 0 ? qint64{2} << 30 : qint64{620} << 20;
  p.memory[static_cast<size_t>(MemoryTag::kv)] = p.kvLive * 65536;
  p.memory[static_cast<size_t>(MemoryTag::activations)] = 24 << 20;
  return p;
}

std::vector<storage::RunSummary> someRuns() {
  std::vector<storage::RunSummary> runs;
  const std::tuple<const char*, const char*, double, double> rows[] = {
      {"two bits", "2", 7.4, 31.9}, {"three bits", "3", 8.1, 9.12}, {"four bits", "4", 9.0, 6.94}, {"eight bits", "8", 12.6, 6.63}, {"reference", "16", 20.9, 6.61}};
  storage::Id id = 5;
  for (const auto& [name, bits, ms, perplexity] : rows) {
    storage::RunSummary run;
    run.id = id--;
    run.name = name;
    run.kind = storage::RunKind::evaluate;
    run.status = storage::RunStatus::done;
    run.model = "Example 1B";
    run.device = "cpu";
    run.protocol = "llama c=512";
    run.corpus = "sample";
    run.startedUs = 1'700'000'000'000'000 + run.id * 60'000'000;
    run.effective["weights.bits"] = bits;
    run.baseline = std::string(bits) == "16";
    const auto add = [&](const char* metric, const char* unit, double value, double half) {
      storage::Metric m;
      m.name = metric;
      m.unit = unit;
      m.better = "lower";
      m.value = value;
      m.n = 20;
      m.ciLow = value - half;
      m.ciHigh = value + half;
      run.metrics[metric] = m;
    };
    add("ms_per_token", "ms", ms, 0.1);
    add("perplexity", "", perplexity, 0.04 * perplexity);
    runs.push_back(run);
  }
  return runs;
}

storage::AttributionRecord someAttribution() {
  storage::AttributionRecord record;
  record.method = "loo";
  record.question = "What stays?";
  record.response = "The grain stays.";
  record.responseTokens = {1, 2, 3, 4};
  record.responseEnds = {3, 9, 15, 16};
  record.spanLast = 4;
  record.baseLogProb = -2.4;
  record.notes = {"The cache is evicted by streaming: the scores are those of the model as it runs so, and no prefix is reused."};
  record.noiseFloor = 0.1;
  record.forwards = 6;
  record.wallNs = 1'250'000'000;
  record.complete = true;
  const std::pair<const char*, double> sentences[] = {{"The farmer threw the harvest into the wind.", 0.9}, {"The chaff flew away.", -0.6},
                                                      {"The grain fell back and stayed.", 3.4}, {"It was a bright morning in October.", 0.05},
                                                      {"His daughter swept the floor of the barn.", 0.4}};
  for (const auto& [text, score] : sentences) {
    storage::AttributionSource source;
    source.id = static_cast<int>(record.sources.size());
    source.text = text;
    source.start = static_cast<int64_t>(record.context.size());
    record.context += text;
    source.end = static_cast<int64_t>(record.context.size());
    record.context += ' ';
    source.score = score;
    source.perToken = {0.02f * static_cast<float>(score), 0.68f * static_cast<float>(score), 0.28f * static_cast<float>(score), 0.02f * static_cast<float>(score)};
    source.ablatedLogProb = record.baseLogProb - score;
    record.sources.push_back(source);
  }
  return record;
}

}  // namespace

class GoldenTest : public QObject {
  Q_OBJECT
  ThemeManager themes_;
  Settings settings_;
  test::ChartSession session_{"golden.winnow"};
  std::unique_ptr<Workbench> workbench_;
  std::unique_ptr<MainWindow> window_;

  QImage picture(ThemeManager::Mode mode) {
    themes_.setMode(mode);
    QTest::qWait(250);  // charts are drawn at display rate
    return window_->grab().toImage();
  }
  static QString path(const QString& name, ThemeManager::Mode mode) {
    return QStringLiteral(WINNOW_TESTS_DIR "/golden/window/%1_%2.png").arg(name, mode == ThemeManager::Mode::dark ? QStringLiteral("dark") : QStringLiteral("light"));
  }
  void hold(const QString& name) {
    for (const auto mode : {ThemeManager::Mode::light, ThemeManager::Mode::dark}) {
      const QImage now = picture(mode);
      const QString file = path(name, mode);
      if (accept) {
        QVERIFY(now.save(file));
        continue;
      }
      const QImage golden(file);
      QVERIFY2(!golden.isNull(), qPrintable(file));
      QCOMPARE(now.size(), golden.size());
      const Difference d = compare(now, golden);
      qInfo("%s: %.2f on average, %.1f in the worst block", qPrintable(QFileInfo(file).fileName()), d.mean, d.worst);
      const QString seen = winnow::testing::pictureFolder() + QStringLiteral("/golden_") + QFileInfo(file).fileName();
      if (!d.small()) now.save(seen);
      QVERIFY2(d.small(), qPrintable(QStringLiteral("%1 differs by %2 on average, by %3 at %4,%5: see %6")
                                         .arg(QFileInfo(file).fileName()).arg(d.mean).arg(d.worst).arg(d.at.x()).arg(d.at.y()).arg(seen)));
    }
  }
  void fill();

 private Q_SLOTS:
  void initTestCase() {
    if (QFontInfo(interfaceFont(1)).family() != QStringLiteral("DejaVu Sans")) QSKIP("the pictures are drawn in DejaVu Sans, which this machine does not choose");
    themes_.applyTo(qApp);
    workbench_ = std::make_unique<Workbench>(EngineOptions{});
    MachineInfo machine;
    machine.threads = 8;
    machine.instructions = QStringLiteral("avx2");
    machine.memoryBytes = qint64{32} << 30;
    window_ = std::make_unique<MainWindow>(&themes_, workbench_.get(), &settings_, machine);
    window_->resize(kSize);
    window_->show();
  }
  void cleanupTestCase() {
    window_.reset();
    workbench_.reset();
  }

  void start() {
    auto* page = window_->findChild<StartPage*>();
    RecentFile model, session;
    model.path = QStringLiteral("/models/example-1b.gguf");
    model.bytes = qint64{2} << 30;
    session.path = QStringLiteral("/studies/cache-study.winnow");
    session.detail = QStringLiteral("42 runs");
    page->setRecent({model}, {session});
    hold(QStringLiteral("start"));
  }
  void live() {
    fill();
    window_->showView(MainWindow::liveTab);
    hold(QStringLiteral("live"));
  }
  void compared() {
    for (const auto& [name, bits, ms, nll] : {std::tuple("reference", 16, 20.9, 1.89), std::tuple("four bits", 4, 9.0, 1.94), std::tuple("two bits", 2, 7.4, 3.46)}) {
      session_.addBench(name, bits, ms);
      session_.addEvaluate(name, bits, nll);
    }
    QVERIFY(session_.file->flush());
    auto* view = window_->findChild<CompareView*>();
    view->setSession(session_.file);
    std::vector<storage::Id> all = session_.benches;
    all.insert(all.end(), session_.evaluations.begin(), session_.evaluations.end());
    view->setRuns(all);
    window_->showView(MainWindow::compareTab);
    hold(QStringLiteral("compare"));
  }
  void attribution() {
    const storage::AttributionRecord record = someAttribution();
    window_->showView(MainWindow::attributionTab);
    window_->attribution()->showStored(attributionResult(record), QString::fromStdString(record.context), QString::fromStdString(record.question));
    window_->attribution()->chooseSource(2);
    auto* scroll = window_->knobs()->findChild<QScrollArea*>();
    scroll->ensureWidgetVisible(child<QWidget>(window_->knobs(), "row.compute.activations"));
    hold(QStringLiteral("attribution"));
  }
  void runs() {
    window_->runs()->setRuns(someRuns(), false);
    window_->showView(MainWindow::runsTab);
    hold(QStringLiteral("runs"));
  }
  void aMissingPanelIsSeen() {
    if (accept) QSKIP("the pictures are being drawn");
    window_->showView(MainWindow::liveTab);
    auto* scroll = window_->knobs()->findChild<QScrollArea*>();
    scroll->ensureVisible(0, 0);
    const QImage golden(path(QStringLiteral("live"), ThemeManager::Mode::light));
    QVERIFY(compare(picture(ThemeManager::Mode::light), golden).small());
    for (QWidget* panel : std::initializer_list<QWidget*>{window_->findChild<Inspector*>(), window_->knobs(), window_->prompt(),
                                                          window_->findChild<LiveView*>()->plots()[0], window_->findChild<StatTile*>()}) {
      QSizePolicy kept = panel->sizePolicy();
      kept.setRetainSizeWhenHidden(true);
      panel->setSizePolicy(kept);
      panel->hide();
      const QImage without = picture(ThemeManager::Mode::light);
      panel->show();
      const Difference d = compare(without, golden);
      qInfo("without %s: %.2f on average, %.1f in the worst block", panel->metaObject()->className(), d.mean, d.worst);
      QVERIFY2(!d.small(), panel->metaObject()->className());
    }
  }
};

// Everything a run would have told the panels.
void GoldenTest::fill() {
  const ModelInfo model = someModel();
  const Config config = Config().with("weights.bits", int64_t{4}).with("kv.budget", 128.0);
  const Effective effective = resolve(config, model.config);
  window_->showView(MainWindow::liveTab);
  window_->knobs()->setModel(model.config, {});
  window_->knobs()->setRequested(config);
  window_->knobs()->setEffective(effective, false, 1);
  window_->knobs()->setPlanner([](const Config& planned) {
    MemoryByTag memory{};
    memory[static_cast<size_t>(MemoryTag::weights)] = planned.integer("weights.bits") * (int64_t{155} << 20);
    return memory;
  });
  window_->knobs()->setCacheMixed(true, 240);
  window_->prompt()->setModel(model);
  window_->prompt()->setPrompt(QStringLiteral("Tell me what the wind does to the harvest."));
  std::vector<TokenPoint> points;
  for (int i = 0; i < 320; ++i) points.push_back(token(i));
  auto* live = window_->findChild<LiveView*>();
  live->beginGeneration({});
  live->setQuality({0, 0, 6.61, 0.04, 0, 1, 8, QStringLiteral("llama c=256"), false});
  window_->prompt()->begin({});
  window_->prompt()->addTokens(points);
  live->addTokens(points);
  for (const EpochPoint& epoch : {EpochPoint{1, 120, QStringLiteral("weights.bits 16 → 4"), QStringLiteral("user"), false, {}},
                                  EpochPoint{2, 200, QStringLiteral("kv.budget 1 → 128"), QStringLiteral("user"), false, {}}}) {
    live->addEpoch(epoch);
    window_->prompt()->addEpoch(epoch);
  }
  live->setQuality({1, 120, 6.94, 0.05, 0.021, 0.94, 8, QStringLiteral("llama c=256"), false});
  live->setQuality({2, 200, 7.6, 0.06, 0.09, 0.88, 8, QStringLiteral("llama c=256"), false});
  auto* inspector = window_->findChild<Inspector*>();
  inspector->setModel(model);
  inspector->setEffective(effective, false, 1);
  inspector->setToken(&points[250]);
  inspector->setQuality(QualityPoint{2, 200, 7.6, 0.06, 0.09, 0.88, 8, QStringLiteral("llama c=256"), false});
}

int main(int argc, char** argv) {
  std::vector<char*> arguments(argv, argv + argc);
  accept = std::erase_if(arguments, [](const char* each) { return qstrcmp(each, "--accept") == 0; }) > 0;
  int count = static_cast<int>(arguments.size());
  QApplication application(count, arguments.data());
  QApplication::setApplicationName(QStringLiteral("winnow"));
  QApplication::setOrganizationName(QStringLiteral("winnow"));
  ThemeManager themes;
  themes.setMode(ThemeManager::Mode::light);
  themes.applyTo(&application);
  GoldenTest golden;
  return QTest::qExec(&golden, count, arguments.data());
}
#include "golden.moc"
