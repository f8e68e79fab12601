// SPDX-License-Identifier: GPL-3.0-or-later
#include "engine/text/tokenizer.h"

#include <algorithm>
#include <array>

#include "engine/text/implementations.h"

namespace winnow {
namespace {

Error bad(std::string message, std::string hint = {}) { return {ErrorCode::badInput, std::move(message), std::move(hint)}; }

// Texts by which files mark the end of a turn without saying so in their metadata.
constexpr std::array kEndTexts = {"<|eot_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "<end_of_turn>", "<EOT>", "<|eom_id|>", "<|end_of_text|>", "</s>"};

}  // namespace

Result<std::shared_ptr<const Tokenizer>> Tokenizer::create(VocabData vocab) {
  if (vocab.kind == VocabData::Kind::none || vocab.tokens.empty()) return bad("the file holds no vocabulary.", "Use a model file with its tokenizer.");
  if (vocab.types.empty()) vocab.types.assign(vocab.tokens.size(), VocabData::TokenType::normal);
  if (vocab.types.size() != vocab.tokens.size())
    return bad("the vocabulary has " + std::to_string(vocab.tokens.size()) + " tokens but " + std::to_string(vocab.types.size()) + " token types.");
  const int size = static_cast<int>(vocab.tokens.size());
  for (int* special : {&vocab.bos, &vocab.eos, &vocab.unk, &vocab.pad})
    if (*special >= size) return bad("special token " + std::to_string(*special) + " lies outside the vocabulary of " + std::to_string(size) + " tokens.");
  for (int id = 0; id < size; ++id) {
    const auto type = vocab.types[static_cast<size_t>(id)];
    const bool marks = type == VocabData::TokenType::control || type == VocabData::TokenType::userDefined;
    if (marks && std::ranges::find(kEndTexts, vocab.tokens[static_cast<size_t>(id)]) != kEndTexts.end()) vocab.endOfGeneration.push_back(id);
  }
  if (vocab.eos >= 0) vocab.endOfGeneration.push_back(vocab.eos);
  std::ranges::sort(vocab.endOfGeneration);
  vocab.endOfGeneration.erase(std::unique(vocab.endOfGeneration.begin(), vocab.endOfGeneration.end()), vocab.endOfGeneration.end());
  return vocab.kind == VocabData::Kind::bpe ? createBpe(std::move(vocab)) : createSpm(std::move(vocab));
}

std::string Tokenizer::decode(const std::vector<int32_t>& ids, bool special) const {
  std::string out;
  for (int32_t id : ids) out += piece(id, special);
  const bool prefixed = vocab_.kind == VocabData::Kind::spm && vocab_.addPrefixSpace;
  if (prefixed && out.starts_with(' ')) out.erase(0, 1);
  return out;
}

bool Tokenizer::isEnd(int32_t id) const { return std::ranges::binary_search(vocab_.endOfGeneration, id); }

bool Tokenizer::isControl(int32_t id) const {
  if (id < 0 || id >= size()) return false;
  const auto type = vocab_.types[static_cast<size_t>(id)];
  return type == VocabData::TokenType::control || type == VocabData::TokenType::unknown;
}

SpecialTokens::SpecialTokens(const VocabData& vocab) {
  for (size_t id = 0; id < vocab.tokens.size(); ++id) {
    const auto type = vocab.types[id];
    const bool control = type == VocabData::TokenType::control || type == VocabData::TokenType::unknown;
    if ((control || type == VocabData::TokenType::userDefined) && !vocab.tokens[id].empty())
      entries_.push_back({vocab.tokens[id], static_cast<int32_t>(id), control});
  }
  std::ranges::stable_sort(entries_, [](const Entry& a, const Entry& b) { return a.text.size() > b.text.size(); });
}

std::vector<SpecialTokens::Part> SpecialTokens::cut(std::string_view text, bool parseSpecial) const {
  std::vector<Part> parts;
  if (!text.empty()) parts.push_back({text, -1});
  std::vector<Part> next;
  for (const Entry& entry : entries_) {
    if (entry.control && !parseSpecial) continue;
    if (text.find(entry.text) == std::string_view::npos) continue;
    next.clear();
    for (const Part& part : parts) {
      size_t from = 0;
      if (part.token < 0)
        for (size_t at; (at = part.text.find(entry.text, from)) != std::string_view::npos; from = at + entry.text.size()) {
          if (at > from) next.push_back({part.text.substr(from, at - from), -1});
          next.push_back({{}, entry.id});
        }
      if (part.token >= 0 || from < part.text.size()) next.push_back({part.text.substr(part.token >= 0 ? 0 : from), part.token});
    }
    parts.swap(next);
  }
  return parts;
}

TokenIds tokenIds(const VocabData& vocab) {
  TokenIds ids;
  ids.reserve(vocab.tokens.size());
  for (size_t id = 0; id < vocab.tokens.size(); ++id) ids[vocab.tokens[id]] = static_cast<int32_t>(id);
  return ids;
}

std::vector<int32_t> byteTokens(const TokenIds& ids) {
  std::vector<int32_t> bytes(256, -1);
  constexpr char digits[] = "0123456789ABCDEF";
  for (size_t b = 0; b < 256; ++b) {
    const char name[] = {'<', '0', 'x', digits[b >> 4], digits[b & 15], '>'};
    if (const auto it = ids.find({name, sizeof name}); it != ids.end()) bytes[b] = it->second;
  }
  return bytes;
}

}  // namespace winnow
