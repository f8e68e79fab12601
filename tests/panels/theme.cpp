// SPDX-License-Identifier: GPL-3.0-or-later
// Themes: every line can be told from the background and from every other line, also by people with colour vision deficiencies.
#include <QApplication>
#include <QFile>
#include <QPushButton>
#include <QSignalSpy>
#include <QtTest>
#include <array>
#include <cmath>

#include "panels/theme/theme_manager.h"

using namespace winnow;

namespace {

using Rgb = std::array<double, 3>;

double linear(double c) { return c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4); }
double encoded(double c) { return c <= 0.0031308 ? 12.92 * c : 1.055 * std::pow(c, 1 / 2.4) - 0.055; }
Rgb toLinear(const QColor& c) { return {linear(c.redF()), linear(c.greenF()), linear(c.blueF())}; }

double luminance(const QColor& c) {
  const Rgb l = toLinear(c);
  return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2];
}
double contrast(const QColor& a, const QColor& b) {
  const double x = luminance(a), y = luminance(b);
  return (std::max(x, y) + 0.05) / (std::min(x, y) + 0.05);
}

Rgb toLab(const Rgb& l) {
  const double x = (0.4124564 * l[0] + 0.3575761 * l[1] + 0.1804375 * l[2]) / 0.95047, y = 0.2126729 * l[0] + 0.7151522 * l[1] + 0.0721750 * l[2],
               z = (0.0193339 * l[0] + 0.1191920 * l[1] + 0.9503041 * l[2]) / 1.08883;
  const auto f = [](double t) { return t > 216.0 / 24389 ? std::cbrt(t) : (24389.0 / 27 * t + 16) / 116; };
  return {116 * f(y) - 16, 500 * (f(x) - f(y)), 200 * (f(y) - f(z))};
}

// CIEDE2000 after Sharma, Wu and Dalal.
double ciede2000(const Rgb& p, const Rgb& q) {
  constexpr double degree = M_PI / 180;
  const double c1 = std::hypot(p[1], p[2]), c2 = std::hypot(q[1], q[2]), mean7 = std::pow((c1 + c2) / 2, 7), g = 0.5 * (1 - std::sqrt(mean7 / (mean7 + std::pow(25.0, 7))));
  const double a1 = p[1] * (1 + g), a2 = q[1] * (1 + g), d1 = std::hypot(a1, p[2]), d2 = std::hypot(a2, q[2]);
  const auto hue = [&](double a, double b) {
    if (a == 0 && b == 0) return 0.0;
    const double h = std::atan2(b, a) / degree;
    return h < 0 ? h + 360 : h;
  };
  const double h1 = hue(a1, p[2]), h2 = hue(a2, q[2]), dl = q[0] - p[0], dc = d2 - d1;
  double dh = d1 * d2 == 0 ? 0 : h2 - h1;
  if (dh > 180) dh -= 360;
  if (dh < -180) dh += 360;
  const double dH = 2 * std::sqrt(d1 * d2) * std::sin(dh / 2 * degree), lm = (p[0] + q[0]) / 2, cm = (d1 + d2) / 2;
  double hm = h1 + h2;
  if (d1 * d2 != 0) hm = std::fabs(h1 - h2) <= 180 ? hm / 2 : (hm < 360 ? (hm + 360) / 2 : (hm - 360) / 2);
  const double t = 1 - 0.17 * std::cos((hm - 30) * degree) + 0.24 * std::cos(2 * hm * degree) + 0.32 * std::cos((3 * hm + 6) * degree) - 0.20 * std::cos((4 * hm - 63) * degree);
  const double turn = 30 * std::exp(-std::pow((hm - 275) / 25, 2)), cm7 = std::pow(cm, 7), rc = 2 * std::sqrt(cm7 / (cm7 + std::pow(25.0, 7)));
  const double sl = 1 + 0.015 * std::pow(lm - 50, 2) / std::sqrt(20 + std::pow(lm - 50, 2)), sc = 1 + 0.045 * cm, sh = 1 + 0.015 * cm * t, rt = -std::sin(2 * turn * degree) * rc;
  return std::sqrt(std::pow(dl / sl, 2) + std::pow(dc / sc, 2) + std::pow(dH / sh, 2) + rt * dc / sc * dH / sh);
}

// Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
using Matrix = std::array<double, 9>;
constexpr Matrix visions[] = {
    {1, 0, 0, 0, 1, 0, 0, 0, 1},
    {0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998},
    {0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.042940, 0.968881},
    {1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.303900},
};
Rgb seen(const Matrix& m, const QColor& color) {
  const Rgb l = toLinear(color);
  Rgb out;
  for (size_t r = 0; r < 3; ++r) out[r] = std::clamp(m[3 * r] * l[0] + m[3 * r + 1] * l[1] + m[3 * r + 2] * l[2], 0.0, 1.0);
  // Through 8-bit display values, as a screen shows them.
  for (double& c : out) c = linear(std::round(encoded(c) * 255) / 255);
  return out;
}

}  // namespace

class ThemeTest : public QObject {
  Q_OBJECT
  static void themes() {
    QTest::addColumn<bool>("dark");
    QTest::newRow("light") << false;
    QTest::newRow("dark") << true;
  }

 private Q_SLOTS:
  void formulaAgainstPublishedPairs() {
    // Pairs 1, 7 and 17 of Sharma, Wu and Dalal's table.
    QVERIFY(std::fabs(ciede2000({50, 2.6772, -79.7751}, {50, 0, -82.7485}) - 2.0425) < 5e-5);
    QVERIFY(std::fabs(ciede2000({50, 0, 0}, {50, -1, 2}) - 2.3669) < 5e-5);
    QVERIFY(std::fabs(ciede2000({50, 2.5, 0}, {73, 25, -18}) - 27.1492) < 5e-5);
  }

  void linesStandOut_data() { themes(); }
  void linesStandOut() {
    QFETCH(bool, dark);
    const Theme t = Theme::builtIn(dark);
    for (int i = 0; i < Theme::seriesCount; ++i) QVERIFY2(contrast(t.style(i).line, t.plot) >= 3, qPrintable(t.style(i).line.name()));
    for (const QColor& c : {t.accent, t.better, t.worse}) {
      QVERIFY2(contrast(c, t.plot) >= 3, qPrintable(c.name()));
      QVERIFY2(contrast(c, t.window) >= 3, qPrintable(c.name()));
    }
    QVERIFY(contrast(t.borderStrong, t.surface) >= 3);
  }

  void textCanBeRead_data() { themes(); }
  void textCanBeRead() {
    QFETCH(bool, dark);
    const Theme t = Theme::builtIn(dark);
    for (const QColor& background : {t.window, t.plot, t.surface, t.raised, t.hover, t.selection}) {
      QVERIFY2(contrast(t.text, background) >= 7, qPrintable(background.name()));
      QVERIFY2(contrast(t.textSecondary, background) >= 4.5 || background == t.selection, qPrintable(background.name()));
    }
    QVERIFY(contrast(t.accentText, t.accent) >= 4.5);
    QVERIFY(contrast(t.accentText, t.accentHover) >= 4.5);
    QVERIFY(contrast(t.noticeText, t.notice) >= 4.5);
    QVERIFY(contrast(t.errorText, t.error) >= 4.5);
    for (const QColor& c : {t.attributionPlusWeak, t.attributionPlusStrong, t.attributionMinusWeak, t.attributionMinusStrong}) QVERIFY2(contrast(t.text, c) >= 4.5, qPrintable(c.name()));
  }

  void linesDifferForEveryVision_data() { themes(); }
  void linesDifferForEveryVision() {
    QFETCH(bool, dark);
    const Theme t = Theme::builtIn(dark);
    double worst = 1e9;
    for (const Matrix& vision : visions)
      for (int i = 0; i < Theme::seriesCount; ++i)
        for (int j = 0; j < i; ++j) worst = std::min(worst, ciede2000(toLab(seen(vision, t.style(i).line)), toLab(seen(vision, t.style(j).line))));
    QVERIFY2(worst >= 10, qPrintable(QString::number(worst)));
    qInfo("worst distance %.1f", worst);
  }

  void seriesDifferWithoutColour_data() { themes(); }
  void seriesDifferWithoutColour() {
    QFETCH(bool, dark);
    const Theme t = Theme::builtIn(dark);
    for (int i = 0; i < Theme::seriesCount; ++i)
      for (int j = 0; j < i; ++j) QVERIFY(t.style(i).marker != t.style(j).marker);
  }

  void mapsRunFromEndToEnd() {
    const Theme t = Theme::builtIn(false);
    QVERIFY(luminance(Theme::sequential(0)) < luminance(Theme::sequential(0.5)));
    QVERIFY(luminance(Theme::sequential(0.5)) < luminance(Theme::sequential(1)));
    QCOMPARE(t.diverging(0).rgb(), t.plot.rgb());
    QCOMPARE(t.diverging(-1).rgb(), t.style(0).line.rgb());
    QCOMPARE(t.diverging(std::nan("")).rgb(), t.plot.rgb());
  }

  void badThemesAreRefusedWithTheReason_data() {
    QTest::addColumn<QByteArray>("from");
    QTest::addColumn<QByteArray>("to");
    QTest::addColumn<QString>("reason");
    QTest::newRow("not JSON") << QByteArray("{") << QByteArray("<") << "not JSON";
    QTest::newRow("version") << QByteArray("\"winnow_theme\": 1") << QByteArray("\"winnow_theme\": 2") << "winnow_theme";
    QTest::newRow("colour") << QByteArray("\"grid\"") << QByteArray("\"gird\"") << "'grid'";
    QTest::newRow("dash") << QByteArray("\"long-dash\"") << QByteArray("\"wavy\"") << "wavy";
    QTest::newRow("name") << QByteArray("\"name\": \"light\"") << QByteArray("\"name\": \"pink\"") << "pink";
  }
  void badThemesAreRefusedWithTheReason() {
    QFETCH(QByteArray, from);
    QFETCH(QByteArray, to);
    QFETCH(QString, reason);
    (void)Theme::builtIn(false);  // registers the resources
    QFile file(QStringLiteral(":/themes/light.json"));
    QVERIFY(file.open(QIODevice::ReadOnly));
    QByteArray json = file.readAll();
    QVERIFY(Theme::parse(json, QStringLiteral("light.json")).ok());
    json.replace(json.indexOf(from), from.size(), to);
    const auto theme = Theme::parse(json, QStringLiteral("light.json"));
    QVERIFY(!theme);
    const QString message = QString::fromStdString(theme.error().message);
    QVERIFY2(message.contains(reason) && message.contains(QStringLiteral("light.json")), qPrintable(message));
  }

  void switchingRestylesWhatIsShown() {
    ThemeManager manager;
    manager.setMode(ThemeManager::Mode::light);
    manager.applyTo(qApp);
    QPushButton button(QStringLiteral("Run"));
    button.show();
    QSignalSpy changed(&manager, &ThemeManager::changed);
    const QImage before = button.grab().toImage();
    manager.setMode(ThemeManager::Mode::dark);
    QCOMPARE(changed.count(), 1);
    QCOMPARE(qApp->palette().color(QPalette::Window), manager.theme().window);
    const QImage after = button.grab().toImage();
    QVERIFY(before != after);
    manager.setMode(ThemeManager::Mode::dark);
    QCOMPARE(changed.count(), 1);
    manager.setFontScale(1.5);
    QCOMPARE(changed.count(), 2);
    QVERIFY(button.sizeHint().height() > before.height() / before.devicePixelRatio());
    manager.setFontScale(9);
    QCOMPARE(manager.fontScale(), 2.0);
  }
};

QTEST_MAIN(ThemeTest)
#include "theme.moc"
