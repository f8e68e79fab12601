// SPDX-License-Identifier: GPL-3.0-or-later
// Layer sensitivity: the plan that follows from a setting, and what a session tells of it once it is run, stopped and gone on with.
#include <QFile>
#include <QTemporaryDir>
#include <QTest>

#include "engine/model/model.h"
#include "experiments/plan_runner.h"
#include "experiments/sensitivity.h"

using namespace winnow;

namespace {

const char* const kStories = WINNOW_SHARED_DATA "/models/stories260K-f32.gguf";
const char* const kText = WINNOW_SHARED_DATA "/corpora/tinystories_60k.txt";

Config configOf(const Model& model, std::initializer_list<std::pair<const char*, const char*>> settings) {
  Config config;
  for (const auto& [knob, text] : settings) config = *config.parsed(knob, text);
  return resolve(config, model.config()).config;
}

std::vector<std::string> rulesOf(const PlanFile& plan) {
  std::vector<std::string> out;
  for (const KnobValue& value : plan.axes.front().values) out.push_back(toText(value));
  return out;
}

}  // namespace

class SensitivityTest : public QObject {
  Q_OBJECT
 private Q_SLOTS:
  void init() {
    if (!QFile::exists(QString::fromUtf8(kStories))) QSKIP("shared test data not present");
    if (!model_) model_ = *Model::open(kStories);
  }

  void thePlanCompressesOneLayerOrOneMatrixAtATime() {
    const auto plan = sensitivityPlan(*model_, QString::fromUtf8(kStories), configOf(*model_, {{"weights.bits", "4"}, {"weights.group", "64"}, {"kv.budget", "0.5"}}), kText);
    QVERIFY(plan.ok());
    const int layers = model_->config().layers;
    const auto rules = rulesOf(*plan);
    const bool tied = model_->config().tiedHead;  // the head is the embedding then
    QCOMPARE(rules.size(), static_cast<size_t>(1 + layers + 7 + (tied ? 1 : 2)));
    QCOMPARE(rules[0], std::string("*:16"));
    QCOMPARE(rules[2], std::string("1:4"));
    QCOMPARE(rules[static_cast<size_t>(layers) + 1], std::string("q:4"));
    QCOMPARE(rules.back(), std::string(tied ? "embedding:4" : "head:4"));
    for (const auto& [knob, value] : plan->set) QVERIFY2(!knob.startsWith(QStringLiteral("kv.")) && knob != QStringLiteral("weights.bits"), qPrintable(knob));
    // It reads back as itself, and every point is one the engine takes as it is.
    const auto again = PlanFile::parse(plan->toJson(), {});
    QVERIFY(again.ok());
    QCOMPARE(again->toJson(), plan->toJson());
    for (const PlanFile::Point& point : plan->points()) QVERIFY(resolve(point.config, model_->config()).asRequested());
  }

  void theRulesFollowTheSetting() {
    const auto mixed = sensitivityPlan(*model_, {}, configOf(*model_, {{"weights.layers", "0:8 1.down:3"}}), kText);
    QVERIFY(mixed.ok());
    const auto rules = rulesOf(*mixed);
    QCOMPARE(rules[1], std::string("0:8"));
    QCOMPARE(rules[2], std::string("1.down:3"));
    QCOMPARE(rules[3], std::string("0.q:8"));
    QCOMPARE(rules.back(), std::string("0.down:8 1.down:3"));
    const auto pruned = sensitivityPlan(*model_, {}, configOf(*model_, {{"prune.ratio", "0.5"}}), kText);
    QVERIFY(pruned.ok());
    QCOMPARE(pruned->axes.front().knob, QStringLiteral("prune.ratios"));
    QCOMPARE(rulesOf(*pruned)[1], std::string("0:0.5"));
    QVERIFY(!sensitivityPlan(*model_, {}, Config(), kText).ok());
  }

  void aSessionTellsWhatIsMeasured() {
    const QTemporaryDir folder;
    const auto file = *storage::SessionFile::open(folder.filePath("s.winnow").toStdString(), storage::SessionFile::Mode::openOrCreate);
    QCOMPARE(latestSensitivity(*file)->points.size(), size_t{0});
    auto plan = *sensitivityPlan(*model_, QString::fromUtf8(kStories), configOf(*model_, {{"weights.bits", "3"}}), kText);
    auto& evaluate = std::get<EvaluateSpec>(plan.experiments.front());
    evaluate.context = 64;
    evaluate.chunks = 1;
    EngineOptions options;
    options.device = "cpu";
    options.threads = 2;
    std::stop_source stop;
    int done = 0;
    const Progress progress{{}, stop.get_token()};
    const auto cut = runPlan(plan, file, options, false, progress, [&](const PlanPointState& point) {
      if (point.state == storage::PointState::done && ++done == 3) stop.request_stop();
    });
    QVERIFY(!cut.ok() && cut.error().code == ErrorCode::cancelled);
    Sensitivity part = *latestSensitivity(*file);
    QCOMPARE(part.done, 3);
    QVERIFY(part.baseline > 1 && part.points[0].kld == 0.0);
    QVERIFY(part.points[1].kld > 0 && part.points[1].layer == 0 && part.points[1].perplexity > 1);
    QCOMPARE(part.points[4].state, storage::PointState::todo);
    const auto whole = runPlan(plan, file, options, true, {}, {});
    QVERIFY(whole.ok());
    QCOMPARE(whole->before, 3);
    part = *latestSensitivity(*file);
    QCOMPARE(part.done, static_cast<int>(part.points.size()));
    QCOMPARE(part.points.back().name, model_->config().tiedHead ? QStringLiteral("embedding") : QStringLiteral("head"));
    for (size_t i = 1; i < part.points.size(); ++i) QVERIFY2(part.points[i].kld > 0 && part.points[i].kldHigh >= part.points[i].kld, qPrintable(part.points[i].rule));
  }

 private:
  std::shared_ptr<const Model> model_;
};

QTEST_GUILESS_MAIN(SensitivityTest)
#include "sensitivity.moc"
