// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/main_window.h"

#include <QCloseEvent>
#include <QFileInfo>
#include <QDockWidget>
#include <QMenuBar>
#include <QResizeEvent>
#include <QStackedWidget>
#include <QStatusBar>
#include <QTabBar>
#include <QTabWidget>
#include <QToolBar>
#include <QVBoxLayout>

#include "app/gui/action_registry.h"
#include "app/gui/attention_dialog.h"
#include "app/gui/banner.h"
#include "app/gui/icons.h"
#include "app/gui/kept_mass_dialog.h"
#include "app/gui/measure_dialog.h"
#include "app/gui/similarity_dialog.h"
#include "app/gui/status_chips.h"
#include "panels/attribution/attribution_view.h"
#include "panels/cache/cache_view.h"
#include "panels/events/events_panel.h"
#include "panels/inspector/inspector.h"
#include "panels/knobs/knob_panel.h"
#include "panels/live/live_view.h"
#include "panels/plot/compare_view.h"
#include "panels/runs/runs_view.h"
#include "panels/start/start_page.h"
#include "panels/text/prompt_panel.h"
#include "panels/text/wording.h"
#include "panels/weights/weights_view.h"

namespace winnow {
namespace {
constexpr int kLayoutVersion = 1;  // raise when docks change: an older layout is then left aside
}

MainWindow::MainWindow(ThemeManager* themes, Workbench* workbench, Settings* settings, const MachineInfo& machine, QWidget* parent)
    : QMainWindow(parent), themes_(themes), workbench_(workbench), settings_(settings), machine_(machine) {
  setObjectName(QStringLiteral("mainWindow"));
  setAcceptDrops(true);
  setDockOptions(AnimatedDocks | AllowNestedDocks | AllowTabbedDocks);
  setTabPosition(Qt::AllDockWidgetAreas, QTabWidget::North);
  setCorner(Qt::BottomLeftCorner, Qt::LeftDockWidgetArea);
  setCorner(Qt::BottomRightCorner, Qt::BottomDockWidgetArea);
  buildCentre();
  buildDocks();
  chips_ = new StatusChips(statusBar(), workbench_, machine_);
  buildActions();
  connectWorkbench();
  connectPanels();
  runsTimer_.setSingleShot(true);
  runsTimer_.setInterval(120);
  connect(&runsTimer_, &QTimer::timeout, this, &MainWindow::refreshRuns);
  connect(themes_, &ThemeManager::changed, this, &MainWindow::applyTheme);
  applyTheme(themes_->theme());
  resize(1440, 900);
  setMinimumSize(820, 560);
  if (!settings_->geometry().isEmpty()) restoreGeometry(settings_->geometry());
  layoutBeforeStart_ = settings_->layout();
  start_->setMachine(machine_.line(), machine_.details());
  showStartPage();
  modelChanged();
  effectiveChanged();
  refreshRuns();
  QTimer::singleShot(0, this, &MainWindow::findInterrupted);
}

MainWindow::~MainWindow() {
  // Panels go before the clock and the cursor they are told of.
  disconnect(workbench_, nullptr, this, nullptr);
  disconnect(tabs_, nullptr, this, nullptr);
  delete takeCentralWidget();
  for (QDockWidget* each : docks_) delete each;
}

void MainWindow::buildCentre() {
  auto* centre = new QWidget(this);
  auto* column = new QVBoxLayout(centre);
  column->setContentsMargins(0, 0, 0, 0);
  column->setSpacing(0);
  banner_ = new Banner(centre);
  auto* margin = new QWidget(centre);
  auto* around = new QVBoxLayout(margin);
  around->setContentsMargins(8, 6, 8, 0);
  around->addWidget(banner_);
  column->addWidget(margin);
  pages_ = new QStackedWidget(centre);
  start_ = new StartPage(pages_);
  pages_->addWidget(start_);
  tabs_ = new QTabWidget(pages_);
  tabs_->setObjectName(QStringLiteral("views"));
  tabs_->setDocumentMode(true);
  tabs_->setAccessibleName(tr("Views"));
  tabs_->tabBar()->setAccessibleName(tr("Views"));
  PlotContext context;
  context.themes = themes_;
  context.clock = &clock_;
  context.cursor = &cursor_;
  live_ = new LiveView(context, tabs_);
  live_->setObjectName(QStringLiteral("live"));
  tabs_->addTab(live_, tr("Live"));
  compare_ = new CompareView(themes_, tabs_);
  compare_->setObjectName(QStringLiteral("compare"));
  tabs_->addTab(compare_, tr("Compare"));
  attribution_ = new AttributionView(tabs_);
  tabs_->addTab(attribution_, tr("Attribution"));
  runs_ = new RunsView(tabs_);
  tabs_->addTab(runs_, tr("Runs"));
  weights_ = new WeightsView(tabs_);
  tabs_->addTab(weights_, tr("Weights"));
  cache_ = new CacheView(tabs_);
  tabs_->addTab(cache_, tr("Cache"));
  pages_->addWidget(tabs_);
  connect(tabs_, &QTabWidget::currentChanged, this, &MainWindow::makeRoom);
  column->addWidget(pages_, 1);
  setCentralWidget(centre);
}

QDockWidget* MainWindow::dock(const QString& title, const QString& name, QWidget* content, Qt::DockWidgetArea area) {
  auto* out = new QDockWidget(title, this);
  out->setObjectName(name);
  out->setAccessibleName(title);
  out->setWidget(content);
  addDockWidget(area, out);
  docks_.push_back(out);
  return out;
}

void MainWindow::buildDocks() {
  knobs_ = new KnobPanel(Schema::instance(), this);
  dock(tr("Knobs"), QStringLiteral("dock.knobs"), knobs_, Qt::LeftDockWidgetArea);
  inspector_ = new Inspector(this);
  dock(tr("Inspector"), QStringLiteral("dock.inspector"), inspector_, Qt::RightDockWidgetArea);
  prompt_ = new PromptPanel(&cursor_, this);
  QDockWidget* text = dock(tr("Prompt and output"), QStringLiteral("dock.prompt"), prompt_, Qt::BottomDockWidgetArea);
  events_ = new EventsPanel(this);
  QDockWidget* events = dock(tr("Events"), QStringLiteral("dock.events"), events_, Qt::BottomDockWidgetArea);
  tabifyDockWidget(text, events);
  for (QDockWidget* each : {text, events}) each->setTitleBarWidget(new QWidget(each));  // the tab says it already
  text->raise();
}

void MainWindow::defaultLayout() {
  aside_.clear();
  for (QDockWidget* each : docks_) {
    each->setFloating(false);
    each->show();
  }
  addDockWidget(Qt::LeftDockWidgetArea, docks_[0]);
  addDockWidget(Qt::RightDockWidgetArea, docks_[1]);
  addDockWidget(Qt::BottomDockWidgetArea, docks_[2]);
  addDockWidget(Qt::BottomDockWidgetArea, docks_[3]);
  tabifyDockWidget(docks_[2], docks_[3]);
  docks_[2]->raise();
  inspectorAside_ = width() < 1200;  // the centre needs the room
  docks_[1]->setVisible(!inspectorAside_);
  resizeDocks({docks_[0], docks_[1]}, {width() < 1200 ? 300 : 328, 264}, Qt::Horizontal);
  resizeDocks({docks_[2]}, {height() < 800 ? 210 : 270}, Qt::Vertical);
}

// The inspector gives way to the centre in a narrow window and comes back in a wide one.
void MainWindow::resizeEvent(QResizeEvent* event) {
  QMainWindow::resizeEvent(event);
  if (startPageShown() || event->oldSize().width() == width()) return;
  QDockWidget* inspector = docks_[1];
  if (width() < 1200 && inspector->isVisible() && !inspector->isFloating()) {
    inspector->hide();
    inspectorAside_ = true;
  } else if (width() >= 1200 && inspectorAside_) {
    inspector->show();
    inspectorAside_ = false;
    resizeDocks({inspector}, {264}, Qt::Horizontal);
  }
}

bool MainWindow::startPageShown() const { return pages_->currentWidget() == start_; }

void MainWindow::makeRoom() {
  const bool weights = !startPageShown() && tabs_->currentWidget() == weights_;
  workbench_->watchWeights(weights);
  if (weights) refreshSensitivity();
  if (startPageShown()) return;
  if (tabs_->currentWidget() != attribution_ && tabs_->currentWidget() != weights_) return giveBack();
  if (keepDocks_ || !aside_.empty()) return;
  layoutBefore_ = saveState(kLayoutVersion);
  focusBefore_ = focusWidget() && prompt_->isAncestorOf(focusWidget()) ? focusWidget() : nullptr;
  for (QDockWidget* each : {docks_[1], docks_[2], docks_[3]}) {
    if (each->isHidden() || each->isFloating()) continue;
    aside_.push_back(each);
    each->hide();
  }
}

void MainWindow::giveBack() {
  if (aside_.empty()) return;
  keepDocks_ = std::any_of(aside_.begin(), aside_.end(), [](const QDockWidget* each) { return !each->isHidden(); });
  if (keepDocks_) {
    for (QDockWidget* each : aside_) each->show();
  } else {
    restoreState(layoutBefore_, kLayoutVersion);
  }
  aside_.clear();
  if (width() < 1200 && docks_[1]->isVisible() && !docks_[1]->isFloating()) {
    docks_[1]->hide();
    inspectorAside_ = true;
  }
  if (focusBefore_ && !knobs_->isAncestorOf(focusWidget())) focusBefore_->setFocus(Qt::OtherFocusReason);
}

void MainWindow::showStartPage() {
  giveBack();
  if (pages_->currentWidget() != start_ && layoutBeforeStart_.isEmpty()) layoutBeforeStart_ = saveState(kLayoutVersion);
  for (QDockWidget* each : docks_) each->hide();
  bar_->hide();
  statusBar()->hide();
  pages_->setCurrentWidget(start_);
  refreshRecent();
  updateActions();
}

void MainWindow::leaveStartPage() {
  if (!startPageShown()) return;
  pages_->setCurrentWidget(tabs_);
  bar_->show();
  statusBar()->show();
  const bool known = !layoutBeforeStart_.isEmpty() && restoreState(layoutBeforeStart_, kLayoutVersion);
  if (!known) defaultLayout();
  layoutBeforeStart_.clear();
  prompt_->focusPrompt();
  makeRoom();
  updateActions();
}

void MainWindow::showView(View view) {
  leaveStartPage();
  QWidget* const widgets[] = {live_, compare_, attribution_, runs_, weights_, cache_};
  tabs_->setCurrentWidget(widgets[view]);
}

void MainWindow::applyTheme(const Theme& theme) {
  prompt_->setTheme(theme);
  attribution_->setTheme(theme);
  runs_->setTheme(theme);
  weights_->setTheme(theme);
  cache_->setTheme(theme);
  if (similarity_) similarity_->setTheme(theme);
  if (attention_) attention_->setTheme(theme);
  if (keptMass_) keptMass_->setTheme(theme);
  for (QAction* action : actions_->all()) {
    const QString name = action->property("iconName").toString();
    if (!name.isEmpty()) action->setIcon(lineIcon(name, theme.text, theme.textDisabled));
  }
  setWindowIcon(lineIcon(QStringLiteral("app"), theme.accent, theme.accent));
}

void MainWindow::refreshTitle() {
  QStringList parts;
  if (workbench_->hasModel()) parts << workbench_->model().name;
  if (const auto session = workbench_->session(); session && !workbench_->sessionIsTemporary())
    parts << QFileInfo(QString::fromStdString(session->path())).fileName();
  parts << tr("Winnow");
  setWindowTitle(parts.join(QStringLiteral(" – ")));
}

// Runs of a session without a name stay in the user's data folder, so closing loses nothing and asks nothing.
void MainWindow::closeEvent(QCloseEvent* event) {
  const auto session = workbench_->session();
  if (session && workbench_->sessionIsTemporary() && !runs_->model()->runs().empty())
    settings_->addSession(QString::fromStdString(session->path()), runsText());
  closing_ = true;
  giveBack();
  settings_->setWindow(saveGeometry(), startPageShown() ? layoutBeforeStart_ : saveState(kLayoutVersion));
  workbench_->stop();
  event->accept();
}

}  // namespace winnow
