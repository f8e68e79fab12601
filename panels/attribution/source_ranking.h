// SPDX-License-Identifier: GPL-3.0-or-later
// The ranked list of sources: a bar for each score, a whisker for its standard error, the noise floor as a band.
#pragma once
#include <QTableView>

#include "panels/attribution/source_model.h"
#include "panels/theme/theme.h"

namespace winnow {

class SourceRanking : public QTableView {
  Q_OBJECT
 public:
  explicit SourceRanking(SourceModel* model, QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setChosen(int source);  // -1 = none. Emits nothing.
  int chosen() const;

 Q_SIGNALS:
  void sourceHovered(int source);  // -1 = left
  void sourceChosen(int source);   // by click or keyboard

 protected:
  void resizeEvent(QResizeEvent* event) override;
  bool viewportEvent(QEvent* event) override;

 private:
  void arrange();
  ScoreDelegate* delegate_ = nullptr;
  SourceModel* model_;
  bool quiet_ = false;
};

}  // namespace winnow
