// SPDX-License-Identifier: GPL-3.0-or-later
// What is asked of an attribution beside its context: question and answer, the time it may take or the method in detail, the proxy.
#pragma once
#include <QWidget>

#include "experiments/workbench.h"

class QCheckBox;
class QComboBox;
class QLabel;
class QLineEdit;
class QPlainTextEdit;
class QPushButton;
class QSpinBox;

namespace winnow {

class SegmentedEditor;

class AttributionSetup : public QWidget {
  Q_OBJECT
 public:
  explicit AttributionSetup(QWidget* parent = nullptr);
  void setQuestion(const QString& question);
  void setAnswer(const QString& answer);
  void fillSpec(AttributeSpec& spec) const;
  // blocked: why nothing can be attributed now; empty: it can.
  void setState(const QString& blocked, bool running, bool resumable);
  void setForecast(const QString& text);  // what the budget lets expect, or what it reached
  void setProxyFile(const QString& path);

 Q_SIGNALS:
  void runRequested();
  void resumeRequested();
  void stopRequested();
  void proxyFileRequested();
  void changed();

 private:
  QWidget* buildAsked();
  QWidget* buildTime();
  QWidget* buildDetails();
  QWidget* buildTricks();
  QWidget* buildButtons();
  void fit();  // what belongs to the choices made is shown
  const AttributionMethod& method() const;

  QLineEdit* question_ = nullptr;
  QPlainTextEdit* answer_ = nullptr;
  QSpinBox *tokens_ = nullptr, *keepParagraphs_ = nullptr, *keepSources_ = nullptr, *samples_ = nullptr;
  SegmentedEditor* time_ = nullptr;
  QComboBox *method_ = nullptr, *proxy_ = nullptr, *role_ = nullptr;
  QCheckBox *reuse_ = nullptr, *hierarchy_ = nullptr;
  QWidget *details_ = nullptr, *tricks_ = nullptr, *samplesRow_ = nullptr, *roleRow_ = nullptr;
  QLabel *help_ = nullptr, *forecast_ = nullptr;
  QPushButton *run_ = nullptr, *resume_ = nullptr, *stop_ = nullptr;
  int proxyChosen_ = 0;
};

}  // namespace winnow
