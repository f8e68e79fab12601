// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/export/html_report.h"

#include <QDateTime>
#include <QSysInfo>
#include <algorithm>
#include <cmath>

#include "experiments/format.h"
#include "panels/theme/theme.h"
#include "winnow_build_info.h"

namespace winnow {
namespace {

constexpr size_t mostTableRows = 400;

QString escaped(const QString& s) { return s.toHtmlEscaped(); }

QString styleSheet(const Theme& t) {
  return QStringLiteral(R"(:root{color-scheme:%1}
body{margin:0;background:%2;color:%3;font:15px/1.5 Inter,"Segoe UI","Noto Sans","DejaVu Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 24px 48px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:0 0 4px}
.sub{color:%4;margin:0 0 24px}
section{background:%5;border:1px solid %6;border-radius:10px;padding:20px;margin:0 0 20px}
svg{width:100%;height:auto;display:block}
.notes{background:%7;color:%8;border-radius:6px;padding:6px 12px;margin:8px 0}
.caption{color:%4;font-size:13px;margin:8px 0 0}
table{border-collapse:collapse;font-size:13px;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid %6;vertical-align:top}
td.n,th.n{text-align:right}
details{margin-top:12px}summary{cursor:pointer;color:%9}
.wide{overflow-x:auto}
.key{white-space:nowrap;color:%4})")
      .arg(t.dark ? QStringLiteral("dark") : QStringLiteral("light"), t.window.name(), t.text.name(), t.textSecondary.name(), t.surface.name(), t.border.name(),
           t.notice.name(), t.noticeText.name(), t.accent.name());
}

// The <svg> element alone: the XML declaration has no place in HTML.
QString inlineSvg(const Chart& chart, const ExportOptions& options) {
  ExportOptions picture = options;
  picture.title = picture.caption = false;  // they stand in the page as text
  const QString svg = QString::fromUtf8(toSvg(chart, picture));
  const qsizetype start = svg.indexOf(QLatin1String("<svg"));
  QString element = start < 0 ? QString() : svg.mid(start).trimmed();
  element.insert(4, QStringLiteral(" role=\"img\" aria-label=\"%1\"").arg(escaped(chart.title)));
  return element;
}

QString dataTable(const Chart& chart) {
  QString rows;
  size_t count = 0, all = 0;
  const Format format{QLocale::c()};
  for (const Chart::Panel& p : chart.panels)
    for (const ChartSeries& s : p.series) {
      all += s.y.size();
      for (size_t i = 0; i < s.y.size() && count < mostTableRows; ++i, ++count) {
        const auto index = i < s.x.size() ? static_cast<qsizetype>(std::llround(s.x[i])) : -1;
        QString at = i < s.labels.size() && !s.labels[i].isEmpty() ? s.labels[i]
                     : index >= 0 && index < p.x.categories.size() ? p.x.categories[index]
                     : i < s.x.size()                              ? QString::number(s.x[i], 'g', 10)
                                                                   : QString();
        const bool interval = i < s.low.size() && std::isfinite(s.low[i]);
        rows += QStringLiteral("<tr><td>%1<td>%2<td>%3<td class=n>%4<td class=n>%5\n")
                    .arg(escaped(p.title.isEmpty() ? chart.title : p.title), escaped(s.name), escaped(at), escaped(format.value(s.y[i], p.y.unit)),
                         interval ? escaped(format.value(s.low[i], p.y.unit) + QStringLiteral(" … ") + format.value(s.high[i], p.y.unit)) : Format::missing());
      }
    }
  const QString more = all > count ? QStringLiteral("<p class=sub>The first %1 of %2 rows; all of them are in the JSON block of this page.</p>").arg(count).arg(all) : QString();
  return QStringLiteral("<details><summary>Numbers</summary><div class=wide><table><tr><th>Chart<th>Series<th>At<th class=n>Value<th class=n>95 % interval\n%1</table></div>%2</details>")
      .arg(rows, more);
}

// Inside a script element only "</" and "<!--" could end it early.
QString jsonBlock(const Chart& chart) {
  QString json = QString::fromUtf8(toJson(chart));
  json.replace(QStringLiteral("<"), QStringLiteral("\\u003c"));
  return QStringLiteral("<script type=\"application/json\" class=\"winnow-chart\" data-chart=\"%1\">\n%2</script>\n").arg(escaped(chart.name), json);
}

QString chartSection(const Chart& chart, const ExportOptions& options) {
  QString out = QStringLiteral("<section><h2>%1</h2>\n%2\n").arg(escaped(chart.title), inlineSvg(chart, options));
  if (!chart.notes.isEmpty()) out += QStringLiteral("<p class=notes>%1</p>\n").arg(escaped(chart.notes.join(QStringLiteral(" "))));
  if (!chart.caption.isEmpty()) out += QStringLiteral("<p class=caption>%1</p>\n").arg(escaped(chart.caption));
  return out + dataTable(chart) + jsonBlock(chart) + QStringLiteral("</section>\n");
}

QString reproducibility(const std::vector<Chart>& charts) {
  std::vector<std::pair<QString, QString>> rows;
  for (const Chart& chart : charts)
    for (const auto& row : chart.reproducibility)
      if (std::find(rows.begin(), rows.end(), row) == rows.end()) rows.push_back(row);
  rows.emplace_back(QStringLiteral("Written by"), QStringLiteral("Winnow " WINNOW_VERSION " (" WINNOW_SOURCE_REVISION "), " WINNOW_COMPILER));
  rows.emplace_back(QStringLiteral("Written on"), QSysInfo::prettyProductName() + QStringLiteral(", ") + QSysInfo::currentCpuArchitecture() + QStringLiteral(", Qt ") + QString::fromLatin1(qVersion()));
  QString out = QStringLiteral("<section><h2>How to make it again</h2><div class=wide><table>");
  for (const auto& [key, value] : rows) out += QStringLiteral("<tr><td class=key>%1<td>%2\n").arg(escaped(key), escaped(value).replace(u'\n', QStringLiteral("<br>")));
  return out + QStringLiteral("</table></div></section>\n");
}

}  // namespace

QByteArray toHtml(const QString& title, const std::vector<Chart>& charts, const ExportOptions& options) {
  const Theme theme = Theme::builtIn(options.dark);
  QString body;
  for (const Chart& chart : charts) body += chartSection(chart, options);
  const QString date = QDateTime::currentDateTimeUtc().toString(Qt::ISODate);
  // Pieces that came from data are joined, not substituted: a "%1" in a name stays what it is.
  QString out = QStringLiteral("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
  out += escaped(title) + QStringLiteral("</title>\n<style>") + styleSheet(theme) + QStringLiteral("</style></head><body><main>\n<h1>") + escaped(title);
  out += QStringLiteral("</h1><p class=sub>Winnow report, ") + date + QStringLiteral("</p>\n") + body + reproducibility(charts) + QStringLiteral("</main></body></html>\n");
  return out.toUtf8();
}

}  // namespace winnow
