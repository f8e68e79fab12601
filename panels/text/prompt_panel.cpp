// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/text/prompt_panel.h"

#include <QCheckBox>
#include <QComboBox>
#include <QDoubleSpinBox>
#include <QFormLayout>
#include <QFrame>
#include <QHBoxLayout>
#include <QKeyEvent>
#include <QLabel>
#include <QPlainTextEdit>
#include <QPushButton>
#include <QSpinBox>
#include <QSplitter>
#include <QToolButton>
#include <QVBoxLayout>

#include "experiments/format.h"
#include "panels/text/flow_legend.h"

namespace winnow {
namespace {

FlowToken flowToken(const TokenPoint& point) {
  FlowToken token;
  token.text = point.text;
  token.prompt = point.prompt;
  if (point.nll >= 0) token.nll = static_cast<float>(point.nll);
  if (!point.prompt && point.ms > 0) token.ms = static_cast<float>(point.ms);
  return token;
}

void row(QFormLayout* form, const QString& label, QWidget* field, const QString& tip) {
  form->addRow(label, field);
  field->setToolTip(tip);
  field->setAccessibleName(label);
  field->setAccessibleDescription(tip);
  field->setMinimumWidth(120);
}

QDoubleSpinBox* real(QWidget* parent, const QString& name, double low, double high, double step, double value) {
  auto* spin = new QDoubleSpinBox(parent);
  spin->setObjectName(name);
  spin->setRange(low, high);
  spin->setSingleStep(step);
  spin->setDecimals(2);
  spin->setValue(value);
  return spin;
}

QSpinBox* whole(QWidget* parent, const QString& name, int low, int high, int value) {
  auto* spin = new QSpinBox(parent);
  spin->setObjectName(name);
  spin->setRange(low, high);
  spin->setValue(value);
  return spin;
}

}  // namespace

PromptPanel::PromptPanel(CursorLink* cursor, QWidget* parent) : QWidget(parent), cursor_(cursor) {
  setObjectName(QStringLiteral("promptPanel"));
  setAccessibleName(tr("Prompt and output"));
  auto* all = new QHBoxLayout(this);
  all->setContentsMargins(8, 6, 8, 8);
  auto* split = new QSplitter(Qt::Horizontal, this);
  split->setChildrenCollapsible(false);
  split->addWidget(buildPrompt());
  split->addWidget(buildOutput());
  split->setStretchFactor(0, 2);
  split->setStretchFactor(1, 3);
  all->addWidget(split);
  connect(flow_, &TokenFlow::hovered, this, [this](int token) {
    if (token < 0) cursor_->clear();
    else if (const TokenPoint* point = pointAt(token)) cursor_->setPosition(static_cast<double>(point->index));
    Q_EMIT tokenHovered(token);
  });
  connect(cursor_, &CursorLink::tokenHovered, this, [this](qint64 token) {
    const int place = points_.empty() || token < 0 ? -1 : static_cast<int>(token - points_.front().index);
    if (place != flow_->cursor()) {
      flow_->setCursor(place, true);
      Q_EMIT tokenHovered(place);
    }
  });
  setModel(std::nullopt);
}

QWidget* PromptPanel::buildPrompt() {
  auto* left = new QWidget(this);
  auto* column = new QVBoxLayout(left);
  column->setContentsMargins(0, 0, 6, 0);
  column->setSpacing(6);
  prompt_ = new QPlainTextEdit(left);
  prompt_->setObjectName(QStringLiteral("prompt"));
  prompt_->setAccessibleName(tr("Prompt"));
  prompt_->setPlaceholderText(tr("Type a prompt, or drop a text file. Ctrl+Enter generates."));
  prompt_->setTabChangesFocus(true);
  prompt_->setPlainText(tr("Once upon a time"));
  prompt_->setMinimumHeight(40);
  prompt_->setAcceptDrops(false);  // the window takes files
  prompt_->installEventFilter(this);
  column->addWidget(prompt_, 1);
  buildSettings();
  auto* buttons = new QHBoxLayout;
  generate_ = new QPushButton(tr("Generate"), left);
  generate_->setObjectName(QStringLiteral("generate"));
  generate_->setProperty("primary", true);
  generate_->setMinimumHeight(28);
  stop_ = new QPushButton(tr("Stop"), left);
  stop_->setObjectName(QStringLiteral("stop"));
  stop_->setMinimumHeight(28);
  chat_ = new QCheckBox(tr("Chat"), left);
  chat_->setObjectName(QStringLiteral("chat"));
  buttons->addWidget(generate_);
  buttons->addWidget(stop_);
  buttons->addWidget(tokens_);
  buttons->addWidget(sampling_);
  buttons->addWidget(chat_);
  buttons->addStretch(1);
  column->addLayout(buttons);
  connect(generate_, &QPushButton::clicked, this, [this] { Q_EMIT generateRequested(request()); });
  connect(stop_, &QPushButton::clicked, this, &PromptPanel::stopRequested);
  connect(prompt_, &QPlainTextEdit::textChanged, this, &PromptPanel::updateButtons);
  return left;
}

// Length in the row; the rest in a popup whose button says what is set.
void PromptPanel::buildSettings() {
  const SamplerSettings defaults;
  tokens_ = whole(this, QStringLiteral("tokens"), 1, 1000000, 128);
  tokens_->setSuffix(tr(" tokens"));
  tokens_->setFixedWidth(128);
  tokens_->setToolTip(tr("New tokens at most"));
  tokens_->setAccessibleName(tr("Tokens"));
  sampling_ = new QToolButton(this);
  sampling_->setObjectName(QStringLiteral("sampling"));
  sampling_->setProperty("segment", QStringLiteral("only"));
  sampling_->setMinimumHeight(28);
  sampling_->setToolTip(tr("Temperature, top-k, top-p, min-p, penalty, seed"));
  popup_ = new QFrame(this, Qt::Popup);
  popup_->setObjectName(QStringLiteral("sampling.popup"));
  popup_->setFrameShape(QFrame::StyledPanel);
  auto* form = new QFormLayout(popup_);
  form->setContentsMargins(14, 12, 14, 12);
  temperature_ = real(popup_, QStringLiteral("temperature"), 0, 5, 0.1, static_cast<double>(defaults.temperature));
  topK_ = whole(popup_, QStringLiteral("topK"), 0, 100000, defaults.topK);
  topP_ = real(popup_, QStringLiteral("topP"), 0.01, 1, 0.05, static_cast<double>(defaults.topP));
  minP_ = real(popup_, QStringLiteral("minP"), 0, 1, 0.01, static_cast<double>(defaults.minP));
  penalty_ = real(popup_, QStringLiteral("penalty"), 0.5, 3, 0.05, static_cast<double>(defaults.repetitionPenalty));
  seed_ = whole(popup_, QStringLiteral("seed"), 0, 2147483647, static_cast<int>(defaults.seed));
  ignoreEnd_ = new QCheckBox(tr("Go on after the end token"), popup_);
  ignoreEnd_->setObjectName(QStringLiteral("ignoreEnd"));
  topK_->setSpecialValueText(tr("off"));
  minP_->setSpecialValueText(tr("off"));
  temperature_->setSpecialValueText(tr("0 (greedy)"));
  row(form, tr("Temperature"), temperature_, tr("0 takes the most likely token each time"));
  row(form, tr("Top-k"), topK_, tr("Draw among the k most likely tokens"));
  row(form, tr("Top-p"), topP_, tr("Draw among the tokens that make up this probability; 1 is off"));
  row(form, tr("Min-p"), minP_, tr("Drop tokens below this share of the likeliest one's probability"));
  row(form, tr("Penalty"), penalty_, tr("Repetition penalty over the last 64 tokens; 1 is off"));
  row(form, tr("Seed"), seed_, tr("Same seed, same configuration: same tokens"));
  form->addRow(ignoreEnd_);
  for (QDoubleSpinBox* each : {temperature_, topP_, minP_, penalty_})
    connect(each, &QDoubleSpinBox::valueChanged, this, &PromptPanel::updateSampling);
  for (QSpinBox* each : {topK_, seed_}) connect(each, &QSpinBox::valueChanged, this, &PromptPanel::updateSampling);
  connect(sampling_, &QToolButton::clicked, this, [this] {
    popup_->adjustSize();
    popup_->move(sampling_->mapToGlobal(QPoint(0, -popup_->sizeHint().height() - 4)));
    popup_->show();
    temperature_->setFocus(Qt::PopupFocusReason);
  });
  updateSampling();
}

void PromptPanel::updateSampling() {
  const SamplerSettings s = sampler();
  const Format format;
  QStringList parts;
  if (s.temperature == 0) {
    parts << tr("Greedy");
  } else {
    parts << tr("Temperature %1").arg(format.significant(static_cast<double>(s.temperature), 2));
    if (s.topK > 0) parts << tr("top-k %1").arg(s.topK);
    if (s.topP < 1) parts << tr("top-p %1").arg(format.significant(static_cast<double>(s.topP), 2));
    if (s.minP > 0) parts << tr("min-p %1").arg(format.significant(static_cast<double>(s.minP), 2));
  }
  if (s.repetitionPenalty != 1) parts << tr("penalty %1").arg(format.significant(static_cast<double>(s.repetitionPenalty), 3));
  if (s.temperature > 0) parts << tr("seed %1").arg(s.seed);
  const QString all = parts.join(QStringLiteral(" · "));
  sampling_->setText(
      QStringLiteral("  %1  ").arg(parts.size() > 3 ? parts.mid(0, 2).join(QStringLiteral(" · ")) + QStringLiteral(" …") : all));
  sampling_->setAccessibleName(tr("Sampling: %1").arg(all));
}

QWidget* PromptPanel::buildOutput() {
  auto* right = new QWidget(this);
  auto* column = new QVBoxLayout(right);
  column->setContentsMargins(6, 0, 0, 0);
  column->setSpacing(4);
  auto* bar = new QHBoxLayout;
  title_ = new QLabel(tr("Output"), right);
  title_->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
  right->setMinimumWidth(220);
  title_->setTextFormat(Qt::PlainText);
  bar->addWidget(title_, 1);
  legend_ = new FlowLegend(right);
  bar->addWidget(legend_);
  colour_ = new QComboBox(right);
  colour_->setObjectName(QStringLiteral("flow.colour"));
  colour_->setAccessibleName(tr("Colour tokens by"));
  colour_->addItem(tr("Confidence (NLL)"), static_cast<int>(FlowColour::nll));
  colour_->addItem(tr("Latency"), static_cast<int>(FlowColour::latency));
  colour_->addItem(tr("Plain"), static_cast<int>(FlowColour::plain));
  bar->addWidget(colour_);
  column->addLayout(bar);
  flow_ = new TokenFlow(right);
  flow_->setObjectName(QStringLiteral("flow"));
  flow_->setCaption(tr("Output"));
  column->addWidget(flow_, 1);
  legend_->setScale(flow_->scale());
  connect(flow_, &TokenFlow::scaleChanged, this, [this] {
    legend_->setScale(flow_->scale());
    legend_->setVisible(width() >= 800 && flow_->colour() != FlowColour::plain);
  });
  connect(colour_, &QComboBox::currentIndexChanged, this,
          [this] { flow_->setColour(static_cast<FlowColour>(colour_->currentData().toInt())); });
  return right;
}

void PromptPanel::setTheme(const Theme& theme) {
  flow_->setTheme(theme);
  legend_->setTheme(theme);
}

void PromptPanel::setModel(const std::optional<ModelInfo>& model) {
  haveModel_ = model.has_value();
  const bool raw = !model || model->chatFormat.isEmpty() || model->chatFormat == QStringLiteral("raw");
  chat_->setEnabled(haveModel_ && !raw);
  if (raw) chat_->setChecked(false);
  chat_->setToolTip(!model ? tr("No model is open")
                    : raw  ? tr("This model brings no chat template: prompts run as they are")
                           : tr("Wrap the prompt as %1").arg(model->chatFormat));
  flow_->setPlaceholder(haveModel_ ? tr("Press Generate (F5): the answer appears here, token by token.") : tr("Open a model first."));
  updateButtons();
}

void PromptPanel::setBusy(bool generating, bool otherJob) {
  generating_ = generating;
  otherJob_ = otherJob;
  updateButtons();
}

void PromptPanel::updateButtons() {
  const bool empty = prompt_->document()->isEmpty();
  generate_->setEnabled(haveModel_ && !generating_ && !otherJob_ && !empty);
  generate_->setToolTip(!haveModel_    ? tr("No model is open")
                        : otherJob_    ? tr("Another job is running")
                        : generating_  ? tr("Generating")
                        : empty        ? tr("The prompt is empty")
                                       : tr("Generate (F5)"));
  stop_->setEnabled(generating_);
}

void PromptPanel::setPrompt(const QString& text) { prompt_->setPlainText(text); }
QString PromptPanel::prompt() const { return prompt_->toPlainText(); }

SamplerSettings PromptPanel::sampler() const {
  SamplerSettings sampler;
  sampler.temperature = static_cast<float>(temperature_->value());
  sampler.topK = topK_->value();
  sampler.topP = static_cast<float>(topP_->value());
  sampler.minP = static_cast<float>(minP_->value());
  sampler.repetitionPenalty = static_cast<float>(penalty_->value());
  sampler.seed = static_cast<uint64_t>(seed_->value());
  return sampler;
}

GenerateRequest PromptPanel::request() const {
  GenerateRequest request;
  request.prompt = prompt();
  request.tokens = tokens_->value();
  request.chat = chat_->isChecked();
  request.ignoreEos = ignoreEnd_->isChecked();
  request.sampler = sampler();
  return request;
}

void PromptPanel::begin(const GenerateRequest&) {
  points_.clear();
  flow_->clear();
  title_->setText(tr("Output"));
}

void PromptPanel::addTokens(const std::vector<TokenPoint>& points) {
  std::vector<FlowToken> tokens;
  tokens.reserve(points.size());
  for (const TokenPoint& point : points) tokens.push_back(flowToken(point));
  points_.insert(points_.end(), points.begin(), points.end());
  flow_->append(tokens);
}

void PromptPanel::addEpoch(const EpochPoint& epoch) {
  const qint64 first = points_.empty() ? 0 : points_.front().index;
  flow_->addMarker(static_cast<int>(epoch.token - first), epoch.clamped ? tr("%1 (adjusted)").arg(epoch.label) : epoch.label);
}

void PromptPanel::showStored(const std::vector<TokenPoint>& points, const std::vector<EpochPoint>& epochs, const QString& title) {
  points_ = points;
  std::vector<FlowToken> tokens;
  tokens.reserve(points.size());
  for (const TokenPoint& point : points) tokens.push_back(flowToken(point));
  flow_->setTokens(std::move(tokens));
  for (const EpochPoint& epoch : epochs) addEpoch(epoch);
  title_->setText(title);
}

const TokenPoint* PromptPanel::pointAt(int token) const {
  return token >= 0 && token < static_cast<int>(points_.size()) ? &points_[static_cast<size_t>(token)] : nullptr;
}

void PromptPanel::focusPrompt() {
  prompt_->setFocus(Qt::ShortcutFocusReason);
  prompt_->selectAll();
}

void PromptPanel::resizeEvent(QResizeEvent* event) {
  QWidget::resizeEvent(event);
  legend_->setVisible(width() >= 800 && flow_->colour() != FlowColour::plain);
}

bool PromptPanel::eventFilter(QObject* watched, QEvent* event) {
  if (watched == prompt_ && event->type() == QEvent::KeyPress) {
    const auto* key = static_cast<QKeyEvent*>(event);
    if ((key->key() == Qt::Key_Return || key->key() == Qt::Key_Enter) && (key->modifiers() & Qt::ControlModifier)) {
      if (generate_->isEnabled()) generate_->click();
      return true;
    }
  }
  return QWidget::eventFilter(watched, event);
}

}  // namespace winnow
