// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/core/recycled_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <mutex>

namespace winnow {
namespace {

std::mutex mutex;  // of all below and of what waits
std::vector<RecycledMemory*> scopes;
std::atomic<size_t> count{0};  // of scopes: most buffers go while there is none
thread_local RecycledMemory* ofThread = nullptr;
thread_local bool taking = false;

}  // namespace

RecycledMemory::RecycledMemory() : before_(ofThread) {
  std::scoped_lock lock(mutex);
  scopes.push_back(this);
  count.store(scopes.size(), std::memory_order_relaxed);
  ofThread = this;
}

RecycledMemory::~RecycledMemory() {
  ofThread = before_;
  {
    std::scoped_lock lock(mutex);
    std::erase(scopes, this);
    count.store(scopes.size(), std::memory_order_relaxed);
  }
  for (const auto& [key, left] : waiting_)
    for (void* data : left) {
      const auto [ledger, tag, bytes] = key;
      munmap(data, bytes);
      ledger->post(tag, -static_cast<int64_t>(bytes));
    }
}

RecycledMemory::Taking::Taking() : before_(taking) { taking = true; }
RecycledMemory::Taking::~Taking() { taking = before_; }

void* RecycledMemory::take(Ledger& ledger, MemoryTag tag, size_t bytes) {
  if (!taking || !ofThread) return nullptr;
  std::scoped_lock lock(mutex);
  std::vector<void*>& left = ofThread->waiting_[{&ledger, tag, bytes}];
  if (left.empty()) return nullptr;
  void* const data = left.back();
  left.pop_back();
  return data;
}

bool RecycledMemory::leave(Ledger& ledger, MemoryTag tag, size_t bytes, void* data) noexcept {
  if (count.load(std::memory_order_relaxed) == 0) return false;
  try {
    std::scoped_lock lock(mutex);
    for (RecycledMemory* scope : scopes)
      if (const auto found = scope->waiting_.find({&ledger, tag, bytes}); found != scope->waiting_.end()) {
        found->second.push_back(data);
        return true;
      }
  } catch (...) {  // no room for one more pointer
  }
  return false;
}

}  // namespace winnow
