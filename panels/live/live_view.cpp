// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/live/live_view.h"

#include <QGridLayout>
#include <QScrollArea>
#include <QVBoxLayout>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "experiments/format.h"
#include "experiments/statistics.h"

namespace winnow {
namespace {

constexpr double z95 = 1.96;

struct TagLook {
  MemoryTag tag;
  const char* name;
  int slot;
  bool hatched;
};
constexpr TagLook tagLooks[] = {
    {MemoryTag::weights, QT_TRANSLATE_NOOP("winnow::LiveView", "weights"), 0, false},
    {MemoryTag::weightsMapped, QT_TRANSLATE_NOOP("winnow::LiveView", "weights, mapped"), 0, true},
    {MemoryTag::prefillTwin, QT_TRANSLATE_NOOP("winnow::LiveView", "prefill twin"), 7, false},
    {MemoryTag::kv, QT_TRANSLATE_NOOP("winnow::LiveView", "KV cache"), 1, false},
    {MemoryTag::activations, QT_TRANSLATE_NOOP("winnow::LiveView", "activations"), 2, false},
    {MemoryTag::probabilities, QT_TRANSLATE_NOOP("winnow::LiveView", "probabilities"), 3, false},
    {MemoryTag::calibration, QT_TRANSLATE_NOOP("winnow::LiveView", "calibration"), 4, false},
    {MemoryTag::metadata, QT_TRANSLATE_NOOP("winnow::LiveView", "metadata"), 6, false},
};

int64_t bytesOf(const MemoryByTag& memory, MemoryTag tag) { return memory[static_cast<size_t>(tag)]; }
int64_t total(const MemoryByTag& memory) { return std::accumulate(memory.begin(), memory.end(), int64_t{0}); }

}  // namespace

LiveView::LiveView(const PlotContext& context, QWidget* parent) : QWidget(parent), context_(context) {
  if (!context_.axis) context_.axis = new AxisLink(this);
  setAccessibleName(tr("Live view"));
  setObjectName(QStringLiteral("live-view"));
  buildTiles();
  buildPlots();
  tileTimer_.setSingleShot(true);
  tileTimer_.setInterval(100);
  connect(&tileTimer_, &QTimer::timeout, this, &LiveView::updateTiles);
  stallTimer_.setInterval(200);
  connect(&stallTimer_, &QTimer::timeout, this, &LiveView::updateStall);
  updateTiles();
  updateQualityTiles();
}

void LiveView::buildTiles() {
  tiles_[timeTile] = new StatTile(context_.themes, tr("Time per token"), 0, this);
  tiles_[rateTile] = new StatTile(context_.themes, tr("Throughput"), 0, this);
  tiles_[memoryTile] = new StatTile(context_.themes, tr("Memory"), 1, this);
  tiles_[perplexityTile] = new StatTile(context_.themes, tr("Perplexity"), 2, this);
  tiles_[divergenceTile] = new StatTile(context_.themes, tr("KL divergence"), 3, this);
  tileGrid_ = new QGridLayout;
  tileGrid_->setSpacing(8);
}

void LiveView::buildPlots() {
  const ChartAxis x{tr("token"), QStringLiteral("token"), false, {}};
  const auto plot = [&](const char* id, const QString& title, const ChartAxis& y, const QString& empty) {
    auto* p = new PlotWidget(context_, QString::fromLatin1(id), title, x, y, this);
    p->setEmptyText(empty);
    connect(p, &PlotWidget::exportRequested, this, &LiveView::exportRequested);
    plots_.push_back(p);
    return p;
  };
  plot("latency", tr("Latency"), {tr("per token"), QStringLiteral("ms"), false, {}}, tr("Press F5 to generate; latency appears here."))
      ->addSeries({tr("latency"), 0, PlotWidget::Shape::line});
  PlotWidget* m = plot("memory", tr("Memory"), {tr("by use"), QStringLiteral("B"), false, {}}, tr("Memory by use appears here."));
  for (const TagLook& look : tagLooks)
    memorySeries_[static_cast<size_t>(look.tag)] = m->addSeries({tr(look.name), look.slot, PlotWidget::Shape::stack, look.hatched, true});
  plot("perplexity", tr("Perplexity"), {tr("of the probe text, 95 % interval"), {}, false, {}}, tr("Choose a probe text; its perplexity appears here after each change."))
      ->addSeries({tr("perplexity"), 2, PlotWidget::Shape::estimates});
  plot("divergence", tr("KL divergence"), {tr("from the 16-bit baseline"), QStringLiteral("nat"), false, {}}, tr("The distance from the unchanged model appears here."))
      ->addSeries({tr("KL divergence"), 3, PlotWidget::Shape::estimates});
  plot("confidence", tr("Confidence"), {tr("NLL of its own output"), QStringLiteral("nat"), false, {}},
       tr("How sure the model is of its own words appears here. It is no measure of quality."))
      ->addSeries({tr("confidence"), 4, PlotWidget::Shape::line});
  PlotWidget* kv = plot("kv", tr("KV cache"), {tr("tokens per head"), {}, false, {}}, tr("Tokens kept in the cache appear here."));
  kv->addSeries({tr("live"), 1, PlotWidget::Shape::line});
  kv->addSeries({tr("fed"), 6, PlotWidget::Shape::line});
  plot("energy", tr("Energy"), {tr("per token, from the GPU's mean power"), QStringLiteral("J"), false, {}}, tr("Energy of a GPU appears here."))
      ->addSeries({tr("energy"), 5, PlotWidget::Shape::line});
  plots_[energy]->hide();  // until a token comes that knows its own
  placeTitles();

  auto* content = new QWidget;
  stack_ = new QVBoxLayout(content);
  stack_->setContentsMargins(0, 0, 4, 0);
  stack_->setSpacing(8);
  for (PlotWidget* p : plots_) stack_->addWidget(p, 1);
  auto* scroll = new QScrollArea(this);
  scroll->setWidget(content);
  scroll->setWidgetResizable(true);
  scroll->setFocusPolicy(Qt::NoFocus);
  scroll->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
  auto* layout = new QVBoxLayout(this);
  layout->setContentsMargins(12, 12, 8, 8);
  layout->setSpacing(8);
  layout->addLayout(tileGrid_);
  layout->addWidget(scroll, 1);
  arrangeTiles();
}

void LiveView::arrangeTiles() {
  const int columns = width() >= 5 * 118 + 60 ? 5 : 3;
  if (columns == tileColumns_) return;
  tileColumns_ = columns;
  for (StatTile* tile : tiles_) tileGrid_->removeWidget(tile);
  for (int i = 0; i < tileCount; ++i) tileGrid_->addWidget(tiles_[static_cast<size_t>(i)], i / columns, i % columns);
  for (int i = 0; i < 5; ++i) tileGrid_->setColumnStretch(i, i < columns ? 1 : 0);
}

void LiveView::resizeEvent(QResizeEvent* event) {
  QWidget::resizeEvent(event);
  arrangeTiles();
}

void LiveView::setPlotShown(size_t plot, bool shown) {
  plots_.at(plot)->setVisible(shown);
  placeTitles();
}

// The names of the changes stand in the first plot, the title of the axis under the last.
void LiveView::placeTitles() {
  PlotWidget *first = nullptr, *last = nullptr;
  for (PlotWidget* p : plots_)
    if (!p->isHidden()) {
      if (!first) first = p;
      last = p;
    }
  for (PlotWidget* p : plots_) {
    p->setMarkerLabelsShown(p == first);
    p->setXTitleShown(p == last);
  }
}

void LiveView::clear() {
  for (PlotWidget* p : plots_) p->clearData();
  context_.axis->reset();
  decodeMs_.clear();
  decodeToken_.clear();
  epochToken_ = 0;
  lastToken_ = -1;
  promptTokens_ = generated_ = 0;
  prefillMs_ = 0;
  memoryNow_ = {};
  memoryPeak_ = 0;
  joules_ = 0;
  joulesTokens_ = 0;
  setPlotShown(energy, false);
  // The probe's last figure still describes the present configuration: it opens the new run.
  if (!quality_.empty()) {
    quality_ = {quality_.back()};
    quality_.front().epoch = 0;
    quality_.front().token = 0;
  }
  updateQualityPlots();
  updateQualityTiles();
  updateTiles();
}

void LiveView::beginGeneration(const GenerateRequest&) { clear(); }

void LiveView::addTokens(const std::vector<TokenPoint>& points) {
  for (const TokenPoint& point : points) addToken(point);
  sinceToken_.start();
  updateStall();
  scheduleTiles();
}

void LiveView::addToken(const TokenPoint& point) {
  if (point.index <= lastToken_) clear();  // another sequence began
  lastToken_ = point.index;
  const double x = static_cast<double>(point.index);
  if (point.prompt) {
    ++promptTokens_;
    prefillMs_ += point.ms;
    for (PlotWidget* p : plots_) p->setShaded(static_cast<double>(point.index + 1), p == plots_[latency] ? tr("prompt") : QString());
  } else {
    ++generated_;
    decodeMs_.push_back(point.ms);
    decodeToken_.push_back(point.index);
    plots_[latency]->append(0, x, point.ms);
    if (point.nll >= 0) plots_[confidence]->append(0, x, point.nll);
    if (point.joules >= 0) addEnergy(point);
  }
  if (point.kvLive > 0) {
    plots_[cache]->append(0, x, static_cast<double>(point.kvLive));
    plots_[cache]->append(1, x, static_cast<double>(point.kvLive + point.kvEvicted));
  }
  if (const int64_t sum = total(point.memory); sum > 0) {
    memoryNow_ = point.memory;
    memoryPeak_ = std::max(memoryPeak_, sum);
    for (const TagLook& look : tagLooks)
      plots_[memory]->append(memorySeries_[static_cast<size_t>(look.tag)], x, static_cast<double>(bytesOf(point.memory, look.tag)));
  }
}

void LiveView::addEnergy(const TokenPoint& point) {
  if (joulesTokens_ == 0 && plots_[energy]->isHidden()) setPlotShown(energy, true);
  joules_ += point.joules;
  ++joulesTokens_;
  plots_[energy]->append(0, static_cast<double>(point.index), point.joules);
  plots_[energy]->setNote(point.gpu);
}

void LiveView::addEpoch(const EpochPoint& epoch) {
  const ChartMarker marker{static_cast<double>(epoch.token), epoch.label};
  QString detail = tr("Token %1: %2 (%3)").arg(Format().count(epoch.token), epoch.label, epoch.cause);
  if (epoch.clamped) detail += u'\n' + tr("Not as asked: %1").arg(epoch.reason);
  for (PlotWidget* p : plots_) p->addMarker(marker, detail);
  epochToken_ = epoch.token;
  scheduleTiles();
}

void LiveView::setQuality(const QualityPoint& point) {
  if (!quality_.empty() && quality_.back().epoch == point.epoch)
    quality_.back() = point;
  else
    quality_.push_back(point);
  updateQualityPlots();
  updateQualityTiles();
}

void LiveView::updateQualityPlots() {
  std::vector<PlotWidget::Point> ppl, kld;
  for (const QualityPoint& q : quality_) {
    if (q.windows <= 0) continue;  // nothing measured yet
    const double x = static_cast<double>(q.token);
    ppl.push_back({x, q.perplexity, q.perplexity - z95 * q.stderror, q.perplexity + z95 * q.stderror, q.running});
    kld.push_back({x, q.kld, q.kld, q.kld, q.running});
  }
  plots_[perplexity]->setEstimates(0, ppl);
  plots_[divergence]->setEstimates(0, kld);
  const bool running = !quality_.empty() && quality_.back().running;
  const QString note = running ? tr("measuring, %Ln windows so far", nullptr, quality_.back().windows) : quality_.empty() ? QString() : quality_.back().protocol;
  plots_[perplexity]->setNote(note);
  plots_[divergence]->setNote(running ? note : QString());
}

void LiveView::updateQualityTiles() {
  const Format format;
  StatTile *ppl = tiles_[perplexityTile], *kld = tiles_[divergenceTile];
  if (quality_.empty() || quality_.back().windows <= 0) {
    const QString detail = quality_.empty() ? tr("not measured") : tr("measuring…");
    for (StatTile* tile : {ppl, kld}) {
      tile->setNumber(Format::missing(), detail);
      tile->setDelta({}, StatTile::Tone::neutral);
    }
    return;
  }
  const QualityPoint &now = quality_.back(), &first = quality_.front();
  const QString windows = tr("%Ln windows", nullptr, now.windows);
  ppl->setNumber(format.perplexity(now.perplexity), tr("± %1 (95 %) · %2").arg(format.fixed(z95 * now.stderror, 2), windows) +
                                                        (now.running ? tr(" so far") : QString()));
  ppl->setBusy(now.running);
  if (quality_.size() > 1 && first.perplexity > 0) {
    const double ratio = now.perplexity / first.perplexity;
    const bool noise = std::fabs(now.perplexity - first.perplexity) < z95 * std::hypot(now.stderror, first.stderror) && std::fabs(ratio - 1) < 0.01;
    const auto tone = noise ? StatTile::Tone::neutral : ratio > 1 ? StatTile::Tone::worse : StatTile::Tone::better;
    ppl->setDelta((ratio > 1 ? QStringLiteral("▲ ") : QStringLiteral("▼ ")) + format.relative(ratio), tone);
  } else {
    ppl->setDelta({}, StatTile::Tone::neutral);
  }
  kld->setNumber(format.nats(now.kld), tr("same top %1").arg(format.percent(now.top1)));
  kld->setBusy(now.running);
}

void LiveView::scheduleTiles() {
  if (!tileTimer_.isActive()) tileTimer_.start();
}

void LiveView::updateTiles() {
  const Format format;
  // Figures of the present epoch: a median over different configurations would describe none of them.
  const auto from = std::lower_bound(decodeToken_.begin(), decodeToken_.end(), epochToken_) - decodeToken_.begin();
  const Summary s = summarize({decodeMs_.begin() + from, decodeMs_.end()});
  if (s.n == 0) {
    tiles_[timeTile]->setNumber(Format::missing(), lastToken_ < 0 ? tr("no tokens yet") : tr("a change at token %1").arg(format.count(epochToken_)));
    if (lastToken_ < 0) tiles_[rateTile]->setNumber(Format::missing(), tr("no tokens yet"));
  } else {
    const QString interval =
        s.p50Interval ? QStringLiteral("[%1, %2] ").arg(format.significant(s.p50Interval->low), format.significant(s.p50Interval->high)) : QString();
    const QString since = epochToken_ > 0 ? tr(" since token %1").arg(format.count(epochToken_)) : QString();
    tiles_[timeTile]->setNumber(format.milliseconds(s.p50), tr("%1p50 · p95 %2 · n %3").arg(interval, format.significant(s.p95), format.count(s.n)) + since);
    const QString prefill = prefillMs_ > 0 ? tr("prefill %1 · ").arg(format.rate(1000.0 * static_cast<double>(promptTokens_) / prefillMs_)) : QString();
    const QString spent =
        joulesTokens_ > 0 ? tr(" · %1 per token").arg(format.value(joules_ / static_cast<double>(joulesTokens_), QStringLiteral("J"))) : QString();
    tiles_[rateTile]->setNumber(format.rate(1000 / s.mean), prefill + tr("%Ln new tokens", nullptr, static_cast<int>(generated_)) + spent);
  }
  plots_[latency]->setNote(prefillMs_ > 0 ? tr("prefill apart: %Ln tokens in %1", nullptr, static_cast<int>(promptTokens_)).arg(format.milliseconds(prefillMs_))
                                          : QString());
  const int64_t now = total(memoryNow_);
  if (now == 0) {
    tiles_[memoryTile]->setNumber(Format::missing(), lastToken_ < 0 ? tr("no tokens yet") : tr("not reported"));
    return;
  }
  const int64_t weights = bytesOf(memoryNow_, MemoryTag::weights) + bytesOf(memoryNow_, MemoryTag::weightsMapped);
  tiles_[memoryTile]->setNumber(format.bytes(static_cast<double>(now)), tr("KV %1 · peak %2 · weights %3")
                                                                            .arg(format.bytes(static_cast<double>(bytesOf(memoryNow_, MemoryTag::kv))),
                                                                                 format.bytes(static_cast<double>(memoryPeak_)),
                                                                                 format.bytes(static_cast<double>(weights))));
  plots_[memory]->setNote(tr("total %1").arg(format.bytes(static_cast<double>(now))));
}

void LiveView::setJob(const JobState& state) {
  const bool was = job_.running;
  job_ = state;
  const bool generating = state.running && state.kind == JobState::Kind::generate;
  if (generating && !stallTimer_.isActive()) {
    sinceToken_.start();
    stallTimer_.start();
  } else if (!generating) {
    stallTimer_.stop();
  }
  if (was != state.running) updateStall();
}

// A running generation that shows nothing says what it waits for.
void LiveView::updateStall() {
  const bool generating = job_.running && job_.kind == JobState::Kind::generate;
  const qint64 waited = sinceToken_.isValid() ? sinceToken_.elapsed() : 0;
  const bool stalled = generating && waited > 1000;
  plots_[latency]->setNoteWarning(stalled);
  if (stalled)
    plots_[latency]->setNote(tr("waiting for token %1 … %2").arg(Format().count(lastToken_ + 1), Format().duration(static_cast<double>(waited) * 1e6)));
  else
    scheduleTiles();
}

}  // namespace winnow
