// SPDX-License-Identifier: GPL-3.0-or-later
// Writes a GGUF v3 front to back: metadata and directory first, then the data of each tensor in the order it was announced.
#pragma once
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/dtype.h"
#include "engine/core/result.h"

namespace winnow {

struct GgufValue;

// A file under a temporary name beside its final one; gone again unless commit() succeeds.
class OutputFile {
 public:
  static Result<OutputFile> create(const std::string& path, int64_t bytes);  // refuses early when the disk has less room
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();
  Status write(std::span<const std::byte> bytes);
  Status commit();

 private:
  OutputFile(std::string path, std::string temporary, int fd) : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}
  Error failed(std::string_view action, int error) const;
  std::string path_, temporary_;
  int fd_ = -1;
};

class GgufHeader {
 public:
  static constexpr size_t kAlignment = 32;
  void add(std::string_view key, uint32_t value);
  void add(std::string_view key, float value);
  void add(std::string_view key, bool value);
  void add(std::string_view key, std::string_view value);
  void add(std::string_view key, const std::vector<std::string>& values);
  void add(std::string_view key, const std::vector<int32_t>& values);
  void add(std::string_view key, const GgufValue& value);  // as another file has it
  // shape outermost first. Tensors lie one after the other, each padded to kAlignment.
  void addTensor(std::string_view name, const std::vector<int64_t>& shape, DType type);

  std::vector<std::byte> bytes() const;  // everything before the data, padded
  int64_t dataBytes() const { return static_cast<int64_t>(dataBytes_); }
  static size_t padded(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

 private:
  template <class T>
  static void put(std::vector<std::byte>& to, T value) {
    const size_t at = to.size();
    to.resize(at + sizeof value);
    std::memcpy(to.data() + at, &value, sizeof value);
  }
  static void putText(std::vector<std::byte>& to, std::string_view text);
  void key(std::string_view name, uint32_t type);

  uint64_t values_ = 0, tensors_ = 0, dataBytes_ = 0;
  std::vector<std::byte> metadata_, directory_;
};

}  // namespace winnow
