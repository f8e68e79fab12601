// SPDX-License-Identifier: GPL-3.0-or-later
// Folders as Hugging Face publishes them. Built only where nlohmann-json is present.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/result.h"
#include "engine/model/build.h"

namespace winnow {

using Json = nlohmann::json;

// A JSON document. Too deep, too long, two equal keys at the top, or not JSON: one sentence with the place.
Result<Json> parseJson(std::string_view text, const std::string& path);
Result<Json> readJson(const std::string& path, int64_t mostBytes);
bool fileExists(const std::string& path);

// Typed members. null counts as absent. The first thing that is wrong is kept as error().
class JsonKeys {
 public:
  JsonKeys(const Json& object, std::string path, std::string within = "")
      : object_(object), path_(std::move(path)), within_(std::move(within)) {}
  bool has(const char* key) const { return find(key) != nullptr; }
  const Json* find(const char* key) const;
  int integer(const char* key, std::optional<int> missing = std::nullopt);
  float number(const char* key, std::optional<float> missing = std::nullopt);
  bool boolean(const char* key, bool missing);
  std::string text(const char* key, std::optional<std::string> missing = std::nullopt);
  const std::optional<Error>& error() const { return error_; }

 private:
  void wrong(const char* key, const char* expected);
  const Json& object_;
  std::string path_, within_;
  std::optional<Error> error_;
};

// The tensors of one safetensors file become sources of the builder.
Status addSafetensors(ModelBuilder& builder, const std::string& path);

Status readHuggingFaceConfig(const std::string& path, ModelBuilder& builder);

struct HuggingFaceVocab {
  VocabData data;
  std::string unsupported;          // a sentence: why there is no tokenizer; data.kind is none then
  std::vector<std::string> notes;
};
// tokenizer.json, or vocab.json with merges.txt, or tokenizer.model, with tokenizer_config.json and friends beside them.
Result<HuggingFaceVocab> readHuggingFaceVocab(const std::string& folder);

// The parts of it.
Status readTokenizerJson(const Json& json, const std::string& path, HuggingFaceVocab& out);
Status readVocabAndMerges(const std::string& folder, const Json& tokenizerConfig, HuggingFaceVocab& out);
Status readTokenizerConfig(const Json& config, const std::string& path, HuggingFaceVocab& out);
// Puts an added token into the table, which grows when needed.
Status addToken(VocabData& vocab, int64_t id, const std::string& text, bool special, const std::string& path);
int tokenIdOf(const VocabData& vocab, const std::string& text);  // -1 when there is none

}  // namespace winnow
