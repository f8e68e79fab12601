// SPDX-License-Identifier: GPL-3.0-or-later
// Which files of a folder make the tokenizer, and what the files beside it add: special tokens, chat template.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include "engine/model/huggingface.h"
#include "engine/model/message.h"
#include "engine/model/tokenizer_model.h"
#include "engine/model/vocab.h"

namespace winnow {
namespace {

constexpr int64_t kMostTokenizer = 256 << 20, kMostConfig = 32 << 20;

// A special token is written as a string or as an object with its content.
std::string specialText(const Json* value) {
  if (!value) return "";
  if (value->is_string()) return value->get<std::string>();
  if (value->is_object() && value->contains("content") && (*value)["content"].is_string()) return (*value)["content"].get<std::string>();
  return "";
}

void readChatTemplate(JsonKeys& keys, VocabData& v) {
  const Json* chat = keys.find("chat_template");
  if (!chat) return;
  if (chat->is_string()) v.chatTemplate = chat->get<std::string>();
  if (!chat->is_array()) return;
  for (const Json& one : *chat) {  // several by name: the one for plain chat
    if (!one.is_object() || !one.contains("template") || !one["template"].is_string()) continue;
    const bool plain = one.contains("name") && one["name"] == "default";
    if (plain || v.chatTemplate.empty()) v.chatTemplate = one["template"].get<std::string>();
  }
}

Result<Json> optionalJson(const std::string& path) {
  if (!fileExists(path)) return Json::object();
  return readJson(path, kMostConfig);
}

// Token ids that config.json and generation_config.json know: bos when nothing else said it, more ways to end.
Status readIds(const std::string& folder, VocabData& v, std::vector<int>& ends) {
  const int n = static_cast<int>(v.tokens.size());
  for (const char* name : {"config.json", "generation_config.json"}) {
    const auto json = optionalJson(folder + "/" + name);
    if (!json) return json.error();
    const auto id = [&](const Json& value) {
      return value.is_number_unsigned() && value.get<uint64_t>() < static_cast<uint64_t>(n) ? value.get<int>() : -1;
    };
    if (const auto bos = json->find("bos_token_id"); bos != json->end() && v.bos < 0) v.bos = id(*bos);
    const auto eos = json->find("eos_token_id");
    if (eos == json->end()) continue;
    if (eos->is_array())
      for (const Json& one : *eos) ends.push_back(id(one));
    else
      ends.push_back(id(*eos));
    if (v.eos < 0 && !ends.empty()) v.eos = ends.front();
  }
  return Done{};
}

}  // namespace

Status readTokenizerConfig(const Json& config, const std::string& path, HuggingFaceVocab& out) {
  VocabData& v = out.data;
  JsonKeys keys(config, path);
  if (const Json* added = keys.find("added_tokens_decoder"); added && added->is_object())
    for (const auto& [id, token] : added->items()) {
      const bool number = !id.empty() && id.size() < 10 && id.find_first_not_of("0123456789") == std::string::npos;
      if (!number || !token.is_object()) return badInput(path, ": added_tokens_decoder should map ids to tokens, found ", shown(id));
      JsonKeys one(token, path, "added_tokens_decoder.");
      const std::string text = one.text("content");
      const bool special = one.boolean("special", false);
      if (one.error()) return *one.error();
      if (Status s = addToken(v, std::stoll(id), text, special, path); !s) return s;
    }
  struct Field {
    const char* key;
    int* to;
  };
  for (const Field& f : {Field{"bos_token", &v.bos}, Field{"eos_token", &v.eos}, Field{"unk_token", &v.unk}, Field{"pad_token", &v.pad}})
    if (const int id = tokenIdOf(v, specialText(keys.find(f.key))); id >= 0) *f.to = id;
  v.addBos = keys.boolean("add_bos_token", v.addBos);
  v.addEos = keys.boolean("add_eos_token", v.addEos);
  readChatTemplate(keys, v);
  if (keys.error()) return *keys.error();
  return Done{};
}

// The two files of GPT-2 and its relatives. They do not say how text is split: the class of the tokenizer does.
Status readVocabAndMerges(const std::string& folder, const Json& tokenizerConfig, HuggingFaceVocab& out) {
  VocabData& v = out.data;
  std::string family = tokenizerConfig.value("tokenizer_class", Json("GPT2Tokenizer")).is_string()
                           ? tokenizerConfig.value("tokenizer_class", Json("GPT2Tokenizer")).get<std::string>() : "";
  if (family.ends_with("Fast")) family.resize(family.size() - 4);
  if (family == "GPT2Tokenizer") v.pre = "gpt-2";
  else if (family == "Qwen2Tokenizer") v.pre = "qwen2";
  else {
    out.unsupported = "vocab.json with the tokenizer class " + shown(family) + " is not supported, GPT2Tokenizer and Qwen2Tokenizer are";
    return Done{};
  }
  v.kind = VocabData::Kind::bpe;
  const std::string vocabPath = folder + "/vocab.json", mergesPath = folder + "/merges.txt";
  auto vocab = readJson(vocabPath, kMostTokenizer);
  if (!vocab) return vocab.error();
  const auto map = MappedFile::open(mergesPath);
  if (!map) return map.error();
  Json list = Json::array();
  std::string_view text(reinterpret_cast<const char*>((*map)->bytes().data()), (*map)->bytes().size());
  for (bool first = true; !text.empty(); first = false) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty() && !(first && line.starts_with("#version"))) list.push_back(std::string(line));
  }
  Json model = {{"type", "BPE"}, {"merges", std::move(list)}, {"vocab", std::move(*vocab)}};
  HuggingFaceVocab tables;
  const Json whole = {{"model", std::move(model)}, {"decoder", {{"type", "ByteLevel"}}}};
  if (Status s = readTokenizerJson(whole, folder, tables); !s) return s;
  v.tokens = std::move(tables.data.tokens);
  v.types = std::move(tables.data.types);
  v.merges = std::move(tables.data.merges);
  if (const int end = tokenIdOf(v, "<|endoftext|>"); end >= 0) {
    v.types[static_cast<size_t>(end)] = VocabData::TokenType::control;
    v.bos = v.eos = end;
  }
  return Done{};
}

Result<HuggingFaceVocab> readHuggingFaceVocab(const std::string& folder) {
  HuggingFaceVocab out;
  const std::string configPath = folder + "/tokenizer_config.json", tokenizerPath = folder + "/tokenizer.json";
  const auto config = optionalJson(configPath);
  if (!config) return config.error();
  if (fileExists(tokenizerPath)) {
    const auto json = readJson(tokenizerPath, kMostTokenizer);
    if (!json) return json.error();
    if (Status s = readTokenizerJson(*json, tokenizerPath, out); !s) return s.error();
  } else if (fileExists(folder + "/vocab.json") && fileExists(folder + "/merges.txt")) {
    if (Status s = readVocabAndMerges(folder, *config, out); !s) return s.error();
  } else if (fileExists(folder + "/tokenizer.model")) {
    auto vocab = openTokenizerModel(folder + "/tokenizer.model");
    if (!vocab) return vocab.error();
    out.data = std::move(*vocab);
  } else {
    out.unsupported = "there is no tokenizer.json beside the weights";
  }
  if (out.data.kind == VocabData::Kind::none) return out;
  if (Status s = readTokenizerConfig(*config, configPath, out); !s) return s.error();
  if (const std::string jinja = folder + "/chat_template.jinja"; fileExists(jinja)) {
    const auto map = MappedFile::open(jinja);
    if (!map) return map.error();
    out.data.chatTemplate.assign(reinterpret_cast<const char*>((*map)->bytes().data()), (*map)->bytes().size());
  }
  std::vector<int> ends;
  if (Status s = readIds(folder, out.data, ends); !s) return s.error();
  collectEndOfGeneration(out.data, ends);
  if (Status s = checkVocab(out.data, folder); !s) return s.error();
  return out;
}

Result<VocabData> openHuggingFaceVocab(const std::string& where) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::string folder = where;
  if (!fs::is_directory(where, error)) folder = fs::path(where).has_parent_path() ? fs::path(where).parent_path().string() : ".";
  auto vocab = readHuggingFaceVocab(folder);
  if (!vocab) return vocab.error();
  if (!vocab->unsupported.empty()) return badInput(where, ": ", vocab->unsupported);
  return std::move(vocab->data);
}

}  // namespace winnow
