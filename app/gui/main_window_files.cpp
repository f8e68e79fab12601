// SPDX-License-Identifier: GPL-3.0-or-later
#include <QDragEnterEvent>
#include <QFile>
#include <QFileDialog>
#include <QFileInfo>
#include <QMimeData>
#include <QSaveFile>
#include <QTabWidget>
#include <QUrl>

#include "app/gui/banner.h"
#include "app/gui/main_window.h"
#include "app/gui/plan_dialog.h"
#include "app/gui/status_chips.h"
#include "experiments/context_file.h"
#include "experiments/model_source.h"
#include "experiments/session_opening.h"
#include "panels/start/start_page.h"
#include "panels/attribution/attribution_view.h"
#include "panels/runs/runs_view.h"
#include "panels/text/prompt_panel.h"
#include "panels/text/wording.h"

namespace winnow {
namespace {

enum class FileKind { model, session, text, passages, plan, unknown };

FileKind kindOf(const QString& path) {
  const QFileInfo info(path);
  if (isBundledModel(path.toStdString()) || info.isDir()) return FileKind::model;
  const QString suffix = info.suffix().toLower();
  if (suffix == QStringLiteral("gguf") || suffix == QStringLiteral("safetensors")) return FileKind::model;
  if (suffix == QStringLiteral("winnow")) return FileKind::session;
  if (suffix == QStringLiteral("txt") || suffix == QStringLiteral("md") || suffix == QStringLiteral("markdown") ||
      suffix == QStringLiteral("text"))
    return FileKind::text;
  if (holdsPassages(path)) return FileKind::passages;
  if (suffix == QStringLiteral("json")) return FileKind::plan;
  return FileKind::unknown;
}

constexpr qint64 kTextLimit = 8 * 1024 * 1024;  // bytes: more is no prompt

}  // namespace

void MainWindow::openPath(const QString& path) {
  switch (kindOf(path)) {
    case FileKind::model: return openModel(path);
    case FileKind::session: openSession(path); return;
    case FileKind::text: return loadText(path);
    case FileKind::passages: showView(attributionTab); return loadContext(path, false);
    case FileKind::plan: return openPlan(path);
    case FileKind::unknown: break;
  }
  fail(tr("Winnow cannot open %1.").arg(QFileInfo(path).fileName()),
       tr("It opens GGUF files and Hugging Face folders as models, .winnow files as sessions, .json files as plans, .txt and .md files as "
          "text, .jsonl files as passages to attribute to."));
}

void MainWindow::openModel(const QString& path) {
  if (workbench_->job().running) return fail(tr("\"%1\" is still running.").arg(workbench_->job().what), tr("Stop it first."));
  loadingPath_ = path;
  banner_->clear();
  start_->setLoading(tr("Opening %1").arg(isBundledModel(path.toStdString()) ? tr("the starter model") : QFileInfo(path).fileName()), -1);
  workbench_->openModel(path);
}

bool MainWindow::openSession(const QString& path) {
  QString error;
  storage::OpenReport report;
  if (!workbench_->openSession(path, &error, &report)) {
    fail(error, {});
    return false;
  }
  leaveStartPage();
  showView(runsTab);
  refreshRuns();
  settings_->addSession(path, runsText());
  if (report.readOnly)
    banner_->show(Banner::Tone::notice,
                  tr("%1 is open for reading only: %2").arg(QFileInfo(path).fileName(), QString::fromStdString(report.readOnlyReason)), {});
  else if (!report.interrupted.empty())
    banner_->show(Banner::Tone::notice,
                  plural(static_cast<qint64>(report.interrupted.size()),
                         tr("%1 run of this session was interrupted when the program ended; what was measured is kept."),
                         tr("%1 runs of this session were interrupted when the program ended; what was measured is kept.")),
                  {});
  return true;
}

// Runs of the last session whose program ended under them: recovered now, offered on the start page.
void MainWindow::findInterrupted() {
  if (workbench_->session()) return;
  for (const RecentFile& file : settings_->recentSessions()) {
    if (file.state == RecentFile::State::moved) continue;
    storage::OpenReport report;
    const auto opened = openSessionFile(file.path, storage::SessionFile::Mode::open, &report);
    if (opened && !report.interrupted.empty()) {
      int64_t tokens = 0;
      for (const storage::Id id : report.interrupted)
        if (const auto run = (*opened)->run(id)) tokens += run->tokens;
      interruptedSession_ = file.path;
      start_->setInterrupted(static_cast<int>(report.interrupted.size()), static_cast<int>(tokens));
    }
    return;  // the newest alone: others are looked at when they are opened
  }
}

QString MainWindow::runsText() const { return plural(static_cast<qint64>(runs_->model()->runs().size()), tr("%1 run"), tr("%1 runs")); }

void MainWindow::openPlan(const QString& path) {
  if (!plan_) {
    plan_ = new PlanDialog(workbench_, this);
    connect(plan_, &PlanDialog::compareRequested, this, &MainWindow::compareRuns);
  }
  const bool running = workbench_->job().running && workbench_->job().kind == JobState::Kind::plan;
  if (!path.isEmpty()) plan_->open(path);
  else if (!running && !plan_->offerUnfinished()) plan_->compose(prompt_->prompt());
  plan_->show();
  plan_->raise();
  plan_->activateWindow();
}

void MainWindow::chooseModel() {
  const QString path = QFileDialog::getOpenFileName(this, tr("Open model"), settings_->folder(QStringLiteral("model")),
                                                    tr("Models (*.gguf *.safetensors);;All files (*)"));
  if (path.isEmpty()) return;
  settings_->setFolder(QStringLiteral("model"), path);
  openModel(path);
}

void MainWindow::chooseModelFolder() {
  const QString path =
      QFileDialog::getExistingDirectory(this, tr("Open a Hugging Face folder"), settings_->folder(QStringLiteral("model")));
  if (path.isEmpty()) return;
  settings_->setFolder(QStringLiteral("model"), path);
  openModel(path);
}

void MainWindow::chooseSession() {
  const QString path = QFileDialog::getOpenFileName(this, tr("Open session"), settings_->folder(QStringLiteral("session")),
                                                    tr("Winnow sessions (*.winnow)"));
  if (path.isEmpty()) return;
  settings_->setFolder(QStringLiteral("session"), path);
  openSession(path);
}

void MainWindow::chooseText() {
  const QString path = QFileDialog::getOpenFileName(this, tr("Open text"), settings_->folder(QStringLiteral("text")),
                                                    tr("Text (*.txt *.md *.markdown *.text);;All files (*)"));
  if (path.isEmpty()) return;
  settings_->setFolder(QStringLiteral("text"), path);
  loadText(path);
}

QString MainWindow::readText(const QString& path) {
  QFile file(path);
  if (!file.open(QIODevice::ReadOnly)) {
    fail(tr("%1 cannot be read: %2.").arg(path, file.errorString()), {});
    return {};
  }
  if (file.size() > kTextLimit) {
    fail(tr("%1 has %2 MiB; a text to work with has at most 8.").arg(QFileInfo(path).fileName()).arg(file.size() >> 20),
         tr("Evaluate reads long texts from their file."));
    return {};
  }
  return QString::fromUtf8(file.readAll());
}

void MainWindow::loadText(const QString& path) {
  if (!startPageShown() && tabs_->currentWidget() == attribution_) return loadContext(path, false);
  const QString text = readText(path);
  if (text.isEmpty()) return;
  leaveStartPage();
  prompt_->setPrompt(text);
}

void MainWindow::chooseContext(bool append) {
  const QString path = QFileDialog::getOpenFileName(this, append ? tr("Add text or passages") : tr("Open text or passages"),
                                                    settings_->folder(QStringLiteral("text")),
                                                    tr("Text and passages (*.txt *.md *.markdown *.text *.jsonl *.ndjson);;All files (*)"));
  if (path.isEmpty()) return;
  settings_->setFolder(QStringLiteral("text"), path);
  loadContext(path, append);
}

void MainWindow::loadContext(const QString& path, bool append) {
  const Status read = attribution_->openFile(path, append);
  if (!read) fail(QString::fromStdString(read.error().message), QString::fromStdString(read.error().hint));
}

void MainWindow::chooseProxy() {
  const QString path = QFileDialog::getOpenFileName(this, tr("Choose a proxy model"), settings_->folder(QStringLiteral("model")),
                                                    tr("Models (*.gguf *.safetensors);;All files (*)"));
  if (path.isEmpty()) return;
  settings_->setFolder(QStringLiteral("model"), path);
  attribution_->setProxyFile(path);
}

bool MainWindow::saveSession() {
  QString path = QFileDialog::getSaveFileName(this, tr("Save session"),
                                              settings_->folder(QStringLiteral("session")) + QStringLiteral("/session.winnow"),
                                              tr("Winnow sessions (*.winnow)"));
  if (path.isEmpty()) return false;
  if (!path.endsWith(QStringLiteral(".winnow"))) path += QStringLiteral(".winnow");
  QString error;
  if (!workbench_->saveSessionAs(path, &error)) {
    fail(error, {});
    return false;
  }
  settings_->setFolder(QStringLiteral("session"), path);
  settings_->addSession(path, runsText());
  return true;
}

void MainWindow::exportModel() {
  const QString name = QFileInfo(workbench_->model().path).completeBaseName() + QStringLiteral("-compressed.gguf");
  const QString gguf = tr("GGUF (*.gguf)"), huggingFace = tr("Folder of Hugging Face (*)");
  QString chosen = gguf;
  QString path = QFileDialog::getSaveFileName(this, tr("Export the model"), settings_->folder(QStringLiteral("model")) + QLatin1Char('/') + name,
                                              gguf + QStringLiteral(";;") + huggingFace, &chosen);
  if (path.isEmpty()) return;
  // The name says which it is.
  const QString ending = QStringLiteral(".gguf");
  if (chosen == huggingFace && path.endsWith(ending)) path.chop(ending.size());
  if (chosen == gguf && !path.endsWith(ending)) path += ending;
  settings_->setFolder(QStringLiteral("model"), path);
  workbench_->exportModel(path);
}

void MainWindow::refreshRecent() { start_->setRecent(settings_->recentModels(), settings_->recentSessions()); }

void MainWindow::saveBytes(const QString& purpose, const QString& suggestion, const QString& filter,
                           const std::function<QByteArray(const QString&)>& make) {
  const QString path = QFileDialog::getSaveFileName(this, tr("Export"), settings_->folder(purpose) + QLatin1Char('/') + suggestion, filter);
  if (path.isEmpty()) return;
  settings_->setFolder(purpose, path);
  QSaveFile file(path);
  if (!file.open(QIODevice::WriteOnly) || file.write(make(path)) < 0 || !file.commit())
    fail(tr("%1 cannot be written: %2.").arg(path, file.errorString()), {});
}

// ---- drag and drop ------------------------------------------------------------------------------------------------------

void MainWindow::dragEnterEvent(QDragEnterEvent* event) {
  const QList<QUrl> urls = event->mimeData()->urls();
  if (urls.size() != 1 || !urls.front().isLocalFile()) return;
  const QString path = urls.front().toLocalFile();
  const QString name = QFileInfo(path).fileName();
  switch (kindOf(path)) {
    case FileKind::model: start_->setDropHint(tr("Open the model %1").arg(name)); break;
    case FileKind::session: start_->setDropHint(tr("Open the session %1").arg(name)); break;
    case FileKind::text: start_->setDropHint(tr("Load %1 as text").arg(name)); break;
    case FileKind::passages: start_->setDropHint(tr("Attribute to the passages of %1").arg(name)); break;
    case FileKind::plan: start_->setDropHint(tr("Open the plan %1").arg(name)); break;
    case FileKind::unknown: start_->setDropHint(tr("%1 is neither a model, a session, a plan nor a text").arg(name)); return;
  }
  event->acceptProposedAction();
}

void MainWindow::dragLeaveEvent(QDragLeaveEvent*) { start_->setDropHint({}); }

void MainWindow::dropEvent(QDropEvent* event) {
  start_->setDropHint({});
  const QList<QUrl> urls = event->mimeData()->urls();
  if (urls.size() != 1) return;
  event->acceptProposedAction();
  openPath(urls.front().toLocalFile());
}

}  // namespace winnow
