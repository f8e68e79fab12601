// SPDX-License-Identifier: GPL-3.0-or-later
// The window: wires panels, actions and the workbench. It computes nothing itself.
#pragma once
#include <QMainWindow>
#include <QPointer>
#include <QTimer>
#include <optional>
#include <vector>

#include "app/gui/machine.h"
#include "app/gui/settings.h"
#include "experiments/chart_data.h"
#include "experiments/workbench.h"
#include "panels/plot/cursor_link.h"
#include "panels/plot/replot_clock.h"
#include "panels/theme/theme_manager.h"

class QDockWidget;
class QLabel;
class QProgressBar;
class QStackedWidget;
class QTabWidget;
class QToolBar;
class QToolButton;

namespace winnow {

class ActionRegistry;
class AttentionDialog;
class KeptMassDialog;
class AttributionView;
class Banner;
class BenchDialog;
class CacheView;
class CompareView;
class EvaluateDialog;
class EventsPanel;
class Inspector;
class KnobPanel;
class LiveView;
class PlanDialog;
class PromptPanel;
class RetrievalDialog;
class RunsView;
class SimilarityDialog;
class StartPage;
class StatusChips;
class WeightsView;

class MainWindow : public QMainWindow {
  Q_OBJECT
 public:
  MainWindow(ThemeManager* themes, Workbench* workbench, Settings* settings, const MachineInfo& machine, QWidget* parent = nullptr);
  ~MainWindow() override;

  enum View { liveTab, compareTab, attributionTab, runsTab, weightsTab, cacheTab };
  void showView(View view);
  // A model, a session, a text: whatever the path is. Unknown kinds are answered in the banner.
  void openPath(const QString& path);
  void openModel(const QString& path);
  bool openSession(const QString& path);
  void openPlan(const QString& path);   // empty: the dialog asks
  ActionRegistry* actions() const { return actions_; }
  Workbench* workbench() const { return workbench_; }
  KnobPanel* knobs() const { return knobs_; }
  PromptPanel* prompt() const { return prompt_; }
  AttributionView* attribution() const { return attribution_; }
  RunsView* runs() const { return runs_; }
  WeightsView* weights() const { return weights_; }
  Banner* banner() const { return banner_; }
  bool startPageShown() const;
  void openRun(qint64 run);
  void exportChart(const Chart& chart);
  void exportRuns(const std::vector<qint64>& runs);

 protected:
  void closeEvent(QCloseEvent* event) override;
  void resizeEvent(QResizeEvent* event) override;
  void dragEnterEvent(QDragEnterEvent* event) override;
  void dragLeaveEvent(QDragLeaveEvent* event) override;
  void dropEvent(QDropEvent* event) override;

 private:
  // main_window.cpp: what there is
  void buildCentre();
  void buildDocks();
  QDockWidget* dock(const QString& title, const QString& name, QWidget* content, Qt::DockWidgetArea area);
  void applyTheme(const Theme& theme);
  void defaultLayout();
  void leaveStartPage();
  void showStartPage();
  void makeRoom();      // for the attribution and the weights: what generation alone needs steps aside
  void giveBack();      // what stepped aside
  void refreshTitle();

  // main_window_actions.cpp: what a person can do
  void buildActions();
  void buildFileActions();
  void buildRunActions();
  void buildViewActions();
  void buildHelpActions();
  void buildToolBar();
  void updateActions();
  void showShortcuts();
  void showAbout();
  QWidget* currentSearchTarget();

  // main_window_files.cpp: files in and out
  void chooseModel();
  void chooseModelFolder();
  void chooseSession();
  void chooseText();
  bool saveSession();
  void loadText(const QString& path);
  void chooseContext(bool append);   // of an attribution
  void loadContext(const QString& path, bool append);
  void chooseProxy();
  void exportModel();
  QString readText(const QString& path);
  void refreshRecent();
  QString runsText() const;
  void findInterrupted();
  void saveBytes(const QString& purpose, const QString& suggestion, const QString& filter,
                 const std::function<QByteArray(const QString&)>& make);

  // main_window_jobs.cpp: what the workbench says
  void connectWorkbench();
  void connectPanels();
  void connectRuns();
  void connectWeights();
  void connectCache();
  void measureSensitivity();
  void refreshSensitivity();
  void showSuperWeights(const std::vector<SuperWeight>& found);
  void showSimilarity();
  void showAttention();
  void showKeptMass();
  void modelChanged();
  void jobChanged(const JobState& job);
  void effectiveChanged();
  void refreshRuns();
  void compareRuns(const std::vector<qint64>& runs);
  void deleteRuns(const std::vector<qint64>& runs);
  void showAttribution(const storage::AttributionRecord& record, qint64 run);
  void fail(const QString& message, const QString& hint);
  void startProbe();

  ThemeManager* themes_;
  Workbench* workbench_;
  Settings* settings_;
  MachineInfo machine_;
  ReplotClock clock_;
  CursorLink cursor_;
  ActionRegistry* actions_ = nullptr;

  QStackedWidget* pages_ = nullptr;
  StartPage* start_ = nullptr;
  Banner* banner_ = nullptr;
  QTabWidget* tabs_ = nullptr;
  LiveView* live_ = nullptr;
  CompareView* compare_ = nullptr;
  AttributionView* attribution_ = nullptr;
  RunsView* runs_ = nullptr;
  WeightsView* weights_ = nullptr;
  CacheView* cache_ = nullptr;
  KnobPanel* knobs_ = nullptr;
  Inspector* inspector_ = nullptr;
  PromptPanel* prompt_ = nullptr;
  EventsPanel* events_ = nullptr;
  StatusChips* chips_ = nullptr;
  QToolBar* bar_ = nullptr;
  std::vector<QDockWidget*> docks_;
  QPointer<EvaluateDialog> evaluate_;
  QPointer<RetrievalDialog> retrieval_;
  QPointer<BenchDialog> bench_;
  QPointer<SimilarityDialog> similarity_;
  QPointer<AttentionDialog> attention_;
  QPointer<KeptMassDialog> keptMass_;
  QPointer<PlanDialog> plan_;
  QTimer runsTimer_;
  QByteArray layoutBeforeStart_;
  QString loadingPath_, interruptedSession_;
  QString lastAdjustment_;   // shown in the banner, so that it is said once
  bool closing_ = false;
  bool inspectorAside_ = false;  // hidden for want of room
  std::vector<QDockWidget*> aside_;  // hidden while the attribution is shown
  bool keepDocks_ = false;           // somebody wanted them beside it
  QByteArray layoutBefore_;
  QPointer<QWidget> focusBefore_;    // in the prompt
};

}  // namespace winnow
