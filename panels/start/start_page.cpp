// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/start/start_page.h"

#include <QFileInfo>
#include <QHBoxLayout>
#include <QLabel>
#include <QProgressBar>
#include <QPushButton>
#include <QScrollArea>
#include <QStyle>
#include <QToolButton>
#include <QVBoxLayout>

#include "experiments/format.h"
#include "panels/text/wording.h"

namespace winnow {
namespace {

QLabel* label(const QString& text, const char* role, QWidget* parent) {
  auto* out = new QLabel(text, parent);
  out->setProperty("role", QString::fromLatin1(role));
  return out;
}

QFrame* card(QWidget* parent) {
  auto* out = new QFrame(parent);
  out->setProperty("card", true);
  return out;
}

// One recent file: the whole row is a button.
class RecentRow : public QToolButton {
 public:
  RecentRow(const RecentFile& file, QWidget* parent) : QToolButton(parent) {
    const QFileInfo info(file.path);
    setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Fixed);
    setFixedHeight(fontMetrics().height() * 2 + 16);
    setToolTip(file.path);
    auto* row = new QHBoxLayout(this);
    row->setContentsMargins(10, 4, 10, 4);
    auto* text = new QVBoxLayout;
    text->setSpacing(0);
    auto* name = new QLabel(info.fileName(), this);
    auto* folder = label(QFontMetrics(font()).elidedText(info.path(), Qt::ElideMiddle, 300), "small", this);
    name->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
    folder->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
    text->addWidget(name);
    text->addWidget(folder);
    row->addLayout(text, 1);
    QString detail = file.detail;
    if (detail.isEmpty() && file.bytes > 0) detail = Format().bytes(static_cast<double>(file.bytes));
    row->addWidget(label(detail, "secondary", this));
    QString state = tr("ok");
    if (file.state == RecentFile::State::moved) state = tr("moved");
    if (file.state == RecentFile::State::changed) state = tr("changed");
    row->addWidget(label(state, file.state == RecentFile::State::ok ? "chip" : "badge", this));
    for (QLabel* each : findChildren<QLabel*>()) each->setAttribute(Qt::WA_TransparentForMouseEvents);
    setEnabled(file.state != RecentFile::State::moved);
    setAccessibleName(QStringLiteral("%1, %2, %3").arg(info.fileName(), detail, state));
  }
};

}  // namespace

StartPage::StartPage(QWidget* parent) : QWidget(parent) {
  setObjectName(QStringLiteral("start"));
  setAccessibleName(tr("Start page"));
  auto* outer = new QVBoxLayout(this);
  outer->setContentsMargins(0, 0, 0, 0);
  auto* scroll = new QScrollArea(this);
  scroll->setFrameShape(QFrame::NoFrame);
  scroll->setWidgetResizable(true);
  scroll->setFocusPolicy(Qt::NoFocus);
  auto* inside = new QWidget(scroll);
  auto* centre = new QHBoxLayout(inside);
  centre->setContentsMargins(24, 24, 24, 24);
  auto* column = new QWidget(inside);
  column->setMaximumWidth(920);
  auto* all = new QVBoxLayout(column);
  all->setContentsMargins(0, 0, 0, 0);
  all->setSpacing(16);
  all->addStretch(1);
  auto* title = label(tr("Winnow"), "title", column);
  auto* subtitle = label(tr("Keep what matters in a language model, and see what it costs."), "secondary", column);
  all->addWidget(title);
  all->addWidget(subtitle);

  interrupted_ = new QFrame(column);
  interrupted_->setProperty("role", QStringLiteral("notice"));
  interrupted_->setObjectName(QStringLiteral("start.interrupted"));
  auto* bar = new QHBoxLayout(interrupted_);
  interruptedText_ = new QLabel(interrupted_);
  interruptedText_->setWordWrap(true);
  auto* review = new QPushButton(tr("Review"), interrupted_);
  bar->addWidget(interruptedText_, 1);
  bar->addWidget(review);
  connect(review, &QPushButton::clicked, this, &StartPage::reviewRequested);
  interrupted_->hide();
  all->addWidget(interrupted_);

  all->addWidget(buildDrop());
  all->addWidget(buildRecent());
  machine_ = label({}, "secondary", column);
  machine_->setObjectName(QStringLiteral("start.machine"));
  machine_->setWordWrap(true);
  all->addWidget(machine_);
  all->addStretch(2);
  centre->addStretch(1);
  centre->addWidget(column, 20);
  centre->addStretch(1);
  scroll->setWidget(inside);
  outer->addWidget(scroll);
  setRecent({}, {});
}

QWidget* StartPage::buildDrop() {
  drop_ = card(this);
  drop_->setObjectName(QStringLiteral("start.drop"));
  auto* all = new QVBoxLayout(drop_);
  all->setContentsMargins(24, 22, 24, 22);
  all->setSpacing(14);
  dropText_ = label({}, "heading", drop_);
  dropText_->setAlignment(Qt::AlignCenter);
  all->addWidget(dropText_);
  auto* buttons = new QHBoxLayout;
  buttons->setSpacing(10);
  open_ = new QPushButton(tr("Open model…"), drop_);
  open_->setObjectName(QStringLiteral("start.openModel"));
  open_->setProperty("primary", true);
  auto* session = new QPushButton(tr("Open session…"), drop_);
  session->setObjectName(QStringLiteral("start.openSession"));
  starter_ = new QPushButton(tr("Try the starter model"), drop_);
  starter_->setObjectName(QStringLiteral("start.starter"));
  starter_->setToolTip(tr("A small model that comes with the program: nothing to download"));
  buttons->addStretch(1);
  for (QPushButton* b : {open_, session, starter_}) {
    b->setMinimumHeight(32);
    buttons->addWidget(b);
  }
  buttons->addStretch(1);
  all->addLayout(buttons);
  auto* formats = label(tr("Models: GGUF files and Hugging Face folders (safetensors). Sessions: .winnow files."), "small", drop_);
  formats->setAlignment(Qt::AlignCenter);
  all->addWidget(formats);

  loading_ = new QFrame(drop_);
  loading_->setObjectName(QStringLiteral("start.loading"));
  auto* row = new QHBoxLayout(loading_);
  row->setContentsMargins(0, 6, 0, 0);
  loadingText_ = new QLabel(loading_);
  progress_ = new QProgressBar(loading_);
  progress_->setAccessibleName(tr("Loading"));
  auto* cancel = new QPushButton(tr("Cancel"), loading_);
  row->addWidget(loadingText_);
  row->addWidget(progress_, 1);
  row->addWidget(cancel);
  all->addWidget(loading_);
  loading_->hide();
  connect(open_, &QPushButton::clicked, this, &StartPage::openModelRequested);
  connect(session, &QPushButton::clicked, this, &StartPage::openSessionRequested);
  connect(starter_, &QPushButton::clicked, this, &StartPage::starterRequested);
  connect(cancel, &QPushButton::clicked, this, &StartPage::cancelRequested);
  setDropHint({});
  return drop_;
}

QWidget* StartPage::buildRecent() {
  auto* box = new QWidget(this);
  auto* row = new QHBoxLayout(box);
  row->setContentsMargins(0, 0, 0, 0);
  row->setSpacing(16);
  const auto list = [&](const QString& title) {
    QFrame* frame = card(box);
    auto* column = new QVBoxLayout(frame);
    column->setContentsMargins(8, 12, 8, 10);
    column->setSpacing(2);
    auto* heading = label(title, "heading", frame);
    heading->setContentsMargins(10, 0, 0, 4);
    column->addWidget(heading);
    auto* items = new QVBoxLayout;
    items->setSpacing(2);
    column->addLayout(items);
    column->addStretch(1);
    row->addWidget(frame, 1);
    return items;
  };
  models_ = list(tr("Recent models"));
  sessions_ = list(tr("Recent sessions"));
  return box;
}

void StartPage::fill(QVBoxLayout* list, const std::vector<RecentFile>& files, const QString& none) {
  while (QLayoutItem* item = list->takeAt(0)) {
    if (QWidget* widget = item->widget()) widget->deleteLater();
    delete item;
  }
  if (files.empty()) {
    auto* empty = label(none, "secondary", this);
    empty->setContentsMargins(10, 4, 0, 8);
    empty->setWordWrap(true);
    list->addWidget(empty);
  }
  for (const RecentFile& file : files) {
    auto* button = new RecentRow(file, this);
    connect(button, &QToolButton::clicked, this, [this, path = file.path] { Q_EMIT recentRequested(path); });
    list->addWidget(button);
  }
}

void StartPage::setRecent(const std::vector<RecentFile>& models, const std::vector<RecentFile>& sessions) {
  fill(models_, models, tr("Models you open appear here."));
  fill(sessions_, sessions, tr("Sessions you save appear here."));
}

void StartPage::setMachine(const QString& line, const QString& details) {
  machine_->setText(line);
  machine_->setToolTip(details);
}

void StartPage::setInterrupted(int runs, int tokens) {
  interrupted_->setVisible(runs > 0);
  interruptedText_->setText(tr("%1, %2 recovered.")
                                .arg(plural(runs, tr("%1 run was interrupted when the program ended last time"),
                                            tr("%1 runs were interrupted when the program ended last time")),
                                     plural(tokens, tr("%1 token"), tr("%1 tokens"))));
}

void StartPage::setLoading(const QString& what, double fraction) {
  loading_->setVisible(!what.isEmpty());
  loadingText_->setText(what);
  progress_->setRange(0, fraction < 0 ? 0 : 1000);
  if (fraction >= 0) progress_->setValue(static_cast<int>(fraction * 1000));
  open_->setEnabled(what.isEmpty());
  starter_->setEnabled(what.isEmpty());
}

void StartPage::setDropHint(const QString& what) {
  dropText_->setText(what.isEmpty() ? tr("Drop a model or a session here") : what);
  drop_->setProperty("dropping", !what.isEmpty());
  drop_->style()->unpolish(drop_);
  drop_->style()->polish(drop_);
}

}  // namespace winnow
