// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/attribution/attribution_setup.h"

#include <QCheckBox>
#include <QComboBox>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QLabel>
#include <QLineEdit>
#include <QPlainTextEdit>
#include <QPushButton>
#include <QScrollArea>
#include <QSpinBox>
#include <QVBoxLayout>

#include "experiments/model_source.h"
#include "panels/knobs/segmented_editor.h"

namespace winnow {
namespace {

constexpr const char* kTwoSeconds = "2 s";
constexpr const char* kTenSeconds = "10 s";
constexpr const char* kExact = "exact";
constexpr const char* kOwn = "own";

QVBoxLayout* columnOf(QWidget* widget) {
  auto* column = new QVBoxLayout(widget);
  column->setContentsMargins(0, 0, 0, 0);
  column->setSpacing(6);
  return column;
}

QHBoxLayout* rowOf(QVBoxLayout* column) {
  auto* row = new QHBoxLayout;
  row->setContentsMargins(0, 0, 0, 0);
  row->setSpacing(6);
  column->addLayout(row);
  return row;
}

QLabel* heading(const QString& text, QWidget* parent) {
  auto* label = new QLabel(text, parent);
  label->setProperty("role", QStringLiteral("heading"));
  return label;
}

QSpinBox* spin(const QString& name, const QString& accessible, int least, int most, int value, QWidget* parent) {
  auto* box = new QSpinBox(parent);
  box->setObjectName(name);
  box->setAccessibleName(accessible);
  box->setRange(least, most);
  box->setValue(value);
  return box;
}

}  // namespace

AttributionSetup::AttributionSetup(QWidget* parent) : QWidget(parent) {
  auto* all = columnOf(this);
  auto* scroll = new QScrollArea(this);  // the buttons stay in sight
  scroll->setWidgetResizable(true);
  scroll->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
  scroll->setFocusPolicy(Qt::NoFocus);
  auto* fields = new QWidget(scroll);
  auto* column = columnOf(fields);
  column->setContentsMargins(0, 0, 12, 0);
  column->setSpacing(10);
  column->addWidget(buildAsked());
  column->addWidget(buildTime());
  column->addWidget(buildDetails());
  column->addStretch(1);
  scroll->setWidget(fields);
  all->addWidget(scroll, 1);
  all->addWidget(buildButtons());
  fit();
}

QWidget* AttributionSetup::buildAsked() {
  auto* box = new QWidget(this);
  auto* column = columnOf(box);
  auto* asked = heading(tr("Question"), box);
  column->addWidget(asked);
  question_ = new QLineEdit(box);
  question_->setObjectName(QStringLiteral("attribution.question"));
  question_->setAccessibleName(tr("Question"));
  question_->setPlaceholderText(tr("May be empty"));
  asked->setBuddy(question_);
  column->addWidget(question_);
  auto* row = rowOf(column);
  auto* given = heading(tr("Answer"), box);
  tokens_ = spin(QStringLiteral("attribution.tokens"), tr("Response tokens"), 1, 4096, 48, box);
  tokens_->setToolTip(tr("Length of the answer, when the model gives it"));
  tokens_->setSuffix(tr(" tokens"));
  row->addWidget(given, 1);
  row->addWidget(tokens_);
  answer_ = new QPlainTextEdit(box);
  answer_->setObjectName(QStringLiteral("attribution.response"));
  answer_->setAccessibleName(tr("Response"));
  answer_->setPlaceholderText(tr("The answer to explain; empty: the model answers"));
  answer_->setTabChangesFocus(true);
  answer_->setAcceptDrops(false);
  answer_->setFixedHeight(answer_->fontMetrics().height() * 3 + 20);
  given->setBuddy(answer_);
  column->addWidget(answer_);
  connect(answer_, &QPlainTextEdit::textChanged, this, [this] {
    tokens_->setEnabled(answer_->document()->isEmpty());
    Q_EMIT changed();
  });
  connect(question_, &QLineEdit::textChanged, this, &AttributionSetup::changed);
  return box;
}

QWidget* AttributionSetup::buildTime() {
  auto* box = new QWidget(this);
  auto* column = columnOf(box);
  column->addWidget(heading(tr("Time"), box));
  Knob knob;
  knob.name = "attribution.time";
  knob.title = tr("Time").toStdString();
  knob.type = KnobType::enumeration;
  knob.choices = {kTwoSeconds, kTenSeconds, kExact, kOwn};
  time_ = new SegmentedEditor(knob, box);
  time_->setToolTip(tr("The best answer in two or ten seconds; exact leave-one-out; or a method of your own choice"));
  time_->setValue(std::string(kTenSeconds));
  column->addWidget(time_);
  forecast_ = new QLabel(box);
  forecast_->setObjectName(QStringLiteral("attribution.forecast"));
  forecast_->setProperty("role", QStringLiteral("small"));
  forecast_->setWordWrap(true);
  column->addWidget(forecast_);
  auto* row = rowOf(column);
  auto* label = new QLabel(tr("Proxy"), box);
  proxy_ = new QComboBox(box);
  proxy_->setObjectName(QStringLiteral("attribution.proxy"));
  proxy_->setAccessibleName(tr("Proxy model"));
  proxy_->setToolTip(tr("A small model of the same family that looks first, so that the large one reads less"));
  proxy_->addItem(tr("none"), QString());
  if (!findResource("starter/proxy.gguf").empty()) proxy_->addItem(tr("built in, of the starter model"), QStringLiteral("starter-proxy"));
  proxy_->addItem(tr("a model file…"), QStringLiteral("?"));
  label->setBuddy(proxy_);
  row->addWidget(label);
  row->addWidget(proxy_, 1);
  column->addStretch(1);
  connect(time_, &SegmentedEditor::edited, this, &AttributionSetup::fit);
  connect(proxy_, &QComboBox::currentIndexChanged, this, [this](int index) {
    if (proxy_->itemData(index).toString() != QStringLiteral("?")) {
      proxyChosen_ = index;
      return fit();
    }
    proxy_->setCurrentIndex(proxyChosen_);  // until a file is named
    Q_EMIT proxyFileRequested();
  });
  return box;
}

QWidget* AttributionSetup::buildDetails() {
  details_ = new QWidget(this);
  auto* column = columnOf(details_);
  method_ = new QComboBox(details_);
  method_->setObjectName(QStringLiteral("attribution.method"));
  method_->setAccessibleName(tr("Method"));
  for (const AttributionMethod& method : attributionMethods())
    method_->addItem(QString::fromStdString(method.title), QString::fromStdString(method.name));
  method_->setCurrentIndex(method_->findData(AttributeSpec().method));
  method_->setMinimumContentsLength(12);
  method_->setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
  column->addWidget(heading(tr("Method"), details_));
  column->addWidget(method_);
  column->addWidget(buildTricks());
  samplesRow_ = new QWidget(details_);
  auto* row = rowOf(columnOf(samplesRow_));
  samples_ = spin(QStringLiteral("attribution.samples"), tr("Samples"), 0, 4096, 0, samplesRow_);
  samples_->setSpecialValueText(tr("as the method has it"));
  row->addWidget(new QLabel(tr("Samples"), samplesRow_));
  row->addWidget(samples_, 1);
  column->addWidget(samplesRow_);
  help_ = new QLabel(details_);
  help_->setProperty("role", QStringLiteral("small"));
  help_->setWordWrap(true);
  column->addWidget(help_);
  connect(method_, &QComboBox::currentIndexChanged, this, &AttributionSetup::fit);
  return details_;
}

QWidget* AttributionSetup::buildTricks() {
  const AttribotOptions defaults;
  tricks_ = new QWidget(details_);
  auto* column = columnOf(tricks_);
  reuse_ = new QCheckBox(tr("Reuse shared prefixes (exact)"), tricks_);
  reuse_->setObjectName(QStringLiteral("attribution.reuse"));
  reuse_->setChecked(defaults.reuse);
  column->addWidget(reuse_);
  auto* row = rowOf(column);
  hierarchy_ = new QCheckBox(tr("Paragraphs first, best"), tricks_);
  hierarchy_->setObjectName(QStringLiteral("attribution.hierarchy"));
  hierarchy_->setChecked(defaults.hierarchy);
  keepParagraphs_ =
      spin(QStringLiteral("attribution.keepParagraphs"), tr("Paragraphs looked into"), 1, 99, defaults.keepParagraphs, tricks_);
  row->addWidget(hierarchy_, 1);
  row->addWidget(keepParagraphs_);
  roleRow_ = new QWidget(tricks_);
  auto* roles = rowOf(columnOf(roleRow_));
  role_ = new QComboBox(roleRow_);
  role_->setObjectName(QStringLiteral("attribution.role"));
  role_->setAccessibleName(tr("What the proxy does"));
  role_->addItem(tr("proxy keeps the best"), static_cast<int>(AttribotOptions::Proxy::prune));
  role_->addItem(tr("proxy stands in"), static_cast<int>(AttribotOptions::Proxy::replace));
  keepSources_ = spin(QStringLiteral("attribution.keepSources"), tr("Sources the proxy keeps"), 1, 999, defaults.keepSources, roleRow_);
  roles->addWidget(role_, 1);
  roles->addWidget(keepSources_);
  column->addWidget(roleRow_);
  connect(hierarchy_, &QCheckBox::toggled, this, &AttributionSetup::fit);
  connect(role_, &QComboBox::currentIndexChanged, this, &AttributionSetup::fit);
  return tricks_;
}

QWidget* AttributionSetup::buildButtons() {
  auto* box = new QWidget(this);
  auto* row = rowOf(columnOf(box));
  run_ = new QPushButton(tr("Attribute"), box);
  run_->setObjectName(QStringLiteral("attribution.run"));
  run_->setProperty("primary", true);
  resume_ = new QPushButton(tr("Resume"), box);
  resume_->setObjectName(QStringLiteral("attribution.resume"));
  resume_->setToolTip(tr("Go on where it was stopped: what is known is not computed again"));
  stop_ = new QPushButton(tr("Stop"), box);
  stop_->setObjectName(QStringLiteral("attribution.stop"));
  stop_->setToolTip(tr("Stop and keep what is there"));
  row->addWidget(run_, 1);
  row->addWidget(resume_);
  row->addWidget(stop_);
  connect(run_, &QPushButton::clicked, this, &AttributionSetup::runRequested);
  connect(resume_, &QPushButton::clicked, this, &AttributionSetup::resumeRequested);
  connect(stop_, &QPushButton::clicked, this, &AttributionSetup::stopRequested);
  return box;
}

const AttributionMethod& AttributionSetup::method() const {
  return *findAttributionMethod(method_->currentData().toString().toStdString());
}

void AttributionSetup::fit() {
  const bool own = toText(time_->value()) == kOwn;
  const bool proxy = !proxy_->currentData().toString().isEmpty();
  details_->setVisible(own);
  tricks_->setVisible(method().name == "attribot");
  keepParagraphs_->setEnabled(hierarchy_->isChecked());
  roleRow_->setVisible(proxy);
  keepSources_->setVisible(static_cast<AttribotOptions::Proxy>(role_->currentData().toInt()) == AttribotOptions::Proxy::prune);
  samplesRow_->setVisible(method().name == "contextcite" || method().name == "shapley");
  help_->setText(QString::fromStdString(method().help + (method().paper.empty() ? "" : " " + method().paper + ".")));
  Q_EMIT changed();
}

void AttributionSetup::setQuestion(const QString& question) {
  question_->setText(question);
  question_->setCursorPosition(0);
}

void AttributionSetup::setAnswer(const QString& answer) { answer_->setPlainText(answer); }

void AttributionSetup::setForecast(const QString& text) {
  forecast_->setText(text);
  forecast_->setVisible(!text.isEmpty());
}

void AttributionSetup::setProxyFile(const QString& path) {
  int at = proxy_->findData(path);
  if (at < 0) {
    at = proxy_->count() - 1;
    proxy_->insertItem(at, QFileInfo(path).fileName(), path);
    proxy_->setItemData(at, path, Qt::ToolTipRole);
  }
  proxy_->setCurrentIndex(at);
}

void AttributionSetup::setState(const QString& blocked, bool running, bool resumable) {
  run_->setEnabled(blocked.isEmpty());
  run_->setToolTip(blocked);
  resume_->setVisible(resumable);
  resume_->setEnabled(blocked.isEmpty());
  stop_->setEnabled(running);
}

void AttributionSetup::fillSpec(AttributeSpec& spec) const {
  spec.question = question_->text();
  spec.response = answer_->toPlainText();
  spec.responseTokens = tokens_->value();
  spec.method = QString::fromStdString(method().name);
  spec.samples = samples_->value();
  spec.attribot.reuse = reuse_->isChecked();
  spec.attribot.hierarchy = hierarchy_->isChecked();
  spec.attribot.keepParagraphs = keepParagraphs_->value();
  spec.attribot.keepSources = keepSources_->value();
  spec.attribot.proxy = static_cast<AttribotOptions::Proxy>(role_->currentData().toInt());
  spec.proxyPath = proxy_->currentData().toString();
  const std::string time = toText(time_->value());
  if (time == kExact) {
    spec.method = QStringLiteral("attribot");  // its first trick alone is exact leave-one-out
    spec.attribot = {};
    spec.attribot.hierarchy = false;
    spec.proxyPath.clear();
  }
  if (time == kTwoSeconds || time == kTenSeconds) spec.method = AttributeSpec().method;  // all ways are weighed
  if (time == kTwoSeconds) spec.seconds = 2;
  if (time == kTenSeconds) spec.seconds = 10;
  if (time == kOwn && !method().usesProxy) spec.proxyPath.clear();
}

}  // namespace winnow
