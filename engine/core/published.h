// SPDX-License-Identifier: GPL-3.0-or-later
// One immutable value, one writer, many readers. A mutex guards the pointer copy only: std::atomic<std::shared_ptr> of
// GCC 12 trips ThreadSanitizer.
#pragma once
#include <memory>
#include <mutex>

namespace winnow {

template <class T>
class Published {
 public:
  std::shared_ptr<const T> get() const {
    std::scoped_lock lock(mutex_);
    return value_;
  }
  void set(std::shared_ptr<const T> value) {
    std::scoped_lock lock(mutex_);
    value_.swap(value);
  }  // the old value is released after the lock: parameters die in the caller

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const T> value_;
};

}  // namespace winnow
