// SPDX-License-Identifier: GPL-3.0-or-later
#include <exception>

#include "engine/run/session_impl.h"

namespace winnow {

BackgroundThread::BackgroundThread(int nice) : thread_([this, nice] { work(nice); }) {}

BackgroundThread::~BackgroundThread() {
  {
    std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void BackgroundThread::run(const std::function<void()>& call) {
  std::unique_lock lock(mutex_);
  call_ = &call;
  thrown_ = nullptr;
  changed_.notify_all();
  changed_.wait(lock, [&] { return call_ == nullptr; });
  if (thrown_) std::rethrow_exception(thrown_);
}

void BackgroundThread::work(int nice) {
  lowerPriority(nice);
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return call_ || stop_; });
    if (stop_) return;
    const std::function<void()>* call = call_;
    lock.unlock();
    std::exception_ptr thrown;
    try {
      (*call)();
    } catch (...) {
      thrown = std::current_exception();
    }
    lock.lock();
    thrown_ = thrown;
    call_ = nullptr;
    changed_.notify_all();
  }
}

}  // namespace winnow
