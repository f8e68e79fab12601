// SPDX-License-Identifier: GPL-3.0-or-later
// A file mapped read-only. Nothing is read ahead: opening a 5 GB model touches its header only.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "engine/core/result.h"

namespace winnow {

class MappedFile {
 public:
  // Refuses what is missing, a folder, empty, not permitted or not a regular file, each in a sentence that names the path.
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  void willNeed() const;  // asks the kernel to read the whole file ahead

 private:
  MappedFile(std::string path, const std::byte* data, size_t size) : path_(std::move(path)), data_(data), size_(size) {}
  std::string path_;
  const std::byte* data_;
  size_t size_;
};

}  // namespace winnow
