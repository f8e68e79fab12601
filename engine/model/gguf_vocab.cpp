// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/model/gguf_vocab.h"

#include "engine/model/build.h"
#include "engine/model/mapped_file.h"
#include "engine/model/message.h"
#include "engine/model/vocab.h"

namespace winnow {
namespace {

// A token id; absent and 4294967295 mean none.
Result<int> tokenId(const GgufFile& file, std::string_view key) {
  const auto id = file.integer(key, -1, int64_t{0xffffffff}, -1);
  if (!id) return id.error();
  return *id > 0x7fffffff ? -1 : static_cast<int>(*id);
}

Status readTables(const GgufFile& file, VocabData& v) {
  auto tokens = file.texts("tokenizer.ggml.tokens");
  if (!tokens) return tokens.error();
  v.tokens = std::move(*tokens);
  if (v.tokens.empty()) return badInput(file.name(), ": the vocabulary is empty, tokenizer.ggml.tokens was expected to hold the tokens");
  auto merges = file.texts("tokenizer.ggml.merges");
  if (!merges) return merges.error();
  v.merges = std::move(*merges);
  const auto scores = file.numbers("tokenizer.ggml.scores");
  if (!scores) return scores.error();
  v.scores.assign(scores->begin(), scores->end());
  const auto types = file.numbers("tokenizer.ggml.token_type");
  if (!types) return types.error();
  v.types.reserve(v.tokens.size());
  for (const double t : *types)
    v.types.push_back(t >= 1 && t <= 6 ? static_cast<VocabData::TokenType>(static_cast<int>(t)) : VocabData::TokenType::normal);
  if (types->empty()) v.types.assign(v.tokens.size(), VocabData::TokenType::normal);
  return Done{};
}

Status readIds(const GgufFile& file, VocabData& v) {
  struct Field {
    std::string_view key;
    int* to;
  };
  int eot = -1, eom = -1;
  for (const Field& f : {Field{"tokenizer.ggml.bos_token_id", &v.bos}, Field{"tokenizer.ggml.eos_token_id", &v.eos},
                         Field{"tokenizer.ggml.unknown_token_id", &v.unk}, Field{"tokenizer.ggml.padding_token_id", &v.pad},
                         Field{"tokenizer.ggml.eot_token_id", &eot}, Field{"tokenizer.ggml.eom_token_id", &eom}}) {
    const auto id = tokenId(file, f.key);
    if (!id) return id.error();
    *f.to = *id;
  }
  const int n = static_cast<int>(v.tokens.size());
  if (v.unk < 0 && v.kind == VocabData::Kind::spm && n > 0 && v.types[0] == VocabData::TokenType::unknown) v.unk = 0;
  collectEndOfGeneration(v, {eot, eom});
  return Done{};
}

// Phi-3's special tokens swallow the white space after them; a GGUF says so by its name alone.
void stripAfterSpecials(const GgufFile& file, VocabData& v) {
  const auto found = file.text("general.name", "");
  if (!found) return;
  std::string name = *found;
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (name.find("phi-3") == std::string::npos && name.find("phi3") == std::string::npos) return;
  using Type = VocabData::TokenType;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const std::string& text = v.tokens[i];
    const bool special = v.types[i] == Type::control || v.types[i] == Type::userDefined || v.types[i] == Type::unknown || text == "</s>";
    if (special && text != "<unk>" && text != "<s>" && text != "<|endoftext|>") v.stripAfter.push_back(static_cast<int>(i));
  }
}

}  // namespace

Result<GgufVocab> readGgufVocab(const GgufFile& file) {
  GgufVocab out;
  VocabData& v = out.data;
  const auto kind = file.text("tokenizer.ggml.model", "no_vocab");
  if (!kind) return kind.error();
  if (*kind == "no_vocab" || *kind == "none") return out;
  if (*kind != "gpt2" && *kind != "llama") {
    out.unsupported = *kind;
    return out;
  }
  v.kind = *kind == "gpt2" ? VocabData::Kind::bpe : VocabData::Kind::spm;
  if (Status s = readTables(file, v); !s) return s.error();
  const bool spm = v.kind == VocabData::Kind::spm;
  const auto pre = file.text("tokenizer.ggml.pre", "");
  if (!pre) return pre.error();
  if (!spm) v.pre = *pre;
  const PreDefaults defaults = spm ? PreDefaults{true, false} : preDefaults(v.pre);
  v.ignoreMerges = defaults.ignoreMerges;
  const auto addBos = file.boolean("tokenizer.ggml.add_bos_token", defaults.addBos);
  const auto addEos = file.boolean("tokenizer.ggml.add_eos_token", false);
  const auto prefix = file.boolean("tokenizer.ggml.add_space_prefix", spm);
  const auto chat = file.text("tokenizer.chat_template", "");
  for (const auto* flag : {&addBos, &addEos, &prefix})
    if (!flag->ok()) return flag->error();
  if (!chat) return chat.error();
  v.addBos = *addBos;
  v.addEos = *addEos;
  v.addPrefixSpace = *prefix;
  v.chatTemplate = *chat;
  if (Status s = readIds(file, v); !s) return s.error();
  if (Status s = checkVocab(v, file.name()); !s) return s.error();
  stripAfterSpecials(file, v);
  return out;
}

Result<VocabData> openGgufVocab(const std::string& path) {
  auto map = MappedFile::open(path);
  if (!map) return map.error();
  const auto file = GgufFile::parse((*map)->bytes(), path);
  if (!file) return file.error();
  auto vocab = readGgufVocab(*file);
  if (!vocab) return vocab.error();
  if (!vocab->unsupported.empty())
    return badInput(path, ": the tokenizer ", shown(vocab->unsupported),
                    " is not supported, 'gpt2' (byte-level BPE) and 'llama' (SentencePiece) are");
  if (vocab->data.kind == VocabData::Kind::none) return badInput(path, ": this file holds no vocabulary");
  return std::move(vocab->data);
}

}  // namespace winnow
