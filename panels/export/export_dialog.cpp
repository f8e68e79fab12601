// SPDX-License-Identifier: GPL-3.0-or-later
#include "panels/export/export_dialog.h"

#include <QCheckBox>
#include <QComboBox>
#include <QDir>
#include <QDoubleSpinBox>
#include <QFileDialog>
#include <QFileInfo>
#include <QFormLayout>
#include <QHBoxLayout>
#include <QLabel>
#include <QPixmap>
#include <QPushButton>
#include <QSpinBox>
#include <QStandardPaths>
#include <QVBoxLayout>
#include <algorithm>
#include <cmath>

#include "panels/plot/chart_painter.h"

namespace winnow {
namespace {

struct FormatName {
  const char *extension, *title;
};
constexpr FormatName formats[] = {
    {"png", QT_TRANSLATE_NOOP("winnow::ExportDialog", "PNG picture")},
    {"svg", QT_TRANSLATE_NOOP("winnow::ExportDialog", "SVG drawing")},
    {"pdf", QT_TRANSLATE_NOOP("winnow::ExportDialog", "PDF drawing")},
    {"html", QT_TRANSLATE_NOOP("winnow::ExportDialog", "HTML report")},
    {"csv", QT_TRANSLATE_NOOP("winnow::ExportDialog", "CSV numbers")},
    {"json", QT_TRANSLATE_NOOP("winnow::ExportDialog", "JSON numbers")},
};

}  // namespace

ExportDialog::ExportDialog(Chart chart, ThemeManager* themes, ExportMemory memory, QWidget* parent)
    : QDialog(parent), chart_(std::move(chart)), themes_(themes), memory_(std::move(memory)) {
  setWindowTitle(tr("Export %1").arg(chart_.title));
  resize(960, 600);
  auto* left = new QVBoxLayout;
  left->setSpacing(8);
  preview_ = new QLabel(this);
  preview_->setAlignment(Qt::AlignCenter);
  preview_->setMinimumSize(320, 240);
  preview_->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Ignored);
  preview_->setAccessibleName(tr("Preview"));
  preview_->setProperty("role", QStringLiteral("preview"));
  facts_ = new QLabel(this);
  facts_->setProperty("role", QStringLiteral("secondary"));
  left->addWidget(preview_, 1);
  left->addWidget(facts_);
  auto* layout = new QHBoxLayout(this);
  layout->setContentsMargins(20, 20, 20, 20);
  layout->setSpacing(20);
  layout->addLayout(left, 1);
  layout->addWidget(buildControls());
  previewTimer_.setSingleShot(true);
  previewTimer_.setInterval(60);
  connect(&previewTimer_, &QTimer::timeout, this, &ExportDialog::updatePreview);
  restore();
  connectControls();
  applyFormat();
}

QWidget* ExportDialog::buildControls() {
  auto* side = new QWidget(this);
  side->setFixedWidth(280);
  auto* form = new QFormLayout;
  form->setVerticalSpacing(10);
  form->setHorizontalSpacing(12);
  form->setFieldGrowthPolicy(QFormLayout::AllNonFixedFieldsGrow);
  const auto row = [&](const QString& label, QWidget* field) {
    field->setAccessibleName(QString(label).remove(u'&'));
    field->setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Fixed);
    form->addRow(label, field);
  };
  format_ = new QComboBox(side);
  for (const FormatName& f : formats) format_->addItem(tr(f.title), QString::fromLatin1(f.extension));
  row(tr("&Format"), format_);
  unit_ = new QComboBox(side);
  unit_->addItems({tr("pixels"), tr("millimetres")});
  row(tr("&Unit"), unit_);
  width_ = new QDoubleSpinBox(side);
  height_ = new QDoubleSpinBox(side);
  row(tr("&Width"), width_);
  row(tr("&Height"), height_);
  scale_ = new QSpinBox(side);
  scale_->setRange(1, 4);
  scale_->setSuffix(QStringLiteral("×"));
  row(tr("&Scale"), scale_);
  fontScale_ = new QSpinBox(side);
  fontScale_->setRange(60, 250);
  fontScale_->setSingleStep(10);
  fontScale_->setSuffix(QStringLiteral(" %"));
  row(tr("Te&xt"), fontScale_);
  theme_ = new QComboBox(side);
  theme_->addItems({tr("light, for print"), tr("dark")});
  row(tr("&Theme"), theme_);
  title_ = new QCheckBox(tr("Tit&le"), side);
  caption_ = new QCheckBox(tr("&Caption: runs, model, device, date"), side);
  problem_ = new QLabel(side);
  problem_->setProperty("role", QStringLiteral("error"));
  problem_->setWordWrap(true);
  problem_->hide();
  auto* save = new QPushButton(tr("Save…"), side);
  save->setProperty("primary", true);
  save->setDefault(true);
  auto* cancel = new QPushButton(tr("Cancel"), side);
  connect(save, &QPushButton::clicked, this, &ExportDialog::askPath);
  connect(cancel, &QPushButton::clicked, this, &QDialog::reject);
  auto* buttons = new QHBoxLayout;
  buttons->addStretch(1);
  buttons->addWidget(cancel);
  buttons->addWidget(save);
  auto* layout = new QVBoxLayout(side);
  layout->setContentsMargins(0, 0, 0, 0);
  layout->setSpacing(10);
  layout->addLayout(form);
  layout->addWidget(title_);
  layout->addWidget(caption_);
  layout->addStretch(1);
  layout->addWidget(problem_);
  layout->addLayout(buttons);
  return side;
}

void ExportDialog::connectControls() {
  const auto later = [this] { previewTimer_.start(); };
  connect(format_, &QComboBox::currentIndexChanged, this, &ExportDialog::applyFormat);
  connect(unit_, &QComboBox::currentIndexChanged, this, &ExportDialog::changeUnit);
  for (QDoubleSpinBox* box : {width_, height_}) connect(box, &QDoubleSpinBox::valueChanged, this, later);
  for (QSpinBox* box : {scale_, fontScale_}) connect(box, &QSpinBox::valueChanged, this, later);
  connect(theme_, &QComboBox::currentIndexChanged, this, later);
  for (QCheckBox* box : {title_, caption_}) connect(box, &QCheckBox::toggled, this, later);
}

void ExportDialog::restore() {
  const auto value = [this](const char* key, const QVariant& otherwise) {
    const QVariant v = memory_.read ? memory_.read(QStringLiteral("export/") + QLatin1String(key)) : QVariant();
    return v.isValid() ? v : otherwise;
  };
  format_->setCurrentIndex(std::max(0, format_->findData(value("format", QStringLiteral("png")).toString())));
  millimetres_ = value("millimetres", false).toBool();
  unit_->setCurrentIndex(millimetres_ ? 1 : 0);
  // The size suits the chart, with the width chosen last; the height follows from what has to be shown.
  const QSizeF size = suitableSize(chart_, std::clamp(value("width", 1000.0).toDouble(), 200.0, 4000.0));
  for (QDoubleSpinBox* box : {width_, height_}) {
    box->setDecimals(millimetres_ ? 1 : 0);
    box->setRange(millimetres_ ? 35 : 130, millimetres_ ? 2000 : 7900);
  }
  width_->setValue(millimetres_ ? millimetresFromPixels(size.width()) : size.width());
  height_->setValue(millimetres_ ? millimetresFromPixels(size.height()) : size.height());
  scale_->setValue(value("scale", 2).toInt());
  fontScale_->setValue(value("font_percent", 100).toInt());
  theme_->setCurrentIndex(value("dark", false).toBool() ? 1 : 0);
  title_->setChecked(value("title", true).toBool());
  caption_->setChecked(value("caption", true).toBool());
}

void ExportDialog::remember(const QString& path) {
  if (!memory_.write) return;
  const auto keep = [this](const char* key, const QVariant& v) { memory_.write(QStringLiteral("export/") + QLatin1String(key), v); };
  const ExportOptions now = options();
  keep("format", format());
  keep("millimetres", millimetres_);
  keep("width", now.size.width());
  keep("scale", scale_->value());
  keep("font_percent", fontScale_->value());
  keep("dark", now.dark);
  keep("title", now.title);
  keep("caption", now.caption);
  keep("folder", QFileInfo(path).absolutePath());
}

void ExportDialog::changeUnit() {
  const bool mm = unit_->currentIndex() == 1;
  if (mm == millimetres_) return;
  millimetres_ = mm;
  for (QDoubleSpinBox* box : {width_, height_}) {
    const double now = box->value();
    const QSignalBlocker blocker(box);
    box->setDecimals(mm ? 1 : 0);
    box->setRange(mm ? 35 : 130, mm ? 2000 : 7900);
    box->setValue(mm ? millimetresFromPixels(now) : pixelsFromMillimetres(now));
  }
  previewTimer_.start();
}

QString ExportDialog::format() const { return format_->currentData().toString(); }

ExportOptions ExportDialog::options() const {
  ExportOptions o;
  const double factor = millimetres_ ? pixelsFromMillimetres(1) : 1;
  o.size = QSizeF(width_->value() * factor, height_->value() * factor);
  o.scale = scale_->value();
  o.fontScale = fontScale_->value() / 100.0;
  o.dark = theme_->currentIndex() == 1;
  o.title = title_->isChecked();
  o.caption = caption_->isChecked();
  return o;
}

void ExportDialog::applyFormat() {
  const QString f = format();
  const bool numbers = f == QLatin1String("csv") || f == QLatin1String("json");
  for (QWidget* w : std::initializer_list<QWidget*>{unit_, width_, height_, fontScale_, theme_, title_, caption_}) w->setEnabled(!numbers);
  scale_->setEnabled(f == QLatin1String("png"));
  previewTimer_.start();
}

void ExportDialog::updatePreview() {
  const ExportOptions o = options();
  const QString f = format();
  if (f == QLatin1String("csv") || f == QLatin1String("json")) {
    const QByteArray bytes = f == QLatin1String("csv") ? toCsv(chart_) : toJson(chart_);
    QStringList lines = QString::fromUtf8(bytes.left(4000)).split(u'\n').mid(0, 18);
    for (QString& line : lines)
      if (line.size() > 90) line = line.left(89) + u'…';
    preview_->setFont(monospaceFont(themes_->fontScale() * 0.85));
    preview_->setText(lines.join(u'\n'));
    facts_->setText(tr("%1, %Ln lines", nullptr, static_cast<int>(bytes.count('\n'))).arg(QLocale().formattedDataSize(bytes.size())));
    return;
  }
  const QSizeF room = preview_->size() - QSize(24, 24);
  const double shrink = std::min({1.0, room.width() / o.size.width(), room.height() / o.size.height()});
  const double ratio = devicePixelRatioF();
  if (shrink <= 0) return;
  QPixmap picture((o.size * shrink * ratio).toSize().expandedTo(QSize(8, 8)));
  paintChart(&picture, o.size, chart_, {Theme::builtIn(o.dark), o.fontScale, o.title, o.caption, false});
  picture.setDevicePixelRatio(ratio);
  preview_->setPixmap(picture);
  QString facts = tr("%1 × %2 px, %3 × %4 mm").arg(std::lround(o.size.width())).arg(std::lround(o.size.height()))
                      .arg(millimetresFromPixels(o.size.width()), 0, 'f', 0).arg(millimetresFromPixels(o.size.height()), 0, 'f', 0);
  if (f == QLatin1String("png")) facts = tr("%1 × %2 pixels in the file, ").arg(std::lround(o.size.width() * o.scale)).arg(std::lround(o.size.height() * o.scale)) + facts;
  facts_->setText(facts);
}

void ExportDialog::resizeEvent(QResizeEvent* event) {
  QDialog::resizeEvent(event);
  previewTimer_.start();
}

void ExportDialog::askPath() {
  const QVariant folder = memory_.read ? memory_.read(QStringLiteral("export/folder")) : QVariant();
  const QString start = folder.isValid() && QDir(folder.toString()).exists() ? folder.toString() : QStandardPaths::writableLocation(QStandardPaths::DocumentsLocation);
  const QString f = format();
  QString path = QFileDialog::getSaveFileName(this, tr("Export"), QDir(start).filePath(QStringLiteral("winnow-%1.%2").arg(chart_.name, f)),
                                              tr("%1 (*.%2)").arg(format_->currentText(), f));
  if (path.isEmpty()) return;
  if (QFileInfo(path).suffix().toLower() != f) path += u'.' + f;
  save(path);
}

bool ExportDialog::save(const QString& path) {
  const Status done = exportChart(chart_, options(), path);
  problem_->setVisible(!done.ok());
  if (!done) {
    problem_->setText(QString::fromStdString(done.error().message + (done.error().hint.empty() ? "" : " " + done.error().hint)));
    return false;
  }
  remember(path);
  Q_EMIT saved(path);
  accept();
  return true;
}

}  // namespace winnow
