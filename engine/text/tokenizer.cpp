// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/text/tokenizer.h"

#include <algorithm>
#include <limits>

#include "engine/model/message.h"
#include "engine/text/tokenizer_impl.h"

namespace winnow {
namespace {

using Type = VocabData::TokenType;

// Tokens known by their text to end an answer, whatever the file says of them.
constexpr std::string_view endings[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>", "<|endoftext|>", "</s>",
    "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
    "<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>", "[e~["};
// Markers of fill-in-the-middle: the first kind also ends an answer (padding, next file, next repository).
constexpr std::string_view fillEndings[] = {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>",
                                            "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>"};
constexpr std::string_view fillMarkers[] = {
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<\xef\xbd\x9c" "fim\xe2\x96\x81" "begin\xef\xbd\x9c>", "<PRE>", "\xe2\x96\x81<PRE>",
    "<|code_prefix|>", "<|prefix|>", "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<\xef\xbd\x9c" "fim\xe2\x96\x81hole\xef\xbd\x9c>",
    "<SUF>", "\xe2\x96\x81<SUF>", "<|code_suffix|>", "<|suffix|>", "<|fim_middle|>", "<fim-middle>", "<fim_middle>",
    "<\xef\xbd\x9c" "fim\xe2\x96\x81" "end\xef\xbd\x9c>", "<MID>", "\xe2\x96\x81<MID>", "<|code_middle|>", "<|middle|>"};
// Marks of OpenAI's harmony format, always shown.
constexpr std::string_view shownMarkers[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};

template <size_t N>
bool among(std::string_view text, const std::string_view (&list)[N]) {
  return std::ranges::find(list, text) != std::end(list);
}

void recognizeByText(VocabData& v) {
  const auto find = [&](std::string_view text) {
    const auto it = std::ranges::find(v.tokens, text);
    return it == v.tokens.end() ? -1 : static_cast<int>(it - v.tokens.begin());
  };
  std::vector<int>& ends = v.endOfGeneration;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const std::string& text = v.tokens[i];
    if (text.size() < 4 || text.size() > 40) continue;
    const bool end = among(text, endings) || among(text, fillEndings);
    if (end) ends.push_back(static_cast<int>(i));
    if (end || among(text, fillMarkers)) v.types[i] = Type::control;
    if (among(text, shownMarkers)) v.types[i] = Type::userDefined;
  }
  if (v.eos >= 0) ends.push_back(v.eos);
  const auto isAnEnd = [&](int id) { return id >= 0 && std::ranges::find(ends, id) != ends.end(); };
  // Where a format has an end of message as well as an end of turn, <|end|> closes a message only.
  const int end = find("<|end|>");
  const bool calls = find("<|call|>") >= 0 || find("<|calls|>") >= 0;
  if (isAnEnd(end) && calls && (find("<|return|>") >= 0 || find("<|flush|>") >= 0)) {
    std::erase(ends, end);
    v.types[static_cast<size_t>(end)] = Type::userDefined;
  }
  const int slashS = find("</s>");  // plain markup in vocabularies that have tool responses
  if (isAnEnd(slashS) && find("<|tool_response>") >= 0) {
    std::erase(ends, slashS);
    v.types[static_cast<size_t>(slashS)] = Type::normal;
  }
  std::ranges::sort(ends);
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
}

Status checkVocab(VocabData& v) {
  const size_t n = v.tokens.size();
  if (n == 0) return badInput("the vocabulary is empty, at least one token was expected");
  if (n > size_t{1} << 28) return badInput("the vocabulary has ", n, " tokens, at most 268435456 were expected");
  if (v.types.empty()) v.types.assign(n, Type::normal);
  if (v.types.size() != n) return badInput("the vocabulary has ", n, " tokens, but ", v.types.size(), " token types");
  for (int id : {v.bos, v.eos, v.unk, v.pad})
    if (id >= 0 && static_cast<size_t>(id) >= n)
      return badInput("the vocabulary names token ", id, " for a special purpose, but has only ", n, " tokens");
  std::erase_if(v.endOfGeneration, [&](int id) { return id < 0 || static_cast<size_t>(id) >= n; });
  return Done{};
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> Tokenizer::create(VocabData v) {
  if (v.kind == VocabData::Kind::none) return badInput("the model has no vocabulary, so text can't be turned into tokens");
  if (Status s = checkVocab(v); !s) return s.error();
  if (v.kind == VocabData::Kind::spm) {  // the places these tokens have had from the first vocabulary of the kind on
    const auto usual = [&](int& id, size_t place, std::string_view text) {
      if (id < 0 && place < v.tokens.size() && v.tokens[place] == text) id = static_cast<int>(place);
    };
    usual(v.unk, 0, "<unk>");
    usual(v.bos, 1, "<s>");
    usual(v.eos, 2, "</s>");
  }
  if (v.addBos && v.bos < 0) return badInput("the vocabulary asks for a token at the beginning of a text, but names none (bos_token_id)");
  if (v.addEos && v.eos < 0) return badInput("the vocabulary asks for a token at the end of a text, but names none (eos_token_id)");
  recognizeByText(v);
  return v.kind == VocabData::Kind::bpe ? createBpe(std::move(v)) : createSpm(std::move(v));
}

bool Tokenizer::isEnd(int32_t id) const { return std::ranges::binary_search(vocab_.endOfGeneration, id); }

bool Tokenizer::isControl(int32_t id) const {
  return id >= 0 && id < size() && vocab_.types[static_cast<size_t>(id)] == Type::control;
}

std::string Tokenizer::decode(const std::vector<int32_t>& ids, bool special) const {
  std::string out;
  bool prefixed = vocab_.addPrefixSpace;  // a space was put before this piece
  for (const int32_t id : ids) {
    if (id < 0 || id >= size()) continue;
    const std::string text = piece(id, special);
    const Type type = vocab_.types[static_cast<size_t>(id)];
    if (type == Type::control || type == Type::userDefined) {
      out += text;
      prefixed = vocab_.addPrefixSpace;
    } else {
      out += prefixed && text.starts_with(' ') ? std::string_view(text).substr(1) : std::string_view(text);
      prefixed = false;
    }
  }
  return out;
}

void Pieces::add(std::string_view text) {
  bytes_ += text;
  ends_.push_back(bytes_.size());
}

WordCache::Entry* WordCache::find(std::string_view word, uint64_t hash) {
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash & mask;; i = (i + 1) & mask) {
    Entry& e = slots_[i];
    if (!e.text) return nullptr;
    if (e.hash == hash && word == std::string_view(e.text, e.bytes)) return &e;
  }
}

void WordCache::add(std::string_view word, uint64_t hash, size_t firstId, size_t ids) {
  constexpr size_t most = size_t{1} << 18;
  if (used_ * 2 >= slots_.size()) {
    if (slots_.size() >= most) return;  // what comes later is encoded each time
    grow();
  }
  const size_t mask = slots_.size() - 1;
  size_t i = hash & mask;
  while (slots_[i].text) i = (i + 1) & mask;
  slots_[i] = {word.data(), static_cast<uint32_t>(word.size()), static_cast<uint32_t>(ids), firstId, hash};
  ++used_;
}

void WordCache::grow() {
  std::vector<Entry> old(slots_.size() * 2);
  old.swap(slots_);
  const size_t mask = slots_.size() - 1;
  for (const Entry& e : old) {
    if (!e.text) continue;
    size_t i = e.hash & mask;
    while (slots_[i].text) i = (i + 1) & mask;
    slots_[i] = e;
  }
}

std::vector<int32_t> TokenizerBase::encode(std::string_view text, bool addSpecial, bool parseSpecial) const {
  std::vector<int32_t> out;
  out.reserve(text.size() / 3 + 16);
  if (addSpecial && vocab_.addBos) out.push_back(vocab_.bos);
  bool first = true;
  for (const SpecialTokens::Piece& piece : specials_.split(text, parseSpecial)) {
    if (piece.id >= 0) out.push_back(piece.id);
    else encodeText(text.substr(piece.begin, piece.end - piece.begin), first, out);
    first = piece.id >= 0;
  }
  if (addSpecial && vocab_.addEos) out.push_back(vocab_.eos);
  return out;
}

std::string TokenizerBase::piece(int32_t id, bool special) const {
  if (id < 0 || id >= size()) return {};
  const Type type = vocab_.types[static_cast<size_t>(id)];
  if (!special && (type == Type::control || type == Type::unknown)) return {};
  return std::string(pieces_[static_cast<size_t>(id)]);
}

void TokenizerBase::collectSpecials() {
  for (size_t i = 0; i < vocab_.tokens.size(); ++i) {
    const Type type = vocab_.types[i];
    const auto id = static_cast<int32_t>(i);
    if (type == Type::control || type == Type::unknown || type == Type::userDefined)
      specials_.add(vocab_.tokens[i], id, type == Type::userDefined, std::ranges::find(vocab_.stripAfter, id) != vocab_.stripAfter.end());
  }
  specials_.finish();
}

std::array<int32_t, 256> byteTokens(const VocabData& vocab) {
  std::array<int32_t, 256> out;
  out.fill(-1);
  constexpr std::string_view hex = "0123456789ABCDEF";
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    const std::string& t = vocab.tokens[i];
    if (t.size() != 6 || !t.starts_with("<0x") || t[5] != '>') continue;
    const size_t high = hex.find(t[3]), low = hex.find(t[4]);
    if (high == std::string_view::npos || low == std::string_view::npos) continue;
    int32_t& slot = out[high * 16 + low];
    if (slot < 0) slot = static_cast<int32_t>(i);
  }
  return out;
}

std::string replaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  size_t begin = 0;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, begin)) {
    out += text.substr(begin, at - begin);
    out += to;
    begin = at + from.size();
  }
  out += text.substr(begin);
  return out;
}

}  // namespace winnow
