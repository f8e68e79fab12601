// SPDX-License-Identifier: GPL-3.0-or-later
#include <QApplication>
#include <QComboBox>
#include <QDoubleSpinBox>
#include <QFile>
#include <QImageReader>
#include <QJsonDocument>
#include <QJsonObject>
#include <QLabel>
#include <QProcess>
#include <QRegularExpression>
#include <QSpinBox>
#include <QStandardPaths>
#include <QTableView>
#include <QTemporaryDir>
#include <QXmlStreamReader>
#include <QtTest>

#include <set>

#include "panels/export/chart_export.h"
#include "panels/export/export_dialog.h"
#include "panels/plot/compare_view.h"
#include "tests/support/chart_session.h"

using namespace winnow;

namespace {

QByteArray contents(const QString& path) {
  QFile file(path);
  return file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
}

struct Svg {
  bool wellFormed = true;
  QString text;
  QString width, height;
  int paths = 0;
};
Svg readSvg(const QByteArray& bytes) {
  Svg svg;
  QXmlStreamReader xml(bytes);
  while (!xml.atEnd()) {
    xml.readNext();
    if (xml.isStartElement() && xml.name() == QLatin1String("svg")) {
      svg.width = xml.attributes().value(QLatin1String("width")).toString();
      svg.height = xml.attributes().value(QLatin1String("height")).toString();
    }
    if (xml.isStartElement() && (xml.name() == QLatin1String("path") || xml.name() == QLatin1String("polyline") || xml.name() == QLatin1String("rect"))) ++svg.paths;
    if (xml.isCharacters()) svg.text += xml.text().toString().simplified() + u'\n';
  }
  svg.wellFormed = !xml.hasError();
  return svg;
}

}  // namespace

class ExportTest : public QObject {
  Q_OBJECT
  std::unique_ptr<test::ChartSession> session_;
  QTemporaryDir folder_;
  Chart chart(const char* name) {
    auto c = buildChart(*session_->file, QString::fromLatin1(name), {});
    if (!c) throw std::runtime_error(c.error().message);
    return *std::move(c);
  }
  QString path(const QString& name) { return folder_.filePath(name); }

 private Q_SLOTS:
  void initTestCase() {
    session_ = std::make_unique<test::ChartSession>();
    session_->fill();
  }

  void pngHasTheSizeAsked_data() {
    QTest::addColumn<double>("scale");
    for (const double s : {1.0, 2.0, 3.0, 4.0}) QTest::addRow("%g", s) << s;
  }
  void pngHasTheSizeAsked() {
    QFETCH(double, scale);
    ExportOptions options;
    options.size = QSizeF(640, 400);
    options.scale = scale;
    const QString file = path(QStringLiteral("a%1.png").arg(scale));
    QVERIFY(exportChart(chart("comparison"), options, file).ok());
    QImageReader reader(file);
    QCOMPARE(reader.size(), QSize(640, 400) * scale);
    const QImage image = reader.read();
    QVERIFY(std::abs(image.dotsPerMeterX() - scale * 96 / 0.0254) < 2);
    QCOMPARE(image.pixelColor(0, 0), Theme::builtIn(false).plot);
    QCOMPARE(image.pixelColor(image.width() - 1, image.height() - 1), Theme::builtIn(false).plot);
    std::set<QRgb> colors;
    for (int y = 0; y < image.height(); y += 2)
      for (int x = 0; x < image.width(); x += 2) colors.insert(image.pixel(x, y));
    QVERIFY(colors.size() > 20);
    QVERIFY(colors.count(Theme::builtIn(false).style(0).band.rgb()));
  }

  void everyChartInEveryFormat() {
    test::ChartSession several;
    several.fill();
    several.addApproximation();
    for (const QString& name : chartNames())
      for (const QString& format : exportFormats()) {
        auto c = buildChart(name == QLatin1String("attribution-pareto") ? *several.file : *session_->file, name, {});
        QVERIFY2(c.ok(), qPrintable(name));
        const QString file = path(name + u'.' + format);
        const Status done = exportChart(*c, {}, file);
        QVERIFY2(done.ok(), done.ok() ? "" : done.error().message.c_str());
        QVERIFY2(QFileInfo(file).size() > 200, qPrintable(file));
        if (format != QLatin1String("svg")) continue;
        const Svg svg = readSvg(contents(file));
        QVERIFY(svg.wellFormed);
        QVERIFY2(svg.text.contains(c->title), qPrintable(svg.text));
        QVERIFY(svg.paths > 3);
      }
  }

  void svgIsText() {
    ExportOptions options;
    options.size = QSizeF(900, 420);
    const QByteArray bytes = toSvg(chart("comparison"), options);
    const Svg svg = readSvg(bytes);
    QVERIFY(svg.wellFormed);
    for (const char* needed : {"Latency", "Memory", "Perplexity", "weights.bits 4", "median time per token (ms)"}) QVERIFY2(svg.text.contains(QLatin1String(needed)), needed);
    QVERIFY(svg.text.contains(QStringLiteral("tinystories_val")));  // caption
    QVERIFY(!bytes.contains("<image"));                             // shapes, not a picture of them
    QVERIFY(bytes.contains(", sans-serif"));
  }

  void pdfIsVectorWithText() {
    ExportOptions options;
    options.size = QSizeF(pixelsFromMillimetres(180), pixelsFromMillimetres(90));
    const QString file = path(QStringLiteral("b.pdf"));
    QVERIFY(exportChart(chart("comparison"), options, file).ok());
    const QByteArray bytes = contents(file);
    QVERIFY(bytes.startsWith("%PDF-1."));
    QVERIFY(bytes.trimmed().endsWith("%%EOF"));
    QVERIFY(!bytes.contains("/Subtype /Image"));
    const QRegularExpression box(QStringLiteral("/MediaBox \\[0 0 ([0-9.]+) ([0-9.]+)\\]"));
    const auto match = box.match(QString::fromLatin1(bytes));
    QVERIFY(match.hasMatch());
    QVERIFY(std::abs(match.captured(1).toDouble() - 180 / 25.4 * 72) < 1.5);
    QVERIFY(std::abs(match.captured(2).toDouble() - 90 / 25.4 * 72) < 1.5);
    const QString tool = QStandardPaths::findExecutable(QStringLiteral("pdftotext"));
    if (tool.isEmpty()) QSKIP("pdftotext is not installed: the text of the PDF is not read back");
    QProcess process;
    process.start(tool, {file, QStringLiteral("-")});
    QVERIFY(process.waitForFinished());
    const QString text = QString::fromUtf8(process.readAllStandardOutput());
    for (const char* needed : {"Comparison", "Latency", "weights.bits 4", "tinystories-3m"}) QVERIFY2(text.contains(QLatin1String(needed)), qPrintable(text));
  }

  void htmlStandsAlone() {
    Chart c = chart("comparison");
    c.panels[0].x.categories[0] = QStringLiteral("</script><script>alert(1)</script>");
    c.title = QStringLiteral("A & B <i>100%1</i>");
    ExportOptions options;
    c.reproducibility = {{QStringLiteral("Seed"), QStringLiteral("7 <b>")}};
    const QString file = path(QStringLiteral("r.html"));
    QVERIFY(exportReport(QStringLiteral("Report %2"), {c, chart("pareto")}, options, file).ok());
    const QString html = QString::fromUtf8(contents(file));
    // Nothing is fetched: no link, picture, style or script from elsewhere (xmlns names are names).
    static const QRegularExpression outside(QStringLiteral("(src|href)\\s*=|url\\(|@import|<link|<iframe"));
    const auto found = outside.match(QString(html).remove(QRegularExpression(QStringLiteral("(xlink:href|url\\()[\"(]?#[^\")]*[\")]"))));
    QVERIFY2(!found.hasMatch(), qPrintable(html.mid(found.capturedStart() - 40, 120)));
    QCOMPARE(html.count(QStringLiteral("<svg")), 2);
    QVERIFY(!html.contains(QStringLiteral("<script>alert")));
    QVERIFY(html.contains(QStringLiteral("A &amp; B &lt;i&gt;100%1&lt;/i&gt;")));
    QVERIFY(html.contains(QStringLiteral("Report %2")));
    QVERIFY(html.contains(QStringLiteral("7 &lt;b&gt;")));
    QVERIFY(html.contains(QStringLiteral("Winnow 0.")));
    static const QRegularExpression block(QStringLiteral("<script type=\"application/json\"[^>]*>(.*?)</script>"), QRegularExpression::DotMatchesEverythingOption);
    int blocks = 0;
    for (auto it = block.globalMatch(html); it.hasNext(); ++blocks) {
      const QJsonObject data = QJsonDocument::fromJson(it.next().captured(1).toUtf8()).object();
      QCOMPARE(data[QStringLiteral("winnow_chart")].toInt(), 1);
    }
    QCOMPARE(blocks, 2);
  }

  void badRequestsAreRefusedAndLeaveNothing() {
    const Chart c = chart("comparison");
    const auto refused = [&](const QString& name, const ExportOptions& options, ErrorCode code) {
      const Status done = exportChart(c, options, path(name));
      return !done && done.error().code == code && !QFile::exists(path(name)) && !done.error().message.empty();
    };
    ExportOptions options;
    QVERIFY(refused(QStringLiteral("x.gif"), options, ErrorCode::usage));
    QVERIFY(refused(QStringLiteral("noextension"), options, ErrorCode::usage));
    QVERIFY(refused(QStringLiteral("missing/folder/x.png"), options, ErrorCode::failed));
    options.scale = 40;
    QVERIFY(refused(QStringLiteral("x.png"), options, ErrorCode::usage));
    options.scale = 2;
    options.size = QSizeF(100'000, 100);
    QVERIFY(refused(QStringLiteral("x.svg"), options, ErrorCode::usage));
    QVERIFY(!exportChart(Chart{}, {}, path(QStringLiteral("y.csv"))));
  }

  void denseLinesExportFast() {
    Chart c = chart("latency");
    ChartSeries& s = c.panels[0].series[0];
    for (int i = 0; i < 100'000; ++i) {
      s.x.push_back(s.x.back() + 1);
      s.y.push_back(6 + (i * 7919 % 100) / 50.0);
    }
    ExportOptions options;
    options.scale = 3;
    QElapsedTimer clock;
    clock.start();
    QVERIFY(exportChart(c, options, path(QStringLiteral("dense.png"))).ok());
    const qint64 png = clock.restart();
    QVERIFY(exportChart(c, options, path(QStringLiteral("dense.svg"))).ok());
    qInfo("100 000 points: PNG at 3x %lld ms, SVG %lld ms, %lld KB", png, clock.elapsed(), QFileInfo(path(QStringLiteral("dense.svg"))).size() / 1024);
    QVERIFY2(png < 3000, "the plain stroker takes more than twice as long");
    QVERIFY(QFileInfo(path(QStringLiteral("dense.svg"))).size() < 2 << 20);
  }

  void dialogWritesAndRemembers() {
    ThemeManager themes;
    QMap<QString, QVariant> kept;
    const ExportMemory memory{[&](const QString& key) { return kept.value(key); }, [&](const QString& key, const QVariant& v) { kept[key] = v; }};
    {
      ExportDialog dialog(chart("comparison"), &themes, memory);
      dialog.show();
      auto box = [&](const char* name) {
        for (QComboBox* c : dialog.findChildren<QComboBox*>())
          if (c->accessibleName() == QLatin1String(name)) return c;
        return static_cast<QComboBox*>(nullptr);
      };
      QTest::qWait(150);
      QVERIFY(!dialog.findChild<QLabel*>()->pixmap().isNull());
      const double before = dialog.options().size.width();
      box("Unit")->setCurrentIndex(1);
      QVERIFY(std::abs(dialog.options().size.width() - before) < 1);
      box("Format")->setCurrentIndex(box("Format")->findData(QStringLiteral("svg")));
      box("Theme")->setCurrentIndex(1);
      QVERIFY(!dialog.save(path(QStringLiteral("none/such.svg"))));
      QVERIFY(dialog.isVisible());
      QVERIFY(kept.isEmpty());
      QVERIFY(dialog.save(path(QStringLiteral("dialog.svg"))));
      QVERIFY(!dialog.isVisible());
    }
    QVERIFY(readSvg(contents(path(QStringLiteral("dialog.svg")))).wellFormed);
    ExportDialog again(chart("pareto"), &themes, memory);
    QCOMPARE(again.format(), QStringLiteral("svg"));
    QVERIFY(again.options().dark);
    QCOMPARE(kept[QStringLiteral("export/folder")].toString(), folder_.path());
  }

  void compareViewShowsChosenRuns() {
    ThemeManager themes;
    CompareView view(&themes);
    view.resize(1000, 700);
    view.show();
    QVERIFY(!view.chart());
    view.setSession(session_->file);
    QVERIFY(!view.chart());
    view.setRuns(session_->evaluations);
    QVERIFY(view.chart());
    auto* table = view.findChild<QTableView*>();
    QCOMPARE(table->model()->rowCount(), 5);
    QStringList cells;
    for (int r = 0; r < 5; ++r) cells << table->model()->index(r, 6).data().toString();
    QCOMPARE(cells[0], QStringLiteral("baseline"));
    QVERIFY2(cells[1].contains(QStringLiteral("within noise")), qPrintable(cells[1]));
    QVERIFY2(cells[4].contains(QStringLiteral("worse")) && cells[4].startsWith(u'▲'), qPrintable(cells[4]));
    view.setChart(QStringLiteral("perplexity"));
    QCOMPARE(view.chart()->name, QStringLiteral("perplexity"));
    view.setChart(QStringLiteral("kv"));  // those runs have no cache: a sentence, no chart
    QVERIFY(!view.chart());
  }
};

QTEST_MAIN(ExportTest)
#include "export.moc"
