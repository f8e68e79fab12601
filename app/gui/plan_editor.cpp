// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/plan_editor.h"

#include <QCheckBox>
#include <QComboBox>
#include <QFileDialog>
#include <QFileInfo>
#include <QGridLayout>
#include <QLabel>
#include <QLineEdit>
#include <QSpinBox>
#include <QToolButton>
#include <QVBoxLayout>
#include <algorithm>

#include "experiments/model_source.h"

namespace winnow {
namespace {

QLabel* heading(const QString& text, QWidget* parent) {
  auto* label = new QLabel(text, parent);
  label->setProperty("role", QStringLiteral("heading"));
  return label;
}

}  // namespace

PlanEditor::PlanEditor(QWidget* parent) : QWidget(parent) {
  setObjectName(QStringLiteral("plan.editor"));
  setAccessibleName(tr("New plan"));
  auto* columns = new QGridLayout(this);
  columns->setContentsMargins(0, 0, 0, 0);
  columns->setHorizontalSpacing(28);
  columns->addWidget(buildAxes(), 0, 0);
  columns->addWidget(buildExperiments(), 0, 1);
  columns->setColumnStretch(0, 1);
  columns->setColumnStretch(1, 1);
  addAxis(QStringLiteral("weights.bits"), QStringLiteral("16, 4, 2"));
  connect(this, &PlanEditor::changed, this, &PlanEditor::describeBase);
}

QWidget* PlanEditor::buildAxes() {
  auto* left = new QWidget(this);
  auto* all = new QVBoxLayout(left);
  all->setContentsMargins(0, 0, 0, 0);
  all->setSpacing(8);
  auto* names = new QHBoxLayout;
  name_ = new QLineEdit(tr("Sweep"), left);
  name_->setObjectName(QStringLiteral("plan.name"));
  name_->setAccessibleName(tr("Name"));
  auto* nameLabel = new QLabel(tr("&Name"), left);
  nameLabel->setBuddy(name_);
  repeats_ = new QSpinBox(left);
  repeats_->setObjectName(QStringLiteral("plan.repeats"));
  repeats_->setRange(1, 1000);
  repeats_->setAccessibleName(tr("Repeats"));
  repeats_->setToolTip(tr("Every point is measured this often, all points in turn, so that drift hits them alike"));
  auto* repeatsLabel = new QLabel(tr("&Repeats"), left);
  repeatsLabel->setBuddy(repeats_);
  names->setSpacing(8);
  names->addWidget(nameLabel);
  names->addWidget(name_, 1);
  names->addWidget(repeatsLabel);
  names->addWidget(repeats_);
  all->addLayout(names);
  auto* head = new QHBoxLayout;
  head->addWidget(heading(tr("Axes: every combination is a point"), left), 1);
  auto* add = new QToolButton(left);
  add->setText(tr("Add axis"));
  add->setObjectName(QStringLiteral("plan.addAxis"));
  head->addWidget(add);
  all->addLayout(head);
  axisColumn_ = new QVBoxLayout;
  axisColumn_->setSpacing(6);
  all->addLayout(axisColumn_);
  baseText_ = new QLabel(left);
  baseText_->setObjectName(QStringLiteral("plan.base"));
  baseText_->setProperty("role", QStringLiteral("small"));
  baseText_->setWordWrap(true);
  all->addWidget(baseText_);
  all->addStretch(1);
  connect(name_, &QLineEdit::textChanged, this, &PlanEditor::changed);
  connect(repeats_, &QSpinBox::valueChanged, this, &PlanEditor::changed);
  connect(add, &QToolButton::clicked, this, [this] {
    for (const Knob& knob : Schema::instance().knobs()) {  // the next one that is no axis yet
      const QString name = QString::fromStdString(knob.name);
      if (std::any_of(axes_.begin(), axes_.end(), [&](const AxisRow& row) { return row.knob->currentText() == name; })) continue;
      addAxis(name, suggestedValues(knob));
      axes_.back().knob->setFocus();
      return;
    }
  });
  return left;
}

void PlanEditor::addAxis(const QString& knob, const QString& values) {
  AxisRow row{new QWidget(this), nullptr, nullptr};
  auto* line = new QHBoxLayout(row.box);
  line->setContentsMargins(0, 0, 0, 0);
  line->setSpacing(8);
  row.knob = new QComboBox(row.box);
  row.knob->setObjectName(QStringLiteral("plan.axis.knob"));
  row.knob->setAccessibleName(tr("Knob of axis %1").arg(axes_.size() + 1));
  for (const Knob& each : Schema::instance().knobs()) row.knob->addItem(QString::fromStdString(each.name));
  row.knob->setCurrentText(knob);
  row.values = new QLineEdit(values, row.box);
  row.values->setObjectName(QStringLiteral("plan.axis.values"));
  row.values->setAccessibleName(tr("Values of axis %1").arg(axes_.size() + 1));
  row.values->setPlaceholderText(tr("Values, separated by commas"));
  auto* remove = new QToolButton(row.box);
  remove->setText(QStringLiteral("✕"));
  remove->setAccessibleName(tr("Remove axis %1").arg(axes_.size() + 1));
  remove->setToolTip(tr("Remove this axis"));
  line->addWidget(row.knob);
  line->addWidget(row.values, 1);
  line->addWidget(remove);
  axisColumn_->addWidget(row.box);
  axes_.push_back(row);
  connect(row.knob, &QComboBox::currentTextChanged, this, [this, edit = row.values](const QString& name) {
    if (const Knob* known = Schema::instance().find(name.toStdString())) edit->setText(suggestedValues(*known));
    Q_EMIT changed();
  });
  connect(row.values, &QLineEdit::textChanged, this, &PlanEditor::changed);
  connect(remove, &QToolButton::clicked, this, [this, box = row.box] { removeAxis(box); });
  Q_EMIT changed();
}

void PlanEditor::removeAxis(QWidget* box) {
  std::erase_if(axes_, [&](const AxisRow& row) { return row.box == box; });
  box->hide();
  box->deleteLater();
  Q_EMIT changed();
}

// A few values to begin with, all of them allowed.
QString PlanEditor::suggestedValues(const Knob& knob) {
  QStringList values;
  const auto offer = [&](const QString& text) {
    if (!text.isEmpty() && !values.contains(text) && Schema::instance().parse(knob.name, text.toStdString())) values << text;
  };
  for (const std::string& choice : knob.choices) offer(QString::fromStdString(choice));
  if (!values.isEmpty()) return values.join(QStringLiteral(", "));
  offer(QString::fromStdString(toText(knob.defaultValue)));
  if (knob.type == KnobType::boolean) offer(knob.defaultValue == KnobValue(true) ? QStringLiteral("false") : QStringLiteral("true"));
  if (knob.type == KnobType::real)
    for (const char* each : {"0.25", "0.5"}) offer(QString::fromLatin1(each));
  if (const auto* whole = std::get_if<int64_t>(&knob.defaultValue))
    for (const int64_t factor : {2, 4}) offer(QString::number(std::max<int64_t>(1, *whole) * factor));
  return values.join(QStringLiteral(", "));
}

QCheckBox* PlanEditor::kind(QGridLayout* grid, int row, const QString& text, const QString& name, bool on) {
  auto* box = new QCheckBox(text, this);
  box->setObjectName(name);
  box->setChecked(on);
  grid->addWidget(box, row, 0);
  connect(box, &QCheckBox::toggled, this, &PlanEditor::changed);
  return box;
}

QSpinBox* PlanEditor::number(QGridLayout* grid, int row, int column, const QString& label, const QString& name, int low, int high,
                             int value) {
  auto* box = new QHBoxLayout;
  auto* text = new QLabel(label, this);
  auto* spin = new QSpinBox(this);
  spin->setObjectName(name);
  spin->setRange(low, high);
  spin->setValue(value);
  spin->setAccessibleName(label);
  text->setBuddy(spin);
  box->setSpacing(6);
  box->addWidget(text);
  box->addWidget(spin);
  box->addStretch(1);
  grid->addLayout(box, row, column);
  connect(spin, &QSpinBox::valueChanged, this, &PlanEditor::changed);
  return spin;
}

QWidget* PlanEditor::buildExperiments() {
  auto* right = new QWidget(this);
  auto* grid = new QGridLayout(right);
  grid->setContentsMargins(0, 0, 0, 0);
  grid->setVerticalSpacing(6);
  grid->setHorizontalSpacing(12);
  grid->addWidget(heading(tr("Experiments at every point"), right), 0, 0, 1, 4);
  buildMeasurements(grid);
  buildTexts(grid);
  grid->setColumnStretch(3, 1);
  grid->setRowStretch(8, 1);
  return right;
}

void PlanEditor::buildMeasurements(QGridLayout* grid) {
  evaluate_ = kind(grid, 1, tr("Evaluate"), QStringLiteral("plan.evaluate"), true);
  context_ = number(grid, 1, 1, tr("context"), QStringLiteral("plan.context"), 8, 1048576, 256);
  chunks_ = number(grid, 1, 2, tr("windows"), QStringLiteral("plan.chunks"), 0, 1000000, 8);
  chunks_->setSpecialValueText(tr("all"));
  bench_ = kind(grid, 3, tr("Bench"), QStringLiteral("plan.bench"), true);
  benchPrompt_ = number(grid, 3, 1, tr("prompt"), QStringLiteral("plan.benchPrompt"), 1, 1000000, 128);
  benchTokens_ = number(grid, 3, 2, tr("tokens"), QStringLiteral("plan.benchTokens"), 1, 1000000, 32);
  benchRepetitions_ = number(grid, 3, 3, tr("times"), QStringLiteral("plan.benchRepetitions"), 1, 1000, 5);
  generate_ = kind(grid, 4, tr("Generate"), QStringLiteral("plan.generate"), false);
  generate_->setToolTip(tr("From the prompt of the window"));
  retrieve_ = kind(grid, 7, tr("Retrieve"), QStringLiteral("plan.retrieve"), false);
  retrieve_->setToolTip(tr("Sentences hidden at five depths of the sample text"));
  retrieveLength_ = number(grid, 7, 1, tr("context"), QStringLiteral("plan.retrieveLength"), 32, 1048576, 256);
  retrieveTrials_ = number(grid, 7, 2, tr("trials"), QStringLiteral("plan.retrieveTrials"), 1, 1000, 3);
  tokens_ = number(grid, 4, 1, tr("tokens"), QStringLiteral("plan.tokens"), 1, 1000000, 64);
}

void PlanEditor::buildTexts(QGridLayout* grid) {
  const auto file = [&](int row, const QString& name, const QString& what, const QString& path) {
    auto* box = new QHBoxLayout;
    auto* edit = new QLineEdit(path, this);
    edit->setObjectName(name);
    edit->setAccessibleName(what);
    edit->setPlaceholderText(what);
    edit->setCursorPosition(static_cast<int>(path.size()));
    auto* choose = new QToolButton(this);
    choose->setText(tr("Choose…"));
    choose->setAccessibleName(tr("Choose: %1").arg(what));
    box->addWidget(edit, 1);
    box->addWidget(choose);
    grid->addLayout(box, row, 1, 1, 3);
    connect(edit, &QLineEdit::textChanged, this, &PlanEditor::changed);
    connect(choose, &QToolButton::clicked, this, [this, edit, what] {
      const QString folder = QFileInfo(edit->text()).absolutePath();
      const QString chosen = QFileDialog::getOpenFileName(this, what, folder, tr("Text (*.txt *.md);;All files (*)"));
      if (!chosen.isEmpty()) edit->setText(chosen);
    });
    return edit;
  };
  text_ = file(2, QStringLiteral("plan.text"), tr("Text to evaluate"), QString::fromStdString(findResource("texts/sample.txt")));
  attribute_ = kind(grid, 5, tr("Attribute"), QStringLiteral("plan.attribute"), false);
  attributeText_ = file(5, QStringLiteral("plan.attributeText"), tr("Context, a text file"), {});
  question_ = new QLineEdit(this);
  question_->setObjectName(QStringLiteral("plan.question"));
  question_->setAccessibleName(tr("Question to the context"));
  question_->setPlaceholderText(tr("Question to the context"));
  grid->addWidget(question_, 6, 1, 1, 3);
  connect(question_, &QLineEdit::textChanged, this, &PlanEditor::changed);
  const auto fit = [this] {
    for (QWidget* each : std::initializer_list<QWidget*>{attributeText_, question_}) each->setEnabled(attribute_->isChecked());
    for (QWidget* each : std::initializer_list<QWidget*>{context_, chunks_, text_}) each->setEnabled(evaluate_->isChecked());
    for (QSpinBox* each : {benchPrompt_, benchTokens_, benchRepetitions_}) each->setEnabled(bench_->isChecked());
    tokens_->setEnabled(generate_->isChecked());
    for (QSpinBox* each : {retrieveLength_, retrieveTrials_}) each->setEnabled(retrieve_->isChecked());
  };
  for (QCheckBox* each : {evaluate_, bench_, generate_, attribute_, retrieve_}) connect(each, &QCheckBox::toggled, this, fit);
  fit();
}

void PlanEditor::setBase(const Config& config) {
  base_ = config;
  describeBase();
  Q_EMIT changed();
}

void PlanEditor::describeBase() {
  Config others = base_;
  for (const AxisRow& row : axes_) {
    const Knob* knob = Schema::instance().find(row.knob->currentText().toStdString());
    if (knob) others = others.with(knob->name, knob->defaultValue);
  }
  const QString text = QString::fromStdString(others.canonical());
  baseText_->setText(text.isEmpty() ? tr("All other knobs stay at their defaults.")
                                    : tr("All other knobs stay as they are: %1.").arg(text));
}

void PlanEditor::setModel(const std::optional<ModelInfo>& model) {
  model_ = !model ? QString() : isBundledModel(model->source.toStdString()) ? model->source : model->path;
  if (model) {
    const int context = std::max(16, model->config.context);
    context_->setValue(std::min(context_->value(), context));
    benchPrompt_->setValue(std::min(benchPrompt_->value(), context / 2));
    benchTokens_->setValue(std::min(benchTokens_->value(), context / 4));
    tokens_->setValue(std::min(tokens_->value(), context / 2));
    retrieveLength_->setValue(std::min(retrieveLength_->value(), context / 2));
  }
  Q_EMIT changed();
}

void PlanEditor::setPrompt(const QString& prompt) {
  prompt_ = prompt;
  Q_EMIT changed();
}

std::vector<Experiment> PlanEditor::experiments() const {
  std::vector<Experiment> out;
  if (evaluate_->isChecked()) {
    EvaluateSpec spec;
    spec.textPath = text_->text();
    spec.context = context_->value();
    spec.chunks = chunks_->value();
    out.emplace_back(spec);
  }
  if (bench_->isChecked()) {
    BenchSpec spec;
    spec.prompt = {benchPrompt_->value()};
    spec.generate = {benchTokens_->value()};
    spec.repetitions = benchRepetitions_->value();
    out.emplace_back(spec);
  }
  if (generate_->isChecked()) {
    GenerateSpec spec;
    spec.prompt = prompt_;
    spec.tokens = tokens_->value();
    spec.ignoreEos = true;
    out.emplace_back(spec);
  }
  if (attribute_->isChecked()) {
    AttributeSpec spec;
    spec.contextPath = attributeText_->text();
    spec.question = question_->text();
    out.emplace_back(spec);
  }
  if (retrieve_->isChecked()) {
    RetrieveSpec spec;
    spec.tasks.lengths = {retrieveLength_->value()};
    spec.tasks.trials = retrieveTrials_->value();
    out.emplace_back(spec);
  }
  return out;
}

Result<PlanFile> PlanEditor::plan() const {
  const auto wrong = [](const QString& what) { return Error{ErrorCode::usage, what.toStdString(), ""}; };
  if (model_.isEmpty()) return wrong(tr("Open a model first: a plan measures one."));
  PlanFile plan;
  plan.name = name_->text().trimmed();
  plan.model = model_;
  plan.repeats = repeats_->value();
  for (const AxisRow& row : axes_) {
    PlanFile::Axis axis{row.knob->currentText(), {}};
    for (const PlanFile::Axis& other : plan.axes)
      if (other.knob == axis.knob) return wrong(tr("Two axes move %1; one of them is enough.").arg(axis.knob));
    for (const QString& text : row.values->text().split(QLatin1Char(','), Qt::SkipEmptyParts)) {
      const auto value = Schema::instance().parse(axis.knob.toStdString(), text.trimmed().toStdString());
      if (!value) return value.error();
      if (std::find(axis.values.begin(), axis.values.end(), *value) == axis.values.end()) axis.values.push_back(*value);
    }
    if (axis.values.empty()) return wrong(tr("The axis %1 has no values.").arg(axis.knob));
    plan.axes.push_back(std::move(axis));
  }
  for (const auto& [name, value] : base_.changed())
    if (std::none_of(plan.axes.begin(), plan.axes.end(), [&](const PlanFile::Axis& axis) { return axis.knob.toStdString() == name; }))
      plan.set.emplace_back(QString::fromStdString(name), value);
  plan.experiments = experiments();
  return PlanFile::parse(plan.toJson(), {});  // the checks of a plan that is read
}

}  // namespace winnow
