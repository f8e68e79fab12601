// SPDX-License-Identifier: GPL-3.0-or-later
// Which layers attend alike: the map, spans made of it or written by hand, and sharing in them.
#pragma once
#include <QDialog>
#include <optional>

#include "experiments/workbench.h"
#include "panels/theme/theme.h"

class QComboBox;
class QDoubleSpinBox;
class QLabel;
class QLineEdit;
class QPushButton;
class QSpinBox;

namespace winnow {

class JobButton;
class LikenessMap;
class TextChoice;

class SimilarityDialog : public QDialog {
  Q_OBJECT
 public:
  SimilarityDialog(Workbench* workbench, const Theme& theme, QWidget* parent = nullptr);
  void setTheme(const Theme& theme);

 Q_SIGNALS:
  void spansChosen(const QString& spans);  // share.spans

 private:
  QWidget* buildControls();
  void measure();
  void forget();                           // another model
  void showMap();
  void propose();                          // spans of the map
  void checkSpans();                       // those in the field
  void say(const QString& text, bool error = false);
  SimilarityOf which() const;

  Workbench* workbench_;
  std::optional<SimilarityMap> map_;
  LikenessMap* view_ = nullptr;
  QComboBox* which_ = nullptr;
  QDoubleSpinBox* threshold_ = nullptr;
  QSpinBox *most_ = nullptr, *first_ = nullptr, *last_ = nullptr, *tokens_ = nullptr;
  TextChoice* text_ = nullptr;
  QLineEdit* spans_ = nullptr;
  JobButton* measure_ = nullptr;
  QPushButton* share_ = nullptr;
  QLabel* said_ = nullptr;
};

}  // namespace winnow
