// SPDX-License-Identifier: GPL-3.0-or-later
// An SQLite VFS over the system's that refuses on demand: a full disk, an I/O error at the n-th operation, a folder that can't be
// written to. Permissions are no test here: the suite may run as root.
#pragma once
#include <sqlite3.h>

#include <atomic>
#include <cstring>
#include <string>

namespace winnow::storage::test {

class FailingDisk {
 public:
  explicit FailingDisk(const char* name) : name_(name) {
    real_ = sqlite3_vfs_find(nullptr);
    vfs_ = *real_;
    vfs_.pNext = nullptr;
    vfs_.zName = name_.c_str();
    vfs_.szOsFile = static_cast<int>(sizeof(File)) + real_->szOsFile;
    vfs_.pAppData = this;
    vfs_.xOpen = &open;
    vfs_.xAccess = [](sqlite3_vfs* v, const char* path, int flags, int* out) {
      return self(v).real_->xAccess(self(v).real_, path, flags, out);
    };
    vfs_.xDelete = [](sqlite3_vfs* v, const char* path, int sync) {
      return self(v).refuses(SQLITE_IOERR_DELETE) ? SQLITE_IOERR_DELETE : self(v).real_->xDelete(self(v).real_, path, sync);
    };
    vfs_.xFullPathname = [](sqlite3_vfs* v, const char* path, int n, char* out) {
      return self(v).real_->xFullPathname(self(v).real_, path, n, out);
    };
    sqlite3_vfs_register(&vfs_, 0);
  }
  ~FailingDisk() { sqlite3_vfs_unregister(&vfs_); }
  FailingDisk(const FailingDisk&) = delete;
  FailingDisk& operator=(const FailingDisk&) = delete;

  std::atomic<bool> full{false};       // writes say SQLITE_FULL
  std::atomic<bool> readOnly{false};   // files open for reading only, none are created
  std::atomic<int> failAt{0};          // counts down with every change; at 1 it fails with an I/O error
  std::atomic<bool> failForEver{false};
  std::atomic<int> changes{0};         // writes, syncs, truncations, deletions, creations so far

 private:
  struct File {
    sqlite3_file base;
    FailingDisk* disk;
    sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
  };
  static FailingDisk& self(sqlite3_vfs* vfs) { return *static_cast<FailingDisk*>(vfs->pAppData); }
  static File& of(sqlite3_file* file) { return *reinterpret_cast<File*>(file); }
  static sqlite3_file* real(sqlite3_file* file) { return of(file).real(); }

  bool refuses(int) {
    ++changes;
    const int left = failAt;
    if (left == 0) return false;
    if (left > 1) {
      failAt = left - 1;
      return false;
    }
    if (!failForEver) failAt = 0;
    return true;
  }

  static int open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags, int* outFlags) {
    FailingDisk& disk = self(vfs);
    file->pMethods = nullptr;
    if (disk.readOnly && path) {
      if (!(flags & SQLITE_OPEN_MAIN_DB)) return SQLITE_CANTOPEN;
      flags = (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
    }
    if ((flags & SQLITE_OPEN_CREATE) && disk.refuses(SQLITE_CANTOPEN)) return SQLITE_CANTOPEN;
    of(file).disk = &disk;
    const int code = disk.real_->xOpen(disk.real_, path, real(file), flags, outFlags);
    if (real(file)->pMethods) file->pMethods = &methods();
    return code;
  }

  static const sqlite3_io_methods& methods() {
    using F = sqlite3_file;
    static const sqlite3_io_methods table = {
        2,
        [](F* f) { return real(f)->pMethods->xClose(real(f)); },
        [](F* f, void* to, int n, sqlite3_int64 at) { return real(f)->pMethods->xRead(real(f), to, n, at); },
        [](F* f, const void* from, int n, sqlite3_int64 at) {
          if (of(f).disk->full) return SQLITE_FULL;
          return of(f).disk->refuses(0) ? SQLITE_IOERR_WRITE : real(f)->pMethods->xWrite(real(f), from, n, at);
        },
        [](F* f, sqlite3_int64 size) {
          return of(f).disk->refuses(0) ? SQLITE_IOERR_TRUNCATE : real(f)->pMethods->xTruncate(real(f), size);
        },
        [](F* f, int flags) { return of(f).disk->refuses(0) ? SQLITE_IOERR_FSYNC : real(f)->pMethods->xSync(real(f), flags); },
        [](F* f, sqlite3_int64* size) { return real(f)->pMethods->xFileSize(real(f), size); },
        [](F* f, int level) { return real(f)->pMethods->xLock(real(f), level); },
        [](F* f, int level) { return real(f)->pMethods->xUnlock(real(f), level); },
        [](F* f, int* out) { return real(f)->pMethods->xCheckReservedLock(real(f), out); },
        [](F* f, int op, void* arg) { return real(f)->pMethods->xFileControl(real(f), op, arg); },
        [](F* f) { return real(f)->pMethods->xSectorSize(real(f)); },
        [](F* f) { return real(f)->pMethods->xDeviceCharacteristics(real(f)); },
        [](F* f, int page, int size, int extend, void volatile** out) {
          if (of(f).disk->readOnly) return SQLITE_READONLY_CANTINIT;
          return real(f)->pMethods->xShmMap(real(f), page, size, extend, out);
        },
        [](F* f, int offset, int n, int flags) { return real(f)->pMethods->xShmLock(real(f), offset, n, flags); },
        [](F* f) { real(f)->pMethods->xShmBarrier(real(f)); },
        [](F* f, int remove) { return real(f)->pMethods->xShmUnmap(real(f), remove); },
        nullptr,
        nullptr,
    };
    return table;
  }

  const std::string name_;
  sqlite3_vfs* real_ = nullptr;
  sqlite3_vfs vfs_{};
};

}  // namespace winnow::storage::test
