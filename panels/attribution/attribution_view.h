// SPDX-License-Identifier: GPL-3.0-or-later
// Which parts of a context made the answer. Left what is asked; right the context, cut or coloured, the answer whose parts can be
// attributed alone, and the figures: a ranked list, a map by answer token, two configurations, attention against effect. A source that is
// pointed at or chosen in one of them is so in all.
#pragma once
#include <QWidget>

#include "experiments/chart_data.h"
#include "experiments/workbench.h"
#include "panels/attribution/context_panel.h"
#include "panels/attribution/source_model.h"
#include "panels/theme/theme.h"

class QLabel;
class QProgressBar;
class QPushButton;
class QSplitter;
class QStackedWidget;
class QTabWidget;
class QToolButton;

namespace winnow {

class AttributionSetup;
class DifferenceView;
class EffectScatter;
class FlowLegend;
class SourceRanking;
class TokenFlow;
class TokenMatrix;

class AttributionView : public QWidget {
  Q_OBJECT
 public:
  enum Figure { ranking, byToken, difference, attention };

  explicit AttributionView(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setModel(bool open, ContextPanel::Windows windows = {});
  void setConfig(const Config& config);                    // the knobs as they are set
  void setJob(const JobState& job);                        // progress of an attribution, or another job that is in the way
  void setResult(const AttributeResult& result);           // partial or complete
  void setSide(const AttributeResult& side, bool second);  // of a difference that is being computed
  void setDifference(const AttributionDifference& difference);
  // run < 0: it cannot be resumed.
  void showStored(const AttributeResult& result, const QString& context, const QString& question, qint64 run = -1);
  void setContext(const QString& text, const QString& name);
  Status openFile(const QString& path, bool append);  // a text, Markdown, a JSONL of passages or questions
  void setProxyFile(const QString& path);
  void showFigure(Figure figure);

  AttributeSpec spec() const;
  Chart chart() const;  // what is shown, as a picture to export
  QByteArray csv() const;
  QByteArray json() const;
  SourceModel* model() { return &model_; }
  TokenFlow* flow() const { return flow_; }
  TokenFlow* answer() const { return answer_; }
  TokenMatrix* matrix() const { return matrix_; }
  EffectScatter* scatter() const { return scatter_; }
  const AttributeResult& shown() const { return shown_; }

 public Q_SLOTS:
  void run();                            // as its button does, where that is possible
  void chooseSource(int source);         // -1 = none
  void selectSpan(int first, int last);  // answer tokens; -1, -1 = all of it

 Q_SIGNALS:
  void runRequested(const winnow::AttributeSpec& spec);
  void differenceRequested(const winnow::AttributionDifferenceSpec& spec);
  void stopRequested();
  void openTextRequested(bool append);
  void proxyFileRequested();
  void exportTableRequested(const QByteArray& csv, const QByteArray& json);
  void exportRequested(const winnow::Chart& chart);

 protected:
  void resizeEvent(QResizeEvent* event) override;

 private:
  // attribution_view.cpp
  QWidget* buildAsked();
  QWidget* buildResult();
  QLayout* buildBar(QWidget* parent);
  QWidget* buildText(QWidget* parent);
  QWidget* buildAnswer(QWidget* parent);
  QWidget* buildFigures(QWidget* parent);
  QWidget* buildAttention(QWidget* parent);
  void connectForm();
  void connectResult();
  void ask(std::optional<qint64> resume);
  void askDifference(bool byAttention);
  void showPage(bool scores);
  void updateButtons();
  QString blocked() const;  // why nothing can be attributed now
  // attribution_shown.cpp
  void clearResult();
  void showContext();
  void showAnswer();
  void showMatrix();
  void showScores();  // of the span, in the flow and the list
  void showNotes();
  void showAttention();
  void refreshScores();  // behind the words of the context
  void refreshAnswer();  // behind those of the answer
  void hoverSource(int source);
  void describe();  // the source at hand, in a sentence or two
  QString detail(int source) const;
  QString progressText() const;
  QString resultText() const;  // what was evaluated, at which cost, and how sure
  QString forecastText() const;
  QString reachedText() const;  // by the answer before, beside this exact one
  const AttributionDifference* shownDifference() const;  // the context wears it while its figure is open

  AttributeResult whole_, shown_;  // of the whole answer as it came, and of the part selected
  std::string context_;            // that the sources lie in
  QString question_;
  QString spanProblem_;         // why a part is not attributed at once
  std::string pendingContext_;  // of the run that goes on
  std::vector<Document> pendingDocuments_;
  QString pendingQuestion_;
  std::optional<AttributionDifference> attention_;
  std::optional<AttributeResult> quick_;  // the last that was not exact, to be held against one that is
  bool exact_ = false;                    // what goes on, or is shown, is exact leave-one-out
  bool alone_ = false;                    // and no side of a comparison
  SourceModel model_;
  Config config_;
  std::optional<Config> pinned_;  // A of a comparison; the baseline otherwise
  bool haveModel_ = false, byAttention_ = false;
  JobState job_;
  qint64 run_ = -1;  // of the result shown, where it can be resumed
  int chosen_ = -1, hovered_ = -1;
  std::pair<int, int> span_{-1, -1};

  ContextPanel* panel_ = nullptr;
  AttributionSetup* setup_ = nullptr;
  QSplitter* halves_ = nullptr;
  QStackedWidget* pages_ = nullptr;
  QToolButton *edit_ = nullptr, *scores_ = nullptr, *wholeAnswer_ = nullptr;
  QToolButton *exportTable_ = nullptr, *exportPicture_ = nullptr, *copyTable_ = nullptr;
  QProgressBar* progress_ = nullptr;
  QLabel *status_ = nullptr, *notes_ = nullptr, *detail_ = nullptr, *part_ = nullptr, *attentionText_ = nullptr;
  TokenFlow *flow_ = nullptr, *answer_ = nullptr;
  FlowLegend* legend_ = nullptr;
  QTabWidget* figures_ = nullptr;
  SourceRanking* table_ = nullptr;
  TokenMatrix* matrix_ = nullptr;
  DifferenceView* difference_ = nullptr;
  EffectScatter* scatter_ = nullptr;
  QPushButton* readAttention_ = nullptr;
};

}  // namespace winnow
