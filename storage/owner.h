// SPDX-License-Identifier: GPL-3.0-or-later
// Who has a session file open for writing. The row in the file names the process; a process that is gone owns nothing.
#pragma once
#include <cstdint>
#include <string>

#include "storage/sqlite.h"

namespace winnow::storage {

class Ownership {
 public:
  // Claims the file inside the caller's transaction. When a living process has it: not claimed, and holder() says who.
  explicit Ownership(Db& db);
  ~Ownership();
  Ownership(const Ownership&) = delete;
  Ownership& operator=(const Ownership&) = delete;

  bool claimed() const { return claimed_; }
  const std::string& holder() const { return holder_; }
  const std::string& token() const { return token_; }
  static void release(Db& db, const std::string& token);
  static void heartbeat(Db& db, const std::string& token, int64_t nowUs);

 private:
  std::string token_, holder_;
  bool claimed_ = false;
};

std::string makeUuid();
int64_t utcMicroseconds();

}  // namespace winnow::storage
