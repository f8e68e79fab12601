// SPDX-License-Identifier: GPL-3.0-or-later
// Numbers for people: one rule per quantity (three significant digits, units after a narrow no-break space, the locale's
// decimal point). Missing values are an en dash, never 0. Files take raw numbers instead, in the C locale.
#pragma once
#include <QLocale>
#include <QString>
#include <cstdint>
#include <optional>

namespace winnow {

class Format {
 public:
  explicit Format(const QLocale& locale = QLocale()) : locale_(locale) {}

  QString duration(double nanoseconds) const;      // 412 ns, 18.4 µs, 20.3 ms, 2.31 s, 1 h 52 m
  QString milliseconds(double ms) const { return duration(ms * 1e6); }
  QString exactNanoseconds(int64_t ns) const;      // 20 312 447 ns
  QString rate(double tokensPerSecond) const;      // 49.3 tok/s
  QString bytes(double bytes) const;               // 7.40 GiB, 512 MiB
  QString perplexity(double value, std::optional<double> halfInterval = {}) const;  // 6.66 ± 0.04
  QString nats(double value) const;                // 1.83 nat
  QString relative(double ratio) const;            // of new / old: −18 %, +4.2 %, 3.4×
  QString percent(double share) const;             // 98.2 %
  QString bits(double bits) const;                 // 4 bit, 3.3 bit avg
  QString count(int64_t n) const;                  // 12 480
  QString significant(double value, int digits = 3) const;
  QString fixed(double value, int decimals) const;
  // A value of a unit as charts and tables name it: ms, B, tok/s, nat, %, bit; others are appended.
  QString value(double v, const QString& unit) const;
  // "20.3 [20.2, 20.4] ms": the three share the unit and the decimals.
  QString interval(double value, double low, double high, const QString& unit) const;

  static QString missing() { return QStringLiteral("–"); }
  static constexpr QChar thinSpace{0x202F};

 private:
  std::optional<QString> special(double value) const;  // missing, ∞
  QString number(double value, int decimals) const;
  QString withUnit(const QString& number, const QString& unit) const { return number + thinSpace + unit; }
  QLocale locale_;
};

// Digits after the point so that `digits` significant ones show.
int decimalsFor(double value, int digits = 3);

}  // namespace winnow
