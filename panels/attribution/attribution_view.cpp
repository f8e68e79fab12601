// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attribution/attribution_view.h"

#include <QComboBox>
#include <QFormLayout>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QLineEdit>
#include <QPlainTextEdit>
#include <QProgressBar>
#include <QPushButton>
#include <QSpinBox>
#include <QSplitter>
#include <QTableView>
#include <QToolButton>
#include <QVBoxLayout>
#include <cmath>

#include "experiments/format.h"
#include "panels/text/flow_legend.h"
#include "panels/text/token_flow.h"

namespace winnow {
namespace {

// Words with the white space after them, so that lines wrap between words; group is the source's place.
void addWords(std::vector<FlowToken>& out, const QString& text, int group) {
  qsizetype begin = 0;
  while (begin < text.size()) {
    qsizetype end = begin;
    while (end < text.size() && !text[end].isSpace()) ++end;
    while (end < text.size() && text[end].isSpace()) {
      ++end;
      if (text[end - 1] == QLatin1Char('\n')) break;
    }
    FlowToken token;
    token.text = text.mid(begin, end - begin);
    token.group = group;
    token.unscored = group >= 0;
    out.push_back(token);
    begin = end;
  }
}

}  // namespace

AttributionView::AttributionView(QWidget* parent) : QWidget(parent) {
  setObjectName(QStringLiteral("attribution"));
  setAccessibleName(tr("Attribution"));
  auto* all = new QHBoxLayout(this);
  all->setContentsMargins(10, 8, 10, 8);
  auto* split = new QSplitter(Qt::Horizontal, this);
  split->setChildrenCollapsible(false);
  split->addWidget(buildForm());
  split->addWidget(buildResult());
  split->setStretchFactor(0, 2);
  split->setStretchFactor(1, 5);
  all->addWidget(split);
  setModel(false);
}

QWidget* AttributionView::buildForm() {
  auto* left = new QWidget(this);
  auto* column = new QVBoxLayout(left);
  column->setContentsMargins(0, 0, 8, 0);
  column->setSpacing(6);
  auto* head = new QHBoxLayout;
  auto* title = new QLabel(tr("Context"), left);
  title->setProperty("role", QStringLiteral("heading"));
  auto* open = new QToolButton(left);
  open->setText(tr("Open text…"));
  open->setObjectName(QStringLiteral("attribution.open"));
  head->addWidget(title, 1);
  head->addWidget(open);
  column->addLayout(head);
  context_ = new QPlainTextEdit(left);
  context_->setObjectName(QStringLiteral("attribution.context"));
  context_->setAccessibleName(tr("Context"));
  context_->setPlaceholderText(tr("Paste the text whose parts are to be judged, or open a text or Markdown file."));
  context_->setTabChangesFocus(true);
  context_->setAcceptDrops(false);
  title->setBuddy(context_);
  column->addWidget(context_, 3);
  question_ = new QLineEdit(left);
  question_->setObjectName(QStringLiteral("attribution.question"));
  question_->setAccessibleName(tr("Question"));
  question_->setPlaceholderText(tr("Question (may be empty)"));
  column->addWidget(question_);
  response_ = new QPlainTextEdit(left);
  response_->setObjectName(QStringLiteral("attribution.response"));
  response_->setAccessibleName(tr("Response"));
  response_->setPlaceholderText(tr("Response to explain; empty: the model answers"));
  response_->setTabChangesFocus(true);
  response_->setAcceptDrops(false);
  response_->setMinimumHeight(40);
  column->addWidget(response_, 1);
  column->addLayout(buildOptions(left));
  auto* help = new QLabel(left);
  help->setProperty("role", QStringLiteral("small"));
  help->setWordWrap(true);
  column->addWidget(help);
  const auto explain = [this, help] {
    const AttributionMethod* chosen = findAttributionMethod(method_->currentData().toString().toStdString());
    help->setText(QString::fromStdString(chosen->help + (chosen->paper.empty() ? "" : " " + chosen->paper + ".")));
  };
  connect(method_, &QComboBox::currentIndexChanged, this, explain);
  explain();
  auto* buttons = new QHBoxLayout;
  run_ = new QPushButton(tr("Attribute"), left);
  run_->setObjectName(QStringLiteral("attribution.run"));
  run_->setProperty("primary", true);
  stop_ = new QPushButton(tr("Stop, keep partial"), left);
  stop_->setObjectName(QStringLiteral("attribution.stop"));
  buttons->addWidget(run_);
  buttons->addWidget(stop_);
  buttons->addStretch(1);
  column->addLayout(buttons);
  connect(open, &QToolButton::clicked, this, &AttributionView::openTextRequested);
  connect(run_, &QPushButton::clicked, this, [this] {
    const AttributeSpec asked = spec();
    pendingContext_ = asked.context.toStdString();
    model_.clear();
    result_ = {};
    Q_EMIT runRequested(asked);
  });
  connect(stop_, &QPushButton::clicked, this, &AttributionView::stopRequested);
  connect(context_, &QPlainTextEdit::textChanged, this, &AttributionView::updateButtons);
  return left;
}

QLayout* AttributionView::buildOptions(QWidget* parent) {
  auto* rows = new QVBoxLayout;
  auto* options = new QHBoxLayout;
  unit_ = new QComboBox(parent);
  unit_->setObjectName(QStringLiteral("attribution.unit"));
  unit_->setAccessibleName(tr("Unit"));
  unit_->addItem(tr("Sentences"), static_cast<int>(SourceUnit::sentence));
  unit_->addItem(tr("Paragraphs"), static_cast<int>(SourceUnit::paragraph));
  unit_->addItem(tr("Token windows"), static_cast<int>(SourceUnit::window));
  tokens_ = new QSpinBox(parent);
  tokens_->setObjectName(QStringLiteral("attribution.tokens"));
  tokens_->setAccessibleName(tr("Response tokens"));
  tokens_->setToolTip(tr("Length of the response, when the model answers"));
  tokens_->setRange(1, 4096);
  tokens_->setValue(48);
  tokens_->setSuffix(tr(" tokens"));
  method_ = new QComboBox(parent);
  method_->setObjectName(QStringLiteral("attribution.method"));
  method_->setAccessibleName(tr("Method"));
  for (const AttributionMethod& method : attributionMethods()) method_->addItem(QString::fromStdString(method.title), QString::fromStdString(method.name));
  method_->setCurrentIndex(method_->findData(AttributeSpec().method));
  options->addWidget(unit_, 1);
  options->addWidget(tokens_);
  rows->addWidget(method_);  // with a title as long as these, in a row of its own
  rows->addLayout(options);
  return rows;
}

QWidget* AttributionView::buildResult() {
  auto* right = new QWidget(this);
  auto* column = new QVBoxLayout(right);
  column->setContentsMargins(8, 0, 0, 0);
  column->setSpacing(6);
  auto* bar = new QHBoxLayout;
  status_ = new QLabel(right);
  status_->setObjectName(QStringLiteral("attribution.status"));
  status_->setWordWrap(true);
  progress_ = new QProgressBar(right);
  progress_->setAccessibleName(tr("Attribution progress"));
  progress_->setRange(0, 1000);
  progress_->setMaximumWidth(160);
  progress_->hide();
  legend_ = new FlowLegend(right);
  exportTable_ = new QToolButton(right);
  exportTable_->setText(tr("Export table…"));
  exportTable_->setObjectName(QStringLiteral("attribution.exportTable"));
  exportPicture_ = new QToolButton(right);
  exportPicture_->setText(tr("Export picture…"));
  exportPicture_->setObjectName(QStringLiteral("attribution.exportPicture"));
  bar->addWidget(progress_);
  bar->addWidget(status_, 1);
  bar->addWidget(legend_);
  column->addLayout(bar);
  auto* split = new QSplitter(Qt::Vertical, right);
  split->setChildrenCollapsible(false);
  flow_ = new TokenFlow(split);
  flow_->setObjectName(QStringLiteral("attribution.flow"));
  flow_->setCaption(tr("Context with scores"));
  flow_->setColour(FlowColour::score);
  flow_->setScoreScale(0, 0);
  flow_->setFollow(false);
  flow_->setPlaceholder(tr("The context appears here, each source coloured by how much it made the response likelier."));
  split->addWidget(flow_);
  split->addWidget(buildList(split));
  split->setStretchFactor(0, 3);
  split->setStretchFactor(1, 2);
  column->addWidget(split, 1);

  connectResult();
  legend_->setScale(flow_->scale());
  return right;
}

// The response and the ranked sources.
QWidget* AttributionView::buildList(QWidget* parent) {
  auto* lower = new QWidget(parent);
  auto* list = new QVBoxLayout(lower);
  list->setContentsMargins(0, 6, 0, 0);
  list->setSpacing(6);
  answer_ = new QLabel(lower);
  answer_->setObjectName(QStringLiteral("attribution.answer"));
  answer_->setTextFormat(Qt::PlainText);
  answer_->setWordWrap(true);
  answer_->setTextInteractionFlags(Qt::TextSelectableByMouse);
  answer_->setFocusPolicy(Qt::NoFocus);
  auto* answerRow = new QHBoxLayout;
  answerRow->addWidget(answer_, 1);
  answerRow->addWidget(exportTable_);
  answerRow->addWidget(exportPicture_);
  list->addLayout(answerRow);
  table_ = new QTableView(lower);
  table_->setObjectName(QStringLiteral("attribution.table"));
  table_->setAccessibleName(tr("Ranked sources"));
  table_->setModel(&model_);
  table_->setSelectionBehavior(QAbstractItemView::SelectRows);
  table_->setSelectionMode(QAbstractItemView::SingleSelection);
  table_->setShowGrid(false);
  table_->setWordWrap(false);
  table_->setTabKeyNavigation(false);
  table_->setMouseTracking(true);
  table_->verticalHeader()->hide();
  table_->verticalHeader()->setDefaultSectionSize(fontMetrics().height() + 12);
  table_->horizontalHeader()->setStretchLastSection(true);
  table_->horizontalHeader()->setHighlightSections(false);
  table_->setColumnWidth(SourceModel::Rank, 44);
  table_->setColumnWidth(SourceModel::Score, 112);
  table_->setColumnWidth(SourceModel::Times, 112);
  list->addWidget(table_, 1);
  return lower;
}

void AttributionView::connectResult() {
  connect(flow_, &TokenFlow::scaleChanged, this, [this] { legend_->setScale(flow_->scale()); });
  connect(flow_, &TokenFlow::groupHovered, this, [this](int group) {
    const int row =
        group < 0 || group >= static_cast<int>(result_.sources.size()) ? -1 : model_.rowOf(result_.sources[static_cast<size_t>(group)].id);
    if (row >= 0) table_->setCurrentIndex(model_.index(row, SourceModel::Text));
  });
  const auto light = [this](const QModelIndex& index) {
    const int id = index.isValid() ? index.data(SourceModel::SourceRole).toInt() : -1;
    for (size_t i = 0; i < result_.sources.size(); ++i)
      if (result_.sources[i].id == id) return flow_->setGroup(static_cast<int>(i), true);
    flow_->setGroup(-1, false);
  };
  connect(table_, &QTableView::entered, this, light);
  connect(table_->selectionModel(), &QItemSelectionModel::currentRowChanged, this, [light](const QModelIndex& now) { light(now); });
  connect(exportTable_, &QToolButton::clicked, this, [this] { Q_EMIT exportTableRequested(model_.toCsv(), model_.toJson(result_)); });
  connect(exportPicture_, &QToolButton::clicked, this, [this] { Q_EMIT exportPictureRequested(flow_->grab()); });
}

void AttributionView::setTheme(const Theme& theme) {
  flow_->setTheme(theme);
  legend_->setTheme(theme);
}

void AttributionView::setModel(bool open) {
  haveModel_ = open;
  updateButtons();
}

void AttributionView::setJob(const JobState& job) {
  job_ = job;
  updateButtons();
}

void AttributionView::updateButtons() {
  const bool mine = job_.running && job_.kind == JobState::Kind::attribute;
  const bool empty = context_->document()->isEmpty();
  run_->setEnabled(haveModel_ && !job_.running && !empty);
  run_->setToolTip(!haveModel_    ? tr("No model is open")
                   : job_.running ? tr("Another job is running")
                   : empty        ? tr("The context is empty")
                                  : QString());
  stop_->setEnabled(mine);
  progress_->setVisible(mine);
  if (mine) {
    progress_->setRange(0, job_.fraction < 0 ? 0 : 1000);
    if (job_.fraction >= 0) progress_->setValue(static_cast<int>(job_.fraction * 1000));
    QString text = job_.what.isEmpty() ? tr("Attributing") : job_.what;
    if (job_.secondsLeft >= 0) text += QStringLiteral(" · ") + tr("%1 left").arg(Format().duration(job_.secondsLeft * 1e9));
    status_->setText(text);
  } else {
    status_->setText(result_.sources.empty() ? tr("No result yet") : resultText());
  }
  exportTable_->setEnabled(!result_.sources.empty());
  exportPicture_->setEnabled(!result_.sources.empty());
}

void AttributionView::setContext(const QString& text, const QString& name) {
  context_->setPlainText(text);
  context_->setToolTip(name);
}

AttributeSpec AttributionView::spec() const {
  AttributeSpec spec;
  spec.context = context_->toPlainText();
  spec.question = question_->text();
  spec.response = response_->toPlainText();
  spec.method = method_->currentData().toString();
  spec.unit = static_cast<SourceUnit>(unit_->currentData().toInt());
  spec.responseTokens = tokens_->value();
  return spec;
}

void AttributionView::showContext(const std::string& context, const std::vector<Source>& sources) {
  if (context == shownContext_ && sources.size() == shownSources_) return;
  shownContext_ = context;
  shownSources_ = sources.size();
  std::vector<FlowToken> tokens;
  const auto slice = [&](int64_t begin, int64_t end) {
    begin = std::clamp<int64_t>(begin, 0, static_cast<int64_t>(context.size()));
    end = std::clamp<int64_t>(end, begin, static_cast<int64_t>(context.size()));
    return QString::fromUtf8(context.data() + begin, static_cast<qsizetype>(end - begin));
  };
  int64_t at = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    addWords(tokens, slice(at, sources[i].start), -1);
    addWords(tokens, slice(sources[i].start, sources[i].end), static_cast<int>(i));
    at = sources[i].end;
  }
  addWords(tokens, slice(at, static_cast<int64_t>(context.size())), -1);
  flow_->setTokens(std::move(tokens));
}

QString AttributionView::resultText() const {
  const auto evaluated = std::count_if(result_.sources.begin(), result_.sources.end(), [](const Source& s) { return s.score.has_value(); });
  const Format format;
  QString text = tr("%1 of %2 sources").arg(evaluated).arg(result_.sources.size());
  if (result_.forwards > 0)
    text += QStringLiteral(" · ") + tr("%1 passes, %2").arg(format.count(result_.forwards), format.milliseconds(result_.ms));
  text += QStringLiteral(" · ") + tr("noise floor %1").arg(format.nats(result_.noiseFloor));
  if (!result_.complete) text += QStringLiteral(" · ") + tr("partial");
  return text;
}

void AttributionView::refreshScores() {
  std::vector<std::pair<float, bool>> scores;
  double largest = 0;
  for (const Source& source : result_.sources) {
    scores.emplace_back(source.score ? static_cast<float>(*source.score) : std::numeric_limits<float>::quiet_NaN(), !source.score);
    if (source.score) largest = std::max(largest, std::fabs(*source.score));
  }
  flow_->setScoreScale(static_cast<float>(largest), static_cast<float>(result_.noiseFloor));
  flow_->setScores(scores);
  answer_->setText(result_.response.empty() ? QString() : tr("Response: %1").arg(QString::fromStdString(result_.response).trimmed()));
}

void AttributionView::setResult(const AttributeResult& result) {
  result_ = result;
  showContext(pendingContext_, result.sources);
  model_.setResult(result);
  refreshScores();
  updateButtons();
}

void AttributionView::showStored(const storage::AttributionRecord& record) {
  AttributeResult result;
  result.method = record.method;
  result.response = record.response;
  result.noiseFloor = record.noiseFloor;
  result.baseLogProb = record.baseLogProb;
  result.forwards = record.forwards;
  result.forwardTokens = record.forwardTokens;
  result.ms = static_cast<double>(record.wallNs) / 1e6;
  result.complete = record.complete;
  for (const auto& stored : record.sources) {
    Source source;
    source.id = stored.id;
    source.text = stored.text;
    source.start = stored.start;
    source.end = stored.end;
    source.score = stored.score;
    source.perToken = stored.perToken;
    result.sources.push_back(std::move(source));
  }
  pendingContext_ = record.context;
  context_->setPlainText(QString::fromStdString(record.context));
  question_->setText(QString::fromStdString(record.question));
  setResult(result);
}

}  // namespace winnow
