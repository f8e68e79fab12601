// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/session_opening.h"

#include <QCoreApplication>
#include <QEventLoop>
#include <chrono>
#include <future>
#include <thread>

namespace winnow {

storage::Result<std::shared_ptr<storage::SessionFile>> openSessionFile(const QString& path, storage::SessionFile::Mode mode, storage::OpenReport* report) {
  using Opened = storage::Result<std::shared_ptr<storage::SessionFile>>;
  constexpr auto kShort = std::chrono::milliseconds(50);  // a free file opens in less: then nothing happens in between
  std::promise<Opened> promise;
  std::future<Opened> opened = promise.get_future();
  QEventLoop loop;
  std::jthread thread([&, file = path.toStdString()] {
    promise.set_value(storage::SessionFile::open(file, mode, report));
    QMetaObject::invokeMethod(&loop, &QEventLoop::quit, Qt::QueuedConnection);
  });
  if (QCoreApplication::instance() && opened.wait_for(kShort) != std::future_status::ready) loop.exec(QEventLoop::ExcludeUserInputEvents);
  thread.join();  // the promise is kept before the loop is told
  return opened.get();
}

}  // namespace winnow
