// SPDX-License-Identifier: GPL-3.0-or-later
// Memory that changes hands: while new weights take the place of old ones layer by layer, a new matrix can have the pages that an old one of its
// size left, which the system need not clear again. What waits stays in its ledger, and goes back to the system when the scope ends.
#pragma once
#include <cstddef>
#include <map>
#include <tuple>
#include <vector>

#include "engine/core/memory.h"

namespace winnow {

// One for a time, of the thread that makes it. Buffers of any thread leave their memory to it, of the sizes it was asked for, so that no more
// waits than what will be made might take.
class RecycledMemory {
 public:
  RecycledMemory();
  ~RecycledMemory();
  RecycledMemory(const RecycledMemory&) = delete;
  RecycledMemory& operator=(const RecycledMemory&) = delete;

  // While it lives, large buffers that this thread makes take what others left, with their values: for what is written whole. Their ledger lives
  // longer than the scope.
  class Taking {
   public:
    Taking();
    ~Taking();
    Taking(const Taking&) = delete;
    Taking& operator=(const Taking&) = delete;

   private:
    bool before_;
  };

  // Of Buffer: memory that is in the ledger already, null where there is none; whether it was taken over, and stays in the ledger.
  static void* take(Ledger& ledger, MemoryTag tag, size_t bytes);
  static bool leave(Ledger& ledger, MemoryTag tag, size_t bytes, void* data) noexcept;

 private:
  using Key = std::tuple<Ledger*, MemoryTag, size_t>;  // bytes
  std::map<Key, std::vector<void*>> waiting_;          // of sizes that were asked for
  RecycledMemory* before_;                             // this thread's
};

}  // namespace winnow
