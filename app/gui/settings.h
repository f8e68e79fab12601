// SPDX-License-Identifier: GPL-3.0-or-later
// What the program remembers of a person and a machine: theme, window, recent files. What an experiment is lives in sessions.
#pragma once
#include <QByteArray>
#include <QSettings>
#include <QString>
#include <vector>

#include "panels/start/start_page.h"
#include "panels/theme/theme_manager.h"

namespace winnow {

class Settings {
 public:
  Settings();

  ThemeManager::Mode theme() const;
  void setTheme(ThemeManager::Mode mode);
  double fontScale() const;
  void setFontScale(double scale);

  QByteArray geometry() const;
  QByteArray layout() const;   // docks and tool bars
  void setWindow(const QByteArray& geometry, const QByteArray& layout);
  void forgetLayout();

  QString folder(const QString& purpose) const;   // where the last file of this kind was
  void setFolder(const QString& purpose, const QString& file);

  // Newest first, checked by size and time of change.
  std::vector<RecentFile> recentModels() const { return recent(QStringLiteral("models")); }
  std::vector<RecentFile> recentSessions() const { return recent(QStringLiteral("sessions")); }
  void addModel(const QString& path) { add(QStringLiteral("models"), path, {}); }
  void addSession(const QString& path, const QString& detail) { add(QStringLiteral("sessions"), path, detail); }

  QVariant choice(const QString& key) const { return store_.value(QStringLiteral("choices/") + key); }  // last ones of dialogs
  void setChoice(const QString& key, const QVariant& value) { store_.setValue(QStringLiteral("choices/") + key, value); }

 private:
  std::vector<RecentFile> recent(const QString& kind) const;
  void add(const QString& kind, const QString& path, const QString& detail);
  QSettings store_;
};

}  // namespace winnow
