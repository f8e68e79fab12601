// SPDX-License-Identifier: GPL-3.0-or-later
// ThemeManager: which theme is shown. The application owns one and hands it to who needs colours.
#pragma once
#include <QObject>

#include "panels/theme/theme.h"

class QApplication;

namespace winnow {

class ThemeManager : public QObject {
  Q_OBJECT
 public:
  enum class Mode { system, light, dark };
  Q_ENUM(Mode)

  explicit ThemeManager(QObject* parent = nullptr);

  const Theme& theme() const { return theme_; }
  double fontScale() const { return fontScale_; }
  Mode mode() const { return mode_; }
  void setMode(Mode mode);
  void setFontScale(double scale);  // 0.8 .. 2

  // Fusion, palette, font and style sheet for the whole program, and again at every change.
  void applyTo(QApplication* application);

 Q_SIGNALS:
  void changed(const winnow::Theme& theme);

 protected:
  bool eventFilter(QObject* watched, QEvent* event) override;

 private:
  bool systemIsDark() const;
  void refresh(bool always);
  void restyle();

  Theme theme_;
  Mode mode_ = Mode::system;
  double fontScale_ = 1;
  bool systemDark_ = false;
  QApplication* application_ = nullptr;
  bool restyling_ = false;
};

}  // namespace winnow
