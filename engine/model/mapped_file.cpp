// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/model/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/model/message.h"

namespace winnow {
namespace {

Error cannotOpen(const std::string& path, int error) {
  if (error == ENOENT || error == ENOTDIR) return problem(ErrorCode::badInput, path + ": there is no such file", "check the path");
  if (error == EACCES || error == EPERM)
    return problem(ErrorCode::badInput, path + ": no permission to read this file", "check its owner and mode");
  return problem(ErrorCode::failed, path + ": cannot be opened (" + std::strerror(error) + ")");
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  // O_NONBLOCK: opening a pipe that nobody writes to must not hang.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) return cannotOpen(path, errno);
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) return cannotOpen(path, errno);
  if (S_ISDIR(info.st_mode)) return problem(ErrorCode::badInput, path + ": this is a folder, a file was expected");
  if (!S_ISREG(info.st_mode)) return problem(ErrorCode::badInput, path + ": this is not a regular file");
  if (info.st_size == 0) return problem(ErrorCode::badInput, path + ": this file is empty", "copy or download it again");
  const size_t size = static_cast<size_t>(info.st_size);
  void* map = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.fd, 0);
  if (map == MAP_FAILED) {
    const int error = errno;
    return problem(error == ENOMEM ? ErrorCode::resources : ErrorCode::failed,
                 path + ": cannot be mapped into memory (" + std::strerror(error) + ")");
  }
  return std::shared_ptr<const MappedFile>(new MappedFile(path, static_cast<const std::byte*>(map), size));
}

MappedFile::~MappedFile() { ::munmap(const_cast<std::byte*>(data_), size_); }

void MappedFile::willNeed() const { ::madvise(const_cast<std::byte*>(data_), size_, MADV_WILLNEED); }

}  // namespace winnow
