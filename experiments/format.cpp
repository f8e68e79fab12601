// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/format.h"

#include <algorithm>
#include <cmath>

namespace winnow {
namespace {

constexpr QChar minus{0x2212};

struct Scale {
  double factor;
  const char* unit;
};

}  // namespace

int decimalsFor(double value, int digits) {
  const double magnitude = std::fabs(value);
  if (!std::isfinite(magnitude) || magnitude == 0) return 0;
  int decimals = digits - 1 - static_cast<int>(std::floor(std::log10(magnitude)));
  // 9.996 with three digits is 10.0, not 10.00.
  const double step = std::pow(10.0, decimals);
  if (std::isfinite(step) && std::floor(std::log10(std::round(magnitude * step) / step)) > std::floor(std::log10(magnitude))) --decimals;
  return std::clamp(decimals, 0, 12);
}

std::optional<QString> Format::special(double value) const {
  if (std::isnan(value)) return missing();
  if (std::isinf(value)) return value > 0 ? QStringLiteral("∞") : QString(minus) + QStringLiteral("∞");
  return std::nullopt;
}

QString Format::number(double value, int decimals) const {
  QLocale locale = locale_;
  const bool plain = locale.language() == QLocale::C;
  if (plain) locale.setNumberOptions(QLocale::OmitGroupSeparator);
  QString text = locale.toString(std::fabs(value), 'f', decimals);
  if (plain) {  // the C locale has no groups; people read thousands
    const qsizetype point = text.indexOf(u'.');
    for (qsizetype at = (point < 0 ? text.size() : point) - 3; at > 0; at -= 3) text.insert(at, thinSpace);
  }
  const bool zero = std::none_of(text.begin(), text.end(), [](QChar c) { return c.isDigit() && c.digitValue() != 0; });
  return std::signbit(value) && !zero ? minus + text : text;
}

QString Format::significant(double value, int digits) const {
  if (auto s = special(value)) return *s;
  const double magnitude = std::fabs(value);
  if (magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e9)) {
    QString text = locale_.toString(value, 'e', digits - 1);
    return text.replace(u'-', minus);
  }
  return number(value, decimalsFor(value, digits));
}

QString Format::fixed(double value, int decimals) const {
  if (auto s = special(value)) return *s;
  return number(value, decimals);
}

QString Format::duration(double ns) const {
  if (auto s = special(ns)) return *s;
  const double magnitude = std::fabs(ns);
  if (magnitude >= 59.95e9) {
    const int64_t seconds = std::llround(magnitude / 1e9);
    const QString sign = ns < 0 ? QString(minus) : QString();
    const auto two = [this](int64_t a, const char* ua, int64_t b, const char* ub) {
      return withUnit(number(static_cast<double>(a), 0), QLatin1String(ua)) + u' ' + withUnit(number(static_cast<double>(b), 0), QLatin1String(ub));
    };
    if (seconds < 3600) return sign + two(seconds / 60, "min", seconds % 60, "s");
    return sign + two(seconds / 3600, "h", seconds % 3600 / 60, "m");
  }
  static constexpr Scale scales[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}};
  for (const Scale& scale : scales)  // 999.6 µs rounds to 1.00 ms
    if (magnitude >= scale.factor * 0.9995) return withUnit(number(ns / scale.factor, decimalsFor(ns / scale.factor)), QString::fromUtf8(scale.unit));
  return withUnit(number(ns, ns == std::floor(ns) ? 0 : decimalsFor(ns)), QStringLiteral("ns"));
}

QString Format::exactNanoseconds(int64_t ns) const { return withUnit(count(ns), QStringLiteral("ns")); }

QString Format::rate(double tokensPerSecond) const {
  if (auto s = special(tokensPerSecond)) return *s;
  return withUnit(number(tokensPerSecond, decimalsFor(tokensPerSecond)), QStringLiteral("tok/s"));
}

QString Format::bytes(double bytes) const {
  if (auto s = special(bytes)) return *s;
  static constexpr Scale scales[] = {{1099511627776.0, "TiB"}, {1073741824.0, "GiB"}, {1048576.0, "MiB"}, {1024.0, "KiB"}};
  for (const Scale& scale : scales)
    if (std::fabs(bytes) >= scale.factor * 0.9995) return withUnit(number(bytes / scale.factor, decimalsFor(bytes / scale.factor)), QLatin1String(scale.unit));
  return withUnit(number(bytes, 0), QStringLiteral("B"));
}

QString Format::perplexity(double value, std::optional<double> halfInterval) const {
  if (auto s = special(value)) return *s;
  const int decimals = std::fabs(value) >= 1e5 ? 0 : 2;
  const QString text = number(value, decimals);
  if (!halfInterval || !std::isfinite(*halfInterval)) return text;
  return text + QStringLiteral(" ± ") + number(*halfInterval, decimals);
}

QString Format::nats(double value) const {
  if (auto s = special(value)) return *s;
  return withUnit(significant(value), QStringLiteral("nat"));
}

QString Format::relative(double ratio) const {
  if (auto s = special(ratio)) return *s;
  if (ratio > 3) return number(ratio, decimalsFor(ratio, 2)) + u'×';
  const double percentage = (ratio - 1) * 100;
  const QString text = number(percentage, decimalsFor(percentage, 2) > 1 ? 1 : decimalsFor(percentage, 2));
  const bool positive = percentage > 0 && !text.startsWith(u'0');
  const bool rounded = text == number(0, 0) || text == number(0, 1);
  return withUnit(rounded ? number(0, 0) : (positive || percentage > 0 ? u'+' + text : text), QStringLiteral("%"));
}

QString Format::percent(double share) const {
  if (auto s = special(share)) return *s;
  return withUnit(number(share * 100, decimalsFor(share * 100)), QStringLiteral("%"));
}

QString Format::bits(double bits) const {
  if (auto s = special(bits)) return *s;
  if (bits == std::floor(bits)) return withUnit(number(bits, 0), QStringLiteral("bit"));
  return withUnit(number(bits, 1), QStringLiteral("bit avg"));
}

QString Format::count(int64_t n) const {
  if (locale_.language() != QLocale::C) return locale_.toString(static_cast<qlonglong>(n)).replace(u'-', minus);
  QString text = QString::number(n);
  const bool negative = text.startsWith(u'-');
  if (negative) text.remove(0, 1);
  for (qsizetype at = text.size() - 3; at > 0; at -= 3) text.insert(at, thinSpace);
  return negative ? minus + text : text;
}

QString Format::value(double v, const QString& unit) const {
  if (unit == QLatin1String("ms") || unit == QLatin1String("ms/token")) return milliseconds(v);
  if (unit == QLatin1String("B")) return bytes(v);
  if (unit == QLatin1String("tok/s")) return rate(v);
  if (unit == QLatin1String("nat")) return nats(v);
  if (unit == QLatin1String("bit")) return bits(v);
  if (unit == QLatin1String("%")) return percent(v / 100);
  if (unit == QLatin1String("perplexity")) return perplexity(v);
  if (auto s = special(v)) return *s;
  const bool whole = v == std::floor(v) && std::fabs(v) < 9e15;
  const QString text = whole ? count(static_cast<int64_t>(v)) : significant(v);
  return unit.isEmpty() ? text : withUnit(text, unit);
}

QString Format::interval(double v, double low, double high, const QString& unit) const {
  if (!std::isfinite(v)) return value(v, unit);
  if (!std::isfinite(low) || !std::isfinite(high)) return value(v, unit);
  double factor = 1;
  QString shown = unit;
  if (unit == QLatin1String("B")) {
    static constexpr Scale scales[] = {{1099511627776.0, "TiB"}, {1073741824.0, "GiB"}, {1048576.0, "MiB"}, {1024.0, "KiB"}};
    for (const Scale& scale : scales)
      if (std::fabs(v) >= scale.factor) {
        factor = scale.factor;
        shown = QLatin1String(scale.unit);
        break;
      }
  } else if (unit == QLatin1String("ms") || unit == QLatin1String("ms/token")) {
    const double ms = std::fabs(v);
    factor = ms >= 1000 ? 1e3 : ms >= 1 || ms == 0 ? 1 : ms >= 1e-3 ? 1e-3 : 1e-6;
    shown = ms >= 1000 ? QStringLiteral("s") : ms >= 1 || ms == 0 ? QStringLiteral("ms") : ms >= 1e-3 ? QStringLiteral("µs") : QStringLiteral("ns");
  }
  const bool ppl = unit == QLatin1String("perplexity");
  const int decimals = ppl ? 2 : decimalsFor(v / factor);
  const QString text = number(v / factor, decimals) + QStringLiteral(" [") + number(low / factor, decimals) + QStringLiteral(", ") +
                       number(high / factor, decimals) + u']';
  return ppl || shown.isEmpty() ? text : withUnit(text, shown);
}

}  // namespace winnow
