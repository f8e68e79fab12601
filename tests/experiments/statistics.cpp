// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/statistics.h"

#include <QtTest>
#include <algorithm>
#include <cmath>
#include <random>

#include "experiments/comparison.h"

using namespace winnow;

class StatisticsTest : public QObject {
  Q_OBJECT

  static std::vector<double> lognormal(std::mt19937_64& random, int n, double shift = 0) {
    std::lognormal_distribution<double> d(0, 0.5);
    std::vector<double> out;
    for (int i = 0; i < n; ++i) out.push_back(d(random) + shift);
    return out;
  }

 private Q_SLOTS:
  void quantilesAgainstTheDefinition() {
    const std::vector<double> v{1, 2, 4, 8};
    QCOMPARE(quantileOfSorted(v, 0), 1.0);
    QCOMPARE(quantileOfSorted(v, 1), 8.0);
    QCOMPARE(quantileOfSorted(v, 0.5), 3.0);
    QCOMPARE(quantileOfSorted(v, 1.0 / 3), 2.0);
    QCOMPARE(quantileOfSorted(v, 0.9), 4 + 4 * (0.9 * 3 - 2));
    QVERIFY(std::isnan(quantileOfSorted({}, 0.5)));
    QCOMPARE(median({9, 1, 5}), 5.0);
    const double inf = std::numeric_limits<double>::infinity();
    QCOMPARE(quantileOfSorted(std::vector<double>{1, inf}, 0), 1.0);
  }

  void summaryLeavesMissingOut() {
    const Summary s = summarize({3, std::nan(""), 1, 2});
    QCOMPARE(s.n, 3);
    QCOMPARE(s.mean, 2.0);
    QCOMPARE(s.sd, 1.0);
    QCOMPARE(s.p50, 2.0);
    QVERIFY(!s.p50Interval);  // three values hold no 95 % interval
    QCOMPARE(summarize({}).n, 0);
    QVERIFY(std::isnan(summarize({}).p50));
  }

  void quantileIntervalsCover_data() {
    QTest::addColumn<double>("q");
    QTest::addColumn<int>("n");
    QTest::newRow("median of 25") << 0.5 << 25;
    QTest::newRow("median of 200") << 0.5 << 200;
    QTest::newRow("p95 of 200") << 0.95 << 200;
  }
  void quantileIntervalsCover() {
    QFETCH(double, q);
    QFETCH(int, n);
    std::mt19937_64 random(5);
    // The true quantile of the lognormal: exp(0.5 z).
    const double truth = q == 0.5 ? 1.0 : std::exp(0.5 * 1.6448536269514722);
    int held = 0, rounds = 2000;
    for (int i = 0; i < rounds; ++i) {
      auto v = lognormal(random, n);
      std::sort(v.begin(), v.end());
      const auto interval = quantileInterval(v, q);
      QVERIFY(interval);
      held += interval->low <= truth && truth <= interval->high;
    }
    const double coverage = static_cast<double>(held) / rounds;
    QVERIFY2(coverage >= 0.93 && coverage <= 0.985, qPrintable(QString::number(coverage)));
  }

  void bootstrapIsFixedAndCovers() {
    std::mt19937_64 random(6);
    const auto v = lognormal(random, 40);
    const auto a = bootstrapMean(v), b = bootstrapMean(v);
    QVERIFY(a && b);
    QCOMPARE(a->low, b->low);
    QCOMPARE(a->high, b->high);
    const double truth = std::exp(0.125);  // mean of the lognormal
    int held = 0;
    for (int i = 0; i < 150; ++i) {
      const auto interval = bootstrapMean(lognormal(random, 60));
      held += interval->low <= truth && truth <= interval->high;
    }
    QVERIFY2(held >= 130 && held <= 149, qPrintable(QString::number(held)));
    QVERIFY(!bootstrapMean(std::vector<double>{1}));
  }

  void blocksWidenWhatIsCorrelated() {
    std::mt19937_64 random(7);
    std::normal_distribution<double> normal;
    std::vector<double> v;
    double state = 0;
    for (int i = 0; i < 400; ++i) v.push_back(state = 0.9 * state + normal(random));
    const auto single = bootstrapMean(v), blocks = blockBootstrapMean(v, 20);
    QVERIFY(blocks->high - blocks->low > 1.8 * (single->high - single->low));
  }

  void shiftAgainstBruteForce() {
    std::mt19937_64 random(8);
    const auto a = lognormal(random, 31), b = lognormal(random, 24, 0.4);
    std::vector<double> all;
    for (const double y : b)
      for (const double x : a) all.push_back(y - x);
    const auto shift = shiftBetween(a, b);
    QVERIFY(shift);
    QCOMPARE(shift->value, median(all));
    QVERIFY(shift->interval.low < shift->value && shift->value < shift->interval.high);
    QVERIFY(!shiftBetween(std::vector<double>{1, 2, 3}, b));
    int held = 0;
    const int rounds = 600;
    for (int i = 0; i < rounds; ++i) {
      const auto s = shiftBetween(lognormal(random, 20), lognormal(random, 20, 0.3));
      held += s->interval.low <= 0.3 && 0.3 <= s->interval.high;
    }
    QVERIFY2(held >= rounds * 0.93 && held <= rounds * 0.98, qPrintable(QString::number(held)));
  }

  void verdicts() {
    QCOMPARE(verdictOf(10, {-1, {-1.2, -0.8}}), Verdict::better);
    QCOMPARE(verdictOf(10, {1, {0.8, 1.2}}), Verdict::worse);
    QCOMPARE(verdictOf(10, {1, {-0.1, 2.1}}), Verdict::withinNoise);
    QCOMPARE(verdictOf(10, {-0.05, {-0.06, -0.04}}), Verdict::withinNoise);  // certain, but half a percent
    QCOMPARE(verdictOf(std::nan(""), {1, {1, 1}}), Verdict::notComparable);
  }

  void holmAgainstAWorkedExample() {
    // Sorted 0.01 0.013 0.03 0.04 against 0.0125 0.01667 0.025 0.05: the third fails, so does the fourth.
    QCOMPARE(holm({0.03, 0.01, 0.04, 0.013}), (std::vector<bool>{false, true, false, true}));
    QCOMPARE(holm({}), std::vector<bool>{});
    QCOMPARE(holm({0.05}), std::vector<bool>{true});
  }

  void sharesAgainstAWorkedExample() {
    // Wilson, 8 of 10: (0.8 + 0.19208) / 1.38416 -+ 1.96 sqrt(0.016 + 0.009604) / 1.38416.
    const Interval eight = shareInterval(8, 10);
    QVERIFY(std::fabs(eight.low - 0.490157) < 1e-5 && std::fabs(eight.high - 0.943323) < 1e-5);
    const Interval none = shareInterval(0, 3), all = shareInterval(3, 3);
    QVERIFY(none.low == 0 && none.high > 0.5 && std::fabs(all.low - (1 - none.high)) < 1e-12 && all.high == 1);
  }

  void perplexityAggregates() {
    // Two halves give what the whole gives.
    const PerplexityEstimate whole = perplexityOf(300, 1000, 150);
    QCOMPARE(whole.value, std::exp(2.0));
    QCOMPARE(whole.stderror, std::exp(2.0) * std::sqrt((1000.0 / 150 - 4) / 149));
    QVERIFY(std::isnan(perplexityOf(0, 0, 0).value));
  }
};

QTEST_GUILESS_MAIN(StatisticsTest)
#include "statistics.moc"
