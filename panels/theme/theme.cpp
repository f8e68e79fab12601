// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/theme/theme.h"

#include <QFile>
#include <QFont>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <QRegularExpression>
#include <algorithm>
#include <cmath>

#include "engine/core/check.h"

// Resources of a static library are registered by hand, outside every namespace.
static void registerThemeResources() { Q_INIT_RESOURCE(themes); }

namespace winnow {
namespace {

struct NamedColor {
  const char* name;
  QColor Theme::*member;
};
constexpr NamedColor namedColors[] = {
    {"window", &Theme::window},
    {"plot", &Theme::plot},
    {"surface", &Theme::surface},
    {"raised", &Theme::raised},
    {"sunken", &Theme::sunken},
    {"hover", &Theme::hover},
    {"pressed", &Theme::pressed},
    {"border", &Theme::border},
    {"border_strong", &Theme::borderStrong},
    {"text", &Theme::text},
    {"text_secondary", &Theme::textSecondary},
    {"text_disabled", &Theme::textDisabled},
    {"grid", &Theme::grid},
    {"accent", &Theme::accent},
    {"accent_hover", &Theme::accentHover},
    {"accent_text", &Theme::accentText},
    {"selection", &Theme::selection},
    {"better", &Theme::better},
    {"worse", &Theme::worse},
    {"attribution_plus_weak", &Theme::attributionPlusWeak},
    {"attribution_plus_strong", &Theme::attributionPlusStrong},
    {"attribution_minus_weak", &Theme::attributionMinusWeak},
    {"attribution_minus_strong", &Theme::attributionMinusStrong},
    {"notice", &Theme::notice},
    {"notice_text", &Theme::noticeText},
    {"error", &Theme::error},
    {"error_text", &Theme::errorText},
};

Error themeError(const QString& origin, const QString& what) {
  return {ErrorCode::badInput, QStringLiteral("Theme %1: %2.").arg(origin, what).toStdString(), {}};
}

struct DashName {
  const char* name;
  std::array<qreal, 6> lengths;
  int count;
  bool thin;
};
constexpr DashName dashes[] = {
    {"solid", {}, 0, false},
    {"dash", {5, 3}, 2, false},
    {"dot", {1.5, 2.5}, 2, false},
    {"dash-dot", {5, 2.5, 1.5, 2.5}, 4, false},
    {"long-dash", {9, 3}, 2, false},
    {"dash-dot-dot", {5, 2.5, 1.5, 2.5, 1.5, 2.5}, 6, false},
    {"solid-thin", {}, 0, true},
    {"dot-thin", {1.5, 2.5}, 2, true},
};
constexpr const char* markers[] = {"none", "circle", "square", "triangle", "diamond", "plus", "cross", "star"};

bool readSeries(const QJsonObject& from, SeriesStyle& to, QString& wrong) {
  to.line = QColor(from[QLatin1String("line")].toString());
  to.band = QColor(from[QLatin1String("band")].toString());
  if (!to.line.isValid() || !to.band.isValid()) {
    wrong = QStringLiteral("a series needs the colours 'line' and 'band' as #RRGGBB");
    return false;
  }
  const QString dash = from[QLatin1String("dash")].toString(), marker = from[QLatin1String("marker")].toString();
  const auto* d = std::find_if(std::begin(dashes), std::end(dashes), [&](const DashName& n) { return dash == QLatin1String(n.name); });
  const auto* m = std::find_if(std::begin(markers), std::end(markers), [&](const char* n) { return marker == QLatin1String(n); });
  if (d == std::end(dashes) || m == std::end(markers)) {
    wrong = QStringLiteral("the dash '%1' or the marker '%2' of a series is not known").arg(dash, marker);
    return false;
  }
  to.dash = QList<qreal>(d->lengths.begin(), d->lengths.begin() + d->count);
  to.thin = d->thin;
  to.marker = static_cast<MarkerShape>(m - std::begin(markers));
  return true;
}

QColor mix(const QColor& a, const QColor& b, double share) {
  auto part = [&](double x, double y) { return static_cast<float>(x + (y - x) * share); };
  return QColor::fromRgbF(part(a.redF(), b.redF()), part(a.greenF(), b.greenF()), part(a.blueF(), b.blueF()));
}

QStringList interfaceFamilies() {
  return {QStringLiteral("Inter"), QStringLiteral("Segoe UI"), QStringLiteral("SF Pro Text"), QStringLiteral("Noto Sans"),
          QStringLiteral("Ubuntu"), QStringLiteral("Cantarell"), QStringLiteral("DejaVu Sans")};
}

}  // namespace

QPen SeriesStyle::pen(double width, bool dashed) const {
  QPen pen(line, thin ? std::max(1.0, width - 0.4) : width);
  pen.setJoinStyle(Qt::RoundJoin);
  if (dashed && !dash.isEmpty()) {
    pen.setDashPattern(dash);
    pen.setCapStyle(Qt::FlatCap);
  }
  return pen;
}

QColor Theme::sequential(double share) {
  // Nodes of cividis at equal steps.
  static constexpr QRgb nodes[] = {0x00224E, 0x123570, 0x3B496C, 0x575D6D, 0x707173, 0x8A8678, 0xA59C74, 0xC3B369, 0xE1CC55, 0xFEE838};
  constexpr int last = static_cast<int>(std::size(nodes)) - 1;
  const double at = std::isfinite(share) ? std::clamp(share, 0.0, 1.0) * last : 0;
  const int low = std::min(static_cast<int>(at), last - 1);
  return mix(QColor(nodes[low]), QColor(nodes[low + 1]), at - low);
}

QColor Theme::diverging(double share) const {
  const double s = std::isfinite(share) ? std::clamp(share, -1.0, 1.0) : 0;
  return mix(plot, s < 0 ? series[0].line : series[1].line, std::fabs(s));
}

QPalette Theme::palette() const {
  QPalette p(text, window);
  p.setColor(QPalette::Window, window);
  p.setColor(QPalette::WindowText, text);
  p.setColor(QPalette::Base, surface);
  p.setColor(QPalette::AlternateBase, mix(surface, window, 0.6));
  p.setColor(QPalette::Text, text);
  p.setColor(QPalette::PlaceholderText, textSecondary);
  p.setColor(QPalette::Button, raised);
  p.setColor(QPalette::ButtonText, text);
  p.setColor(QPalette::BrightText, errorText);
  p.setColor(QPalette::ToolTipBase, raised);
  p.setColor(QPalette::ToolTipText, text);
  p.setColor(QPalette::Highlight, accent);
  p.setColor(QPalette::HighlightedText, accentText);
  p.setColor(QPalette::Link, accent);
  p.setColor(QPalette::LinkVisited, accent);
  p.setColor(QPalette::Light, raised);
  p.setColor(QPalette::Midlight, border);
  p.setColor(QPalette::Mid, border);
  p.setColor(QPalette::Dark, borderStrong);
  p.setColor(QPalette::Shadow, QColor(0, 0, 0));
  for (const auto role : {QPalette::WindowText, QPalette::Text, QPalette::ButtonText, QPalette::HighlightedText})
    p.setColor(QPalette::Disabled, role, textDisabled);
  p.setColor(QPalette::Disabled, QPalette::Highlight, border);
  return p;
}

QString Theme::styleSheet(double fontScale) const {
  registerThemeResources();
  QFile file(QStringLiteral(":/themes/workbench.qss"));
  CHECK(file.open(QIODevice::ReadOnly), "the style sheet is part of the program");
  QString sheet = QString::fromUtf8(file.readAll());
  static const QRegularExpression token(QStringLiteral("@([a-z_]+)(?:\\((\\d+)\\))?"));
  QString out;
  qsizetype at = 0;
  for (auto it = token.globalMatch(sheet); it.hasNext();) {
    const auto match = it.next();
    out += QStringView(sheet).mid(at, match.capturedStart() - at);
    at = match.capturedEnd();
    const QString word = match.captured(1);
    if (word == QLatin1String("px")) {
      out += QString::number(std::lround(match.captured(2).toInt() * fontScale)) + QStringLiteral("px");
    } else if (word == QLatin1String("theme")) {
      out += name;
    } else {
      const auto* c = std::find_if(std::begin(namedColors), std::end(namedColors), [&](const NamedColor& n) { return word == QLatin1String(n.name); });
      CHECK(c != std::end(namedColors), "unknown colour in the style sheet:", word.toStdString());
      out += (this->*c->member).name();
    }
  }
  out += QStringView(sheet).mid(at);
  return out;
}

Result<Theme> Theme::parse(const QByteArray& json, const QString& origin) {
  QJsonParseError problem;
  const QJsonObject root = QJsonDocument::fromJson(json, &problem).object();
  if (problem.error != QJsonParseError::NoError)
    return themeError(origin, QStringLiteral("not JSON at byte %1 (%2)").arg(problem.offset).arg(problem.errorString()));
  if (root[QLatin1String("winnow_theme")].toInt() != 1) return themeError(origin, QStringLiteral("\"winnow_theme\" is not 1"));
  Theme theme;
  theme.name = root[QLatin1String("name")].toString();
  theme.dark = root[QLatin1String("dark")].toBool();
  if (theme.name != QLatin1String("light") && theme.name != QLatin1String("dark"))
    return themeError(origin, QStringLiteral("the name is '%1', it has to be light or dark: icons come by it").arg(theme.name));
  const QJsonObject colors = root[QLatin1String("colors")].toObject();
  for (const NamedColor& c : namedColors) {
    const QColor color(colors[QLatin1String(c.name)].toString());
    if (!color.isValid()) return themeError(origin, QStringLiteral("the colour '%1' is missing or is not #RRGGBB").arg(QLatin1String(c.name)));
    theme.*c.member = color;
  }
  const QJsonArray series = root[QLatin1String("series")].toArray();
  if (series.size() != seriesCount)
    return themeError(origin, QStringLiteral("%1 series styles found, %2 are needed").arg(series.size()).arg(seriesCount));
  QString wrong;
  for (int i = 0; i < seriesCount; ++i)
    if (!readSeries(series[i].toObject(), theme.series[static_cast<size_t>(i)], wrong)) return themeError(origin, wrong);
  return theme;
}

Theme Theme::builtIn(bool dark) {
  registerThemeResources();
  const QString path = dark ? QStringLiteral(":/themes/dark.json") : QStringLiteral(":/themes/light.json");
  QFile file(path);
  CHECK(file.open(QIODevice::ReadOnly), path.toStdString());
  auto theme = parse(file.readAll(), path);
  CHECK(theme.ok(), theme.error().message);
  return *std::move(theme);
}

QFont interfaceFont(double fontScale) {
  QFont font;
  font.setFamilies(interfaceFamilies());
  font.setPixelSize(std::max(8, static_cast<int>(std::lround(13 * fontScale))));
  return font;
}

QFont monospaceFont(double fontScale) {
  QFont font;
  font.setFamilies({QStringLiteral("JetBrains Mono"), QStringLiteral("Cascadia Mono"), QStringLiteral("SF Mono"), QStringLiteral("Consolas"),
                    QStringLiteral("Noto Sans Mono"), QStringLiteral("DejaVu Sans Mono")});
  font.setStyleHint(QFont::Monospace);
  font.setPixelSize(std::max(8, static_cast<int>(std::lround(13 * fontScale))));
  return font;
}

}  // namespace winnow
