// SPDX-License-Identifier: GPL-3.0-or-later
#include <cmath>
#include <filesystem>
#include <limits>
#include <stdexcept>
#include <unordered_set>

#include "engine/model/huggingface.h"
#include "engine/model/mapped_file.h"
#include "engine/model/message.h"

namespace winnow {
namespace {

constexpr int kDeepest = 64;

struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace

bool fileExists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

Result<Json> parseJson(std::string_view text, const std::string& path) {
  std::unordered_set<std::string> topKeys;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > kDeepest) throw Refused("is nested deeper than " + std::to_string(kDeepest) + " levels");
    if (event == Json::parse_event_t::key && depth == 1 && !topKeys.insert(value.get_ref<const std::string&>()).second)
      throw Refused("has the key " + shown(value.get_ref<const std::string&>()) + " twice");
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::parse_error& e) {
    return badInput(path, ": this is not valid JSON, the first fault is at byte ", e.byte, " of ", text.size());
  } catch (const Json::exception&) {
    return badInput(path, ": this JSON holds a number out of range");
  } catch (const Refused& e) {
    return badInput(path, ": this JSON ", e.what());
  }
}

Result<Json> readJson(const std::string& path, int64_t mostBytes) {
  const auto map = MappedFile::open(path);
  if (!map) return map.error();
  const auto bytes = (*map)->bytes();
  if (static_cast<int64_t>(bytes.size()) > mostBytes)
    return badInput(path, ": this file has ", bytes.size(), " bytes, at most ", mostBytes, " were expected");
  auto json = parseJson({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
  if (json && !json->is_object()) return badInput(path, ": a JSON object was expected, found ", json->type_name());
  return json;
}

const Json* JsonKeys::find(const char* key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}
void JsonKeys::wrong(const char* key, const char* expected) {
  if (error_) return;
  const Json* value = find(key);
  std::string found = "it is missing";
  if (value) {
    found = std::string("found ") + value->type_name();
    if (value->is_primitive()) found += " " + shown(value->dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  error_ = badInput(path_, ": ", within_, key, " should be ", expected, ", ", found);
}
int JsonKeys::integer(const char* key, std::optional<int> missing) {
  const Json* value = find(key);
  if (!value && missing) return *missing;
  if (value && value->is_number_integer()) {
    const bool fits = value->is_number_unsigned() ? value->get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int>::max())
                                                  : value->get<int64_t>() >= std::numeric_limits<int>::min();
    if (fits) return value->get<int>();
  }
  wrong(key, "an integer");
  return 0;
}
float JsonKeys::number(const char* key, std::optional<float> missing) {
  const Json* value = find(key);
  if (!value && missing) return *missing;
  if (value && value->is_number() && std::isfinite(value->get<float>())) return value->get<float>();
  wrong(key, "a number");
  return 0;
}
bool JsonKeys::boolean(const char* key, bool missing) {
  const Json* value = find(key);
  if (!value) return missing;
  if (!value->is_boolean()) {
    wrong(key, "true or false");
    return missing;
  }
  return value->get<bool>();
}
std::string JsonKeys::text(const char* key, std::optional<std::string> missing) {
  const Json* value = find(key);
  if (!value && missing) return *missing;
  if (value && value->is_string()) return value->get<std::string>();
  wrong(key, "a string");
  return {};
}

}  // namespace winnow
