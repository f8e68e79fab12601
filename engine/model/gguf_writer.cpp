// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/model/gguf_writer.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "engine/core/check.h"
#include "engine/model/gguf.h"
#include "engine/model/message.h"

namespace winnow {

Error OutputFile::failed(std::string_view action, int error) const {
  if (error == ENOSPC || error == EDQUOT)
    return problem(ErrorCode::failed, sentence(path_, ": ", action, " failed, the disk is full"),
                   "free some space or choose another folder");
  if (error == EACCES || error == EPERM || error == EROFS)
    return problem(ErrorCode::failed, sentence(path_, ": ", action, " failed, there is no permission to write here"),
                   "choose another folder");
  if (error == ENOENT || error == ENOTDIR)
    return problem(ErrorCode::failed, sentence(path_, ": ", action, " failed, this folder does not exist"), "choose an existing folder");
  return problem(ErrorCode::failed, sentence(path_, ": ", action, " failed (", std::strerror(error), ")"));
}

Result<OutputFile> OutputFile::create(const std::string& path, int64_t bytes) {
  const std::string temporary = path + ".partial-" + std::to_string(static_cast<long>(::getpid()));
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return badInput(path, ": this is a folder, the name of a file was expected");
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  OutputFile file(path, temporary, fd);
  if (fd < 0) return file.failed("creating the file", errno);
  struct statvfs disk {};
  if (::fstatvfs(fd, &disk) == 0) {
    const double room = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
    if (room < static_cast<double>(bytes))
      return problem(ErrorCode::failed,
                   sentence(path, ": the file needs ", bytes, " bytes, the disk has room for ", static_cast<int64_t>(room)),
                   "free some space or choose another folder");
  }
  return file;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::move(other.temporary_)), fd_(std::exchange(other.fd_, -1)) {}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

Status OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("writing", errno);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return Done{};
}

Status OutputFile::commit() {
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0 || std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    return failed("finishing the file", error);
  }
  return Done{};
}

void GgufHeader::putText(std::vector<std::byte>& to, std::string_view text) {
  put(to, static_cast<uint64_t>(text.size()));
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  to.insert(to.end(), bytes.begin(), bytes.end());
}
void GgufHeader::key(std::string_view name, uint32_t type) {
  ++values_;
  putText(metadata_, name);
  put(metadata_, type);
}
void GgufHeader::add(std::string_view name, uint32_t value) {
  key(name, static_cast<uint32_t>(GgufType::u32));
  put(metadata_, value);
}
void GgufHeader::add(std::string_view name, float value) {
  key(name, static_cast<uint32_t>(GgufType::f32));
  put(metadata_, value);
}
void GgufHeader::add(std::string_view name, bool value) {
  key(name, static_cast<uint32_t>(GgufType::boolean));
  put(metadata_, static_cast<uint8_t>(value));
}
void GgufHeader::add(std::string_view name, std::string_view value) {
  key(name, static_cast<uint32_t>(GgufType::string));
  putText(metadata_, value);
}
void GgufHeader::add(std::string_view name, const std::vector<std::string>& values) {
  key(name, static_cast<uint32_t>(GgufType::array));
  put(metadata_, static_cast<uint32_t>(GgufType::string));
  put(metadata_, static_cast<uint64_t>(values.size()));
  for (const std::string& value : values) putText(metadata_, value);
}
void GgufHeader::add(std::string_view name, const std::vector<int32_t>& values) {
  key(name, static_cast<uint32_t>(GgufType::array));
  put(metadata_, static_cast<uint32_t>(GgufType::i32));
  put(metadata_, static_cast<uint64_t>(values.size()));
  for (const int32_t value : values) put(metadata_, value);
}

void GgufHeader::add(std::string_view name, const GgufValue& value) {
  key(name, static_cast<uint32_t>(value.type));
  if (value.type == GgufType::string) put(metadata_, static_cast<uint64_t>(value.bytes.size()));
  if (value.type == GgufType::array) {
    put(metadata_, static_cast<uint32_t>(value.element));
    put(metadata_, value.count);
  }
  metadata_.insert(metadata_.end(), value.bytes.begin(), value.bytes.end());
}

void GgufHeader::addTensor(std::string_view name, const std::vector<int64_t>& shape, DType type) {
  ++tensors_;
  putText(directory_, name);
  put(directory_, static_cast<uint32_t>(shape.size()));
  int64_t values = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    put(directory_, static_cast<uint64_t>(shape[i]));
    values *= shape[i];
  }
  const DTypeTraits traits = dtypeTraits(type);
  CHECK(shape.back() % traits.blockValues == 0, name, shape.back());
  put(directory_, ggufTensorTypeId(type));
  put(directory_, dataBytes_);
  dataBytes_ += padded(static_cast<size_t>(values / traits.blockValues * traits.blockBytes));
}

std::vector<std::byte> GgufHeader::bytes() const {
  std::vector<std::byte> out;
  put(out, uint32_t{0x46554747u});
  put(out, uint32_t{3});
  put(out, tensors_);
  put(out, values_);
  out.insert(out.end(), metadata_.begin(), metadata_.end());
  out.insert(out.end(), directory_.begin(), directory_.end());
  out.resize(padded(out.size()));
  return out;
}

}  // namespace winnow
