// SPDX-License-Identifier: GPL-3.0-or-later
#include <QActionGroup>
#include <QApplication>
#include <QDialog>
#include <QDialogButtonBox>
#include <QDockWidget>
#include <QHeaderView>
#include <QLabel>
#include <QMenuBar>
#include <QStackedWidget>
#include <QTabWidget>
#include <QTableWidget>
#include <QTextBrowser>
#include <QToolBar>
#include <QToolButton>
#include <QVBoxLayout>

#include "app/gui/action_registry.h"
#include "app/gui/command_palette.h"
#include "app/gui/main_window.h"
#include "app/gui/evaluate_dialog.h"
#include "app/gui/measure_dialog.h"
#include "app/gui/retrieval_dialog.h"
#include "panels/attribution/attribution_view.h"
#include "panels/knobs/knob_panel.h"
#include "panels/live/live_view.h"
#include "panels/runs/runs_view.h"
#include "panels/text/prompt_panel.h"
#include "panels/text/token_flow.h"

namespace winnow {

void MainWindow::buildActions() {
  actions_ = new ActionRegistry(this);
  buildFileActions();
  QAction* undo = knobs_->undoStack()->createUndoAction(actions_, tr("Undo"));
  undo->setShortcut(QKeySequence::Undo);
  undo->setProperty("iconName", QStringLiteral("undo"));
  actions_->adopt(undo, QStringLiteral("edit.undo"), tr("&Edit"));
  QAction* redo = knobs_->undoStack()->createRedoAction(actions_, tr("Redo"));
  redo->setShortcut(QKeySequence(QStringLiteral("Ctrl+Shift+Z")));
  redo->setProperty("iconName", QStringLiteral("redo"));
  actions_->adopt(redo, QStringLiteral("edit.redo"), tr("&Edit"));
  actions_->separator(tr("&Edit"));
  actions_->add({QStringLiteral("edit.resetKnobs"), tr("Reset all &knobs"), tr("&Edit")}, [this] { knobs_->resetAll(); });
  actions_->add({QStringLiteral("edit.find"), tr("&Find"), tr("&Edit"), QKeySequence::Find, tr("Search the knobs, or filter the runs")},
                [this] {
                  if (tabs_->currentWidget() == runs_ && !startPageShown())
                    runs_->focusFilter();
                  else
                    knobs_->focusSearch();
                });
  actions_->add({QStringLiteral("edit.copyOutput"), tr("Copy &output text"), tr("&Edit")}, [this] { prompt_->flow()->copy(); });
  buildRunActions();
  buildViewActions();
  buildHelpActions();
  actions_->fill(menuBar());
  buildToolBar();
}

void MainWindow::buildFileActions() {
  const QString menu = tr("&File");
  actions_->add({QStringLiteral("file.openModel"), tr("&Open model…"), menu, QKeySequence::Open, {}, QStringLiteral("open")},
                [this] { chooseModel(); });
  actions_->add({QStringLiteral("file.openFolder"),
                 tr("Open model &folder…"),
                 menu,
                 {},
                 tr("A Hugging Face folder with config.json and safetensors")},
                [this] { chooseModelFolder(); });
  actions_->add({QStringLiteral("file.starter"), tr("Open the s&tarter model"), menu}, [this] { openModel(QStringLiteral("starter")); });
  actions_->add({QStringLiteral("file.closeModel"), tr("&Close model"), menu}, [this] { workbench_->closeModel(); });
  actions_->separator(menu);
  actions_->add({QStringLiteral("file.openSession"), tr("Open &session…"), menu, QKeySequence(QStringLiteral("Ctrl+Shift+O"))},
                [this] { chooseSession(); });
  actions_->add({QStringLiteral("file.saveSession"), tr("S&ave session as…"), menu, QKeySequence(QStringLiteral("Ctrl+S"))},
                [this] { saveSession(); });
  actions_->separator(menu);
  actions_->add({QStringLiteral("file.openText"), tr("Open te&xt…"), menu, {}, tr("As the prompt, or as the context of an attribution")},
                [this] { chooseText(); });
  actions_->add(
      {QStringLiteral("file.export"), tr("&Export chart…"), menu, QKeySequence(QStringLiteral("Ctrl+E")), {}, QStringLiteral("export")},
      [this] { exportRuns(runs_->selected()); });
  actions_->add({QStringLiteral("file.exportModel"), tr("Export &model…"), menu, {}, tr("Write the compressed weights as a GGUF or a folder of Hugging Face")}, [this] { exportModel(); });
  actions_->separator(menu);
  actions_->add({QStringLiteral("file.quit"), tr("&Quit"), menu, QKeySequence(QStringLiteral("Ctrl+Q"))}, [this] { close(); });
}

void MainWindow::buildRunActions() {
  const QString menu = tr("&Run");
  actions_->add({QStringLiteral("run.generate"), tr("&Generate"), menu, QKeySequence(Qt::Key_F5), tr("Generate from the prompt"),
                 QStringLiteral("play")},
                [this] { workbench_->generate(prompt_->request()); });
  actions_->add({QStringLiteral("run.stop"), tr("&Stop"), menu, QKeySequence(QStringLiteral("Shift+F5")),
                 tr("Stop the running job; what is done is kept"), QStringLiteral("stop")},
                [this] { workbench_->stop(); });
  actions_->separator(menu);
  actions_->add({QStringLiteral("run.attribute"), tr("&Attribute"), menu, QKeySequence(Qt::Key_F6), tr("Which parts of the context made the answer")},
                [this] {
                  showView(attributionTab);
                  attribution_->run();
                });
  actions_->add({QStringLiteral("run.evaluate"), tr("&Evaluate…"), menu, QKeySequence(Qt::Key_F7),
                 tr("Perplexity and divergence on a text"), QStringLiteral("evaluate")},
                [this] {
                  if (!evaluate_) evaluate_ = new EvaluateDialog(workbench_, themes_, this);
                  evaluate_->show();
                  evaluate_->raise();
                  evaluate_->activateWindow();
                });
  actions_->add({QStringLiteral("run.retrieval"), tr("Retr&ieval…"), menu, {}, tr("Whether facts in a context are still found")},
                [this] {
                  if (!retrieval_) retrieval_ = new RetrievalDialog(workbench_, themes_, this);
                  retrieval_->show();
                  retrieval_->raise();
                  retrieval_->activateWindow();
                });
  actions_->add({QStringLiteral("run.bench"), tr("&Bench…"), menu, QKeySequence(Qt::Key_F8),
                 tr("Speed of prompt processing and generation"), QStringLiteral("bench")},
                [this] {
                  if (!bench_) bench_ = new BenchDialog(workbench_, this);
                  bench_->show();
                  bench_->raise();
                  bench_->activateWindow();
                });
  actions_->add({QStringLiteral("run.plan"), tr("&Plan…"), menu, QKeySequence(Qt::Key_F9),
                 tr("Run experiments over every combination of some knobs"), QStringLiteral("plan")},
                [this] { openPlan({}); });
  actions_->add({QStringLiteral("run.sensitivity"), tr("Measure &layer sensitivity"), menu, {},
                 tr("Compress one layer after the other, alone, and measure the divergence")},
                [this] {
                  showView(weightsTab);
                  measureSensitivity();
                });
  actions_->add({QStringLiteral("run.attention"), tr("&Where heads look…"), menu, {}, tr("The attention of every head over a text")}, [this] { showAttention(); });
  actions_->add({QStringLiteral("run.keptMass"), tr("Attention &kept…"), menu, {}, tr("How much of the whole cache's attention falls on what the cache setting keeps")},
                [this] { showKeptMass(); });
  actions_->add({QStringLiteral("run.similarity"), tr("Compare &attention of layers…"), menu, {}, tr("Which layers attend alike and could share it")},
                [this] { showSimilarity(); });
  actions_->add({QStringLiteral("run.superWeights"), tr("Find super &weights"), menu, {}, tr("Look for single weights that the whole model relies on")},
                [this] {
                  showView(weightsTab);
                  workbench_->findSuperWeights();
                });
  actions_->add(
      {QStringLiteral("run.rebuild"), tr("&Recompute the cache"), menu, {}, tr("Feed the tokens again under the present configuration")},
      [this] { workbench_->rebuildCache(); });
  actions_->separator(menu);
  actions_->add({QStringLiteral("run.observeOps"), tr("Observe &operations"), menu, {}, tr("Time by operation for each token"), {}, true},
                [this] { workbench_->observeOps(actions_->action(QStringLiteral("run.observeOps"))->isChecked()); });
  actions_->add(
      {QStringLiteral("run.probe"), tr("Live &quality"), menu, {}, tr("Score a fixed text in the background after each change"), {}, true},
      [this] { startProbe(); });
  actions_->action(QStringLiteral("run.probe"))->setChecked(true);
  actions_->separator(menu);
  actions_->add({QStringLiteral("run.baseline"), tr("Set as &baseline"), menu, QKeySequence(QStringLiteral("Ctrl+Shift+B")),
                 tr("Compare the other runs with the selected one")},
                [this] {
                  const auto ids = runs_->selected();
                  if (ids.size() == 1) Q_EMIT runs_->baselineRequested(ids.front());
                });
  actions_->add({QStringLiteral("run.compare"), tr("&Compare selected runs"), menu, QKeySequence(QStringLiteral("Ctrl+M"))},
                [this] { compareRuns(runs_->selected()); });
}

void MainWindow::buildViewActions() {
  const QString menu = tr("&View");
  const std::pair<View, QString> views[] = {
      {liveTab, tr("&Live")}, {compareTab, tr("&Compare")}, {attributionTab, tr("&Attribution")}, {runsTab, tr("&Runs")}, {weightsTab, tr("&Weights")},
                                            {cacheTab, tr("Ca&che")}};
  const char* names[] = {"live", "compare", "attribution", "runs", "weights", "cache"};
  for (const auto& [view, text] : views) {
    actions_->add({QStringLiteral("view.%1").arg(QString::fromLatin1(names[view])), text, menu,
                   QKeySequence(QStringLiteral("Ctrl+%1").arg(static_cast<int>(view) + 1))},
                  [this, v = view] { showView(v); });
  }
  actions_->separator(menu);
  for (QDockWidget* each : docks_) actions_->adopt(each->toggleViewAction(), QStringLiteral("view.") + each->objectName(), menu);
  actions_->add({QStringLiteral("view.reset"), tr("&Reset layout"), menu}, [this] {
    settings_->forgetLayout();
    defaultLayout();
  });
  actions_->add({QStringLiteral("view.fullScreen"), tr("F&ull screen"), menu, QKeySequence(Qt::Key_F11), {}, {}, true}, [this] {
    if (isFullScreen()) showNormal();
    else showFullScreen();
  });
  actions_->separator(menu);
  auto* group = new QActionGroup(this);
  const std::tuple<ThemeManager::Mode, QString, const char*> modes[] = {{ThemeManager::Mode::system, tr("Theme of the &system"), "system"},
                                                                        {ThemeManager::Mode::light, tr("Li&ght theme"), "light"},
                                                                        {ThemeManager::Mode::dark, tr("&Dark theme"), "dark"}};
  for (const auto& [mode, text, name] : modes) {
    QAction* action =
        actions_->add({QStringLiteral("view.theme.%1").arg(QString::fromLatin1(name)), text, menu, {}, {}, {}, true}, [this, m = mode] {
          themes_->setMode(m);
          settings_->setTheme(m);
        });
    group->addAction(action);
    action->setChecked(themes_->mode() == mode);
  }
  actions_->separator(menu);
  const auto scale = [this](double factor) {
    themes_->setFontScale(factor == 0 ? 1.0 : themes_->fontScale() * factor);
    settings_->setFontScale(themes_->fontScale());
  };
  actions_->add({QStringLiteral("view.larger"), tr("&Larger text"), menu, QKeySequence(QStringLiteral("Ctrl++"))}, [scale] { scale(1.1); });
  actions_->add({QStringLiteral("view.smaller"), tr("S&maller text"), menu, QKeySequence(QStringLiteral("Ctrl+-"))},
                [scale] { scale(1 / 1.1); });
  actions_->add({QStringLiteral("view.normalSize"), tr("&Normal text size"), menu, QKeySequence(QStringLiteral("Ctrl+0"))},
                [scale] { scale(0); });
}

void MainWindow::buildHelpActions() {
  const QString menu = tr("&Help");
  actions_->add({QStringLiteral("help.palette"), tr("&Commands…"), menu, QKeySequence(QStringLiteral("Ctrl+K")), tr("Type a command"),
                 QStringLiteral("search")},
                [this] {
                  auto* palette = new CommandPalette(*actions_, this);
                  palette->setAttribute(Qt::WA_DeleteOnClose);
                  palette->open();
                });
  actions_->add({QStringLiteral("help.shortcuts"), tr("&Keyboard shortcuts"), menu, QKeySequence(QStringLiteral("?"))},
                [this] { showShortcuts(); });
  actions_->add({QStringLiteral("help.about"), tr("&About Winnow"), menu}, [this] { showAbout(); });
}

void MainWindow::buildToolBar() {
  bar_ = new QToolBar(tr("Tool bar"), this);
  bar_->setObjectName(QStringLiteral("toolbar"));
  bar_->setMovable(false);
  bar_->setIconSize({18, 18});
  bar_->setToolButtonStyle(Qt::ToolButtonTextBesideIcon);
  bar_->setContextMenuPolicy(Qt::PreventContextMenu);
  addToolBar(bar_);
  const auto add = [this](const char* id) {
    QAction* action = actions_->action(QString::fromLatin1(id));
    bar_->addAction(action);
    QWidget* button = bar_->widgetForAction(action);
    button->setFocusPolicy(Qt::TabFocus);
    button->setAccessibleName(ActionRegistry::plainText(action));
    return static_cast<QToolButton*>(button);
  };
  add("file.openModel")->setText(tr("Open"));
  bar_->addSeparator();
  add("run.generate");
  add("run.stop");
  bar_->addSeparator();
  add("edit.undo")->setToolButtonStyle(Qt::ToolButtonIconOnly);
  add("edit.redo")->setToolButtonStyle(Qt::ToolButtonIconOnly);
  bar_->addSeparator();
  add("run.evaluate");
  add("run.bench");
  add("run.plan");
  add("file.export");
  auto* gap = new QWidget(bar_);
  gap->setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Preferred);
  bar_->addWidget(gap);
  add("help.palette");
}

void MainWindow::updateActions() {
  const bool model = workbench_->hasModel(), busy = workbench_->job().running;
  const bool start = startPageShown();
  const auto enable = [this](const char* id, bool on) { actions_->action(QString::fromLatin1(id))->setEnabled(on); };
  enable("file.closeModel", model && !busy);
  enable("file.openModel", !busy);
  enable("file.openFolder", !busy);
  enable("file.starter", !busy);
  enable("file.saveSession", workbench_->session() != nullptr);
  enable("file.export", !runs_->model()->runs().empty());
  enable("edit.resetKnobs", model);
  enable("edit.find", !start);
  enable("edit.copyOutput", !start);
  enable("file.exportModel", model && !busy);
  enable("run.sensitivity", model && !busy);
  enable("run.superWeights", model);
  enable("run.attention", model);
  enable("run.keptMass", model);
  enable("run.similarity", model);
  enable("run.generate", model && !busy && !start);
  enable("run.stop", busy);
  enable("run.evaluate", model && !start);
  enable("run.retrieval", model && !start);
  enable("run.bench", model && !start);
  enable("run.plan", !start);
  enable("run.rebuild", model && workbench_->cacheMixed() && !busy);
  enable("run.observeOps", model);
  enable("run.probe", model);
  const auto chosen = runs_->selected();
  enable("run.baseline", chosen.size() == 1);
  enable("run.compare", !chosen.empty());
  for (QDockWidget* each : docks_) each->toggleViewAction()->setEnabled(!start);
  enable("view.reset", !start);
}

void MainWindow::showShortcuts() {
  auto* dialog = new QDialog(this);
  dialog->setAttribute(Qt::WA_DeleteOnClose);
  dialog->setObjectName(QStringLiteral("shortcuts"));
  dialog->setWindowTitle(tr("Keyboard shortcuts"));
  dialog->resize(520, 560);
  auto* all = new QVBoxLayout(dialog);
  auto* table = new QTableWidget(0, 2, dialog);
  table->setHorizontalHeaderLabels({tr("Action"), tr("Shortcut")});
  table->horizontalHeader()->setSectionResizeMode(0, QHeaderView::Stretch);
  table->horizontalHeader()->setSectionResizeMode(1, QHeaderView::ResizeToContents);
  table->horizontalHeader()->setDefaultAlignment(Qt::AlignLeft | Qt::AlignVCenter);
  table->verticalHeader()->hide();
  table->setEditTriggers(QAbstractItemView::NoEditTriggers);
  table->setShowGrid(false);
  table->setTabKeyNavigation(false);
  table->setAccessibleName(tr("Keyboard shortcuts"));
  const auto row = [&](const QString& what, const QString& keys) {
    const int at = table->rowCount();
    table->insertRow(at);
    table->setItem(at, 0, new QTableWidgetItem(what));
    table->setItem(at, 1, new QTableWidgetItem(keys));
  };
  for (const QAction* action : actions_->all())
    if (!action->shortcut().isEmpty()) row(ActionRegistry::plainText(action), action->shortcut().toString(QKeySequence::NativeText));
  row(tr("Generate from the prompt editor"), QStringLiteral("Ctrl+Enter"));
  row(tr("Chart: fit, follow, logarithmic"), QStringLiteral("0, F, L"));
  row(tr("Chart: cursor by one token"), QStringLiteral(", ."));
  row(tr("Chart: numbers as a table"), QStringLiteral("Ctrl+T"));
  row(tr("Output: move by token, select"), QStringLiteral("← →, Shift"));
  row(tr("Runs: rename"), QStringLiteral("F2"));
  all->addWidget(table);
  auto* buttons = new QDialogButtonBox(QDialogButtonBox::Close, dialog);
  connect(buttons, &QDialogButtonBox::rejected, dialog, &QDialog::reject);
  all->addWidget(buttons);
  dialog->open();
}

void MainWindow::showAbout() {
  auto* dialog = new QDialog(this);
  dialog->setAttribute(Qt::WA_DeleteOnClose);
  dialog->setObjectName(QStringLiteral("about"));
  dialog->setWindowTitle(tr("About Winnow"));
  dialog->resize(520, 360);
  auto* all = new QVBoxLayout(dialog);
  auto* title = new QLabel(tr("Winnow %1").arg(QApplication::applicationVersion()), dialog);
  title->setProperty("role", QStringLiteral("title"));
  all->addWidget(title);
  auto* text = new QTextBrowser(dialog);
  text->setOpenExternalLinks(true);
  text->setAccessibleName(tr("About Winnow"));
  text->setHtml(tr("<p>Keep what matters in a language model, and see what it costs.</p>"
                   "<p>Winnow is free software: you can redistribute it and change it under the terms of the GNU General Public License, "
                   "version 3 or any later version. It comes with no warranty; the file LICENSE has the terms.</p>"
                   "<p>It uses Qt %1, QCustomPlot (GPL 3 or later), SQLite, PCRE2 and nlohmann-json.</p><p>%2</p>")
                    .arg(QString::fromLatin1(qVersion()), machine_.line().toHtmlEscaped()));
  all->addWidget(text);
  auto* buttons = new QDialogButtonBox(QDialogButtonBox::Close, dialog);
  connect(buttons, &QDialogButtonBox::rejected, dialog, &QDialog::reject);
  all->addWidget(buttons);
  dialog->open();
}

}  // namespace winnow
