// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/model/gguf.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/model/message.h"

namespace winnow {
namespace {

constexpr size_t kLongestTensorName = 64;
constexpr size_t kLongestKey = 65535;
constexpr int kDeepestArray = 3;
constexpr size_t kSmallestEntry = 13;   // key length, type, one byte
constexpr size_t kSmallestTensor = 24;  // name length, number of dimensions, type, offset

struct TensorType {
  uint32_t id;
  std::string_view name;
  std::optional<DType> type;
};
// Ids of ggml's tensor types.
constexpr TensorType kTensorTypes[] = {
    {0, "F32", DType::f32},        {1, "F16", DType::f16},        {30, "BF16", DType::bf16},     {8, "Q8_0", DType::q8_0},
    {2, "Q4_0", DType::q4_0},      {3, "Q4_1", DType::q4_1},      {6, "Q5_0", DType::q5_0},      {7, "Q5_1", DType::q5_1},
    {10, "Q2_K", DType::q2_k},     {11, "Q3_K", DType::q3_k},     {12, "Q4_K", DType::q4_k},     {13, "Q5_K", DType::q5_k},
    {14, "Q6_K", DType::q6_k},     {9, "Q8_1", std::nullopt},     {15, "Q8_K", std::nullopt},    {16, "IQ2_XXS", std::nullopt},
    {17, "IQ2_XS", std::nullopt},  {18, "IQ3_XXS", std::nullopt}, {19, "IQ1_S", std::nullopt},   {20, "IQ4_NL", std::nullopt},
    {21, "IQ3_S", std::nullopt},   {22, "IQ2_S", std::nullopt},   {23, "IQ4_XS", std::nullopt},  {24, "I8", std::nullopt},
    {25, "I16", std::nullopt},     {26, "I32", std::nullopt},     {27, "I64", std::nullopt},     {28, "F64", std::nullopt},
    {29, "IQ1_M", std::nullopt},   {34, "TQ1_0", std::nullopt},   {35, "TQ2_0", std::nullopt},   {39, "MXFP4", DType::mxfp4},
    {40, "NVFP4", std::nullopt},   {41, "Q1_0", std::nullopt},
};
const TensorType* findTensorType(uint32_t id) {
  const auto it = std::find_if(std::begin(kTensorTypes), std::end(kTensorTypes), [&](const TensorType& t) { return t.id == id; });
  return it == std::end(kTensorTypes) ? nullptr : it;
}

constexpr size_t scalarBytes(GgufType type) {
  constexpr std::array<uint8_t, static_cast<size_t>(GgufType::count)> sizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return sizes[static_cast<size_t>(type)];
}

template <class T>
T readAs(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Integers and booleans; u64 above the range of int64 saturates, which every range check then refuses.
int64_t integerOf(GgufType type, const std::byte* at) {
  switch (type) {
    case GgufType::u8: case GgufType::boolean: return readAs<uint8_t>(at);
    case GgufType::i8: return readAs<int8_t>(at);
    case GgufType::u16: return readAs<uint16_t>(at);
    case GgufType::i16: return readAs<int16_t>(at);
    case GgufType::u32: return readAs<uint32_t>(at);
    case GgufType::i32: return readAs<int32_t>(at);
    case GgufType::u64:
      return static_cast<int64_t>(std::min<uint64_t>(readAs<uint64_t>(at), std::numeric_limits<int64_t>::max()));
    default: return readAs<int64_t>(at);
  }
}
double numberOf(GgufType type, const std::byte* at) {
  if (type == GgufType::f32) return static_cast<double>(readAs<float>(at));
  if (type == GgufType::f64) return readAs<double>(at);
  return static_cast<double>(integerOf(type, at));
}
std::string_view asText(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

}  // namespace

std::string_view ggufTypeName(GgufType type) {
  constexpr std::array<std::string_view, static_cast<size_t>(GgufType::count)> names = {
      "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array", "uint64", "int64", "float64"};
  return names[static_cast<size_t>(type)];
}
std::string ggufTensorTypeName(uint32_t typeId) {
  const TensorType* type = findTensorType(typeId);
  return type ? std::string(type->name) : "type " + std::to_string(typeId);
}
std::string supportedTensorTypes() {
  std::string out;
  for (const TensorType& type : kTensorTypes)
    if (type.type) out += (out.empty() ? "" : ", ") + std::string(type.name);
  return out;
}
uint32_t ggufTensorTypeId(DType type) {
  return std::find_if(std::begin(kTensorTypes), std::end(kTensorTypes), [&](const TensorType& t) { return t.type == type; })->id;
}
bool GgufValue::isInteger() const {
  return type != GgufType::f32 && type != GgufType::f64 && type != GgufType::boolean && type != GgufType::string && type != GgufType::array;
}

// Walks the file once. Every read goes through take(), which never passes the end.
class GgufParser {
 public:
  GgufParser(std::span<const std::byte> bytes, const std::string& name) : bytes_(bytes) { file_.name_ = name; }
  Result<GgufFile> parse() {
    if (Status s = header(); !s) return s.error();
    for (uint64_t i = 0; i < valueCount_; ++i)
      if (Status s = entry(i); !s) return s.error();
    if (Status s = readAlignment(); !s) return s.error();
    file_.tensors_.reserve(tensorCount_);
    for (uint64_t i = 0; i < tensorCount_; ++i)
      if (Status s = tensor(i); !s) return s.error();
    if (Status s = placeTensors(); !s) return s.error();
    return std::move(file_);
  }

 private:
  size_t left() const { return bytes_.size() - at_; }
  template <class... Parts>
  Error bad(const Parts&... parts) const {
    return badInput(file_.name_, ": ", parts...);
  }
  Error truncated(std::string_view what) const {
    Error e = bad("the file ends inside ", what, " at byte ", at_, " of ", bytes_.size());
    e.hint = "The file is incomplete: copy or download it again.";
    return e;
  }
  template <class T>
  bool take(T& value) {
    if (left() < sizeof value) return false;
    value = readAs<T>(bytes_.data() + at_);
    at_ += sizeof value;
    return true;
  }
  bool takeText(std::string_view& text, size_t longest) {
    uint64_t length = 0;
    if (!take(length) || length > left() || length > longest) return false;
    text = asText(bytes_.subspan(at_, static_cast<size_t>(length)));
    at_ += static_cast<size_t>(length);
    return true;
  }

  Status header();
  Status entry(uint64_t index);
  Status walk(GgufValue& value, std::string_view key, int depth);
  Status readAlignment();
  Status tensor(uint64_t index);
  Status placeTensors();

  std::span<const std::byte> bytes_;
  size_t at_ = 0;
  uint64_t tensorCount_ = 0, valueCount_ = 0, alignment_ = 32;
  std::vector<uint64_t> offsets_;
  GgufFile file_;
};

Status GgufParser::header() {
  uint32_t magic = 0, version = 0;
  if (!take(magic)) return truncated("the header");
  if (magic != 0x46554747u) return bad("this is not a GGUF file (its first bytes are not 'GGUF')");
  if (!take(version)) return truncated("the header");
  if (version != 0 && (version & 0xffffu) == 0) return bad("this GGUF is big-endian, only little-endian files can be read");
  if (version == 1) {
    Error e = bad("this is GGUF version 1, versions 2 and 3 can be read");
    e.hint = "Convert the model again with a current llama.cpp.";
    return e;
  }
  if (version != 2 && version != 3) return bad("this is GGUF version ", version, ", versions 2 and 3 can be read");
  file_.version_ = version;
  if (!take(tensorCount_) || !take(valueCount_)) return truncated("the header");
  if (valueCount_ > left() / kSmallestEntry)
    return bad("the header announces ", valueCount_, " metadata entries, but only ", left(), " bytes follow");
  if (tensorCount_ > left() / kSmallestTensor)
    return bad("the header announces ", tensorCount_, " tensors, but only ", left(), " bytes follow");
  return Done{};
}

Status GgufParser::entry(uint64_t index) {
  std::string_view key;
  uint32_t type = 0;
  if (!takeText(key, kLongestKey)) return truncated("the key of metadata entry " + std::to_string(index));
  if (!take(type)) return truncated("metadata entry " + shown(key));
  if (type >= static_cast<uint32_t>(GgufType::count)) return bad("metadata entry ", shown(key), " has the unknown type ", type);
  GgufValue value;
  value.type = static_cast<GgufType>(type);
  if (Status s = walk(value, key, 0); !s) return s;
  if (!file_.values_.emplace(key, value).second) return bad("metadata entry ", shown(key), " is there twice");
  return Done{};
}

// Reads one value of value.type at the current place.
Status GgufParser::walk(GgufValue& value, std::string_view key, int depth) {
  if (value.type == GgufType::string) {
    std::string_view text;
    if (!takeText(text, bytes_.size())) return truncated("a string of metadata entry " + shown(key));
    value.bytes = std::as_bytes(std::span(text.data(), text.size()));
    return Done{};
  }
  if (value.type != GgufType::array) {
    const size_t size = scalarBytes(value.type);
    if (left() < size) return truncated("metadata entry " + shown(key));
    value.bytes = bytes_.subspan(at_, size);
    at_ += size;
    return Done{};
  }
  if (depth >= kDeepestArray) return bad("metadata entry ", shown(key), " nests arrays deeper than ", kDeepestArray, " levels");
  uint32_t element = 0;
  if (!take(element) || !take(value.count)) return truncated("metadata entry " + shown(key));
  if (element >= static_cast<uint32_t>(GgufType::count))
    return bad("metadata entry ", shown(key), " is an array of the unknown type ", element);
  value.element = static_cast<GgufType>(element);
  const size_t begin = at_;
  const size_t size = scalarBytes(value.element);
  const size_t smallest = size ? size : value.element == GgufType::string ? 8 : 12;
  if (value.count > left() / smallest)
    return bad("metadata entry ", shown(key), " announces ", value.count, " elements, but only ", left(), " bytes follow");
  if (size) {
    at_ += size * static_cast<size_t>(value.count);
  } else {
    for (uint64_t i = 0; i < value.count; ++i) {
      GgufValue inner;
      inner.type = value.element;
      if (Status s = walk(inner, key, depth + 1); !s) return s;
    }
  }
  value.bytes = bytes_.subspan(begin, at_ - begin);
  return Done{};
}

Status GgufParser::readAlignment() {
  const auto alignment = file_.integer("general.alignment", 1, int64_t{1} << 20, 32);
  if (!alignment) return alignment.error();
  alignment_ = static_cast<uint64_t>(*alignment);
  if ((alignment_ & (alignment_ - 1)) != 0) return bad("general.alignment is ", alignment_, ", a power of two was expected");
  return Done{};
}

Status GgufParser::tensor(uint64_t index) {
  GgufTensor t;
  uint64_t offset = 0;
  uint32_t dims = 0;
  const std::string which = "the entry of tensor " + std::to_string(index);
  uint64_t length = 0;
  if (left() >= 8) length = readAs<uint64_t>(bytes_.data() + at_);
  if (length > kLongestTensorName && length <= left())
    return bad("the name of tensor ", index, " is ", length, " bytes long, at most ", kLongestTensorName, " are allowed");
  if (!takeText(t.name, kLongestTensorName) || !take(dims)) return truncated(which);
  if (dims > 4) return bad("tensor ", shown(t.name), " has ", dims, " dimensions, at most 4 are allowed");
  uint64_t elements = 1;
  for (uint32_t d = 0; d < dims; ++d) {
    uint64_t extent = 0;
    if (!take(extent)) return truncated(which);
    if (extent == 0 || extent > (uint64_t{1} << 48) || elements > (uint64_t{1} << 48) / extent)
      return bad("tensor ", shown(t.name), " has an impossible extent of ", extent, " in dimension ", d);
    elements *= extent;
    t.shape.insert(t.shape.begin(), static_cast<int64_t>(extent));
  }
  if (t.shape.empty()) t.shape.push_back(1);
  if (!take(t.typeId) || !take(offset)) return truncated(which);
  if (offset % alignment_ != 0)
    return bad("tensor ", shown(t.name), " begins at offset ", offset, ", a multiple of the alignment ", alignment_, " was expected");
  if (const TensorType* type = findTensorType(t.typeId)) t.type = type->type;
  if (t.type) {
    const DTypeTraits traits = dtypeTraits(*t.type);
    if (t.shape.back() % traits.blockValues != 0)
      return bad("tensor ", shown(t.name), " of type ", ggufTensorTypeName(t.typeId), " has rows of ", t.shape.back(),
                 " values, a multiple of ", traits.blockValues, " was expected");
    t.bytes = static_cast<size_t>(elements / static_cast<uint64_t>(traits.blockValues) * static_cast<uint64_t>(traits.blockBytes));
  }
  if (!file_.tensorIndex_.emplace(t.name, file_.tensors_.size()).second) return bad("tensor ", shown(t.name), " is there twice");
  file_.tensors_.push_back(std::move(t));
  offsets_.push_back(offset);
  return Done{};
}

Status GgufParser::placeTensors() {
  const uint64_t data = (at_ + alignment_ - 1) / alignment_ * alignment_;
  uint64_t end = data;
  bool known = true;
  for (size_t i = 0; i < offsets_.size(); ++i) {
    GgufTensor& t = file_.tensors_[i];
    if (data > bytes_.size() || offsets_[i] > bytes_.size() - data || t.bytes > bytes_.size() - data - offsets_[i]) {
      Error e = bad("tensor ", shown(t.name), " lies outside the file: ", t.bytes, " bytes at offset ", offsets_[i],
                    " of the data, which begins at ", data, " in a file of ", bytes_.size(), " bytes");
      e.hint = "The file is incomplete: copy or download it again.";
      return e;
    }
    t.data = bytes_.data() + data + offsets_[i];
    known &= t.bytes > 0;
    end = std::max(end, data + offsets_[i] + t.bytes);
  }
  end = (end + alignment_ - 1) / alignment_ * alignment_;
  if (known && end < bytes_.size()) file_.trailingBytes_ = bytes_.size() - end;
  return Done{};
}

Result<GgufFile> GgufFile::parse(std::span<const std::byte> bytes, const std::string& name) { return GgufParser(bytes, name).parse(); }

const GgufTensor* GgufFile::tensor(std::string_view name) const {
  const auto it = tensorIndex_.find(name);
  return it == tensorIndex_.end() ? nullptr : &tensors_[it->second];
}
const GgufValue* GgufFile::value(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

std::vector<std::string_view> GgufFile::keys() const {
  std::vector<std::string_view> out;
  for (const auto& [key, value] : values_) out.push_back(key);
  return out;
}

Error GgufFile::wrongType(std::string_view key, std::string_view expected) const {
  const GgufValue* v = value(key);
  if (!v) return badInput(name_, ": the metadata has no ", key, ", ", expected, " was expected");
  std::string found(ggufTypeName(v->type));
  if (v->type == GgufType::array) found += " of " + std::string(ggufTypeName(v->element));
  return badInput(name_, ": ", key, " is of type ", found, ", ", expected, " was expected");
}

Result<int64_t> GgufFile::integer(std::string_view key, int64_t lowest, int64_t highest, std::optional<int64_t> missing) const {
  const GgufValue* v = value(key);
  if (!v && missing) return *missing;
  if (!v || !v->isInteger()) return wrongType(key, "an integer");
  const int64_t n = integerOf(v->type, v->bytes.data());
  if (n < lowest || n > highest)
    return badInput(name_, ": ", key, " is ", n, ", a number from ", lowest, " to ", highest, " was expected");
  return n;
}
Result<double> GgufFile::number(std::string_view key, std::optional<double> missing) const {
  const GgufValue* v = value(key);
  if (!v && missing) return *missing;
  if (!v || !v->isNumber()) return wrongType(key, "a number");
  const double n = numberOf(v->type, v->bytes.data());
  if (!std::isfinite(n)) return badInput(name_, ": ", key, " is not a finite number");
  return n;
}
Result<bool> GgufFile::boolean(std::string_view key, bool missing) const {
  const GgufValue* v = value(key);
  if (!v) return missing;
  if (v->type != GgufType::boolean) return wrongType(key, "a boolean");
  return v->bytes[0] != std::byte{0};
}
Result<std::string> GgufFile::text(std::string_view key, std::optional<std::string> missing) const {
  const GgufValue* v = value(key);
  if (!v && missing) return *missing;
  if (!v || v->type != GgufType::string) return wrongType(key, "a string");
  return std::string(asText(v->bytes));
}
Result<std::vector<std::string>> GgufFile::texts(std::string_view key) const {
  std::vector<std::string> out;
  const GgufValue* v = value(key);
  if (!v) return out;
  if (v->type != GgufType::array || v->element != GgufType::string) return wrongType(key, "an array of strings");
  out.reserve(static_cast<size_t>(v->count));
  size_t at = 0;
  for (uint64_t i = 0; i < v->count; ++i) {  // the lengths were checked by the parser
    const size_t length = static_cast<size_t>(readAs<uint64_t>(v->bytes.data() + at));
    out.emplace_back(asText(v->bytes.subspan(at + 8, length)));
    at += 8 + length;
  }
  return out;
}
Result<std::vector<double>> GgufFile::numbers(std::string_view key) const {
  std::vector<double> out;
  const GgufValue* v = value(key);
  if (!v) return out;
  const size_t size = v->type == GgufType::array ? scalarBytes(v->element) : 0;
  if (size == 0) return wrongType(key, "an array of numbers");
  out.reserve(static_cast<size_t>(v->count));
  for (size_t i = 0; i < v->count; ++i) out.push_back(numberOf(v->element, v->bytes.data() + i * size));
  return out;
}

}  // namespace winnow
