// SPDX-License-Identifier: GPL-3.0-or-later
// Which parts of a context made the answer: context, question, response; scores over the context and as a ranked list.
#pragma once
#include <QWidget>

#include "experiments/workbench.h"
#include "panels/attribution/source_model.h"
#include "panels/theme/theme.h"

class QComboBox;
class QLabel;
class QLineEdit;
class QPlainTextEdit;
class QProgressBar;
class QPushButton;
class QSpinBox;
class QStackedWidget;
class QTableView;
class QToolButton;

namespace winnow {

class FlowLegend;
class TokenFlow;

class AttributionView : public QWidget {
  Q_OBJECT
 public:
  explicit AttributionView(QWidget* parent = nullptr);
  void setTheme(const Theme& theme);
  void setModel(bool open);
  void setJob(const JobState& job);                    // progress of an attribution, or another job that is in the way
  void setResult(const AttributeResult& result);       // partial or complete
  void showStored(const storage::AttributionRecord& record);
  void setContext(const QString& text, const QString& name);
  AttributeSpec spec() const;
  SourceModel* model() { return &model_; }
  TokenFlow* flow() const { return flow_; }

 Q_SIGNALS:
  void runRequested(const winnow::AttributeSpec& spec);
  void stopRequested();
  void openTextRequested();
  void exportTableRequested(const QByteArray& csv, const QByteArray& json);
  void exportPictureRequested(const QPixmap& picture);

 private:
  QWidget* buildForm();
  QLayout* buildOptions(QWidget* parent);
  QWidget* buildList(QWidget* parent);
  void connectResult();
  QWidget* buildResult();
  void updateButtons();
  void showContext(const std::string& context, const std::vector<Source>& sources);
  QString resultText() const;   // what was evaluated, at which cost, and how sure
  void refreshScores();

  AttributeResult result_;
  SourceModel model_;
  std::string shownContext_;   // the text the flow was made from
  size_t shownSources_ = 0;
  std::string pendingContext_;  // of the run that goes on
  bool haveModel_ = false;
  JobState job_;
  QPlainTextEdit* context_ = nullptr;
  QLineEdit* question_ = nullptr;
  QPlainTextEdit* response_ = nullptr;
  QComboBox* method_ = nullptr;
  QComboBox* unit_ = nullptr;
  QSpinBox* tokens_ = nullptr;
  QPushButton* run_ = nullptr;
  QPushButton* stop_ = nullptr;
  QProgressBar* progress_ = nullptr;
  QLabel* status_ = nullptr;
  QLabel* answer_ = nullptr;
  TokenFlow* flow_ = nullptr;
  FlowLegend* legend_ = nullptr;
  QTableView* table_ = nullptr;
  QToolButton* exportTable_ = nullptr;
  QToolButton* exportPicture_ = nullptr;
};

}  // namespace winnow
