// SPDX-License-Identifier: GPL-3.0-or-later
// The GGUF container, versions 2 and 3, little-endian: metadata and a directory of tensors. The file is taken as hostile:
// every count is bounded by the bytes that are left, every offset is checked, nothing is allocated on a file's word alone.
// Values are views into the mapping, so that a vocabulary of 150 000 tokens costs one walk and no copies.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/core/dtype.h"
#include "engine/core/result.h"

namespace winnow {

enum class GgufType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64, count };
std::string_view ggufTypeName(GgufType type);

struct GgufValue {
  GgufType type{};
  GgufType element{};   // of an array
  uint64_t count = 0;   // of an array
  std::span<const std::byte> bytes;  // the value; of a string its text; of an array its elements as stored

  bool isInteger() const;
  bool isNumber() const { return isInteger() || type == GgufType::f32 || type == GgufType::f64; }
};

struct GgufTensor {
  std::string_view name;
  std::vector<int64_t> shape;  // outermost first (the file has it innermost first)
  uint32_t typeId = 0;         // as in the file
  std::optional<DType> type;   // empty when this engine cannot read it
  const std::byte* data = nullptr;
  size_t bytes = 0;            // 0 when the type is not known
};

class GgufFile {
 public:
  // `name` is what messages call the file. The bytes must outlive the result.
  static Result<GgufFile> parse(std::span<const std::byte> bytes, const std::string& name);

  const std::string& name() const { return name_; }
  uint32_t version() const { return version_; }
  // Bytes behind the last tensor and its padding; 0 when a tensor's type, and with it its size, is not known.
  size_t trailingBytes() const { return trailingBytes_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* tensor(std::string_view name) const;
  const GgufValue* value(std::string_view key) const;
  std::vector<std::string_view> keys() const;  // in no order

  // A key that is there with a wrong type or range is an error; one that is not there gives `missing`.
  Result<int64_t> integer(std::string_view key, int64_t lowest, int64_t highest, std::optional<int64_t> missing) const;
  Result<double> number(std::string_view key, std::optional<double> missing) const;
  Result<bool> boolean(std::string_view key, bool missing) const;
  Result<std::string> text(std::string_view key, std::optional<std::string> missing) const;
  Result<std::vector<std::string>> texts(std::string_view key) const;   // empty when absent
  Result<std::vector<double>> numbers(std::string_view key) const;      // integers and reals, empty when absent
  Error wrongType(std::string_view key, std::string_view expected) const;

 private:
  friend class GgufParser;
  std::string name_;
  uint32_t version_ = 0;
  size_t trailingBytes_ = 0;
  std::unordered_map<std::string_view, GgufValue> values_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, size_t> tensorIndex_;
};

std::string ggufTensorTypeName(uint32_t typeId);  // "IQ4_XS", or "type 77" when unknown
std::string supportedTensorTypes();               // "F32, F16, ..."
uint32_t ggufTensorTypeId(DType type);

}  // namespace winnow
