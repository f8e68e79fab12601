// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/inspector/inspector.h"

#include <QFormLayout>
#include <QLabel>
#include <QScrollArea>
#include <QVBoxLayout>
#include <cmath>
#include <numeric>

#include "experiments/chart_runs.h"
#include "experiments/format.h"

namespace winnow {

// A heading and rows of name and value. Rows are reused, so that following the cursor costs nothing.
class Inspector::Section : public QWidget {
 public:
  Section(const QString& title, const QString& name, QWidget* parent) : QWidget(parent) {
    setObjectName(name);
    auto* all = new QVBoxLayout(this);
    all->setContentsMargins(10, 8, 10, 4);
    all->setSpacing(4);
    heading_ = new QLabel(title, this);
    QFont strong = heading_->font();
    strong.setBold(true);
    heading_->setFont(strong);
    all->addWidget(heading_);
    grid_ = new QGridLayout;
    grid_->setContentsMargins(0, 0, 0, 0);
    grid_->setHorizontalSpacing(10);
    grid_->setVerticalSpacing(2);
    grid_->setColumnStretch(1, 1);
    all->addLayout(grid_);
    setAccessibleName(title);
  }
  void setRows(const std::vector<std::pair<QString, QString>>& rows) {
    for (size_t i = rows_.size(); i < rows.size(); ++i) {
      auto* key = new QLabel(this);
      auto* value = new QLabel(this);
      key->setForegroundRole(QPalette::PlaceholderText);
      key->setAlignment(Qt::AlignTop | Qt::AlignLeft);
      value->setTextInteractionFlags(Qt::TextSelectableByMouse);
      value->setFocusPolicy(Qt::NoFocus);
      value->setWordWrap(true);
      value->setTextFormat(Qt::PlainText);
      value->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
      grid_->addWidget(key, static_cast<int>(i), 0);
      grid_->addWidget(value, static_cast<int>(i), 1);
      rows_.emplace_back(key, value);
    }
    QStringList spoken;
    for (size_t i = 0; i < rows_.size(); ++i) {
      const bool used = i < rows.size();
      rows_[i].first->setVisible(used);
      rows_[i].second->setVisible(used);
      if (!used) continue;
      rows_[i].first->setText(rows[i].first);
      rows_[i].second->setText(rows[i].second);
      spoken << rows[i].first + QLatin1Char(' ') + rows[i].second;
    }
    setAccessibleDescription(spoken.join(QStringLiteral(", ")));
  }

 private:
  QLabel* heading_;
  QGridLayout* grid_;
  std::vector<std::pair<QLabel*, QLabel*>> rows_;
};

Inspector::Inspector(QWidget* parent) : QWidget(parent) {
  setObjectName(QStringLiteral("inspector"));
  setAccessibleName(tr("Inspector"));
  auto* outer = new QVBoxLayout(this);
  outer->setContentsMargins(0, 0, 0, 0);
  auto* scroll = new QScrollArea(this);
  scroll->setFrameShape(QFrame::NoFrame);
  scroll->setWidgetResizable(true);
  scroll->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
  scroll->setFocusPolicy(Qt::NoFocus);
  auto* inside = new QWidget(scroll);
  auto* all = new QVBoxLayout(inside);
  all->setContentsMargins(0, 0, 0, 8);
  all->setSpacing(2);
  token_ = new Section(tr("Token"), QStringLiteral("inspector.token"), inside);
  quality_ = new Section(tr("Live quality"), QStringLiteral("inspector.quality"), inside);
  configuration_ = new Section(tr("Asked for and got"), QStringLiteral("inspector.configuration"), inside);
  model_ = new Section(tr("Model"), QStringLiteral("inspector.model"), inside);
  for (Section* section : {token_, quality_, configuration_, model_}) all->addWidget(section);
  all->addStretch(1);
  scroll->setWidget(inside);
  outer->addWidget(scroll);
  setToken(nullptr);
  setQuality(std::nullopt);
  setModel(std::nullopt);
  setEffective({}, false, 0);
}

void Inspector::setToken(const TokenPoint* point) {
  if (!point) {
    token_->setRows({{tr("Point at a token or a chart"), {}}});
    return;
  }
  const Format format;
  std::vector<std::pair<QString, QString>> rows;
  QString text = point->text;
  rows.emplace_back(tr("Text"), QStringLiteral("“%1”").arg(text.replace(QLatin1Char('\n'), QStringLiteral("⏎"))));
  rows.emplace_back(tr("Place"), tr("%1, id %2").arg(format.count(point->index), format.count(point->id)));
  if (point->prompt)
    rows.emplace_back(tr("Part"), point->ms > 0 ? tr("prompt; prefill took %1").arg(format.milliseconds(point->ms)) : tr("prompt"));
  else rows.emplace_back(tr("Time"), format.milliseconds(point->ms));
  for (const auto& [category, ms] : point->opMs) rows.emplace_back(QStringLiteral("   ") + category, format.milliseconds(ms));
  if (point->nll >= 0)
    rows.emplace_back(tr("NLL"), tr("%1, probability %2").arg(format.nats(point->nll), format.percent(std::exp(-point->nll))));
  if (point->joules >= 0) rows.emplace_back(tr("Energy"), format.value(point->joules, QStringLiteral("J")));
  if (!point->gpu.isEmpty()) rows.emplace_back(tr("GPU"), point->gpu);
  if (point->entropy >= 0) rows.emplace_back(tr("Entropy"), format.nats(point->entropy));
  rows.emplace_back(tr("Cache"), tr("%1 kept, %2 evicted").arg(format.count(point->kvLive), format.count(point->kvEvicted)));
  const int64_t all = std::accumulate(point->memory.begin(), point->memory.end(), int64_t{0});
  if (all > 0) rows.emplace_back(tr("Memory"), format.bytes(static_cast<double>(all)));
  for (size_t i = 0; i < point->memory.size(); ++i) {
    if (point->memory[i] <= 0) continue;
    rows.emplace_back(QStringLiteral("   ") + memoryTagTitle(std::string(memoryTagName(static_cast<MemoryTag>(i)))),
                      format.bytes(static_cast<double>(point->memory[i])));
  }
  rows.emplace_back(tr("Epoch"), format.count(point->epoch));
  token_->setRows(rows);
}

void Inspector::setQuality(const std::optional<QualityPoint>& point) {
  quality_->setVisible(point.has_value());
  if (!point) return;
  const Format format;
  std::vector<std::pair<QString, QString>> rows;
  if (point->windows <= 0) {
    quality_->setRows({{tr("State"), point->running ? tr("measuring…") : tr("not measured")}});
    return;
  }
  rows.emplace_back(tr("Perplexity"), format.perplexity(point->perplexity, 1.96 * point->stderror));
  rows.emplace_back(tr("KL divergence"), format.nats(point->kld));
  rows.emplace_back(tr("Same top token"), format.percent(point->top1));
  rows.emplace_back(tr("Protocol"), tr("%1, n = %2 windows").arg(point->protocol).arg(point->windows));
  if (point->running) rows.emplace_back(tr("State"), tr("measuring…"));
  quality_->setRows(rows);
}

void Inspector::setEffective(const Effective& effective, bool pending, double fraction) {
  std::vector<std::pair<QString, QString>> rows;
  for (const auto& [name, value] : effective.config.changed())
    rows.emplace_back(QString::fromStdString(name), QString::fromStdString(toText(value)));
  for (const Adjustment& each : effective.adjustments)
    rows.emplace_back(QStringLiteral("⚠ ") + QString::fromStdString(each.knob),
                      tr("asked for %1, got %2: %3")
                          .arg(QString::fromStdString(toText(each.requested)), QString::fromStdString(toText(each.effective)),
                               QString::fromStdString(each.reason)));
  if (pending)
    rows.emplace_back(tr("Pending"), fraction > 0 ? tr("preparing weights, %1").arg(Format().percent(fraction)) : tr("preparing weights"));
  if (rows.empty()) rows.emplace_back(tr("Every knob at its default"), QString());
  configuration_->setRows(rows);
}

void Inspector::setModel(const std::optional<ModelInfo>& model) {
  model_->setVisible(model.has_value());
  if (!model) return;
  const Format format;
  const ModelConfig& c = model->config;
  std::vector<std::pair<QString, QString>> rows;
  rows.emplace_back(tr("Name"), model->name);
  rows.emplace_back(tr("Architecture"), QStringLiteral("%1, %2").arg(model->architecture, model->types));
  rows.emplace_back(tr("Parameters"), format.count(c.parameters));
  rows.emplace_back(tr("Layers"), tr("%1 of width %2").arg(c.layers).arg(c.hidden));
  rows.emplace_back(tr("Heads"), tr("%1, %2 for keys and values, %3 wide").arg(c.heads).arg(c.kvHeads).arg(c.headDim));
  rows.emplace_back(tr("Vocabulary"), tr("%1, %2").arg(format.count(c.vocab), model->tokenizer));
  rows.emplace_back(tr("Context"), tr("%1 tokens").arg(format.count(c.context)));
  rows.emplace_back(tr("File"), tr("%1, %2").arg(format.bytes(static_cast<double>(model->fileBytes)), model->format));
  rows.emplace_back(tr("Chat"), model->chatFormat.isEmpty() ? tr("no template") : model->chatFormat);
  for (const QString& note : model->notes) rows.emplace_back(tr("Note"), note);
  model_->setRows(rows);
}

}  // namespace winnow
