// SPDX-License-Identifier: GPL-3.0-or-later
// Prompt, sampling settings, Generate and Stop, and the output as a token flow.
#pragma once
#include <QWidget>

#include "experiments/workbench.h"
#include "panels/plot/cursor_link.h"
#include "panels/text/token_flow.h"

class QCheckBox;
class QComboBox;
class QDoubleSpinBox;
class QFrame;
class QLabel;
class QPlainTextEdit;
class QPushButton;
class QSpinBox;
class QToolButton;

namespace winnow {

class FlowLegend;

class PromptPanel : public QWidget {
  Q_OBJECT
 public:
  PromptPanel(CursorLink* cursor, QWidget* parent = nullptr);

  void setTheme(const Theme& theme);
  void setModel(const std::optional<ModelInfo>& model);
  void setBusy(bool generating, bool otherJob);
  void setPrompt(const QString& text);
  QString prompt() const;
  GenerateRequest request() const;
  SamplerSettings sampler() const;
  void begin(const GenerateRequest& request);            // clears the output
  void addTokens(const std::vector<TokenPoint>& points);
  void addEpoch(const EpochPoint& epoch);
  void showStored(const std::vector<TokenPoint>& points, const std::vector<EpochPoint>& epochs, const QString& title);
  const TokenPoint* pointAt(int token) const;            // of the output shown
  TokenFlow* flow() const { return flow_; }
  void focusPrompt();

 Q_SIGNALS:
  void generateRequested(const winnow::GenerateRequest& request);
  void stopRequested();
  void tokenHovered(int token);

 protected:
  bool eventFilter(QObject* watched, QEvent* event) override;
  void resizeEvent(QResizeEvent* event) override;

 private:
  QWidget* buildPrompt();
  void buildSettings();
  void updateSampling();
  QWidget* buildOutput();
  void updateButtons();

  CursorLink* cursor_;
  std::vector<TokenPoint> points_;
  bool haveModel_ = false, generating_ = false, otherJob_ = false;
  QPlainTextEdit* prompt_ = nullptr;
  QPushButton* generate_ = nullptr;
  QPushButton* stop_ = nullptr;
  QSpinBox* tokens_ = nullptr;
  QDoubleSpinBox* temperature_ = nullptr;
  QSpinBox* topK_ = nullptr;
  QDoubleSpinBox* topP_ = nullptr;
  QDoubleSpinBox* minP_ = nullptr;
  QDoubleSpinBox* penalty_ = nullptr;
  QSpinBox* seed_ = nullptr;
  QCheckBox* chat_ = nullptr;
  QCheckBox* ignoreEnd_ = nullptr;
  QToolButton* sampling_ = nullptr;
  QFrame* popup_ = nullptr;
  QComboBox* colour_ = nullptr;
  QLabel* title_ = nullptr;
  FlowLegend* legend_ = nullptr;
  TokenFlow* flow_ = nullptr;
};

}  // namespace winnow
