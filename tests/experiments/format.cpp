// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/format.h"

#include <QtTest>
#include <limits>

using namespace winnow;

class FormatTest : public QObject {
  Q_OBJECT

  // Tables are written with plain spaces and hyphens.
  static QString plain(QString s) { return s.replace(Format::thinSpace, u' ').replace(QChar(0x2212), u'-'); }

 private Q_SLOTS:
  void duration_data() {
    QTest::addColumn<double>("ns");
    QTest::addColumn<QString>("text");
    const std::pair<double, const char*> rows[] = {{0, "0 ns"},          {412, "412 ns"},        {412.6, "413 ns"},    {999.4, "999 ns"},   {999.6, "1.00 µs"},
                                                   {18400, "18.4 µs"},   {999'700, "1.00 ms"},   {20'312'447, "20.3 ms"}, {2.314e9, "2.31 s"},  {59.94e9, "59.9 s"},
                                                   {60e9, "1 min 0 s"},  {59.97e9, "1 min 0 s"}, {6.72e12, "1 h 52 m"}, {-20.3e6, "-20.3 ms"}};
    for (const auto& [ns, text] : rows) QTest::addRow("%g", ns) << ns << QString::fromUtf8(text);
    QTest::newRow("nan") << std::nan("") << QStringLiteral("–");
    QTest::newRow("inf") << std::numeric_limits<double>::infinity() << QStringLiteral("∞");
  }
  void duration() {
    QFETCH(double, ns);
    QFETCH(QString, text);
    QCOMPARE(plain(Format(QLocale::c()).duration(ns)), text);
  }

  void bytes_data() {
    QTest::addColumn<double>("value");
    QTest::addColumn<QString>("text");
    QTest::newRow("zero") << 0.0 << "0 B";
    QTest::newRow("bytes") << 1000.0 << "1 000 B";
    QTest::newRow("kibibytes") << 1024.0 << "1.00 KiB";
    QTest::newRow("mebibytes") << 512.0 * 1048576 << "512 MiB";
    QTest::newRow("nearly a GiB") << 1073741824.0 - 1 << "1.00 GiB";
    QTest::newRow("gibibytes") << 7.4 * 1073741824 << "7.40 GiB";
    QTest::newRow("rounds up") << 9.996 * 1048576 << "10.0 MiB";
    QTest::newRow("freed") << -1024.0 * 1024 << "-1.00 MiB";
  }
  void bytes() {
    QFETCH(double, value);
    QFETCH(QString, text);
    QCOMPARE(plain(Format(QLocale::c()).bytes(value)), text);
  }

  void relative_data() {
    QTest::addColumn<double>("ratio");
    QTest::addColumn<QString>("text");
    const std::pair<double, const char*> rows[] = {{0.82, "-18 %"}, {1.042, "+4.2 %"}, {3.4, "3.4×"}, {3.0, "+200 %"}, {1.0, "0 %"}, {1.0001, "0 %"}, {0.9999, "0 %"}, {12.4, "12×"}, {0.5, "-50 %"}};
    for (const auto& [ratio, text] : rows) QTest::addRow("%g", ratio) << ratio << QString::fromUtf8(text);
  }
  void relative() {
    QFETCH(double, ratio);
    QFETCH(QString, text);
    QCOMPARE(plain(Format(QLocale::c()).relative(ratio)), text);
  }

  void others() {
    const Format f{QLocale::c()};
    QCOMPARE(plain(f.exactNanoseconds(20'312'447)), QStringLiteral("20 312 447 ns"));
    QCOMPARE(plain(f.rate(49.31)), QStringLiteral("49.3 tok/s"));
    QCOMPARE(plain(f.rate(12345.6)), QStringLiteral("12 346 tok/s"));
    QCOMPARE(plain(f.perplexity(6.6612, 0.0413)), QStringLiteral("6.66 ± 0.04"));
    QCOMPARE(plain(f.perplexity(6.6612)), QStringLiteral("6.66"));
    QCOMPARE(plain(f.nats(1.8312)), QStringLiteral("1.83 nat"));
    QCOMPARE(plain(f.bits(4)), QStringLiteral("4 bit"));
    QCOMPARE(plain(f.bits(3.28)), QStringLiteral("3.3 bit avg"));
    QCOMPARE(plain(f.count(12480)), QStringLiteral("12 480"));
    QCOMPARE(plain(f.count(-999)), QStringLiteral("-999"));
    QCOMPARE(plain(f.percent(0.982)), QStringLiteral("98.2 %"));
    QCOMPARE(plain(f.interval(20.31, 20.22, 20.44, QStringLiteral("ms"))), QStringLiteral("20.3 [20.2, 20.4] ms"));
    QCOMPARE(plain(f.interval(0.0203, 0.0202, 0.0204, QStringLiteral("ms"))), QStringLiteral("20.3 [20.2, 20.4] µs"));
    QCOMPARE(plain(f.interval(6.66, 6.62, 6.7, QStringLiteral("perplexity"))), QStringLiteral("6.66 [6.62, 6.70]"));
    QCOMPARE(f.perplexity(std::nan("")), Format::missing());
    QCOMPARE(f.nats(-0.0), f.nats(0.0));
    QCOMPARE(plain(f.significant(0.0123)), QStringLiteral("0.0123"));
    QCOMPARE(plain(f.significant(1.23e-7)), QStringLiteral("1.23e-07"));
  }

  void localeDecides() {
    const Format f{QLocale(QLocale::German)};
    QCOMPARE(plain(f.milliseconds(20.31)), QStringLiteral("20,3 ms"));
    QCOMPARE(f.count(12480), QStringLiteral("12.480"));
  }
};

QTEST_GUILESS_MAIN(FormatTest)
#include "format.moc"
