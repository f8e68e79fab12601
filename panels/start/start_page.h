// SPDX-License-Identifier: GPL-3.0-or-later
// What a person sees before a model is open: where to begin, what was used last, what this machine can do.
#pragma once
#include <QWidget>
#include <vector>

class QFrame;
class QLabel;
class QProgressBar;
class QPushButton;
class QVBoxLayout;

namespace winnow {

struct RecentFile {
  enum class State { ok, moved, changed } state = State::ok;
  QString path, detail;  // "1.2 GiB" or "42 runs"; empty when unknown
  qint64 bytes = 0;
};

class StartPage : public QWidget {
  Q_OBJECT
 public:
  explicit StartPage(QWidget* parent = nullptr);
  void setRecent(const std::vector<RecentFile>& models, const std::vector<RecentFile>& sessions);
  void setMachine(const QString& line, const QString& details);
  void setInterrupted(int runs, int tokens);             // 0 hides the card
  void setLoading(const QString& what, double fraction);  // empty: not loading
  void setDropHint(const QString& what);                  // what a drag over the window would do; empty = none

 Q_SIGNALS:
  void openModelRequested();
  void openSessionRequested();
  void starterRequested();
  void recentRequested(const QString& path);
  void cancelRequested();
  void reviewRequested();   // interrupted runs

 private:
  QWidget* buildDrop();
  QWidget* buildRecent();
  void fill(QVBoxLayout* list, const std::vector<RecentFile>& files, const QString& none);
  QFrame* drop_ = nullptr;
  QLabel* dropText_ = nullptr;
  QVBoxLayout* models_ = nullptr;
  QVBoxLayout* sessions_ = nullptr;
  QLabel* machine_ = nullptr;
  QFrame* interrupted_ = nullptr;
  QLabel* interruptedText_ = nullptr;
  QFrame* loading_ = nullptr;
  QLabel* loadingText_ = nullptr;
  QProgressBar* progress_ = nullptr;
  QPushButton* open_ = nullptr;
  QPushButton* starter_ = nullptr;
};

}  // namespace winnow
