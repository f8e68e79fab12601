// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#include <QWidget>

#include "panels/events/event_model.h"

class QComboBox;
class QTableView;

namespace winnow {

class EventsPanel : public QWidget {
  Q_OBJECT
 public:
  explicit EventsPanel(QWidget* parent = nullptr);
  EventModel* model() { return &model_; }
  void add(const LogLine& line);
  QString visibleText() const;  // what Copy puts on the clipboard

 private:
  EventModel model_;
  EventFilter filter_;
  QComboBox* level_ = nullptr;
  QTableView* table_ = nullptr;
};

}  // namespace winnow
