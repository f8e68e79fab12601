// SPDX-License-Identifier: GPL-3.0-or-later
// A vocabulary as tokenizer.json says it. Byte-level BPE: its splits, tokens and merges. SentencePiece: a merge for each way in which two tokens make a
// third, best score first.
#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "engine/model/huggingface.h"
#include "engine/model/huggingface_write.h"
#include "engine/model/message.h"
#ifdef WINNOW_HAS_TEXT
#include "engine/text/pretokenizers.h"
#endif

namespace winnow {
namespace {

constexpr const char* kSpace = "\xe2\x96\x81";  // U+2581

using Ids = std::unordered_map<std::string_view, size_t>;

Error cannotSay(const std::string& path, const std::string& what) {
  return problem(ErrorCode::badInput, sentence(path, ": ", what, ", which tokenizer.json can't say"),
                 "Export as GGUF (--out NAME.gguf), or open the Hugging Face folder of this model, whose tokenizer is copied.");
}

// The patterns a byte-level vocabulary cuts words by.
Result<std::vector<std::string>> splitsOf(const VocabData& v, const std::string& path) {
  if (!v.splitPatterns.empty()) return v.splitPatterns;
  std::vector<std::string> patterns;
#ifdef WINNOW_HAS_TEXT
  const auto known = preTokenizer(v.pre.empty() ? "default" : v.pre);
  if (!known) return cannotSay(path, "words are cut as " + shown(v.pre) + " does");
  if (known->rawUtf8 || known->escapeSpaces || known->wholeNewlines) return cannotSay(path, "words are cut as " + shown(v.pre) + " does, and their tokens are no bytes");
  for (const SplitStep& step : known->steps) {
    if (step.kind != SplitStep::Kind::pattern) return cannotSay(path, "words are cut as " + shown(v.pre) + " does, by counting digits");
    patterns.push_back(step.pattern);
  }
  return patterns;
#else
  return cannotSay(path, "this program was built without PCRE2 and does not know how words are cut");
#endif
}

// Merges that lead to every token two others make. Equal scores have no order that merges could have.
Result<Json> mergesOf(const VocabData& v, const Ids& ids, const std::string& path) {
  struct Merge {
    float score;
    size_t token;
    std::string text;
  };
  std::vector<Merge> merges;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const std::string_view token = v.tokens[i];
    if (v.types[i] == VocabData::TokenType::byte || token.find(' ') != std::string_view::npos) continue;
    for (size_t at = 1; at < token.size(); ++at) {
      if ((static_cast<uint8_t>(token[at]) & 0xc0) == 0x80) continue;  // within a character
      if (ids.contains(token.substr(0, at)) && ids.contains(token.substr(at)))
        merges.push_back({v.scores.empty() ? 0.0f : v.scores[i], i, std::string(token.substr(0, at)) + " " + std::string(token.substr(at))});
    }
  }
  std::ranges::stable_sort(merges, [](const Merge& a, const Merge& b) { return a.score > b.score; });
  Json list = Json::array();
  for (size_t i = 0; i < merges.size(); ++i) {
    if (i > 0 && merges[i].score == merges[i - 1].score && merges[i].token != merges[i - 1].token)
      return cannotSay(path, "the tokens " + shown(v.tokens[merges[i - 1].token]) + " and " + shown(v.tokens[merges[i].token]) + " have the same score");
    list.push_back(std::move(merges[i].text));
  }
  return list;
}

Json addedTokens(const VocabData& v) {
  Json added = Json::array();
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    using Type = VocabData::TokenType;
    const bool special = v.types[i] == Type::control || v.types[i] == Type::unknown;
    if ((!special && v.types[i] != Type::userDefined) || v.tokens[i].empty()) continue;
    const bool strips = std::ranges::find(v.stripAfter, static_cast<int>(i)) != v.stripAfter.end();
    added.push_back({{"id", i}, {"content", v.tokens[i]}, {"single_word", false}, {"lstrip", false}, {"rstrip", strips}, {"normalized", false}, {"special", special}});
  }
  return added;
}

// What is put before and after a text.
Json postProcessor(const VocabData& v) {
  const bool bos = v.addBos && v.bos >= 0, eos = v.addEos && v.eos >= 0;
  if (!bos && !eos) return v.kind == VocabData::Kind::bpe ? Json{{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", false}, {"use_regex", true}} : Json();
  Json single = Json::array(), pair = Json::array(), tokens = Json::object();
  const auto special = [&](int id, int part) {
    const std::string& text = v.tokens[static_cast<size_t>(id)];
    tokens[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
    return Json{{"SpecialToken", {{"id", text}, {"type_id", part}}}};
  };
  for (int part = 0; part < 2; ++part) {
    std::vector<Json> pieces;
    if (bos) pieces.push_back(special(v.bos, part));
    pieces.push_back({{"Sequence", {{"id", part == 0 ? "A" : "B"}, {"type_id", part}}}});
    if (eos) pieces.push_back(special(v.eos, part));
    for (const Json& piece : pieces) {
      if (part == 0) single.push_back(piece);
      pair.push_back(piece);
    }
  }
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

Status addByteLevel(const VocabData& v, const std::string& path, Json& json) {
  const auto splits = splitsOf(v, path);
  if (!splits) return splits.error();
  Json parts = Json::array();
  for (const std::string& pattern : *splits) parts.push_back({{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
  parts.push_back({{"type", "ByteLevel"}, {"add_prefix_space", v.addPrefixSpace}, {"trim_offsets", true}, {"use_regex", false}});
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", parts}};
  json["decoder"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  json["model"] = {{"type", "BPE"}, {"byte_fallback", false}, {"fuse_unk", false}, {"ignore_merges", v.ignoreMerges}, {"merges", v.merges}};
  return Done{};
}

Status addSentencePiece(const VocabData& v, const Ids& ids, const std::string& path, Json& json) {
  auto merges = mergesOf(v, ids, path);
  if (!merges) return merges.error();
  const Json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}};
  Json normalizers = Json::array(), decoders = {{{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}}, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (v.addPrefixSpace) {
    normalizers.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  normalizers.push_back(replace);
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", normalizers}};
  json["pre_tokenizer"] = nullptr;
  json["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
  json["model"] = {{"type", "BPE"}, {"byte_fallback", true}, {"fuse_unk", true}, {"ignore_merges", false}, {"merges", std::move(*merges)}};
  return Done{};
}

Json tokenizerConfig(const VocabData& v) {
  Json json = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}, {"add_bos_token", v.addBos}, {"add_eos_token", v.addEos}};
  for (const auto& [key, id] : {std::pair{"bos_token", v.bos}, std::pair{"eos_token", v.eos}, std::pair{"unk_token", v.unk}, std::pair{"pad_token", v.pad}})
    if (id >= 0) json[key] = v.tokens[static_cast<size_t>(id)];
  if (!v.chatTemplate.empty()) json["chat_template"] = v.chatTemplate;
  return json;
}

}  // namespace

Result<std::vector<NamedText>> huggingFaceTokenizer(const VocabData& v, const std::string& path) {
  Ids ids;
  Json vocab = Json::object();
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (!ids.emplace(v.tokens[i], i).second)
      return cannotSay(path, "the tokens " + std::to_string(ids[v.tokens[i]]) + " and " + std::to_string(i) + " are both " + shown(v.tokens[i]));
    vocab[v.tokens[i]] = i;
  }
  Json json = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", addedTokens(v)}, {"post_processor", postProcessor(v)}};
  if (Status s = v.kind == VocabData::Kind::bpe ? addByteLevel(v, path, json) : addSentencePiece(v, ids, path, json); !s) return s.error();
  Json& model = json["model"];
  model["vocab"] = std::move(vocab);
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) model[key] = nullptr;
  model["unk_token"] = v.unk >= 0 ? Json(v.tokens[static_cast<size_t>(v.unk)]) : Json();
  std::vector<NamedText> files;
  try {  // a token that is no UTF-8 has no place in JSON
    files.push_back({"tokenizer.json", json.dump(1) + "\n"});
    files.push_back({"tokenizer_config.json", tokenizerConfig(v).dump(2) + "\n"});
  } catch (const Json::exception&) {
    return cannotSay(path, "a token or the chat template is not written in UTF-8");
  }
  Json generation = Json::object();
  if (v.bos >= 0) generation["bos_token_id"] = v.bos;
  if (!v.endOfGeneration.empty()) generation["eos_token_id"] = v.endOfGeneration;
  files.push_back({"generation_config.json", generation.dump(2) + "\n"});
  return files;
}

}  // namespace winnow
