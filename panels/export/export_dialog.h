// SPDX-License-Identifier: GPL-3.0-or-later
// ExportDialog: a chart to a file, with a preview made by the code that writes it. Remembers the last choices.
#pragma once
#include <QDialog>
#include <QTimer>
#include <QVariant>
#include <functional>

#include "panels/export/chart_export.h"
#include "panels/theme/theme_manager.h"

class QCheckBox;
class QComboBox;
class QDoubleSpinBox;
class QLabel;
class QSpinBox;

namespace winnow {

// Where choices are kept between two exports; the application gives its settings. Empty functions: nothing is remembered.
struct ExportMemory {
  std::function<QVariant(const QString& key)> read;
  std::function<void(const QString& key, const QVariant& value)> write;
};

class ExportDialog : public QDialog {
  Q_OBJECT
 public:
  ExportDialog(Chart chart, ThemeManager* themes, ExportMemory memory, QWidget* parent = nullptr);
  ExportOptions options() const;
  QString format() const;
  // Writes and remembers; on failure the dialog stays and says why.
  bool save(const QString& path);

 Q_SIGNALS:
  void saved(const QString& path);

 protected:
  void resizeEvent(QResizeEvent* event) override;

 private:
  QWidget* buildControls();
  void connectControls();
  void restore();
  void remember(const QString& path);
  void changeUnit();
  void applyFormat();
  void updatePreview();
  void askPath();

  Chart chart_;
  ThemeManager* themes_;
  ExportMemory memory_;
  QComboBox *format_ = nullptr, *unit_ = nullptr, *theme_ = nullptr;
  QDoubleSpinBox *width_ = nullptr, *height_ = nullptr;
  QSpinBox *scale_ = nullptr, *fontScale_ = nullptr;
  QCheckBox *title_ = nullptr, *caption_ = nullptr;
  QLabel *preview_ = nullptr, *facts_ = nullptr, *problem_ = nullptr;
  bool millimetres_ = false;
  QTimer previewTimer_;
};

}  // namespace winnow
