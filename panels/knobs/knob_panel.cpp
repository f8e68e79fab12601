// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/knobs/knob_panel.h"

#include <QFrame>
#include <QHBoxLayout>
#include <QLabel>
#include <QLineEdit>
#include <QPushButton>
#include <QScrollArea>
#include <QToolButton>
#include <QVBoxLayout>
#include <numeric>

#include "panels/knobs/knob_command.h"
#include "panels/knobs/knob_editor.h"
#include "panels/knobs/knob_row.h"
#include "panels/knobs/throttle.h"
#include "experiments/format.h"

namespace winnow {

struct KnobPanel::Group : QWidget {
  Group(const QString& name, QWidget* parent) : QWidget(parent), title(name) {
    auto* all = new QVBoxLayout(this);
    all->setContentsMargins(0, 0, 0, 0);
    all->setSpacing(0);
    head = new QToolButton(this);
    head->setText(name);
    head->setCheckable(true);
    head->setChecked(true);
    head->setArrowType(Qt::DownArrow);
    head->setToolButtonStyle(Qt::ToolButtonTextBesideIcon);
    head->setAutoRaise(true);
    head->setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Fixed);
    head->setMinimumHeight(28);
    head->setObjectName(QStringLiteral("group.") + name);
    head->setProperty("group", true);
    QFont strong = head->font();
    strong.setBold(true);
    head->setFont(strong);
    body = new QWidget(this);
    rows = new QVBoxLayout(body);
    rows->setContentsMargins(0, 0, 0, 6);
    rows->setSpacing(0);
    all->addWidget(head);
    all->addWidget(body);
    connect(head, &QToolButton::toggled, this, [this](bool open) {
      head->setArrowType(open ? Qt::DownArrow : Qt::RightArrow);
      body->setVisible(open);
    });
  }
  QString title;
  QToolButton* head;
  QWidget* body;
  QVBoxLayout* rows;
  std::vector<KnobRow*> members;
};

KnobPanel::KnobPanel(const Schema& schema, QWidget* parent) : QWidget(parent), schema_(schema) {
  setObjectName(QStringLiteral("knobs"));
  setAccessibleName(tr("Knobs"));
  setMinimumWidth(312);  // what the widest row takes beside the scroll bar
  throttle_ = new Throttle(150, this);
  whyNot_ = tr("no model is open");
  build();
  setModel(std::nullopt, whyNot_);
}

void KnobPanel::build() {
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(0, 6, 0, 0);
  all->setSpacing(4);
  auto* top = new QHBoxLayout;
  top->setContentsMargins(8, 0, 8, 0);
  search_ = new QLineEdit(this);
  search_->setPlaceholderText(tr("Search knobs"));
  search_->setAccessibleName(tr("Search knobs"));
  search_->setClearButtonEnabled(true);
  search_->setObjectName(QStringLiteral("knobs.search"));
  resetAll_ = new QToolButton(this);
  resetAll_->setText(tr("Reset all"));
  resetAll_->setObjectName(QStringLiteral("knobs.resetAll"));
  resetAll_->setToolTip(tr("Every knob back to its default"));
  resetAll_->setMinimumHeight(24);
  top->addWidget(search_, 1);
  top->addWidget(resetAll_);
  all->addLayout(top);

  all->addWidget(buildRows(), 1);
  mixedBar_ = new QFrame(this);
  mixedBar_->setObjectName(QStringLiteral("knobs.mixed"));
  mixedBar_->setProperty("role", QStringLiteral("notice"));
  auto* bar = new QVBoxLayout(mixedBar_);
  bar->setContentsMargins(10, 8, 10, 8);
  bar->setSpacing(6);
  mixedText_ = new QLabel(tr("The cache was written under another configuration: results mix until it is recomputed."), mixedBar_);
  mixedText_->setWordWrap(true);
  rebuild_ = new QPushButton(mixedBar_);
  rebuild_->setObjectName(QStringLiteral("knobs.rebuild"));
  keep_ = new QPushButton(tr("Keep"), mixedBar_);
  keep_->setObjectName(QStringLiteral("knobs.keep"));
  keep_->setToolTip(tr("Go on with the cache as it is, until something else changes."));
  bar->addWidget(mixedText_);
  auto* ways = new QHBoxLayout;
  ways->addWidget(rebuild_, 1);
  ways->addWidget(keep_);
  bar->addLayout(ways);
  mixedBar_->hide();
  auto* around = new QHBoxLayout;
  around->setContentsMargins(8, 0, 8, 0);
  around->addWidget(mixedBar_);
  all->addLayout(around);

  cost_ = new QLabel(this);
  cost_->setObjectName(QStringLiteral("knobs.cost"));
  cost_->setAccessibleName(tr("Memory plan"));
  cost_->setWordWrap(true);
  cost_->setContentsMargins(10, 4, 10, 8);
  all->addWidget(cost_);

  connect(search_, &QLineEdit::textChanged, this, &KnobPanel::filter);
  connect(resetAll_, &QToolButton::clicked, this, &KnobPanel::resetAll);
  connect(rebuild_, &QPushButton::clicked, this, &KnobPanel::rebuildRequested);
  connect(keep_, &QPushButton::clicked, this, [this] {
    keptUnder_ = effective_.config;
    mixedBar_->hide();
  });
}

QWidget* KnobPanel::buildRows() {
  auto* scroll = new QScrollArea(this);
  scroll->setWidgetResizable(true);
  scroll->setFrameShape(QFrame::NoFrame);
  scroll->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
  scroll->setFocusPolicy(Qt::NoFocus);
  auto* inside = new QWidget(scroll);
  auto* column = new QVBoxLayout(inside);
  column->setContentsMargins(2, 0, 2, 0);
  column->setSpacing(2);
  for (const Knob& knob : schema_.knobs()) {
    const QString name = QString::fromStdString(knob.group);
    auto found = std::find_if(groups_.begin(), groups_.end(), [&](const Group* g) { return g->title == name; });
    if (found == groups_.end()) {
      groups_.push_back(new Group(name, inside));
      column->addWidget(groups_.back());
      found = groups_.end() - 1;
    }
    auto* row = new KnobRow(knob, (*found)->body);
    (*found)->rows->addWidget(row);
    (*found)->members.push_back(row);
    rows_.insert(QString::fromStdString(knob.name), row);
    connectRow(row);
  }
  empty_ = new QLabel(tr("No knob matches."), inside);
  empty_->setAlignment(Qt::AlignCenter);
  empty_->setMargin(24);
  empty_->hide();
  column->addWidget(empty_);
  column->addStretch(1);
  scroll->setWidget(inside);
  return scroll;
}

void KnobPanel::connectRow(KnobRow* row) {
  connect(row, &KnobRow::edited, this, [this, row](const KnobValue& value) { edited(row, value); });
  connect(row, &KnobRow::gestureEnded, this, [this] {
    throttle_->flush();
    ++gesture_;
  });
  connect(row, &KnobRow::resetRequested, this, [this, row] {
    ++gesture_;
    edited(row, row->knob().defaultValue);
    ++gesture_;
    throttle_->flush();
  });
  connect(row, &KnobRow::considered, this, [this, row](const KnobValue& value) {
    showCost(requested_.with(row->knob().name, value),
             QStringLiteral("%1 %2").arg(QString::fromStdString(row->knob().title), knobValueText(row->knob(), value)));
  });
  connect(row, &KnobRow::leftAlone, this, &KnobPanel::refreshCost);
}

void KnobPanel::setModel(const std::optional<ModelConfig>& model, const QString& whyNot) {
  model_ = model;
  whyNot_ = whyNot;
  undo_.clear();
  if (model_)
    for (KnobRow* row : rows_) row->editor()->setModel(*model_);
  refreshRows();
  refreshCost();
}

void KnobPanel::setRequested(const Config& config) {
  requested_ = config;
  refreshRows();
  refreshCost();
}

void KnobPanel::setEffective(const Effective& effective, bool pending, double) {
  effective_ = effective;
  pending_ = pending;
  refreshRows();
  refreshCost();
}

void KnobPanel::setCacheMixed(bool mixed, double rebuildMs) {
  if (!mixed) keptUnder_.reset();
  mixedBar_->setVisible(mixed && keptUnder_ != effective_.config);
  if (!mixed) return;
  rebuild_->setText(rebuildMs > 0 ? tr("Recompute, ≈ %1").arg(Format().milliseconds(rebuildMs)) : tr("Recompute the cache"));
}

void KnobPanel::setPlanner(std::function<MemoryByTag(const Config&)> planner) {
  planner_ = std::move(planner);
  refreshCost();
}

void KnobPanel::edited(KnobRow* row, const KnobValue& value) {
  const Knob& knob = row->knob();
  const Result<KnobValue> checked = schema_.check(knob.name, value);
  if (!checked) {
    row->show(requested_.get(knob.name));
    row->setState(KnobState::adjusted, QString::fromStdString(checked.error().message), requested_.get(knob.name));
    return;
  }
  if (requested_.get(knob.name) == *checked) return;
  const Config before = requested_;
  const Config after = before.with(knob.name, *checked);
  const QString text = QStringLiteral("%1 %2 → %3")
                           .arg(QString::fromStdString(knob.title), QString::fromStdString(toText(before.get(knob.name))),
                                QString::fromStdString(toText(*checked)));
  requested_ = after;
  undo_.push(new KnobCommand(this, text, before, after, gesture_ + 1));
  refreshRows();
  refreshCost();
  throttle_->call([this] { Q_EMIT configRequested(requested_, QStringLiteral("user")); });
}

void KnobPanel::apply(const Config& config, const QString& cause) {
  throttle_->flush();
  ++gesture_;
  requested_ = config;
  refreshRows();
  refreshCost();
  Q_EMIT configRequested(requested_, cause);
}

void KnobPanel::change(const QString& text, const Config& config) {
  if (config == requested_) return;
  undo_.push(new KnobCommand(this, text, requested_, config, 0));
  apply(config, QStringLiteral("user"));
}

void KnobPanel::resetAll() { change(tr("Reset all knobs"), Config()); }

QString KnobPanel::blockedReason(const Knob& knob) const {
  if (!model_) return whyNot_;
  if (knob.enabled && !knob.enabled(requested_)) return tr("needs %1").arg(QString::fromStdString(knob.enabledIf));
  return {};
}

void KnobPanel::refreshRow(KnobRow* row, const Effective& target) {
  const Knob& knob = row->knob();
  row->show(requested_.get(knob.name));
  row->setBlocked(blockedReason(knob));
  const auto of = [&](const std::vector<Adjustment>& all) {
    const auto found = std::find_if(all.begin(), all.end(), [&](const Adjustment& a) { return a.knob == knob.name; });
    return found == all.end() ? nullptr : &*found;
  };
  const KnobValue& running = effective_.config.get(knob.name);
  const KnobValue& wanted = target.config.get(knob.name);
  if (!model_) {
    row->setState(KnobState::applied, {}, {});
  } else if (const Adjustment* clamp = of(running == wanted ? target.adjustments : effective_.adjustments);
             clamp && (running == wanted || !pending_)) {
    row->setState(KnobState::adjusted, QString::fromStdString(clamp->reason), running);
  } else if (running != wanted) {
    row->setState(KnobState::pending, {}, {});
  } else {
    // A value that follows from others is told, as it is what runs.
    const bool follows = running != requested_.get(knob.name) && blockedReason(knob).isEmpty();
    row->setState(KnobState::applied, {}, follows ? std::optional<KnobValue>(running) : std::nullopt);
  }
}

void KnobPanel::refreshRows() {
  const Effective target = model_ ? resolve(requested_, *model_) : Effective{};
  for (Group* group : groups_) {
    int changed = 0;
    for (KnobRow* row : group->members) {
      refreshRow(row, target);
      changed += requested_.get(row->knob().name) != row->knob().defaultValue;
    }
    group->head->setText(changed > 0 ? tr("%1 (%2 changed)").arg(group->title).arg(changed) : group->title);
  }
  resetAll_->setEnabled(model_.has_value() && !requested_.changed().empty());
}

void KnobPanel::filter(const QString& words) {
  bool any = false;
  for (Group* group : groups_) {
    bool shown = false;
    for (KnobRow* row : group->members) {
      const bool match = row->matches(words);
      row->setVisible(match);
      shown = shown || match;
    }
    group->setVisible(shown);
    if (shown && !words.isEmpty()) group->head->setChecked(true);
    any = any || shown;
  }
  empty_->setVisible(!any);
}

void KnobPanel::focusSearch() {
  search_->setFocus(Qt::ShortcutFocusReason);
  search_->selectAll();
}

void KnobPanel::refreshCost() { showCost(requested_, {}); }

void KnobPanel::showCost(const Config& candidate, const QString& label) {
  cost_->setVisible(planner_ && model_);
  if (!planner_ || !model_) return;
  const auto total = [](const MemoryByTag& tags) { return std::accumulate(tags.begin(), tags.end(), int64_t{0}); };
  const int64_t now = total(planner_(effective_.config)), then = total(planner_(candidate));
  QString text = now == then
                     ? tr("Memory plan %1").arg(Format().bytes(static_cast<double>(now)))
                     : tr("Memory plan %1 → %2").arg(Format().bytes(static_cast<double>(now)), Format().bytes(static_cast<double>(then)));
  if (!label.isEmpty()) text = QStringLiteral("%1: %2").arg(label, text);
  cost_->setText(text);
}

}  // namespace winnow
