// SPDX-License-Identifier: GPL-3.0-or-later
// The super weights of a model, and what to do with them.
#pragma once
#include <QDialog>
#include <vector>

#include "experiments/weight_watch.h"

namespace winnow {

class SuperWeightsDialog : public QDialog {
  Q_OBJECT
 public:
  // now: the present value of weights.super.
  SuperWeightsDialog(const std::vector<SuperWeight>& found, const QString& model, const QString& now, QWidget* parent = nullptr);

 Q_SIGNALS:
  void chosen(const QString& what);  // keep, zero or off: weights.super
};

}  // namespace winnow
