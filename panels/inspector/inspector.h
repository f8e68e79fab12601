// SPDX-License-Identifier: GPL-3.0-or-later
// What is under the cursor and what runs: token, configuration asked for against configuration in effect, model.
#pragma once
#include <QWidget>

#include "experiments/workbench.h"

class QFormLayout;
class QLabel;
class QVBoxLayout;

namespace winnow {

class Inspector : public QWidget {
  Q_OBJECT
 public:
  explicit Inspector(QWidget* parent = nullptr);
  void setToken(const TokenPoint* point);                // null: nothing under the cursor
  void setEffective(const Effective& effective, bool pending, double fraction);
  void setModel(const std::optional<ModelInfo>& model);
  void setQuality(const std::optional<QualityPoint>& point);

 private:
  class Section;
  QLabel* hint_ = nullptr;
  Section* token_ = nullptr;
  Section* quality_ = nullptr;
  Section* configuration_ = nullptr;
  Section* model_ = nullptr;
};

}  // namespace winnow
