// SPDX-License-Identifier: GPL-3.0-or-later
// safetensors: 8 bytes length of a JSON header, the header, the data. Every tensor's range is checked against the file.
#include <array>
#include <cstring>

#include "engine/model/huggingface.h"
#include "engine/model/message.h"

namespace winnow {
namespace {

constexpr uint64_t kLongestHeader = 100'000'000;

struct ElementType {
  std::string_view name;
  int bytes;
  std::optional<DType> type;
};
constexpr std::array<ElementType, 15> kTypes = {{{"F32", 4, DType::f32}, {"F16", 2, DType::f16}, {"BF16", 2, DType::bf16},
                                                 {"F64", 8, std::nullopt}, {"I64", 8, std::nullopt}, {"I32", 4, std::nullopt},
                                                 {"I16", 2, std::nullopt}, {"I8", 1, std::nullopt}, {"U8", 1, std::nullopt},
                                                 {"U16", 2, std::nullopt}, {"U32", 4, std::nullopt}, {"U64", 8, std::nullopt},
                                                 {"BOOL", 1, std::nullopt}, {"F8_E4M3", 1, std::nullopt}, {"F8_E5M2", 1, std::nullopt}}};

bool isCount(const Json& value) { return value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{1} << 48; }

// One entry of the header.
Status addTensor(ModelBuilder& builder, const std::string& path, const std::string& name, const Json& entry,
                 std::span<const std::byte> data) {
  const auto bad = [&](const auto&... parts) { return badInput(path, ": tensor ", shown(name), parts...); };
  if (name.size() > 512) return bad(" has a name of ", name.size(), " bytes, at most 512 were expected");
  const Json* dtype = entry.is_object() && entry.contains("dtype") ? &entry["dtype"] : nullptr;
  const Json* shape = entry.is_object() && entry.contains("shape") ? &entry["shape"] : nullptr;
  const Json* range = entry.is_object() && entry.contains("data_offsets") ? &entry["data_offsets"] : nullptr;
  if (!dtype || !dtype->is_string() || !shape || !shape->is_array() || !range || !range->is_array() || range->size() != 2)
    return bad(" has an entry without dtype, shape or data_offsets");
  if (shape->size() > 8) return bad(" has ", shape->size(), " dimensions, at most 8 were expected");
  SourceTensor t;
  t.name = name;
  t.typeName = dtype->get<std::string>();
  uint64_t elements = 1;
  for (const Json& extent : *shape) {
    if (!isCount(extent)) return bad(" has an impossible shape");
    const uint64_t n = extent.get<uint64_t>();
    if (n != 0 && elements > (uint64_t{1} << 48) / n) return bad(" has an impossible shape");
    elements *= n;
    t.shape.push_back(static_cast<int64_t>(n));
  }
  if (t.shape.empty()) t.shape.push_back(1);
  if (!isCount((*range)[0]) || !isCount((*range)[1])) return bad(" has impossible data_offsets");
  const uint64_t begin = (*range)[0].get<uint64_t>(), end = (*range)[1].get<uint64_t>();
  if (begin > end || end > data.size())
    return bad(" lies outside the file: bytes ", begin, " to ", end, " of ", data.size(), "; the file may be incomplete");
  for (const ElementType& type : kTypes) {
    if (type.name != t.typeName) continue;
    t.type = type.type;
    if (end - begin != elements * static_cast<uint64_t>(type.bytes))
      return bad(" of shape ", shownShape(t.shape), " and type ", t.typeName, " has ", end - begin, " bytes, ",
                 elements * static_cast<uint64_t>(type.bytes), " were expected");
  }
  t.data = data.data() + begin;
  if (builder.source(name)) return bad(" is in two files");
  builder.addSource(std::move(t));
  return Done{};
}

}  // namespace

Status addSafetensors(ModelBuilder& builder, const std::string& path) {
  auto map = MappedFile::open(path);
  if (!map) return map.error();
  const auto bytes = (*map)->bytes();
  uint64_t length = 0;
  if (bytes.size() < 8) return badInput(path, ": this is not a safetensors file, it has ", bytes.size(), " bytes only");
  std::memcpy(&length, bytes.data(), 8);
  if (length > kLongestHeader || length > bytes.size() - 8)
    return badInput(path, ": this is not a safetensors file or it is incomplete: its header would be ", length,
                    " bytes long, the file has ", bytes.size());
  const auto header = parseJson({reinterpret_cast<const char*>(bytes.data()) + 8, static_cast<size_t>(length)}, path);
  if (!header) return header.error();
  if (!header->is_object()) return badInput(path, ": the safetensors header should be a JSON object, found ", header->type_name());
  const auto data = bytes.subspan(8 + static_cast<size_t>(length));
  for (const auto& [name, entry] : header->items()) {
    if (name == "__metadata__") continue;
    if (Status s = addTensor(builder, path, name, entry, data); !s) return s;
  }
  builder.addFile(*map);
  return Done{};
}

}  // namespace winnow
