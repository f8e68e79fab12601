// SPDX-License-Identifier: GPL-3.0-or-later
// Finding out what a file is before trusting it, making new ones, and taking hold of one for writing.
#pragma once
#include <chrono>
#include <memory>
#include <string>

#include "storage/owner.h"
#include "storage/session_file.h"
#include "storage/sqlite.h"

namespace winnow::storage {

struct SessionOptions {
  std::string vfs;                              // SQLite VFS; "" = the system's. Tests put failing disks here.
  size_t queueBytes = size_t{64} << 20;         // of samples waiting for the disk; beyond it they are dropped and counted
  std::chrono::milliseconds commitEvery{250};
  int64_t commitRows = 4000;
  std::chrono::milliseconds retryFirst{250}, retryMost{10'000};
  int busyMs = 5000;                            // how long to wait for another program's lock
};

struct Opened {
  std::unique_ptr<Db> writer;                   // null = read-only
  std::unique_ptr<Ownership> ownership;
  std::unique_ptr<Db> reader;
  Id lastRun = 0, lastSweep = 0;
};

Result<Opened> openFile(const std::string& path, SessionFile::Mode mode, const SessionOptions& options, OpenReport& report);
Error sqlProblem(const SqlError& error, const std::string& path, const std::string& doing);

// SessionFile::open with options.
Result<std::shared_ptr<SessionFile>> openSession(const std::string& path, SessionFile::Mode mode, OpenReport* report,
                                                 const SessionOptions& options);

}  // namespace winnow::storage
