// SPDX-License-Identifier: GPL-3.0-or-later
// The attribution view: what a result looks like, and how its parts follow each other.
#include <QLabel>
#include <QTabWidget>
#include <QToolButton>
#include <algorithm>
#include <cmath>
#include <limits>

#include "panels/attribution/attribution_setup.h"
#include "panels/attribution/attribution_view.h"
#include "panels/attribution/difference_view.h"
#include "panels/attribution/effect_scatter.h"
#include "panels/attribution/source_ranking.h"
#include "panels/attribution/token_matrix.h"
#include "panels/text/token_flow.h"
#include "panels/text/wording.h"

namespace winnow {
namespace {

const QString kDot = QStringLiteral(" · ");
constexpr int kNotes = 3;         // shown before the rest is in the tooltip
constexpr size_t kSupported = 3;  // answer tokens named

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

bool natsOf(const AttributeResult& result) {
  const AttributionMethod* method = findAttributionMethod(result.method);
  return !method || method->nats;
}

// The text of each response token; an end token has none.
QStringList answerTokens(const AttributeResult& result) {
  QStringList out;
  int64_t begin = 0;
  for (const int64_t end : result.responseEnds) {
    const auto length = static_cast<size_t>(std::max<int64_t>(0, end - begin));
    out << (length == 0 ? QStringLiteral("⟨end⟩") : QString::fromStdString(result.response.substr(static_cast<size_t>(begin), length)));
    begin = std::max(begin, end);
  }
  return out;
}

// Three standard deviations of each token's log p under other chunkings, as the noise floor of the whole is.
std::vector<float> noiseByToken(const AttributeResult& result) {
  std::vector<float> out;
  const auto& rounds = result.noiseLogProbs;
  if (rounds.size() < 2) return out;
  for (size_t token = 0; token < rounds.front().size(); ++token) {
    double sum = 0, squares = 0;
    for (const auto& round : rounds) sum += round[token];
    for (const auto& round : rounds) squares += std::pow(round[token] - sum / static_cast<double>(rounds.size()), 2);
    out.push_back(static_cast<float>(3 * std::sqrt(squares / static_cast<double>(rounds.size() - 1))));
  }
  return out;
}

// Sources lie where they say they do.
bool liesIn(const std::string& context, const std::vector<Source>& sources) {
  return std::all_of(sources.begin(), sources.end(), [&](const Source& s) {
    return s.start >= 0 && s.end >= s.start && s.end <= static_cast<int64_t>(context.size()) &&
           context.compare(static_cast<size_t>(s.start), static_cast<size_t>(s.end - s.start), s.text) == 0;
  });
}

// The passages that were kept, as they were joined: those in which the sources lie.
std::string withoutDropped(const std::string& context, const std::vector<Document>& documents, const std::vector<Source>& sources) {
  std::string kept;
  size_t next = 0;  // source
  for (const Document& document : documents) {
    if (next >= sources.size()) break;
    const std::string text = context.substr(static_cast<size_t>(document.start), static_cast<size_t>(document.end - document.start));
    const size_t start = kept.empty() ? 0 : kept.size() + 2;
    const Source& source = sources[next];
    const auto at = static_cast<size_t>(source.start);
    if (at < start || at - start > text.size() || text.compare(at - start, source.text.size(), source.text) != 0) continue;
    kept += (kept.empty() ? "" : "\n\n") + text;
    while (next < sources.size() && sources[next].start < static_cast<int64_t>(kept.size())) ++next;
  }
  return kept;
}

}  // namespace

void AttributionView::clearResult() {
  whole_ = shown_ = {};
  run_ = -1;
  chosen_ = hovered_ = -1;
  span_ = {-1, -1};
  spanProblem_.clear();
  attention_.reset();
  model_.clear();
  context_ = pendingContext_;
  question_ = pendingQuestion_;
  flow_->clear();
  answer_->clear();
  matrix_->setData({});
  difference_->setDifference(std::nullopt);
  showAttention();
  showNotes();
  describe();
  updateButtons();
}

void AttributionView::setResult(const AttributeResult& result) {
  const bool sameText =
      result.sources.size() == whole_.sources.size() && result.response == whole_.response && result.responseEnds == whole_.responseEnds;
  whole_ = result;
  if (!sameText || flow_->tokens().empty()) {
    context_ = pendingContext_;
    question_ = pendingQuestion_;
    span_ = {-1, -1};
    showContext();
    showAnswer();
  }
  showMatrix();
  selectSpan(span_.first, span_.second);
  showNotes();
  updateButtons();
}

void AttributionView::setSide(const AttributeResult& side, bool second) {
  if (!byAttention_ || !second) setResult(side);
}

void AttributionView::setDifference(const AttributionDifference& compared) {
  if (byAttention_) {
    setResult(compared.a);
    attention_ = compared;
    showAttention();
    showNotes();
    showFigure(attention);
  } else {
    setResult(compared.b);
    difference_->setDifference(compared);
    showFigure(difference);
  }
  refreshScores();
}

void AttributionView::showStored(const AttributeResult& result, const QString& context, const QString& question, qint64 run) {
  pendingContext_ = context.toStdString();
  pendingQuestion_ = question;
  pendingDocuments_.clear();
  quick_.reset();
  exact_ = alone_ = false;
  clearResult();
  run_ = result.complete ? -1 : run;
  panel_->setText(context, {});
  setup_->setQuestion(question);
  setup_->setAnswer(QString::fromStdString(result.response));
  setResult(result);
  showPage(true);
}

// ---- the parts ----------------------------------------------------------------------------------------------------------

void AttributionView::showContext() {
  const std::vector<Source>& sources = whole_.sources;
  if (!liesIn(context_, sources)) context_ = withoutDropped(context_, pendingDocuments_, sources);
  const std::string& context = context_;
  if (!liesIn(context, sources)) return flow_->clear();
  std::vector<FlowToken> tokens;
  const auto slice = [&](int64_t begin, int64_t end) {
    return QString::fromUtf8(context.data() + begin, static_cast<qsizetype>(std::max<int64_t>(0, end - begin)));
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

void AttributionView::showAnswer() {
  std::vector<FlowToken> tokens;
  const QStringList texts = answerTokens(whole_);
  for (qsizetype i = 0; i < texts.size(); ++i) {
    FlowToken token;
    token.text = texts[i];
    token.group = static_cast<int>(i);
    if (static_cast<size_t>(i) < whole_.responseNll.size()) token.nll = whole_.responseNll[static_cast<size_t>(i)];
    tokens.push_back(token);
  }
  if (tokens.empty()) addWords(tokens, QString::fromStdString(whole_.response).trimmed(), -1);
  answer_->setTokens(std::move(tokens));
}

void AttributionView::showMatrix() {
  MatrixData map;
  map.columns = answerTokens(whole_);
  if (!natsOf(whole_)) map.unit.clear();
  bool any = false;
  for (const Source& source : whole_.sources) {
    map.rows << QStringLiteral("%1  %2").arg(source.id + 1).arg(SourceModel::nameOf(source).left(160));
    const bool fits = static_cast<qsizetype>(source.perToken.size()) == map.columns.size();
    map.cells.push_back(fits ? source.perToken : std::vector<float>());
    any |= fits && !source.perToken.empty();
  }
  map.noise = noiseByToken(whole_);
  if (!any) {
    map = {};
    const bool waits = job_.running && job_.kind == JobState::Kind::attribute;
    matrix_->setEmptyText(whole_.sources.empty() || waits ? tr("What each token of the answer owes to each source appears here.")
                                                          : tr("This method, or this proxy, gives no scores of single tokens."));
  }
  matrix_->setData(std::move(map));
}

void AttributionView::selectSpan(int first, int last) {
  const int count = static_cast<int>(whole_.responseEnds.size());
  if (first < 0 || last < first || last >= count || (first == 0 && last == count - 1)) first = last = -1;
  span_ = {first, last};
  spanProblem_.clear();
  shown_ = whole_;
  if (first >= 0) {
    auto part = attributeSpan(whole_, {ResponseSpan::Unit::tokens, first, last + 1});
    if (part) shown_ = std::move(*part);
    else spanProblem_ = QString::fromStdString(part.error().message);
  }
  answer_->selectTokens(first, last);
  matrix_->setSpan(first, last);
  wholeAnswer_->setVisible(first >= 0);
  if (!spanProblem_.isEmpty()) part_->setText(spanProblem_);
  else if (first >= 0) part_->setText(last == first ? tr("scores are of one token") : tr("scores are of %1 tokens").arg(last - first + 1));
  else part_->setText(count > 1 ? tr("select a part to attribute it alone") : QString());
  showScores();
}

void AttributionView::showScores() {
  const int chosen = chosen_;
  model_.setResult(shown_);
  table_->setChosen(chosen);
  refreshScores();
  refreshAnswer();
  describe();
  updateButtons();
}

const AttributionDifference* AttributionView::shownDifference() const {
  return figures_->currentIndex() == difference && difference_->difference() ? &*difference_->difference() : nullptr;
}

void AttributionView::refreshScores() {
  constexpr float none = std::numeric_limits<float>::quiet_NaN();
  std::vector<std::pair<float, bool>> scores(shown_.sources.size(), {none, true});
  double largest = 0, noise = shown_.noiseFloor;
  const auto put = [&](size_t source, const std::optional<double>& score, bool isNoise) {
    if (source >= scores.size() || !score) return;
    scores[source] = {isNoise ? 0.0f : static_cast<float>(*score), false};
    largest = std::max(largest, std::fabs(*score));
  };
  if (const AttributionDifference* compared = shownDifference()) {
    noise = 0;
    for (const auto& row : compared->rows)
      put(static_cast<size_t>(row.source), row.difference, row.difference && std::fabs(*row.difference) <= row.noise);
  } else {
    for (size_t i = 0; i < shown_.sources.size(); ++i) put(i, shown_.sources[i].score, model_.isNoise(shown_.sources[i]));
  }
  flow_->setScoreScale(static_cast<float>(largest), static_cast<float>(noise));
  flow_->setScores(scores);
}

// With a source at hand, the answer shows what it supported.
void AttributionView::refreshAnswer() {
  const int source = hovered_ >= 0 ? hovered_ : chosen_;
  const auto count = answer_->tokens().size();
  const bool known = source >= 0 && source < static_cast<int>(whole_.sources.size()) && count > 0 &&
                     whole_.sources[static_cast<size_t>(source)].perToken.size() == count;
  if (!known) return answer_->setColour(FlowColour::plain);
  std::vector<std::pair<float, bool>> scores;
  for (const float value : whole_.sources[static_cast<size_t>(source)].perToken) scores.emplace_back(value, false);
  answer_->setScores(scores);
  answer_->setScoreScale(matrix_->scale().high, 0);
  answer_->setColour(FlowColour::score);
}

void AttributionView::hoverSource(int source) {
  if (source == hovered_) return;
  hovered_ = source;
  flow_->setGroup(source, false);
  matrix_->setLitRow(source);
  refreshAnswer();
  describe();
}

void AttributionView::chooseSource(int source) {
  if (source >= static_cast<int>(whole_.sources.size())) source = -1;
  chosen_ = source;
  flow_->setChosenGroup(source);
  flow_->setGroup(source, true);  // scrolls to it
  flow_->setGroup(hovered_, false);
  table_->setChosen(source);
  matrix_->setChosenRow(source);
  difference_->setChosen(source);
  scatter_->setChosen(source);
  refreshAnswer();
  describe();
}

void AttributionView::showAttention() {
  std::vector<EffectScatter::Point> points;
  double floor = 0;
  if (attention_) {
    const AttributeResult& effect = attention_->a;
    const AttributeResult& mass = attention_->b;
    floor = effect.noiseFloor;
    double all = 0;
    for (const Source& source : mass.sources) all += std::fabs(source.score.value_or(0));
    for (size_t i = 0; i < std::min(effect.sources.size(), mass.sources.size()); ++i) {
      const Source& source = effect.sources[i];
      if (!source.score || !mass.sources[i].score || all <= 0) continue;
      points.push_back({source.id, std::fabs(*mass.sources[i].score) / all, *source.score, std::fabs(*source.score) <= floor,
                        SourceModel::nameOf(source).left(120)});
    }
    const auto idle = std::count_if(points.begin(), points.end(),
                                    [&](const auto& p) { return p.noise && p.attention * static_cast<double>(points.size()) > 1; });
    QStringList parts{tr("Rank correlation of attention and effect %1").arg(Format().fixed(attention_->rankCorrelation, 2)),
                      plural(idle, tr("%1 source gets more than its share and has no effect"),
                             tr("%1 sources get more than their share and have no effect"))};
    attentionText_->setText(parts.join(kDot));
  } else {
    attentionText_->setText(
        tr("Attention is cheap to read and often taken for an explanation. Here it stands beside what leaving a source out does."));
  }
  scatter_->setPoints(std::move(points), floor);
}

// ---- in words -----------------------------------------------------------------------------------------------------------

void AttributionView::showNotes() {
  QStringList all;
  for (const std::string& note : whole_.notes) all << QString::fromStdString(note);
  if (attention_)
    for (const std::string& note : attention_->notes) all << QString::fromStdString(note);
  notes_->setVisible(!all.isEmpty());
  notes_->setToolTip(all.size() > kNotes ? all.join(QStringLiteral("\n")) : QString());
  QStringList few = all.mid(0, kNotes);
  if (all.size() > kNotes) few << tr("and %1 more").arg(all.size() - kNotes);
  notes_->setText(few.join(QLatin1Char('\n')));
}

void AttributionView::describe() {
  const int source = hovered_ >= 0 ? hovered_ : chosen_;
  if (source >= 0 && source < static_cast<int>(shown_.sources.size())) return detail_->setText(detail(source));
  detail_->setText(
      shown_.sources.empty()
          ? QString()
          : tr("Point at a source, or choose one with the arrow keys, to see how likely the answer is without it and what it supported."));
}

QString AttributionView::detail(int index) const {
  const Source& source = shown_.sources[static_cast<size_t>(index)];
  const Format format;
  const QString name =
      source.label.empty() ? tr("Source %1").arg(index + 1) : tr("Source %1, %2").arg(index + 1).arg(QString::fromStdString(source.label));
  if (!source.score) {
    for (const AttributionLevel& level : shown_.levels)
      for (const Source& coarse : level.sources)
        if (coarse.score && coarse.start <= source.start && coarse.end >= source.end)
          return tr("%1 was not looked into: the %2 around it scored %3.")
              .arg(name, level.unit == SourceUnit::sentence ? tr("sentence") : tr("paragraph"), format.nats(*coarse.score));
    return tr("%1 was not evaluated.").arg(name);
  }
  QString text = name + QStringLiteral(": ") + model_.valueText(source);
  if (model_.isNoise(source)) text += tr(", indistinguishable from nothing");
  else if (natsOf(shown_))
    text += *source.score > 0 ? tr(", the answer is %1 as likely with it").arg(SourceModel::times(*source.score))
                              : tr(", the answer is likelier without it");
  text += QLatin1Char('.');
  if (source.ablatedLogProb)
    text += QLatin1Char(' ') +
            tr("Without it log p = %1, with it %2.").arg(format.nats(*source.ablatedLogProb), format.nats(shown_.baseLogProb));
  QStringList owed;
  if (static_cast<int>(whole_.sources.size()) > index)
    for (const SupportedToken& token : supportedBy(whole_, static_cast<size_t>(index))) {
      if (token.noise || token.nats <= 0 || owed.size() >= static_cast<qsizetype>(kSupported)) break;
      owed << QStringLiteral("“%1” +%2")
                  .arg(answer_->tokens()[static_cast<size_t>(token.token)].text.trimmed(), format.significant(token.nats, 2));
    }
  if (!owed.isEmpty()) text += QLatin1Char(' ') + tr("It supported %1.").arg(owed.join(QStringLiteral(", ")));
  return text;
}

QString AttributionView::progressText() const {
  QString text = job_.what.isEmpty() ? tr("Attributing") : job_.what;
  if (job_.secondsLeft >= 0) text += kDot + tr("%1 left").arg(Format().duration(job_.secondsLeft * 1e9));
  return text;
}

QString AttributionView::resultText() const {
  if (shown_.sources.empty()) return whole_.complete ? tr("There was nothing to attribute to") : tr("No result yet");
  const auto evaluated = std::count_if(shown_.sources.begin(), shown_.sources.end(), [](const Source& s) { return s.score.has_value(); });
  const Format format;
  QStringList parts{tr("%1 of %2 sources").arg(evaluated).arg(shown_.sources.size())};
  if (whole_.forwards > 0) parts << tr("%1 passes, %2").arg(format.count(whole_.forwards), format.milliseconds(whole_.ms));
  if (whole_.knownForwards > 0) parts << tr("%1 known from before").arg(format.count(whole_.knownForwards));
  if (natsOf(shown_)) parts << tr("noise floor %1").arg(format.nats(shown_.noiseFloor));
  if (whole_.confidence) parts << tr("predicts held-out masks with rank correlation %1").arg(format.fixed(*whole_.confidence, 2));
  if (!whole_.complete) parts << tr("partial");
  return parts.join(kDot);
}

QString AttributionView::reachedText() const {
  if (!exact_ || !whole_.complete || !quick_ || whole_.sources.empty()) return {};
  const auto agreement = attributionDifference(*quick_, whole_);
  if (!agreement) return {};  // of another answer, or other sources
  const auto best = [](const AttributeResult& result) {
    return std::max_element(result.sources.begin(), result.sources.end(), [](const Source& a, const Source& b) {
             constexpr double none = -std::numeric_limits<double>::infinity();
             return a.score.value_or(none) < b.score.value_or(none);
           })->id;
  };
  const QString first = best(*quick_) == best(whole_) ? tr("the same strongest source") : tr("another strongest source");
  return tr("The answer before took %1 instead of %2 and has rank correlation %3 with this exact one, and %4.")
      .arg(Format().milliseconds(quick_->ms), Format().milliseconds(whole_.ms), Format().fixed(agreement->rankCorrelation, 2), first);
}

QString AttributionView::forecastText() const {
  if (whole_.forecast < 0 || whole_.forecast >= static_cast<int>(whole_.forecasts.size()))
    return whole_.complete ? reachedText() : tr("What the time lets expect is predicted once the answer is there.");
  const AttributionForecast& chosen = whole_.forecasts[static_cast<size_t>(whole_.forecast)];
  const Format format;
  const AttributionMethod* method = findAttributionMethod(chosen.method);
  QString way = method ? QString::fromStdString(method->title) : QString::fromStdString(chosen.method);
  if (!chosen.tricks.empty()) way += QStringLiteral(" (") + QString::fromStdString(chosen.tricks) + QLatin1Char(')');
  QString text =
      chosen.agreement >= 1 && chosen.agreementError <= 0
          ? tr("Predicted: exact, in %1, by %2.").arg(format.duration(chosen.seconds * 1e9), way)
          : tr("Predicted: agreement %1 ± %2 with exact leave-one-out, in %3, by %4.")
                .arg(format.fixed(chosen.agreement, 2), format.fixed(chosen.agreementError, 2), format.duration(chosen.seconds * 1e9), way);
  if (!whole_.complete) return text;
  const auto scored = std::count_if(whole_.sources.begin(), whole_.sources.end(), [](const Source& s) { return s.score.has_value(); });
  text += QLatin1Char(' ') + tr("Reached in %1").arg(format.milliseconds(whole_.ms));
  if (scored < static_cast<std::ptrdiff_t>(whole_.sources.size())) text += tr(", %1 of %2 sources scored").arg(scored).arg(whole_.sources.size());
  text += QLatin1Char('.');
  return text;
}

}  // namespace winnow
