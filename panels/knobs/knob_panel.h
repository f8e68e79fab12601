// SPDX-License-Identifier: GPL-3.0-or-later
// The knob panel, generated from the schema. It shows the requested configuration and what the engine made of it, and
// reports what a person asks for. It applies nothing itself, so that tests drive it without an engine.
#pragma once
#include <QHash>
#include <QUndoStack>
#include <QWidget>
#include <functional>
#include <optional>

#include "experiments/workbench.h"

class QLabel;
class QLineEdit;
class QPushButton;
class QToolButton;
class QVBoxLayout;

namespace winnow {

class KnobRow;
class Throttle;

class KnobPanel : public QWidget {
  Q_OBJECT
 public:
  KnobPanel(const Schema& schema, QWidget* parent = nullptr);

  void setModel(const std::optional<ModelConfig>& model, const QString& whyNot);  // nullopt greys every row with the reason
  void setRequested(const Config& config);                        // from outside: shown, not recorded for undo
  void setEffective(const Effective& effective, bool pending, double pendingFraction);
  void setCacheMixed(bool mixed, double rebuildMs);
  void setPlanner(std::function<MemoryByTag(const Config&)> planner);  // memory of a configuration, in milliseconds
  void refreshCost();

  const Config& requested() const { return requested_; }
  QUndoStack* undoStack() { return &undo_; }
  KnobRow* row(const QString& name) const { return rows_.value(name); }
  void focusSearch();
  void apply(const Config& config, const QString& cause);         // shows and reports; used by undo and presets
  void change(const QString& text, const Config& config);         // one undoable step

 public Q_SLOTS:
  void resetAll();

 Q_SIGNALS:
  void configRequested(const winnow::Config& config, const QString& cause);
  void rebuildRequested();

 private:
  struct Group;
  void build();
  QWidget* buildRows();
  void connectRow(KnobRow* row);
  void edited(KnobRow* row, const KnobValue& value);
  void refreshRow(KnobRow* row, const Effective& target);
  void refreshRows();
  void filter(const QString& words);
  void showCost(const Config& candidate, const QString& label);
  QString blockedReason(const Knob& knob) const;

  const Schema& schema_;
  Config requested_;
  Effective effective_;
  std::optional<ModelConfig> model_;
  QString whyNot_;
  bool pending_ = false;
  std::function<MemoryByTag(const Config&)> planner_;
  QHash<QString, KnobRow*> rows_;
  std::vector<Group*> groups_;
  QLineEdit* search_ = nullptr;
  QToolButton* resetAll_ = nullptr;
  QLabel* empty_ = nullptr;
  QLabel* cost_ = nullptr;
  QWidget* mixedBar_ = nullptr;
  QLabel* mixedText_ = nullptr;
  QPushButton* rebuild_ = nullptr;
  QPushButton* keep_ = nullptr;
  std::optional<Config> keptUnder_;  // the configuration under which a mixed cache was kept: not asked again
  QUndoStack undo_;
  Throttle* throttle_ = nullptr;
  int gesture_ = 0;
};

}  // namespace winnow
