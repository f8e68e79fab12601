// SPDX-License-Identifier: GPL-3.0-or-later
// The attribution view: what it is made of, and what it asks for.
#include "panels/attribution/attribution_view.h"

#include <QApplication>
#include <QButtonGroup>
#include <QClipboard>
#include <QHBoxLayout>
#include <QLabel>
#include <QProgressBar>
#include <QPushButton>
#include <QResizeEvent>
#include <QSplitter>
#include <QStackedWidget>
#include <QTabWidget>
#include <QToolButton>
#include <QVBoxLayout>

#include "panels/attribution/attribution_files.h"
#include "panels/attribution/attribution_setup.h"
#include "panels/attribution/difference_view.h"
#include "panels/attribution/effect_scatter.h"
#include "panels/attribution/source_ranking.h"
#include "panels/attribution/token_matrix.h"
#include "panels/text/flow_legend.h"
#include "panels/text/token_flow.h"

namespace winnow {
namespace {

constexpr int kSideBySide = 900;  // px of the result from which text and figures stand beside each other
constexpr int kSetup = 288;       // px of what is asked

QToolButton* toolButton(const QString& text, const QString& name, const QString& tip, QWidget* parent) {
  auto* button = new QToolButton(parent);
  button->setText(text);
  button->setObjectName(name);
  button->setToolTip(tip);
  return button;
}

QString wordsOf(const Config& config) {
  const std::string words = config.canonical();
  return words.empty() ? AttributionView::tr("every knob at its default") : QString::fromStdString(words);
}

}  // namespace

AttributionView::AttributionView(QWidget* parent) : QWidget(parent) {
  setObjectName(QStringLiteral("attribution"));
  setAccessibleName(tr("Attribution"));
  setMinimumHeight(380);  // the other views keep their docks as high as they were
  auto* all = new QHBoxLayout(this);
  all->setContentsMargins(10, 8, 10, 8);
  all->setSpacing(10);
  all->addWidget(buildAsked());
  all->addWidget(buildResult(), 1);
  connectForm();
  connectResult();
  legend_->setScale(flow_->scale());
  setConfig(Config());
  setModel(false);
  showPage(false);
}

// ---- building -----------------------------------------------------------------------------------------------------------

QWidget* AttributionView::buildAsked() {
  setup_ = new AttributionSetup(this);
  setup_->setFixedWidth(kSetup);
  return setup_;
}

QWidget* AttributionView::buildResult() {
  auto* right = new QWidget(this);
  auto* column = new QVBoxLayout(right);
  column->setContentsMargins(0, 0, 0, 0);
  column->setSpacing(6);
  column->addLayout(buildBar(right));
  notes_ = new QLabel(right);
  notes_->setObjectName(QStringLiteral("attribution.notes"));
  notes_->setProperty("role", QStringLiteral("notice"));
  notes_->setTextFormat(Qt::PlainText);
  notes_->setWordWrap(true);
  notes_->hide();
  column->addWidget(notes_);
  halves_ = new QSplitter(Qt::Vertical, right);
  halves_->setChildrenCollapsible(false);
  halves_->setHandleWidth(4);
  halves_->addWidget(buildText(halves_));
  halves_->addWidget(buildFigures(halves_));
  halves_->setStretchFactor(0, 5);
  halves_->setStretchFactor(1, 4);
  column->addWidget(halves_, 1);
  detail_ = new QLabel(right);
  detail_->setObjectName(QStringLiteral("attribution.detail"));
  detail_->setTextFormat(Qt::PlainText);
  detail_->setWordWrap(true);
  detail_->setMinimumHeight(detail_->fontMetrics().height() * 2 + 4);
  detail_->setAlignment(Qt::AlignLeft | Qt::AlignTop);
  column->addWidget(detail_);
  return right;
}

QLayout* AttributionView::buildBar(QWidget* parent) {
  auto* both = new QVBoxLayout;
  both->setSpacing(4);
  auto* bar = new QHBoxLayout;
  bar->setSpacing(8);
  auto* segments = new QHBoxLayout;
  segments->setSpacing(0);
  edit_ = toolButton(tr("Sources"), QStringLiteral("attribution.edit"), tr("The context and how it is cut"), parent);
  scores_ = toolButton(tr("Scores"), QStringLiteral("attribution.scores"),
                       tr("The context coloured by what its sources did for the answer"), parent);
  auto* group = new QButtonGroup(parent);
  for (QToolButton* button : {edit_, scores_}) {
    button->setCheckable(true);
    button->setProperty("segment", button == edit_ ? QStringLiteral("first") : QStringLiteral("last"));
    group->addButton(button);
    segments->addWidget(button);
  }
  progress_ = new QProgressBar(parent);
  progress_->setAccessibleName(tr("Attribution progress"));
  progress_->setRange(0, 1000);
  progress_->setMaximumWidth(220);
  progress_->hide();
  status_ = new QLabel(parent);
  status_->setObjectName(QStringLiteral("attribution.status"));
  status_->setProperty("role", QStringLiteral("secondary"));
  status_->setWordWrap(true);
  legend_ = new FlowLegend(parent);
  bar->addLayout(segments);
  bar->addWidget(progress_, 1);
  bar->addStretch(1);
  bar->addWidget(legend_);
  both->addLayout(bar);
  both->addWidget(status_);
  return both;
}

QWidget* AttributionView::buildText(QWidget* parent) {
  auto* box = new QWidget(parent);
  auto* column = new QVBoxLayout(box);
  column->setContentsMargins(0, 0, 0, 0);
  column->setSpacing(6);
  pages_ = new QStackedWidget(box);
  panel_ = new ContextPanel(pages_);
  pages_->addWidget(panel_);
  flow_ = new TokenFlow(pages_);
  flow_->setObjectName(QStringLiteral("attribution.flow"));
  flow_->setCaption(tr("Context with scores"));
  flow_->setColour(FlowColour::score);
  flow_->setScoreScale(0, 0);
  flow_->setFollow(false);
  flow_->setPlaceholder(tr("The context appears here, each source coloured by how much it made the answer likelier."));
  pages_->addWidget(flow_);
  column->addWidget(pages_, 1);
  column->addWidget(buildAnswer(box));
  return box;
}

QWidget* AttributionView::buildAnswer(QWidget* parent) {
  auto* box = new QWidget(parent);
  auto* column = new QVBoxLayout(box);
  column->setContentsMargins(0, 0, 0, 0);
  column->setSpacing(4);
  auto* row = new QHBoxLayout;
  auto* title = new QLabel(tr("Answer"), box);
  title->setProperty("role", QStringLiteral("heading"));
  part_ = new QLabel(box);
  part_->setObjectName(QStringLiteral("attribution.part"));
  part_->setProperty("role", QStringLiteral("secondary"));
  wholeAnswer_ = toolButton(tr("Whole answer"), QStringLiteral("attribution.whole"), tr("Attribute all of the answer again (Escape)"), box);
  row->addWidget(title);
  row->addWidget(part_, 1);
  row->addWidget(wholeAnswer_);
  wholeAnswer_->hide();
  column->addLayout(row);
  answer_ = new TokenFlow(box);
  answer_->setObjectName(QStringLiteral("attribution.answer"));
  answer_->setCaption(tr("Answer by token"));
  answer_->setColour(FlowColour::plain);
  answer_->setFollow(false);
  answer_->setPlaceholder(
      tr("The answer appears here. Drag over a part of it, or hold Shift with the arrow keys, to attribute that part alone."));
  answer_->setFixedHeight(answer_->fontMetrics().height() * 2 + 40);
  column->addWidget(answer_);
  return box;
}

QWidget* AttributionView::buildFigures(QWidget* parent) {
  figures_ = new QTabWidget(parent);
  figures_->setDocumentMode(true);
  figures_->setObjectName(QStringLiteral("attribution.figures"));
  figures_->setAccessibleName(tr("Figures"));
  table_ = new SourceRanking(&model_, figures_);
  table_->setObjectName(QStringLiteral("attribution.table"));
  matrix_ = new TokenMatrix(figures_);
  matrix_->setObjectName(QStringLiteral("attribution.matrix"));
  matrix_->setEmptyText(tr("What each token of the answer owes to each source appears here."));
  difference_ = new DifferenceView(figures_);
  figures_->addTab(table_, tr("Ranking"));
  figures_->addTab(matrix_, tr("By token"));
  figures_->addTab(difference_, tr("Compare"));
  figures_->addTab(buildAttention(figures_), tr("Attention"));
  figures_->setTabToolTip(ranking, tr("The sources, strongest first"));
  figures_->setTabToolTip(byToken, tr("Sources by tokens of the answer"));
  figures_->setTabToolTip(difference, tr("The same answer under two configurations"));
  figures_->setTabToolTip(attention, tr("How much attention a source gets beside what it does"));
  auto* corner = new QWidget(figures_);
  auto* row = new QHBoxLayout(corner);
  row->setContentsMargins(0, 0, 0, 2);
  row->setSpacing(0);
  copyTable_ = toolButton(tr("Copy"), QStringLiteral("attribution.copy"), tr("Copy the table, tab-separated"), corner);
  exportTable_ = toolButton(tr("Table…"), QStringLiteral("attribution.exportTable"), tr("Export the table: CSV or JSON"), corner);
  exportPicture_ =
      toolButton(tr("Picture…"), QStringLiteral("attribution.exportPicture"), tr("Export the picture: PNG, SVG or PDF"), corner);
  for (QToolButton* each : {copyTable_, exportTable_, exportPicture_}) row->addWidget(each);
  figures_->setCornerWidget(corner);
  return figures_;
}

QWidget* AttributionView::buildAttention(QWidget* parent) {
  auto* box = new QWidget(parent);
  auto* column = new QVBoxLayout(box);
  column->setContentsMargins(4, 6, 0, 0);
  column->setSpacing(6);
  auto* row = new QHBoxLayout;
  attentionText_ = new QLabel(box);
  attentionText_->setObjectName(QStringLiteral("attribution.attentionText"));
  attentionText_->setProperty("role", QStringLiteral("secondary"));
  attentionText_->setWordWrap(true);
  readAttention_ = new QPushButton(tr("Read attention"), box);
  readAttention_->setObjectName(QStringLiteral("attribution.readAttention"));
  row->addWidget(attentionText_, 1);
  row->addWidget(readAttention_);
  column->addLayout(row);
  scatter_ = new EffectScatter(box);
  scatter_->setObjectName(QStringLiteral("attribution.scatter"));
  scatter_->setEmptyText(
      tr("One point per source: to the right the attention it gets, upwards what the answer owes to it. Far right and low is read "
         "without effect."));
  column->addWidget(scatter_, 1);
  return box;
}

// ---- what is asked ------------------------------------------------------------------------------------------------------

void AttributionView::connectForm() {
  connect(setup_, &AttributionSetup::runRequested, this, &AttributionView::run);
  connect(setup_, &AttributionSetup::resumeRequested, this, [this] { ask(run_); });
  connect(setup_, &AttributionSetup::stopRequested, this, &AttributionView::stopRequested);
  connect(setup_, &AttributionSetup::proxyFileRequested, this, &AttributionView::proxyFileRequested);
  connect(panel_, &ContextPanel::openRequested, this, &AttributionView::openTextRequested);
  connect(panel_, &ContextPanel::changed, this, &AttributionView::updateButtons);
  connect(panel_, &ContextPanel::questionChosen, this, [this](const QString& question, const QString& answer) {
    setup_->setQuestion(question);
    setup_->setAnswer(answer);
  });
  connect(edit_, &QToolButton::clicked, this, [this] { showPage(false); });
  connect(scores_, &QToolButton::clicked, this, [this] { showPage(true); });
  connect(difference_, &DifferenceView::compareRequested, this, [this] { askDifference(false); });
  connect(difference_, &DifferenceView::pinRequested, this, [this](bool on) {
    pinned_ = on ? std::optional(config_) : std::nullopt;
    setConfig(config_);
  });
  connect(readAttention_, &QPushButton::clicked, this, [this] { askDifference(true); });
}

AttributeSpec AttributionView::spec() const {
  AttributeSpec spec;
  setup_->fillSpec(spec);
  panel_->fillSpec(spec);
  return spec;
}

void AttributionView::run() {
  if (blocked().isEmpty()) ask(std::nullopt);
}

void AttributionView::ask(std::optional<qint64> resume) {
  AttributeSpec asked = spec();
  if (alone_ && whole_.complete && !exact_) quick_ = whole_;
  alone_ = true;
  const bool plain = asked.method == QStringLiteral("attribot") && !asked.attribot.hierarchy && asked.proxyPath.isEmpty();
  exact_ = asked.seconds <= 0 && (plain || asked.method == QStringLiteral("loo"));
  asked.resume = resume;
  pendingDocuments_ = asked.documents;
  pendingContext_ = asked.context.toStdString();
  pendingQuestion_ = asked.question;
  clearResult();
  showPage(true);
  Q_EMIT runRequested(asked);
}

// The answer shown, if it is one to this text; else the first side gives it.
void AttributionView::askDifference(bool byAttention) {
  AttributionDifferenceSpec asked;
  asked.spec = spec();
  const std::string context = asked.spec.context.toStdString();
  if (asked.spec.response.isEmpty() && !whole_.response.empty() && context == context_ && asked.spec.question == question_)
    asked.spec.response = QString::fromStdString(whole_.response);
  asked.a = byAttention ? config_ : pinned_.value_or(Config());
  asked.b = config_;
  if (byAttention) asked.methodB = QStringLiteral("attention");
  pendingContext_ = context;
  pendingDocuments_ = asked.spec.documents;
  pendingQuestion_ = asked.spec.question;
  byAttention_ = byAttention;
  exact_ = alone_ = false;
  clearResult();
  showPage(true);
  Q_EMIT differenceRequested(asked);
}

void AttributionView::showPage(bool scores) {
  (scores ? scores_ : edit_)->setChecked(true);
  pages_->setCurrentIndex(scores ? 1 : 0);
  legend_->setVisible(scores);
}

void AttributionView::setModel(bool open, ContextPanel::Windows windows) {
  haveModel_ = open;
  panel_->setWindows(std::move(windows));
  updateButtons();
}

void AttributionView::setConfig(const Config& config) {
  if (!(config == config_)) {
    alone_ = false;
    quick_.reset();
  }
  config_ = config;
  difference_->setNames(pinned_ ? tr("pinned, %1").arg(wordsOf(*pinned_)) : tr("baseline, every knob at its default"), wordsOf(config_));
  updateButtons();
}

void AttributionView::setJob(const JobState& job) {
  const bool mine = job.running && job.kind == JobState::Kind::attribute;
  if (mine && job.run >= 0) run_ = job.run;
  job_ = job;
  updateButtons();
}

void AttributionView::setContext(const QString& text, const QString& name) {
  panel_->setText(text, name);
  showPage(false);
}

Status AttributionView::openFile(const QString& path, bool append) {
  const Status read = panel_->openFile(path, append);
  if (read) showPage(false);
  return read;
}

void AttributionView::setProxyFile(const QString& path) { setup_->setProxyFile(path); }

void AttributionView::showFigure(Figure figure) { figures_->setCurrentIndex(figure); }

QString AttributionView::blocked() const {
  if (!haveModel_) return tr("No model is open");
  if (job_.running) return tr("Another job is running");
  if (panel_->isEmpty()) return tr("The context is empty");
  return {};
}

void AttributionView::updateButtons() {
  const bool mine = job_.running && job_.kind == JobState::Kind::attribute;
  const QString why = blocked();
  const bool same = panel_->text().toStdString() == context_;
  setup_->setState(why, mine, !job_.running && run_ >= 0 && !whole_.complete && !whole_.sources.empty() && same);
  const bool alike = !pinned_ ? config_ == Config() : config_ == *pinned_;
  difference_->setState(!why.isEmpty() ? why : alike ? tr("A and B are the same: change a knob first") : QString(), pinned_.has_value());
  readAttention_->setEnabled(why.isEmpty());
  readAttention_->setToolTip(why);
  progress_->setVisible(mine);
  if (mine) {
    progress_->setRange(0, job_.fraction < 0 ? 0 : 1000);
    if (job_.fraction >= 0) progress_->setValue(static_cast<int>(job_.fraction * 1000));
  }
  status_->setText(mine ? progressText() : resultText());
  setup_->setForecast(forecastText());
  const bool any = !shown_.sources.empty();
  for (QToolButton* each : {exportTable_, exportPicture_, copyTable_}) each->setEnabled(any);
}

// ---- the result's parts, linked -----------------------------------------------------------------------------------------

void AttributionView::connectResult() {
  connect(flow_, &TokenFlow::scaleChanged, this, [this] { legend_->setScale(flow_->scale()); });
  connect(flow_, &TokenFlow::groupHovered, this, &AttributionView::hoverSource);
  const auto chooseAt = [this](int token) {
    const int group = token < 0 ? -1 : flow_->tokens()[static_cast<size_t>(token)].group;
    chooseSource(group == chosen_ ? -1 : group);
  };
  connect(flow_, &TokenFlow::clicked, this, chooseAt);
  connect(flow_, &TokenFlow::activated, this, chooseAt);
  connect(table_, &SourceRanking::sourceHovered, this, &AttributionView::hoverSource);
  connect(table_, &SourceRanking::sourceChosen, this, &AttributionView::chooseSource);
  connect(matrix_, &TokenMatrix::currentChanged, this, [this](int row, int) { hoverSource(row); });
  connect(matrix_, &TokenMatrix::rowChosen, this, &AttributionView::chooseSource);
  connect(matrix_, &TokenMatrix::spanChosen, this, &AttributionView::selectSpan);
  connect(difference_, &DifferenceView::sourceChosen, this, &AttributionView::chooseSource);
  connect(scatter_, &EffectScatter::sourceHovered, this, &AttributionView::hoverSource);
  connect(scatter_, &EffectScatter::sourceChosen, this, &AttributionView::chooseSource);
  connect(answer_, &TokenFlow::selectionChanged, this, &AttributionView::selectSpan);
  connect(answer_, &TokenFlow::activated, this, [this](int token) {
    answer_->selectTokens(token, token);
    selectSpan(token, token);
  });
  connect(wholeAnswer_, &QToolButton::clicked, this, [this] { selectSpan(-1, -1); });
  connect(figures_, &QTabWidget::currentChanged, this, &AttributionView::refreshScores);
  connect(copyTable_, &QToolButton::clicked, this, [this] {
    const bool compared = figures_->currentIndex() == difference && difference_->difference();
    QApplication::clipboard()->setText(compared ? difference_->text() : attributionTabSeparated(shown_));
  });
  connect(exportTable_, &QToolButton::clicked, this, [this] { Q_EMIT exportTableRequested(csv(), json()); });
  connect(exportPicture_, &QToolButton::clicked, this, [this] { Q_EMIT exportRequested(chart()); });
}

QByteArray AttributionView::csv() const { return attributionCsv(shown_); }
QByteArray AttributionView::json() const { return attributionJson(shown_, question_, shownDifference()); }
Chart AttributionView::chart() const { return attributionChart(shown_, context_, shownDifference()); }

void AttributionView::setTheme(const Theme& theme) {
  panel_->setTheme(theme);
  flow_->setTheme(theme);
  answer_->setTheme(theme);
  legend_->setTheme(theme);
  table_->setTheme(theme);
  matrix_->setTheme(theme);
  difference_->setTheme(theme);
  scatter_->setTheme(theme);
}

void AttributionView::resizeEvent(QResizeEvent* event) {
  QWidget::resizeEvent(event);
  const auto wanted = width() - kSetup - 30 >= kSideBySide ? Qt::Horizontal : Qt::Vertical;
  if (halves_->orientation() == wanted) return;
  halves_->setOrientation(wanted);
  const int extent = wanted == Qt::Horizontal ? width() - kSetup : height();
  halves_->setSizes({extent * 11 / 20, extent * 9 / 20});
}

}  // namespace winnow
