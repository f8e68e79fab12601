// SPDX-License-Identifier: GPL-3.0-or-later
#include "app/gui/settings.h"

#include <QDateTime>
#include <QDir>
#include <QFileInfo>

namespace winnow {
namespace {

constexpr int kRecentLimit = 8;
constexpr int kRecentShown = 5;

struct Entry {
  QString path, detail;
  qint64 bytes = 0, modifiedMs = 0;
};

std::vector<Entry> read(const QSettings& store, const QString& kind) {
  std::vector<Entry> entries;
  for (const QVariant& each : store.value(QStringLiteral("recent/") + kind).toList()) {
    const QVariantMap map = each.toMap();
    Entry entry{map.value(QStringLiteral("path")).toString(), map.value(QStringLiteral("detail")).toString(),
                map.value(QStringLiteral("bytes")).toLongLong(), map.value(QStringLiteral("modified")).toLongLong()};
    if (!entry.path.isEmpty()) entries.push_back(entry);
  }
  return entries;
}

}  // namespace

Settings::Settings() = default;

ThemeManager::Mode Settings::theme() const {
  const QString text = store_.value(QStringLiteral("theme")).toString();
  if (text == QStringLiteral("light")) return ThemeManager::Mode::light;
  return text == QStringLiteral("dark") ? ThemeManager::Mode::dark : ThemeManager::Mode::system;
}

void Settings::setTheme(ThemeManager::Mode mode) {
  store_.setValue(QStringLiteral("theme"), mode == ThemeManager::Mode::light  ? QStringLiteral("light")
                                           : mode == ThemeManager::Mode::dark ? QStringLiteral("dark")
                                                                              : QStringLiteral("system"));
}

double Settings::fontScale() const { return std::clamp(store_.value(QStringLiteral("fontScale"), 1.0).toDouble(), 0.8, 2.0); }
void Settings::setFontScale(double scale) { store_.setValue(QStringLiteral("fontScale"), scale); }

QByteArray Settings::geometry() const { return store_.value(QStringLiteral("window/geometry")).toByteArray(); }
QByteArray Settings::layout() const { return store_.value(QStringLiteral("window/layout")).toByteArray(); }

void Settings::setWindow(const QByteArray& geometry, const QByteArray& layout) {
  store_.setValue(QStringLiteral("window/geometry"), geometry);
  store_.setValue(QStringLiteral("window/layout"), layout);
}

void Settings::forgetLayout() { store_.remove(QStringLiteral("window/layout")); }

QString Settings::folder(const QString& purpose) const {
  return store_.value(QStringLiteral("folders/") + purpose, QDir::homePath()).toString();
}

void Settings::setFolder(const QString& purpose, const QString& file) {
  store_.setValue(QStringLiteral("folders/") + purpose, QFileInfo(file).absolutePath());
}

std::vector<RecentFile> Settings::recent(const QString& kind) const {
  std::vector<RecentFile> files;
  for (const Entry& entry : read(store_, kind)) {
    const QFileInfo info(entry.path);
    RecentFile file;
    file.path = entry.path;
    file.detail = entry.detail;
    file.bytes = entry.bytes;
    if (!info.exists()) file.state = RecentFile::State::moved;
    // A session changes whenever it is worked on; a model should not.
    else if (kind == QStringLiteral("models") &&
             (info.size() != entry.bytes || info.lastModified().toMSecsSinceEpoch() != entry.modifiedMs))
      file.state = RecentFile::State::changed;
    files.push_back(file);
    if (files.size() == kRecentShown) break;
  }
  return files;
}

void Settings::add(const QString& kind, const QString& path, const QString& detail) {
  const QFileInfo info(path);
  std::vector<Entry> entries = read(store_, kind);
  std::erase_if(entries, [&](const Entry& entry) { return entry.path == info.absoluteFilePath(); });
  entries.insert(entries.begin(),
                 Entry{info.absoluteFilePath(), detail, info.isDir() ? 0 : info.size(), info.lastModified().toMSecsSinceEpoch()});
  if (entries.size() > kRecentLimit) entries.resize(kRecentLimit);
  QVariantList list;
  for (const Entry& entry : entries)
    list << QVariantMap{{QStringLiteral("path"), entry.path},
                        {QStringLiteral("detail"), entry.detail},
                        {QStringLiteral("bytes"), entry.bytes},
                        {QStringLiteral("modified"), entry.modifiedMs}};
  store_.setValue(QStringLiteral("recent/") + kind, list);
}

}  // namespace winnow
