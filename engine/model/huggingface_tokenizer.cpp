// SPDX-License-Identifier: GPL-3.0-or-later
// tokenizer.json: its model, normalizer and pre-tokenizer become a VocabData, or a sentence that names what is not supported.
#include <algorithm>

#include "engine/model/huggingface.h"
#include "engine/model/message.h"
#include "engine/model/vocab.h"

namespace winnow {
namespace {

constexpr std::string_view kSpace = "\xe2\x96\x81";  // U+2581
constexpr const char* kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::string typeOf(const Json& json) {
  if (!json.is_object()) return "";
  const auto it = json.find("type");
  return it != json.end() && it->is_string() ? it->get<std::string>() : "";
}
// Calls visit on a component, or on each of the components of a Sequence. visit returns false to stop.
template <class Visit>
void forEachPart(const Json* component, const char* list, const Visit& visit) {
  if (!component) return;
  if (typeOf(*component) != "Sequence") return visit(*component);
  const auto it = component->find(list);
  if (it == component->end() || !it->is_array()) return;
  for (const Json& part : *it) visit(part);
}
bool has(const Json* component, const char* list, std::string_view type) {
  bool found = false;
  forEachPart(component, list, [&](const Json& part) { found |= typeOf(part) == type; });
  return found;
}
bool flag(const Json& json, const char* key, bool missing) {
  const auto it = json.find(key);
  return it != json.end() && it->is_boolean() ? it->get<bool>() : missing;
}
std::string textAt(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_string() ? it->get<std::string>() : "";
}

std::string escaped(const std::string& literal) {
  std::string out;
  for (const char c : literal) {
    if (std::string_view("\\^$.|?*+()[]{}#-").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

// One pre-tokenizer of a byte-level vocabulary. Returns what is not supported, or nothing.
std::string addSplit(const Json& part, VocabData& v) {
  const std::string type = typeOf(part);
  if (type == "ByteLevel") {
    v.addPrefixSpace |= flag(part, "add_prefix_space", false);
    if (flag(part, "use_regex", true)) v.splitPatterns.push_back(kGpt2Pattern);
    return "";
  }
  if (type == "Digits") {
    v.splitPatterns.push_back(flag(part, "individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)");
    return "";
  }
  if (type == "Punctuation") {
    v.splitPatterns.push_back(R"([\x21-\x2F\x3A-\x40\x5B-\x60\x7B-\x7E\p{P}])");
    const std::string behavior = textAt(part, "behavior");
    return behavior.empty() || behavior == "Isolated" ? "" : "the pre-tokenizer Punctuation with behavior " + shown(behavior);
  }
  if (type != "Split") return "the pre-tokenizer " + shown(type);
  const std::string behavior = textAt(part, "behavior");
  const bool invert = flag(part, "invert", false);
  // Removing the gaps between matches is the same as isolating matches when the pattern leaves no gaps, as those in use do.
  if (!(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert))
    return "the pre-tokenizer Split with behavior " + shown(behavior);
  const auto pattern = part.find("pattern");
  if (pattern == part.end() || !pattern->is_object()) return "a pre-tokenizer Split without a pattern";
  const std::string regex = textAt(*pattern, "Regex"), literal = textAt(*pattern, "String");
  if (regex.empty() && literal.empty()) return "a pre-tokenizer Split without a pattern";
  v.splitPatterns.push_back(regex.empty() ? escaped(literal) : regex);
  return "";
}

std::string readByteLevel(const Json* normalizer, const Json* pre, HuggingFaceVocab& out) {
  VocabData& v = out.data;
  v.kind = VocabData::Kind::bpe;
  std::string problem;
  forEachPart(normalizer, "normalizers", [&](const Json& part) {
    const std::string type = typeOf(part);
    if (type == "NFC") out.notes.push_back("the tokenizer asks for NFC normalization, which is left out: text is taken as it is written");
    else if (problem.empty()) problem = "the normalizer " + shown(type);
  });
  forEachPart(pre, "pretokenizers", [&](const Json& part) {
    if (const std::string p = addSplit(part, v); problem.empty()) problem = p;
  });
  if (v.splitPatterns.empty()) v.splitPatterns.push_back(R"([\s\S]+)");  // no splits: the text is one word
  return problem;
}

std::string readSentencePiece(const Json* normalizer, const Json* pre, VocabData& v) {
  v.kind = VocabData::Kind::spm;
  v.addPrefixSpace = false;
  std::string problem;
  bool replaces = false;
  forEachPart(normalizer, "normalizers", [&](const Json& part) {
    const std::string type = typeOf(part);
    if (type == "Prepend" && textAt(part, "prepend") == kSpace) {
      v.addPrefixSpace = true;
    } else if (type == "Replace" && textAt(part, "content") == kSpace && part.contains("pattern") && part["pattern"].is_object() &&
               textAt(part["pattern"], "String") == " ") {
      replaces = true;
    } else if (problem.empty()) {
      problem = "the normalizer " + shown(type);
    }
  });
  forEachPart(pre, "pretokenizers", [&](const Json& part) {
    if (typeOf(part) != "Metaspace") {
      if (problem.empty()) problem = "the pre-tokenizer " + shown(typeOf(part));
      return;
    }
    replaces = true;
    const std::string scheme = textAt(part, "prepend_scheme");
    v.addPrefixSpace |= scheme.empty() ? flag(part, "add_prefix_space", true) : scheme != "never";
  });
  if (problem.empty() && !replaces) problem = "a byte-fallback vocabulary that does not write spaces as U+2581";
  return problem;
}

Status readTokens(const Json& model, const std::string& path, VocabData& v) {
  const auto vocab = model.find("vocab");
  if (vocab == model.end() || !vocab->is_object()) return badInput(path, ": model.vocab should be an object from token to id");
  const int64_t most = static_cast<int64_t>(vocab->size()) * 2 + 4096;  // ids may leave gaps for added tokens
  for (const auto& [token, id] : vocab->items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(most))
      return badInput(path, ": the id of token ", shown(token), " should be a number below ", most, ", found ",
                      shown(id.dump(-1, ' ', false, Json::error_handler_t::replace)));
    const size_t n = id.get<size_t>();
    if (n >= v.tokens.size()) {
      v.tokens.resize(n + 1);
      v.types.resize(n + 1, VocabData::TokenType::unused);
    }
    if (v.types[n] != VocabData::TokenType::unused)
      return badInput(path, ": the tokens ", shown(v.tokens[n]), " and ", shown(token), " have the same id ", n);
    v.tokens[n] = token;
    v.types[n] = VocabData::TokenType::normal;
  }
  return Done{};
}

Status readMerges(const Json& model, const std::string& path, VocabData& v) {
  const auto merges = model.find("merges");
  if (merges == model.end() || !merges->is_array()) return badInput(path, ": model.merges should be a list of pairs");
  v.merges.reserve(merges->size());
  for (const Json& m : *merges) {
    if (m.is_string()) {
      v.merges.push_back(m.get<std::string>());
    } else if (m.is_array() && m.size() == 2 && m[0].is_string() && m[1].is_string()) {
      v.merges.push_back(m[0].get<std::string>() + " " + m[1].get<std::string>());
    } else {
      return badInput(path, ": merge ", v.merges.size(), " should be a pair of tokens, found ", m.type_name());
    }
    const std::string& text = v.merges.back();
    const size_t space = text.find(' ');
    if (space == 0 || space == std::string::npos || space + 1 == text.size() || text.find(' ', space + 1) != std::string::npos)
      return badInput(path, ": merge ", v.merges.size() - 1, " should be two tokens with a space between, found ", shown(text));
  }
  return Done{};
}

// The score of a token is minus the rank of the first merge that makes it; types from the shape of the tokens.
void scoreFromMerges(VocabData& v, const std::string& unknown) {
  std::unordered_map<std::string, size_t> ids;
  for (size_t i = 0; i < v.tokens.size(); ++i) ids.emplace(v.tokens[i], i);
  v.scores.assign(v.tokens.size(), 0.0f);
  std::vector<bool> scored(v.tokens.size(), false);
  for (size_t rank = 0; rank < v.merges.size(); ++rank) {
    std::string made = v.merges[rank];
    made.erase(made.find(' '), 1);
    const auto it = ids.find(made);
    if (it == ids.end() || scored[it->second]) continue;
    scored[it->second] = true;
    v.scores[it->second] = -static_cast<float>(rank);
  }
  v.merges.clear();
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const std::string& t = v.tokens[i];
    if (t.size() == 6 && t.starts_with("<0x") && t[5] == '>') v.types[i] = VocabData::TokenType::byte;
    if (!unknown.empty() && t == unknown) v.types[i] = VocabData::TokenType::unknown;
  }
}

// What the post-processor puts before and after a text.
void readTemplate(const Json* post, VocabData& v) {
  forEachPart(post, "processors", [&](const Json& part) {
    if (typeOf(part) != "TemplateProcessing") return;
    const auto single = part.find("single");
    if (single == part.end() || !single->is_array()) return;
    bool before = true;
    for (const Json& piece : *single) {
      if (!piece.is_object()) continue;
      if (piece.contains("Sequence")) before = false;
      const auto special = piece.find("SpecialToken");
      if (special == piece.end() || !special->is_object()) continue;
      const int id = tokenIdOf(v, textAt(*special, "id"));
      if (before && id >= 0) {
        v.addBos = true;
        v.bos = id;
      } else if (!before && id >= 0) {
        v.addEos = true;
        v.eos = id;
      }
    }
  });
}

}  // namespace

int tokenIdOf(const VocabData& vocab, const std::string& text) {
  if (text.empty()) return -1;
  const auto it = std::find(vocab.tokens.begin(), vocab.tokens.end(), text);
  return it == vocab.tokens.end() ? -1 : static_cast<int>(it - vocab.tokens.begin());
}

Status addToken(VocabData& v, int64_t id, const std::string& text, bool special, const std::string& path) {
  const int64_t most = static_cast<int64_t>(v.tokens.size()) + 65536;
  if (id < 0 || id >= most)
    return badInput(path, ": the added token ", shown(text), " has the id ", id, ", a number below ", most, " was expected");
  const size_t n = static_cast<size_t>(id);
  if (n >= v.tokens.size()) {
    v.tokens.resize(n + 1);
    v.types.resize(n + 1, VocabData::TokenType::unused);
    if (!v.scores.empty()) v.scores.resize(n + 1, 0.0f);
  }
  v.tokens[n] = text;
  if (v.types[n] != VocabData::TokenType::unknown) v.types[n] = special ? VocabData::TokenType::control : VocabData::TokenType::userDefined;
  return Done{};
}

Status readTokenizerJson(const Json& json, const std::string& path, HuggingFaceVocab& out) {
  VocabData& v = out.data;
  JsonKeys keys(json, path);
  const Json* model = keys.find("model");
  if (!model || !model->is_object()) return badInput(path, ": model should be an object");
  const std::string type = typeOf(*model);
  if (type != "BPE" && !(type.empty() && model->contains("merges"))) {
    out.unsupported = "the tokenizer model " + shown(type) + " is not supported, BPE is";
    return Done{};
  }
  if (!textAt(*model, "continuing_subword_prefix").empty() || !textAt(*model, "end_of_word_suffix").empty()) {
    out.unsupported = "a BPE tokenizer that marks the parts of words is not supported";
    return Done{};
  }
  const Json *normalizer = keys.find("normalizer"), *pre = keys.find("pre_tokenizer"), *decoder = keys.find("decoder");
  const bool bytes = has(pre, "pretokenizers", "ByteLevel") || has(decoder, "decoders", "ByteLevel");
  const std::string problem = bytes ? readByteLevel(normalizer, pre, out) : readSentencePiece(normalizer, pre, v);
  if (!problem.empty()) {
    out.data = VocabData{};
    out.unsupported = "a tokenizer with " + problem + " is not supported";
    return Done{};
  }
  if (Status s = readTokens(*model, path, v); !s) return s;
  if (Status s = readMerges(*model, path, v); !s) return s;
  v.ignoreMerges = flag(*model, "ignore_merges", false);
  const std::string unknown = textAt(*model, "unk_token");
  if (!bytes) scoreFromMerges(v, unknown);
  v.unk = tokenIdOf(v, unknown);
  if (const Json* added = keys.find("added_tokens"); added && added->is_array())
    for (const Json& token : *added) {
      JsonKeys one(token, path, "added_tokens.");
      const int id = token.is_object() ? one.integer("id") : -1;
      const std::string text = token.is_object() ? one.text("content") : "";
      if (!token.is_object() || one.error()) return badInput(path, ": an entry of added_tokens should have an id and a content");
      if (Status s = addToken(v, id, text, flag(token, "special", false), path); !s) return s;
      if (flag(token, "rstrip", false)) v.stripAfter.push_back(id);
    }
  readTemplate(keys.find("post_processor"), v);
  return Done{};
}

}  // namespace winnow
