// SPDX-License-Identifier: GPL-3.0-or-later
#include "experiments/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <QFile>
#include <algorithm>
#include <cerrno>
#include <cstring>

namespace winnow {
namespace {

constexpr qint64 kPiece = 1 << 20;  // bytes read at once

struct Descriptor {
  explicit Descriptor(int fd) : value(fd) {}
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  const int value;
};

}  // namespace

Result<std::string> readTextFile(const QString& path, qint64 limit) {
  const std::string name = path.toStdString();
  const Descriptor file(::open(QFile::encodeName(path).constData(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.value < 0) return Error{ErrorCode::badInput, name + " can't be opened: " + std::strerror(errno) + ".", "Check the path and its permissions."};
  struct stat info {};
  if (::fstat(file.value, &info) == 0 && S_ISDIR(info.st_mode)) return Error{ErrorCode::badInput, name + " is a folder; a text file was expected.", ""};
  // Opening must not wait for a writer; reading from a pipe that has one may.
  ::fcntl(file.value, F_SETFL, ::fcntl(file.value, F_GETFL) & ~O_NONBLOCK);
  std::string text;
  for (;;) {
    const size_t had = text.size();
    text.resize(had + static_cast<size_t>(std::min(kPiece, limit + 1 - static_cast<qint64>(had))));
    const ssize_t got = ::read(file.value, text.data() + had, text.size() - had);
    if (got < 0 && errno == EINTR) {
      text.resize(had);
      continue;
    }
    if (got < 0) return Error{ErrorCode::badInput, name + " can't be read: " + std::strerror(errno) + ".", ""};
    text.resize(had + static_cast<size_t>(got));
    if (got == 0) return text;
    if (static_cast<qint64>(text.size()) > limit)
      return Error{ErrorCode::badInput, name + " is larger than " + std::to_string(limit >> 20) + " MiB, the most that is read.", "Use a part of it."};
  }
}

}  // namespace winnow
